//! Somebody sets the clock of the node. No volume is lost, none is looked at all the time, and none never again.

use std::time::Duration;

use super::patience::eventually;
use super::world::{SECRET, Setup, VALUE, World, pod};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NEWER: &str = "canary of the second value";

#[tokio::test]
async fn while_it_runs_the_clock_of_the_wall_is_not_what_it_goes_by() {
    let world = World::with(Setup::rotating("10m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.emulator.log().clear();
    let before = world.tree(&pod);
    world.clock.set_back(2 * DAY);
    world.advance(30);
    world.publish(&pod).await;
    assert_eq!(world.gets(), 0);
    assert!(world.tree(&pod) == before);
    world.vault.secret(SECRET).set(NEWER);
    world.advance(700);
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    world.emulator.log().clear();
    for _ in 0..5 {
        world.advance(60);
        world.publish(&pod).await;
    }
    assert_eq!(world.gets(), 0);
}

#[tokio::test]
async fn a_clock_that_was_set_back_between_two_drivers_makes_nothing_due_for_ever_or_never() {
    let world = World::with(Setup::rotating("10m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert!(world.stop().await.success());
    world.clock.set_back(2 * DAY);
    world.vault.secret(SECRET).set(NEWER);
    world.start().await;
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    world.advance(700);
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    world.emulator.log().clear();
    world.advance(60);
    world.publish(&pod).await;
    assert_eq!(world.gets(), 0);
}

#[tokio::test]
async fn a_clock_that_was_set_forward_between_two_drivers_makes_due_once() {
    let world = World::with(Setup::rotating("10m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert!(world.stop().await.success());
    world.clock.set_forward(2 * DAY);
    world.vault.secret(SECRET).set(NEWER);
    world.start().await;
    world.kubelet.forget_tokens();
    world.publish(&pod).await;
    eventually("the newer secret", || (world.file(&pod, SECRET) == NEWER).then_some(())).await;
    world.emulator.log().clear();
    world.advance(60);
    world.publish(&pod).await;
    assert_eq!((world.gets(), world.mounts(&pod).len()), (0, 1));
}
