//! The driver ends and another one begins. Mounts stay, and nobody is asked for what is known.

use coffer_tests::harness::apiserver::{Resource, Verb};
use coffer_tests::harness::kubelet::Pod;
use futures_util::future::join_all;

use super::namespace::Inside as _;
use super::patience::eventually;
use super::world::{CLASS, SECRET, Setup, VALUE, World, pod, volume};

/// As many pods as a node holds.
const MANY: usize = 110;

fn many() -> Vec<Pod> {
    (0..MANY).map(|n| Pod::new(&format!("web-{n}")).volume(volume(CLASS))).collect()
}

#[tokio::test]
async fn a_hundred_and_ten_volumes_outlive_the_driver_and_cost_the_next_one_nothing() {
    let world = World::new().await;
    let pods = many();
    join_all(pods.iter().map(|pod| world.publish(pod))).await;
    for pod in &pods {
        world.status(pod).await;
    }
    let (mounts, trees) = (world.all_mounts(), pods.iter().map(|pod| world.tree(pod)).collect::<Vec<_>>());
    assert_eq!(mounts.len(), MANY);

    assert!(world.stop().await.success());
    assert_eq!(world.all_mounts(), mounts, "nothing is unmounted by a driver that ends");
    world.emulator.log().clear();
    world.api.log().clear();
    world.start().await;
    join_all(pods.iter().map(|pod| world.publish(pod))).await;
    assert_eq!(world.all_mounts(), mounts);
    assert!(pods.iter().map(|pod| world.tree(pod)).collect::<Vec<_>>() == trees, "somebody wrote");
    assert_eq!(world.emulator.counters().total(), 0);
    assert_eq!(world.api.counters().of(Verb::Get, Resource::Classes), 1, "one read for all of them");
    world.api_caught_up().await;
    let writes = world.api.entries().into_iter().filter(|entry| entry.target.name.starts_with("web-"));
    assert_eq!(writes.count(), 0);

    join_all(pods.iter().map(|pod| world.unpublish(pod))).await;
    assert_eq!(world.all_mounts().len(), 1, "the one of the pod that came last");
}

#[tokio::test]
async fn a_driver_that_was_killed_leaves_what_the_next_one_goes_on_with() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.status(&pod).await;
    let (before, mounts) = (world.tree(&pod), world.mounts(&pod));
    world.kill().await;
    world.emulator.log().clear();
    world.start().await;
    world.publish(&pod).await;
    assert!(world.tree(&pod) == before);
    assert_eq!((world.mounts(&pod), world.emulator.counters().total()), (mounts, 0));
}

#[tokio::test]
async fn after_a_restart_a_volume_that_is_due_waits_for_kubelet() {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert!(world.stop().await.success());
    world.vault.secret(SECRET).set("canary of the second value");
    world.emulator.log().clear();
    world.clock.advance(std::time::Duration::from_secs(600));
    world.start().await;
    world.advance(60);
    assert_eq!((world.file(&pod, SECRET).as_str(), world.emulator.counters().total()), (VALUE, 0));
    world.publish(&pod).await;
    let newer = || (world.file(&pod, SECRET) == "canary of the second value").then_some(());
    eventually("the newer secret", newer).await;
}

#[tokio::test]
async fn after_a_restart_a_volume_that_is_not_due_is_left_alone() {
    let world = World::with(Setup::rotating("1h")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.restart().await;
    world.emulator.log().clear();
    world.advance(600);
    world.publish(&pod).await;
    world.advance(600);
    world.publish(&pod).await;
    assert_eq!(world.emulator.counters().total(), 0);
    world.clock.advance(std::time::Duration::from_secs(3600));
    world.publish(&pod).await;
    eventually("a look after all", || (world.gets() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_volume_that_went_while_no_driver_was_there_is_forgotten() {
    let world = World::new().await;
    let (gone, kept) = (pod("gone"), pod("kept"));
    world.publish(&gone).await;
    world.publish(&kept).await;
    assert!(world.stop().await.success());
    world.namespace.reboot(&world.target(&gone));
    world.start().await;
    world.unpublish(&gone).await;
    world.assert_gone(&gone);
    world.remembers(1).await;
    world.emulator.log().clear();
    world.publish(&kept).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn an_edit_while_no_driver_was_there_is_seen() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert!(world.stop().await.success());
    world.vault.secret("Other").set("canary of the other");
    world.put_class(CLASS, &super::world::objects(&["Other"]));
    world.start().await;
    world.publish(&pod).await;
    eventually("the edit", || world.has_file(&pod, "Other").then_some(())).await;
}
