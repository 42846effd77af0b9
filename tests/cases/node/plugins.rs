//! Plugins that are missing, broken or slow to come. The driver answers kubelet all the same, and other plugins work.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::kubelet::proto::csi::ProbeRequest;
use coffer_tests::harness::kubelet::proto::csi::identity_client::IdentityClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use super::patience::{eventually, in_time};
use super::world::{SECRET, Setup, VALUE, World, pod, said};

/// Waits until `/readyz` names the plugin as what is missing.
async fn not_ready(world: &World) {
    let not_ready = || world.driver().get("/readyz").filter(|(status, text)| *status == 503 && text.contains("azure"));
    eventually("the plugin to be missed", not_ready).await;
}

async fn probe(world: &World) -> Option<bool> {
    let mut identity = IdentityClient::new(world.kubelet.connect().await.unwrap());
    identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready
}

#[tokio::test]
async fn a_publish_that_comes_before_the_plugin_is_loaded_waits_for_it() {
    let world = World::idle(Setup::default()).await;
    world.spawn();
    world.register().await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
}

#[tokio::test]
async fn a_plugin_that_is_missing_is_named_and_is_used_when_it_comes() {
    let mut world = World::idle(Setup::default()).await;
    let component = world.path("late.wasm");
    let original = world.component().to_owned();
    world.setup.component = Some(component.clone());
    world.write_config();
    world.spawn();
    world.register().await;
    not_ready(&world).await;
    let parts = ["azure", "late.wasm"];
    world.refused(&pod("web"), Code::FailedPrecondition, &parts).await;
    world.put_guest("greeting", "behaves", &[]);
    world.publish(&Pod::new("guest").mounts("greeting")).await;

    fs::copy(original, &component).unwrap();
    world.advance(60);
    world.publish(&pod("web")).await;
    world.ready().await;
}

#[tokio::test]
async fn a_file_that_is_no_plugin_is_named() {
    let mut world = World::idle(Setup::default()).await;
    for content in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0 and so on", b"#!/bin/sh\n"] {
        let component = world.path("broken.wasm");
        fs::write(&component, content).unwrap();
        world.setup.component = Some(component);
        world.write_config();
        world.spawn();
        world.register().await;
        world.refused(&pod("web"), Code::FailedPrecondition, &["azure"]).await;
        world.put_guest("greeting", "behaves", &[]);
        let guest = Pod::new("guest").mounts("greeting");
        world.publish(&guest).await;
        world.unpublish(&guest).await;
        assert!(world.stop().await.success());
        world.kubelet.restart();
    }
}

#[tokio::test]
async fn a_plugin_that_is_gone_leaves_published_volumes_as_they_are() {
    let mut world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    let before = world.tree(&pod);
    assert!(world.stop().await.success());
    fs::remove_dir_all(world.state()).unwrap();
    world.setup.component = Some(world.path("missing.wasm"));
    world.write_config();
    world.spawn();
    world.register().await;
    not_ready(&world).await;
    world.publish(&pod).await;
    assert!(world.tree(&pod) == before);
    world.event(&pod, "MountRotationFailed").await;
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

/// With a cache of its own, every plugin has to be compiled, by a child that a test can stop.
#[tokio::test]
async fn while_a_plugin_is_being_compiled_it_answers_and_it_ends_when_it_is_told_to() {
    let mut world = World::idle(Setup::default()).await;
    fs::DirBuilder::new().mode(0o700).create(world.path("cache")).unwrap();
    world.setup.cache = Some(world.path("cache"));
    world.write_config();
    world.spawn();
    let compilers = || Some(world.driver().children("compile-component")).filter(|children| children.len() == 2);
    let compilers = eventually("the compilers", compilers).await;
    for compiler in &compilers {
        kill_process(*compiler, Signal::STOP).unwrap();
    }
    world.register().await;
    not_ready(&world).await;
    assert_eq!(in_time("the probe", probe(&world)).await, Some(true));
    assert_eq!(world.driver().get("/healthz").unwrap().0, 200);
    let pod = pod("web");
    let error = world.kubelet.publish_within(&pod, "secrets", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(said(&error).code(), Code::Unavailable | Code::DeadlineExceeded), "{error}");
    assert!(said(&error).message().contains("azure"), "{error}");
    world.assert_gone(&pod);
    world.unpublish(&pod).await;
    assert!(world.stop().await.success());
    let ended = |pid: &Pid| !fs::exists(format!("/proc/{}", pid.as_raw_nonzero())).unwrap();
    eventually("the compilers to go with it", || compilers.iter().all(ended).then_some(())).await;
}

#[tokio::test]
async fn a_publish_waits_for_a_plugin_that_is_being_compiled() {
    let mut world = World::idle(Setup::default()).await;
    fs::DirBuilder::new().mode(0o700).create(world.path("cache")).unwrap();
    world.setup.cache = Some(world.path("cache"));
    world.write_config();
    world.spawn();
    world.register().await;
    world.put_guest("greeting", "behaves", &[]);
    let pod = Pod::new("guest").mounts("greeting");
    in_time("the volume", world.publish(&pod)).await;
    assert!(world.has_file(&pod, "file"));
}
