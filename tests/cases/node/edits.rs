//! Somebody edits the class of a published volume, or asks for a look by annotation. Rotation is off in all of these.

use coffer_tests::harness::apiserver::{Resource, Verb};
use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};

use super::patience::{eventually, in_time};
use super::world::{CLASS, SECRET, VALUE, World, objects, pod, volume};

const NEWER: &str = "canary of the second value";
const REFRESH: &str = "coffer.dev/refresh";
/// By then every edit is seen.
const SEEN: u64 = 61;

async fn published() -> (World, Pod) {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.status(&pod).await;
    world.vault.secret(SECRET).set(NEWER);
    world.vault.secret("Other").set("canary of the other");
    world.emulator.log().clear();
    world.api.log().clear();
    (world, pod)
}

#[tokio::test]
async fn an_edit_of_the_class_is_seen_within_a_minute() {
    let (world, pod) = published().await;
    world.put_class(CLASS, &objects(&[SECRET, "Other"]));
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!((world.file(&pod, SECRET).as_str(), world.file(&pod, "Other").as_str()), (NEWER, "canary of the other"));
    world.emulator.log().clear();
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.emulator.counters().total(), 0, "once is enough");
}

#[tokio::test]
async fn an_edit_of_metadata_alone_is_none() {
    let (world, pod) = published().await;
    world.api.class("default", CLASS).annotate("example.com/owner", Some("somebody"));
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!((world.file(&pod, SECRET).as_str(), world.emulator.counters().total()), (VALUE, 0));
}

#[tokio::test]
async fn a_new_value_of_the_annotation_asks_for_a_look() {
    let (world, pod) = published().await;
    world.api.class("default", CLASS).annotate(REFRESH, Some("1"));
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), NEWER);

    world.vault.secret(SECRET).set("canary of the third value");
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), NEWER, "the same value asks for nothing");

    world.api.class("default", CLASS).annotate(REFRESH, None);
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), NEWER, "one that was taken away asks for nothing");

    world.api.class("default", CLASS).annotate(REFRESH, Some("2"));
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), "canary of the third value");
}

#[tokio::test]
async fn a_storm_of_annotations_is_one_look() {
    let (world, pod) = published().await;
    world.advance(SEEN);
    for n in 0..50 {
        world.api.class("default", CLASS).annotate(REFRESH, Some(&n.to_string()));
        world.publish(&pod).await;
    }
    assert!(world.gets() <= 1, "{}", world.gets());
    assert!(world.api.counters().of(Verb::Get, Resource::Classes) <= 2, "a class is read once in a minute");
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), NEWER, "the last one is not lost");
}

#[tokio::test]
async fn a_class_that_was_deleted_and_made_anew_is_another_one() {
    let (world, pod) = published().await;
    world.api.class("default", CLASS).delete();
    world.put_class(CLASS, &objects(&["Other"]));
    world.advance(SEEN);
    world.publish(&pod).await;
    assert!(world.has_file(&pod, "Other") && !world.has_file(&pod, SECRET));
}

#[tokio::test]
async fn a_class_that_is_gone_leaves_the_volume_as_it_is() {
    let (world, pod) = published().await;
    let before = world.tree(&pod);
    world.api.class("default", CLASS).delete();
    world.advance(SEEN);
    world.publish(&pod).await;
    assert!(world.tree(&pod) == before);
    world.unpublish(&pod).await;
}

/// Publishes for the first time, and does something while the vault is being asked.
async fn while_the_vault_is_asked(world: &World, pod: &Pod, meanwhile: impl FnOnce()) {
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    tokio::join!(world.publish(pod), async {
        in_time("the vault to be asked", gate.arrived(1)).await;
        meanwhile();
        gate.open();
    });
}

#[tokio::test]
async fn a_class_that_is_deleted_while_its_secrets_are_fetched_is_published_as_it_was() {
    let world = World::new().await;
    let pod = pod("web");
    while_the_vault_is_asked(&world, &pod, || assert!(world.api.class("default", CLASS).delete())).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
}

#[tokio::test]
async fn a_class_that_is_edited_while_its_secrets_are_fetched_is_fetched_again_later() {
    let world = World::new().await;
    world.vault.secret("Other").set("canary of the other");
    let pod = pod("web");
    while_the_vault_is_asked(&world, &pod, || world.put_class(CLASS, &objects(&["Other"]))).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    world.advance(SEEN);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, "Other"), "canary of the other");
    assert!(!world.has_file(&pod, SECRET));
}

#[tokio::test]
async fn a_pod_that_is_made_after_an_edit_gets_the_edited_class() {
    let (world, _) = published().await;
    // As long as it takes to make a pod after `kubectl apply`.
    world.advance(2);
    world.put_class(CLASS, &objects(&["Other"]));
    let next = Pod::new("next").volume(volume(CLASS));
    world.publish(&next).await;
    eventually("the edited class", || world.has_file(&next, "Other").then_some(())).await;
}
