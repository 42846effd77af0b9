//! Many volumes and a vault that has too much to do, or is away: what gets to the vault, and what kubelet is told.
//!
//! Time passes faster here than it does: the clocks of the driver and of the vault are moved on together.

use std::collections::BTreeMap;
use std::time::Duration;

use coffer_tests::harness::kubelet::{Pod, is_final};
use coffer_tests::harness::{Fault, Kind, Matcher, Quota, RetryAfter, Times};
use futures_util::future::join_all;
use tokio::time::sleep;
use tonic::Code;

use super::patience::{eventually, in_time};
use super::world::{CLASS, SECRET, Setup, VALUE, VAULT, World, objects, pod, said, url_of, volume};

/// Who mounts something.
const IDENTITIES: [(&str, &str); 5] =
    [("default", "web"), ("default", "api"), ("shop", "web"), ("shop", "api"), ("bank", "web")];
/// How far the clocks go at once, and how long that takes.
const LEAP: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(5);

/// Waits for something while time passes, for the driver and the vault.
async fn while_time_flies<T>(world: &World, what: &str, future: impl Future<Output = T>) -> T {
    let time = async {
        loop {
            world.emulator.clock().advance(LEAP);
            world.clock.advance(LEAP);
            world.driver().get("/healthz");
            sleep(STEP).await;
        }
    };
    tokio::select! {
        found = in_time(what, future) => found,
        never = time => never,
    }
}

/// A volume with its class and its own objects in the vault.
fn put_volume(world: &World, number: usize, count: usize) -> Pod {
    let (namespace, account) = IDENTITIES[number % IDENTITIES.len()];
    let names: Vec<String> = (0..count).map(|object| format!("o-{number}-{object}")).collect();
    for name in &names {
        world.vault.secret(name).set(format!("canary of {name}"));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let class = format!("class-{number}");
    world.put_class_in(namespace, &class, &objects(&names));
    Pod::new(&format!("pod-{number}")).namespace(namespace).service_account(account).volume(volume(&class))
}

/// Publishes as kubelet does, until it worked; says what it was told before.
async fn until_mounted(world: &World, pod: &Pod) -> Vec<Code> {
    let mut told = Vec::new();
    while let Err(error) = world.kubelet.publish(pod, "secrets").await {
        let code = said(&error).code();
        assert!(!is_final(code), "{error}");
        told.push(code);
        sleep(STEP).await;
    }
    told
}

/// The answers to requests for secrets, by path.
fn answered(world: &World, status: u16) -> BTreeMap<String, usize> {
    let mut answered = BTreeMap::new();
    for entry in world.emulator.entries() {
        if entry.kind == Kind::GetSecret && entry.status == Some(status) {
            *answered.entry(entry.path).or_default() += 1;
        }
    }
    answered
}

#[tokio::test]
async fn with_a_quota_that_is_too_small_every_pod_starts_and_every_object_is_fetched_once() {
    let world = World::with(Setup { level: "info", ..Setup::default() }).await;
    // Everybody has signed in.
    let first: Vec<Pod> = (0..IDENTITIES.len()).map(|number| put_volume(&world, number, 4)).collect();
    join_all(first.iter().map(|pod| world.publish(pod))).await;
    assert_eq!((world.sign_ins(), world.gets()), (5, 20));
    world.emulator.log().clear();
    world.emulator.quota(Some(Quota { requests: 200, window: Duration::from_secs(10), says_when: true }));

    let pods: Vec<Pod> = (5..110).map(|number| put_volume(&world, number, 4)).collect();
    let all = join_all(pods.iter().map(|pod| until_mounted(&world, pod)));
    while_time_flies(&world, "every pod to start", all).await;
    for (number, pod) in (5..).zip(&pods) {
        for object in 0..4 {
            let name = format!("o-{number}-{object}");
            assert_eq!(world.file(pod, &name), format!("canary of {name}"));
        }
    }
    let answered_once = answered(&world, 200);
    assert_eq!(answered_once.len(), 420);
    assert!(answered_once.values().all(|count| *count == 1), "{answered_once:?}");
    assert_eq!(world.sign_ins(), 0);
    let throttled: usize = answered(&world, 429).values().sum();
    // Those that were on their way when the first was refused: 32 calls of 4; and some that asked too early.
    assert!(throttled <= 150, "{throttled}");
    assert_eq!(world.metric("coffer_egress_waiting_requests", &[]), 0.0);
    assert_eq!(world.metric("coffer_egress_throttled_hosts", &[]), 1.0);
}

#[tokio::test]
async fn while_the_vault_wants_to_be_left_alone_no_call_of_kubelet_is_a_request() {
    let world = World::with(Setup { limits: "deadline: 30s".to_owned(), ..Setup::default() }).await;
    world.publish(&pod("first")).await;
    world.advance(11);
    world.emulator.log().clear();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::throttled(Some(RetryAfter::Seconds(45))), Times::ONCE);
    // 45 seconds are more than a call may take.
    let late = pod("late");
    let text = world.refused_with_rests(&late, Code::ResourceExhausted, &[CLASS]).await;
    assert!(text.contains("429") || text.contains("too many requests"), "{text}");
    assert_eq!(world.gets(), 1);
    let host = format!("{VAULT}.vault.azure.net");
    for pod in [late.clone(), pod("other"), late.clone(), late.clone()] {
        let parts = [CLASS, host.as_str(), "asks for fewer requests", "try again in "];
        world.refused_with_rests(&pod, Code::ResourceExhausted, &parts).await;
    }
    assert_eq!(world.gets(), 1, "somebody asked the vault");
    world.advance(50);
    world.publish(&late).await;
    assert_eq!((world.gets(), world.file(&late, SECRET).as_str()), (2, VALUE));
}

#[tokio::test]
async fn a_token_that_ends_while_its_request_waits_is_renewed() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    world.advance(11);
    world.emulator.log().clear();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::throttled(Some(RetryAfter::Seconds(5))), Times::ONCE);
    let late = pod("late");
    let revoked = async {
        world.emulator.log().until(|counters| counters.of(Kind::GetSecret) == 1).await;
        world.emulator.revoke_tokens();
    };
    let published = async { while_time_flies(&world, "the pod to start", until_mounted(&world, &late)).await };
    let (told, ()) = tokio::join!(published, revoked);
    assert_eq!(told, []);
    assert_eq!((world.sign_ins(), world.gets()), (1, 3), "429, 401, 200");
}

#[tokio::test]
async fn a_vault_that_is_away_is_asked_by_one_request_at_a_time_and_all_is_fresh_soon_after() {
    let world = World::with(Setup { level: "info", ..Setup::rotating("1m") }).await;
    let pods: Vec<Pod> = (0..20).map(|number| put_volume(&world, number, 1)).collect();
    join_all(pods.iter().map(|pod| world.publish(pod))).await;
    let vault = || Matcher::any().host(&format!("{VAULT}.vault.azure.net"));
    world.emulator.inject(vault(), Fault::Close, Times::Always);
    for number in 0..20 {
        world.vault.secret(&format!("o-{number}-0")).set("canary of the second value");
    }
    world.emulator.log().clear();
    let end = world.emulator.clock().now() + 300;
    let over = eventually("five minutes", || (world.emulator.clock().now() >= end).then_some(()));
    while_time_flies(&world, "five minutes", over).await;
    assert_eq!(world.metric("coffer_egress_unavailable_hosts", &[]), 1.0);
    // Without a circuit 20 volumes would try at least five times each, with three retries.
    let asked = world.gets();
    assert!((10..=60).contains(&asked), "{asked} requests");
    // Running pods keep what they have, and kubelet is told that all is well.
    for (number, pod) in pods.iter().enumerate() {
        world.publish(pod).await;
        assert_eq!(world.file(pod, &format!("o-{number}-0")), format!("canary of o-{number}-0"));
    }

    world.emulator.clear_faults();
    world.emulator.log().clear();
    let is_fresh =
        |(number, pod): (usize, &Pod)| world.file(pod, &format!("o-{number}-0")) == "canary of the second value";
    let fresh = eventually("all to be fresh", || pods.iter().enumerate().all(is_fresh).then_some(()));
    while_time_flies(&world, "all to be fresh", fresh).await;
    assert_eq!(world.gets(), 20, "each is asked for once");
    assert_eq!(world.metric("coffer_egress_unavailable_hosts", &[]), 0.0);
}

#[tokio::test]
async fn a_pod_that_starts_in_an_outage_is_told_since_when_and_costs_no_request() {
    let world = World::with(Setup { level: "info", limits: "deadline: 5s".to_owned(), ..Setup::default() }).await;
    world.emulator.inject(Matcher::any().host(&format!("{VAULT}.vault.azure.net")), Fault::Close, Times::Always);
    let codes = in_time("the circuit to open", async {
        let mut codes = Vec::new();
        while world.metric("coffer_egress_unavailable_hosts", &[]) == 0.0 {
            let error = world.kubelet.publish(&pod("web"), "secrets").await.unwrap_err();
            codes.push(said(&error).code());
            world.advance(1);
        }
        codes
    });
    assert!(codes.await.iter().all(|code| !is_final(*code)));
    world.emulator.log().clear();
    let host = format!("{VAULT}.vault.azure.net has not answered since ");
    let text =
        world.refused_with_rests(&pod("other"), Code::Unavailable, &[CLASS, &host, "it is tried again in "]).await;
    assert!(!text.contains(&url_of(SECRET)), "{text}");
    assert_eq!(world.gets(), 0);
}
