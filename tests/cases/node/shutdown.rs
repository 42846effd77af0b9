//! The driver is asked to end. What runs is finished, what is mounted stays, and the end is a good one.

use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};

use super::patience::{eventually, in_time};
use super::world::{SECRET, VALUE, World, pod};

#[tokio::test]
async fn with_nothing_to_do_it_ends_at_once_and_well() {
    let world = World::new().await;
    let status = world.stop().await;
    assert_eq!(status.code(), Some(0));
    assert!(!world.kubelet.knows_driver(), "kubelet is told by the socket that goes");
}

#[tokio::test]
async fn a_publish_that_runs_is_finished() {
    let world = World::new().await;
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    let pod = pod("web");
    let ended = async {
        in_time("the vault to be asked", gate.arrived(1)).await;
        world.driver().terminate();
        // It takes no further calls.
        let refuses = async || world.kubelet.connect().await.is_err();
        in_time("the door to close", async { while !refuses().await {} }).await;
        assert!(world.is_alive());
        gate.open();
    };
    tokio::join!(world.publish(&pod), ended);
    assert_eq!(world.ended().await.code(), Some(0));
    assert_eq!((world.file(&pod, SECRET).as_str(), world.mounts(&pod).len()), (VALUE, 1));
    world.start().await;
    world.emulator.log().clear();
    world.publish(&pod).await;
    assert_eq!(world.emulator.counters().total(), 0, "what it did is remembered");
}

#[tokio::test]
async fn every_volume_stays() {
    let world = World::new().await;
    let pods = [pod("web-1"), pod("web-2"), pod("web-3")];
    for pod in &pods {
        world.publish(pod).await;
    }
    let mounts = world.all_mounts();
    assert_eq!(world.stop().await.code(), Some(0));
    assert_eq!((world.all_mounts(), mounts.len()), (mounts.clone(), 3));
    assert!(pods.iter().all(|pod| world.file(pod, SECRET) == VALUE));
}

#[tokio::test]
async fn it_does_not_wait_for_an_api_server_that_is_away() {
    let world = World::new().await;
    world.publish(&pod("web")).await;
    world.api.go_away().await;
    world.publish(&pod("other")).await;
    assert_eq!(world.stop().await.code(), Some(0));
}

#[tokio::test]
async fn it_may_be_asked_while_it_starts() {
    let world = World::idle(super::world::Setup::default()).await;
    world.spawn();
    eventually("it to listen", || world.socket().exists().then_some(())).await;
    assert_eq!(world.stop().await.code(), Some(0));
}
