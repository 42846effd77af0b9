//! A volume that is published and looked at again: by time, and whatever the store then says.

use std::path::PathBuf;
use std::time::Duration;

use coffer_tests::harness::apiserver::{Resource, Verb};
use coffer_tests::harness::kubelet::{Pod, Volume};
use coffer_tests::harness::{Fault, Kind, Matcher, Times};
use serde_json::Value;

use super::patience::eventually;
use super::world::{CLASS, CLIENT_ID, SECRET, Setup, TENANT, VALUE, World, objects, pod, url_of, volume};
use crate::tree::Tree;

const NEWER: &str = "canary of the second value";
/// Where a pod status says why the last look failed.
const FAILURE: &str = "coffer.dev/refresh-failure";
/// More than an interval of a minute, whatever the jitter.
const DUE: u64 = 70;

/// A volume that is looked at every minute.
async fn rotating() -> (World, Pod) {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.status(&pod).await;
    world.emulator.log().clear();
    world.api.log().clear();
    (world, pod)
}

/// Everything of a volume and its mounts: equal means that nobody wrote anything.
fn whole(world: &World, pod: &Pod) -> (Option<Tree>, usize, Vec<PathBuf>) {
    let mounts = world.mounts(pod);
    (world.tree(pod), mounts.len(), mounts.into_iter().map(|mount| mount.target).collect())
}

/// Waits until the volume was looked at.
async fn looked_at(world: &World, times: f64) {
    let looked = || (world.metric("rotation_reconcile_total", &[]) >= times).then_some(());
    eventually("the volume to be looked at", looked).await;
}

/// Waits until a look at the volume failed.
async fn failed(world: &World, times: f64) {
    let failed = || (world.metric("rotation_reconcile_error_total", &[]) >= times).then_some(());
    eventually("a look at the volume to fail", failed).await;
}

#[tokio::test]
async fn without_rotation_nobody_looks_at_the_vault_again() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.vault.secret(SECRET).set(NEWER);
    world.emulator.log().clear();
    let before = whole(&world, &pod);
    for _ in 0..10 {
        world.advance(600);
        world.publish(&pod).await;
    }
    assert!(whole(&world, &pod) == before);
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn before_it_is_due_a_volume_is_left_alone() {
    let (world, pod) = rotating().await;
    // The first look comes at any time within the interval.
    world.advance(DUE);
    looked_at(&world, 1.0).await;
    world.emulator.log().clear();
    world.vault.secret(SECRET).set(NEWER);
    let before = whole(&world, &pod);
    for _ in 0..4 {
        world.advance(10);
        world.publish(&pod).await;
    }
    assert!(whole(&world, &pod) == before);
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn a_newer_secret_gets_into_the_same_mount_between_kubelets_calls() {
    let (world, pod) = rotating().await;
    let (before, mounts) = (world.tree(&pod).unwrap(), world.mounts(&pod));
    let version = world.vault.secret(SECRET).set(NEWER);
    world.advance(DUE);
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    looked_at(&world, 1.0).await;
    let after = world.tree(&pod).unwrap();
    assert_eq!(world.mounts(&pod), mounts);
    assert_eq!(after.entry("").inode, before.entry("").inode);
    assert_eq!(after.entry(SECRET).inode, before.entry(SECRET).inode, "the link of the file stays");
    assert_eq!(after.names().len(), 3, "no older version is left: {after:?}");
    let has = |status: &Value| status["status"]["objects"][0]["version"] == version.as_str();
    world.status_of(&pod, CLASS, has).await;
    world.event(&pod, "MountRotationComplete").await;
    assert_eq!(world.sign_ins(), 0, "the token is still good");
}

#[tokio::test]
async fn a_call_of_kubelet_that_finds_it_due_brings_it_up_to_date() {
    let (world, pod) = rotating().await;
    world.vault.secret(SECRET).set(NEWER);
    world.clock.advance(Duration::from_secs(DUE));
    world.publish(&pod).await;
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
}

#[tokio::test]
async fn an_unchanged_secret_writes_nothing_anywhere() {
    let (world, pod) = rotating().await;
    let before = whole(&world, &pod);
    for round in 1..=3 {
        world.advance(DUE);
        looked_at(&world, f64::from(round)).await;
        world.publish(&pod).await;
    }
    assert!(world.gets() >= 3, "it was looked at");
    assert!(whole(&world, &pod) == before, "somebody wrote");
    assert_eq!(world.api.counters().writes(), 0);
    world.api_caught_up().await;
    let touched: Vec<_> =
        world.api.entries().into_iter().filter(|entry| entry.target.name.starts_with("web")).collect();
    assert!(touched.is_empty(), "{touched:?}");
}

#[tokio::test]
async fn objects_come_and_go_with_the_class() {
    let (world, pod) = rotating().await;
    world.vault.secret("Other").set("canary of the other");
    world.put_class(CLASS, &objects(&["Other"]));
    world.advance(DUE);
    eventually("the other secret", || world.has_file(&pod, "Other").then_some(())).await;
    world.publish(&pod).await;
    assert!(!world.has_file(&pod, SECRET));
    assert_eq!(world.tree(&pod).unwrap().names().len(), 3);
}

#[tokio::test]
async fn a_failure_keeps_the_files_byte_for_byte_and_is_seen_everywhere_but_in_the_answer() {
    let (world, pod) = rotating().await;
    let before = whole(&world, &pod);
    world.vault.deny(CLIENT_ID);
    world.vault.secret(SECRET).set(NEWER);
    world.clock.advance(Duration::from_secs(DUE));
    world.publish(&pod).await;
    failed(&world, 1.0).await;
    assert!(whole(&world, &pod) == before);

    let event = world.event(&pod, "MountRotationFailed").await;
    assert_eq!(event["type"], "Warning");
    let text = format!("{}{}", event["note"], event["message"]);
    assert!(text.contains("the permission Get for secrets") && text.contains(CLASS), "{text}");
    let told = |status: &Value| status["metadata"]["annotations"][FAILURE] == "PermissionDenied";
    let status = world.status_of(&pod, CLASS, told).await;
    assert_eq!(
        (&status["status"]["mounted"], status["status"]["objects"].as_array().unwrap().len()),
        (&true.into(), 1)
    );
    assert!(world.metric("rotation_reconcile_error_total", &["error_type=\"PermissionDenied\""]) >= 1.0);
    let audit = world.audit(&pod, 2).await;
    let told = |field: &str| audit.iter().any(|line| line.field("result") == field && line.field("level") == "warn");
    assert!(told("PermissionDenied"), "{audit:?}");

    world.vault.allow_all(CLIENT_ID);
    world.clock.advance(Duration::from_secs(DUE));
    world.publish(&pod).await;
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    let healed = |status: &Value| status["metadata"]["annotations"][FAILURE].is_null();
    world.status_of(&pod, CLASS, healed).await;
}

#[tokio::test]
async fn whatever_goes_wrong_in_a_refresh_kubelet_is_told_that_all_is_well() {
    let world = World::with(Setup { limits: "requests: 3, deadline: 1s".into(), ..Setup::rotating("1m") }).await;
    let pod = pod("web");
    world.publish(&pod).await;
    let before = whole(&world, &pod);
    let faults = [
        Fault::internal(),
        Fault::unavailable(None),
        Fault::throttled(None),
        Fault::Stall,
        Fault::CutBody,
        Fault::Garbage,
        Fault::Close,
        Fault::challenge("canary"),
    ];
    for (fault, times) in faults.into_iter().zip(1..) {
        world.emulator.inject(Matcher::kind(Kind::GetSecret), fault, Times::Always);
        world.clock.advance(Duration::from_secs(300));
        world.publish(&pod).await;
        failed(&world, f64::from(times)).await;
        assert!(whole(&world, &pod) == before);
        world.emulator.clear_faults();
    }
    world.api.class("default", CLASS).put("nobody", &[("a", "b")]);
    world.clock.advance(Duration::from_secs(300));
    world.publish(&pod).await;
    failed(&world, 9.0).await;
    world.api.class("default", CLASS).delete();
    world.clock.advance(Duration::from_secs(300));
    world.publish(&pod).await;
    failed(&world, 10.0).await;
    assert!(whole(&world, &pod) == before);
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_by_a_new_one() {
    let (world, pod) = rotating().await;
    world.emulator.revoke_tokens();
    world.vault.secret(SECRET).set(NEWER);
    world.advance(DUE);
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    assert_eq!(world.sign_ins(), 1);
}

#[tokio::test]
async fn credentials_come_from_kubelets_last_call_and_from_nowhere_else() {
    let (world, pod) = rotating().await;
    let app = world.emulator.tenant(TENANT).app(CLIENT_ID);
    app.forget_secrets().secret("canary of the next client secret");
    world.emulator.revoke_tokens();
    world.vault.secret(SECRET).set(NEWER);
    world.advance(DUE);
    failed(&world, 1.0).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);

    let secret = [("clientid", CLIENT_ID), ("clientsecret", "canary of the next client secret")];
    let pod = Pod::new("web").with_uid(pod.uid()).volume(Volume::new("secrets", CLASS).secret(&secret));
    world.publish(&pod).await;
    world.advance(DUE);
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    // Comes back when whoever works on the volume has done so.
    world.publish(&pod).await;
    world.emulator.revoke_tokens();
    world.vault.secret(SECRET).set("canary of the third value");
    world.advance(DUE);
    eventually("the third secret", || (world.file(&pod, SECRET) == "canary of the third value").then_some(())).await;
}

#[tokio::test]
async fn the_timer_waits_for_kubelet_when_the_token_is_about_to_expire() {
    let mut world = World::with(Setup::rotating("1m")).await;
    let tokens = |world: &mut World, seconds| {
        world.kubelet.driver().tokens.as_mut().unwrap().lifetime = Duration::from_secs(seconds);
    };
    world.put_guest("asking", "behaves", &[("url", &url_of(SECRET))]);
    let (pod, other) = (Pod::new("web").mounts("asking"), Pod::new("other").service_account("other").mounts("asking"));
    world.publish(&other).await;
    // By the time that it is due, it has less than a minute.
    tokens(&mut world, 120);
    world.publish(&pod).await;
    assert_eq!(world.gets(), 2);
    world.advance(DUE);
    looked_at(&world, 1.0).await;
    assert_eq!(world.gets(), 3, "nobody asks with such a token");
    tokens(&mut world, 3600);
    world.kubelet.forget_tokens();
    world.publish(&pod).await;
    looked_at(&world, 2.0).await;
    assert_eq!(world.gets(), 4);
}

#[tokio::test]
async fn volumes_of_one_class_are_looked_at_together() {
    let world = World::with(Setup::rotating("1m")).await;
    let pods: Vec<Pod> = (0..20).map(|n| Pod::new(&format!("web-{n}")).volume(volume(CLASS))).collect();
    for pod in &pods {
        world.publish(pod).await;
    }
    world.vault.secret(SECRET).set(NEWER);
    world.emulator.log().clear();
    world.api.log().clear();
    world.advance(DUE);
    for pod in &pods {
        eventually("the newer secret", || (world.file(pod, SECRET) == NEWER).then_some(())).await;
    }
    assert_eq!((world.sign_ins(), world.gets()), (0, 1));
    assert_eq!(world.api.counters().of(Verb::Get, Resource::Classes), 1);
}
