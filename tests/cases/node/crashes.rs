//! The driver is killed in the middle of something, wherever that is. The next one makes it good, and no pod ever gets a
//! volume that is empty, half or mounted twice.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use coffer_tests::harness::apiserver::{self, Resource, Verb};
use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};

use super::patience::in_time;
use super::world::{CLASS, SECRET, Setup, VALUE, World, objects, pod, was_ended_by};

const NEWER: &str = "canary of the second value";

/// The system calls by which mounts, folders, links and files come about and go.
const STEPS: [&str; 16] = [
    "mkdirat",
    "mkdir",
    "fsopen",
    "fsmount",
    "move_mount",
    "mount",
    "mount_setattr",
    "fchown",
    "fchmod",
    "symlinkat",
    "renameat2",
    "renameat",
    "unlinkat",
    "umount2",
    "rmdir",
    "utimensat",
];

/// Kills the driver when it is about to make this system call for the n-th time.
struct Assassin(Child);

impl Assassin {
    fn wait_for(driver: u32, step: &str, nth: u32) -> Self {
        let mut strace = Command::new("strace")
            .args(["--follow-forks", "--output=/dev/null", &format!("--trace={step}")])
            .arg(format!("--inject={step}:signal=KILL:when={nth}"))
            .arg(format!("--attach={driver}"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is missing: run `make test`");
        let mut line = String::new();
        BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        Self(strace)
    }
}

impl Drop for Assassin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does something with a driver that is killed at each step in turn, as often as the step comes, and says how often that
/// was. `check` is called when the next driver has taken over.
async fn at_every_step(
    world: World,
    steps: &[&str],
    prepare: impl AsyncFn(&World, &Pod),
    act: impl AsyncFn(&World, &Pod),
    check: impl AsyncFn(&World, &Pod, &str),
) -> usize {
    let mut killed = 0;
    for step in steps {
        for nth in 1.. {
            let pod = pod(&format!("web-{}-{nth}", step.replace('_', "-")));
            prepare(&world, &pod).await;
            let assassin = Assassin::wait_for(world.driver().id(), step, nth);
            act(&world, &pod).await;
            drop(assassin);
            // Nobody kills it from now on; but it may be dying, and then it does not answer.
            if world.driver().get("/healthz").is_some() {
                check(&world, &pod, step).await;
                break;
            }
            killed += 1;
            assert!(was_ended_by(world.ended().await, 9));
            world.start().await;
            check(&world, &pod, step).await;
            assert!(nth < 20, "there is no end of {step}");
        }
    }
    killed
}

async fn assert_whole(world: &World, pod: &Pod, step: &str, value: &str) {
    world.publish(pod).await;
    assert_eq!(world.file(pod, SECRET), value, "{step}");
    let tree = world.tree(pod).unwrap();
    assert_eq!((tree.names().len(), world.mounts(pod).len()), (3, 1), "{step}: {tree:?}");
    world.unpublish(pod).await;
    world.assert_gone(pod);
    world.kubelet.remove_pod(pod).unwrap();
}

#[tokio::test]
async fn a_first_publish_may_be_cut_off_before_any_system_call() {
    let prepare = async |_: &World, _: &Pod| {};
    let act = async |world: &World, pod: &Pod| drop(world.kubelet.publish(pod, "secrets").await);
    let check = async |world: &World, pod: &Pod, step: &str| {
        // What is there either has all of it or is no volume.
        assert!(!world.has_file(pod, "..data") || world.file(pod, SECRET) == VALUE, "{step}");
        assert_whole(world, pod, step, VALUE).await;
    };
    let killed = at_every_step(World::new().await, &STEPS, prepare, act, check).await;
    assert!(killed >= 5, "killed {killed} times: the steps are others by now");
}

#[tokio::test]
async fn a_refresh_may_be_cut_off_before_any_system_call() {
    let prepare = async |world: &World, pod: &Pod| {
        world.vault.secret(SECRET).set(VALUE);
        // A result that is kept for a while would be the older one.
        world.advance(11);
        world.publish(pod).await;
        assert_eq!(world.file(pod, SECRET), VALUE);
        world.vault.secret(SECRET).set(NEWER);
        world.clock.advance(std::time::Duration::from_secs(70));
    };
    let act = async |world: &World, pod: &Pod| drop(world.kubelet.publish(pod, "secrets").await);
    let check = async |world: &World, pod: &Pod, step: &str| {
        let found = world.file(pod, SECRET);
        assert!(found == VALUE || found == NEWER, "{step}: something else stands there");
        world.clock.advance(std::time::Duration::from_secs(70));
        assert_whole(world, pod, step, NEWER).await;
    };
    let steps = ["mkdirat", "fchmod", "symlinkat", "renameat2", "renameat", "unlinkat"];
    let killed = at_every_step(World::with(Setup::rotating("1m")).await, &steps, prepare, act, check).await;
    assert!(killed >= 4, "killed {killed} times: the steps are others by now");
}

#[tokio::test]
async fn an_unpublish_may_be_cut_off_before_any_system_call() {
    let prepare = async |world: &World, pod: &Pod| world.publish(pod).await;
    let act = async |world: &World, pod: &Pod| drop(world.kubelet.unpublish(pod, "secrets").await);
    let check = async |world: &World, pod: &Pod, _: &str| {
        world.unpublish(pod).await;
        world.assert_gone(pod);
        world.remembers(0).await;
        world.kubelet.remove_pod(pod).unwrap();
    };
    let steps = ["umount2", "umount", "unlinkat", "rmdir"];
    let killed = at_every_step(World::new().await, &steps, prepare, act, check).await;
    assert!(killed >= 2, "killed {killed} times: the steps are others by now");
}

/// Kills the driver while something is held, then lets the next one try.
async fn killed_while_held(world: &World, pod: &Pod, gate: &Gate) {
    let call = world.kubelet.publish(pod, "secrets");
    tokio::pin!(call);
    tokio::select! {
        result = &mut call => panic!("{result:?}"),
        () = in_time("somebody at the gate", gate.arrived(1)) => {}
    }
    world.kill().await;
    assert!(call.await.is_err());
}

#[tokio::test]
async fn a_publish_that_is_cut_off_while_somebody_else_is_asked_is_made_by_the_next_driver() {
    let world = World::new().await;
    for (number, kind) in [Kind::Token, Kind::GetSecret].into_iter().enumerate() {
        let gate = Gate::new();
        world.emulator.inject(Matcher::kind(kind), Fault::Hold(gate.clone()), Times::ONCE);
        let pod = pod(&format!("web-{number}"));
        killed_while_held(&world, &pod, &gate).await;
        world.assert_gone(&pod);
        gate.open();
        world.start().await;
        assert_whole(&world, &pod, "a request", VALUE).await;
        // By then neither the result nor the class is kept.
        world.advance(11);
    }
    let gate = Gate::new();
    let reads = apiserver::Matcher::of(Verb::Get, Resource::Classes).name(CLASS);
    world.api.inject(reads, apiserver::Fault::Hold(gate.clone()), Times::ONCE);
    let pod = pod("web-last");
    killed_while_held(&world, &pod, &gate).await;
    gate.open();
    world.start().await;
    assert_whole(&world, &pod, "a class", VALUE).await;
}

#[tokio::test]
async fn a_pod_status_that_was_not_written_is_written_by_the_next_driver() {
    let world = World::new().await;
    world.api.inject(apiserver::Matcher::on(Resource::PodStatuses), apiserver::Fault::Stall, Times::Always);
    let pod = pod("web");
    world.publish(&pod).await;
    world.kill().await;
    world.api.clear_faults();
    world.start().await;
    world.publish(&pod).await;
    world.status(&pod).await;
}

#[tokio::test]
async fn killed_again_and_again_it_ends_up_with_whole_volumes() {
    let world = World::new().await;
    world.vault.secret("Other").set("canary of the other");
    world.put_class(CLASS, &objects(&[SECRET, "Other"]));
    let pods: Vec<Pod> = (0..8).map(|n| pod(&format!("web-{n}"))).collect();
    for round in 0..6_u64 {
        let calls = futures_util::future::join_all(pods.iter().map(|pod| world.kubelet.publish(pod, "secrets")));
        tokio::pin!(calls);
        // Somewhere on the way: after so many requests of any kind.
        let before = world.emulator.counters().total() + world.api.counters().total();
        let reached = async {
            while world.emulator.counters().total() + world.api.counters().total() < before + round {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut calls => {}
            () = reached => {}
        }
        world.kill().await;
        calls.await;
        world.start().await;
    }
    for pod in &pods {
        world.publish(pod).await;
        assert_eq!((world.file(pod, SECRET).as_str(), world.mounts(pod).len()), (VALUE, 1));
        assert_eq!(world.tree(pod).unwrap().names().len(), 4);
    }
    for pod in &pods {
        world.unpublish(pod).await;
    }
    assert_eq!(world.all_mounts(), []);
    world.remembers(0).await;
}
