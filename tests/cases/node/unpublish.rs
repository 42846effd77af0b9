//! Taking volumes away: whatever state they are in, whoever is not there, as often as kubelet likes.

use std::fs;

use coffer_tests::harness::apiserver;
use coffer_tests::harness::kubelet::proto::csi::NodeUnpublishVolumeRequest;
use coffer_tests::harness::kubelet::proto::csi::node_client::NodeClient;
use coffer_tests::harness::kubelet::{Pod, volume_id};
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};
use tonic::Code;

use super::namespace::Inside as _;
use super::patience::{eventually, in_time};
use super::world::{CLASS, SECRET, Setup, World, objects, pod, said, volume};

async fn published() -> (World, Pod) {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    (world, pod)
}

fn mount_tmpfs(world: &World, pod: &Pod) {
    world.namespace.run("mount", &["-t", "tmpfs", "tmpfs", world.target(pod).to_str().unwrap()]);
}

#[tokio::test]
async fn nothing_is_left_and_nothing_is_remembered() {
    let (world, pod) = published().await;
    world.remembers(1).await;
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
    world.remembers(0).await;
    world.kubelet.remove_pod(&pod).unwrap();
}

#[tokio::test]
async fn once_more_is_fine_and_so_is_what_there_never_was() {
    let (world, pod) = published().await;
    world.unpublish(&pod).await;
    world.unpublish(&pod).await;
    world.unpublish(&Pod::new("never").mounts(CLASS)).await;
    assert_eq!(world.metric("node_unpublish_error_total", &[]), 0.0);
}

#[tokio::test]
async fn a_request_that_lacks_something_is_refused() {
    let (world, pod) = published().await;
    let mut node = NodeClient::new(world.kubelet.connect().await.unwrap());
    let (id, target) = (volume_id(pod.uid(), "secrets"), world.target(&pod).display().to_string());
    let without = |volume_id: String, target_path: String| NodeUnpublishVolumeRequest { volume_id, target_path };
    for (request, message) in [
        (without(String::new(), target), "Volume ID missing in request"),
        (without(id, String::new()), "Target path missing in request"),
    ] {
        let status = node.node_unpublish_volume(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(message), "{status:?}");
    }
    assert!(world.has_file(&pod, SECRET));
}

#[tokio::test]
async fn mounts_that_are_stacked_all_go() {
    let (world, pod) = published().await;
    mount_tmpfs(&world, &pod);
    mount_tmpfs(&world, &pod);
    assert_eq!(world.mounts(&pod).len(), 3);
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn a_mount_that_was_never_finished_goes_too() {
    let world = World::new().await;
    let pod = pod("web");
    fs::create_dir_all(world.target(&pod)).unwrap();
    mount_tmpfs(&world, &pod);
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn foreign_files_in_the_mount_and_below_it_are_no_obstacle() {
    let world = World::new().await;
    let pod = pod("web");
    let target = world.target(&pod);
    // Below the mount: left by a driver that did not notice that its mount was gone.
    fs::create_dir_all(target.join("folder")).unwrap();
    fs::write(target.join("folder/file"), "").unwrap();
    world.publish(&pod).await;
    fs::create_dir_all(world.seen(&pod).join("foreign/folder")).unwrap();
    fs::write(world.seen(&pod).join("foreign/folder/file"), "").unwrap();
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn after_a_reboot_the_folders_go() {
    let (world, pod) = published().await;
    world.namespace.reboot(&world.target(&pod));
    assert!(world.seen(&pod).exists());
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
    world.remembers(0).await;
}

#[tokio::test]
async fn after_a_reboot_a_pod_that_stays_gets_its_volume_anew() {
    let (world, pod) = published().await;
    assert!(world.stop().await.success());
    world.namespace.reboot(&world.target(&pod));
    world.start().await;
    world.vault.secret(SECRET).set("canary of the second value");
    world.publish(&pod).await;
    assert_eq!(world.mounts(&pod).len(), 1);
    assert_eq!(world.file(&pod, SECRET), "canary of the second value");
}

#[tokio::test]
async fn a_link_in_place_of_the_target_is_removed_and_not_followed() {
    let world = World::new().await;
    let pod = pod("web");
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("file"), "").unwrap();
    let target = world.target(&pod);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
    // Refused or done: kubelet goes on asking, and the other folder is not touched.
    let _ = world.kubelet.unpublish(&pod, "secrets").await;
    assert!(elsewhere.join("file").exists());
}

#[tokio::test]
async fn it_needs_neither_api_server_nor_vault_nor_plugin() {
    let mut world = World::new().await;
    let pods = [pod("web-1"), pod("web-2")];
    for pod in &pods {
        world.publish(pod).await;
    }
    world.api.go_away().await;
    world.emulator.inject(Matcher::any(), Fault::Stall, Times::Always);
    world.unpublish(&pods[0]).await;
    world.assert_gone(&pods[0]);

    assert!(world.stop().await.success());
    world.setup.component = Some(world.path("missing.wasm"));
    world.write_config();
    world.spawn();
    in_time("registration", world.kubelet.register()).await.unwrap();
    world.unpublish(&pods[1]).await;
    world.assert_gone(&pods[1]);
    world.remembers(0).await;
}

/// Publishes, and unpublishes while somebody is held at a gate; the gate stays closed all the while.
async fn cut_short(world: &World, pod: &Pod, gate: &Gate) {
    let publish = world.kubelet.publish(pod, "secrets");
    tokio::pin!(publish);
    tokio::select! {
        result = &mut publish => panic!("{result:?}"),
        () = in_time("somebody at the gate", gate.arrived(1)) => {}
    }
    let (published, ()) = tokio::join!(in_time("the publish to end", publish), world.unpublish(pod));
    let error = published.unwrap_err();
    assert!(matches!(said(&error).code(), Code::Aborted | Code::Cancelled), "{error}");
    world.assert_gone(pod);
    world.remembers(0).await;
}

#[tokio::test]
async fn it_does_not_wait_for_a_fetch_that_runs() {
    let world = World::new().await;
    for kind in [Kind::Token, Kind::GetSecret] {
        let gate = Gate::new();
        world.emulator.inject(Matcher::kind(kind), Fault::Hold(gate.clone()), Times::ONCE);
        let pod = pod("web");
        cut_short(&world, &pod, &gate).await;
        gate.open();
    }
    let late = pod("late");
    world.publish(&late).await;
    assert_eq!(world.all_mounts().len(), 1, "nothing comes up late");
}

#[tokio::test]
async fn it_does_not_wait_for_a_class_that_is_read() {
    let world = World::new().await;
    let gate = Gate::new();
    let reads = apiserver::Matcher::on(apiserver::Resource::Classes);
    world.api.inject(reads, apiserver::Fault::Hold(gate.clone()), Times::ONCE);
    cut_short(&world, &pod("web"), &gate).await;
    gate.open();
}

#[tokio::test]
async fn it_does_not_wait_for_a_refresh_that_runs_and_ends_it() {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    world.advance(70);
    in_time("the refresh", gate.arrived(1)).await;
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
    gate.open();
    world.emulator.log().clear();
    world.advance(600);
    world.publish(&super::world::pod("another")).await;
    assert_eq!(world.gets(), 1, "nobody looks at a volume that is gone");
    world.assert_gone(&pod);
    assert_eq!(world.metric("rotation_reconcile_error_total", &[]), 0.0, "that it was taken away is no failure");
}

#[tokio::test]
async fn a_pod_status_that_waits_to_be_written_is_dropped() {
    let world = World::new().await;
    let pod = pod("web");
    // The class is known by then.
    world.publish(&super::world::pod("first")).await;
    world.api.go_away().await;
    world.publish(&pod).await;
    world.unpublish(&pod).await;
    world.api.come_back().unwrap();
    world.api_caught_up().await;
    assert!(world.api.pod_status("default", "web-default-kv").is_none());
}

#[tokio::test]
async fn the_pod_status_stays_for_the_garbage_collector() {
    let (world, pod) = published().await;
    world.status(&pod).await;
    world.api.log().clear();
    world.unpublish(&pod).await;
    world.api_caught_up().await;
    world.status(&pod).await;
    world.api.collect(pod.uid());
    assert!(world.api.pod_status("default", "web-default-kv").is_none());
}

#[tokio::test]
async fn many_at_once_are_no_trouble() {
    let world = World::new().await;
    world.put_class(CLASS, &objects(&[SECRET]));
    let pods: Vec<Pod> = (0..40).map(|n| Pod::new(&format!("web-{n}")).volume(volume(CLASS))).collect();
    futures_util::future::join_all(pods.iter().map(|pod| world.publish(pod))).await;
    futures_util::future::join_all(pods.iter().map(|pod| world.unpublish(pod))).await;
    assert_eq!(world.all_mounts(), []);
    world.remembers(0).await;
    eventually("the gauge", || (world.metric("node_unpublish_total", &[]) >= 40.0).then_some(())).await;
}
