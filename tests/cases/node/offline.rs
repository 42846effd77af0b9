//! New pods while the vault is away: with what their identity last got on the node, where their class asks for it.

use std::time::Duration;

use coffer_tests::harness::kubelet::{Pod, Volume};
use coffer_tests::harness::{Fault, Kind, Matcher, RetryAfter, Times};
use serde_json::Value;
use tonic::Code;

use super::patience::eventually;
use super::world::{CLASS, CLIENT_ID, CLIENT_SECRET, SECRET, Setup, VALUE, World, objects, pod};

const ANNOTATION: &str = "coffer.dev/offline-start";
const NEWER: &str = "canary of the second value";
const HOUR: Duration = Duration::from_secs(3600);

fn setup() -> Setup {
    // Two requests and no retries: sign-in and secret, and whoever fails says so at once.
    Setup { limits: "requests: 2, deadline: 5s".to_owned(), ..Setup::default() }
}

/// A pod of the class has started while all was well, and the vault went away some minutes later.
async fn in_an_outage(annotation: Option<&str>, setup: Setup) -> (World, Pod) {
    let world = World::with(setup).await;
    world.api.class("default", CLASS).annotate(ANNOTATION, annotation);
    let first = pod("first");
    world.publish(&first).await;
    world.advance(300);
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::unavailable(None), Times::Always);
    (world, first)
}

async fn only(world: &World, pod: &str) -> Value {
    let run = world.coffer(&["status", "--pod", pod, "--output", "json"]).await;
    let status: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    status["volumes"][0].clone()
}

#[tokio::test]
async fn a_pod_starts_with_the_kept_result_says_so_everywhere_and_becomes_fresh_when_the_vault_is_back() {
    let (world, _first) = in_an_outage(Some("1h"), setup()).await;
    world.vault.secret(SECRET).set(NEWER);
    let late = pod("late");
    world.publish(&late).await;
    assert_eq!(world.file(&late, SECRET), VALUE);
    assert_eq!(world.mounts(&late).len(), 1);

    let event = world.event(&late, "MountedFromKeptResult").await;
    let text = format!("{}{}", event["note"], event["message"]);
    assert_eq!(event["type"], "Warning");
    assert!(text.contains("5 minutes old, because the store cannot be reached") && text.contains("503"), "{text}");
    let told = |status: &Value| status["metadata"]["annotations"][ANNOTATION].is_string();
    let status = world.status_of(&late, CLASS, told).await;
    assert_eq!(status["metadata"]["annotations"]["coffer.dev/refresh-failure"], "Unavailable");
    assert_eq!(world.metric("coffer_offline_starts_total", &["azure"]), 1.0);
    assert_eq!(world.metric("coffer_offline_volumes", &[]), 1.0);
    world.log.wait("the audit", |line| line.text.contains("mounted from a kept result")).await;
    let shown = only(&world, "late").await;
    assert_eq!(shown["state"], "offline");
    assert!(shown["offline"]["ageSeconds"].as_u64().unwrap() >= 300, "{shown}");
    assert!(shown["failure"]["message"].as_str().unwrap().contains("503"), "{shown}");

    // Still away.
    world.advance(20);
    world.publish(&late).await;
    assert_eq!(
        (only(&world, "late").await["state"].as_str(), world.file(&late, SECRET)),
        (Some("offline"), VALUE.into())
    );
    world.emulator.clear_faults();
    world.advance(20);
    world.publish(&late).await;
    assert_eq!(world.file(&late, SECRET), NEWER);
    world.status_of(&late, CLASS, |status| status["metadata"]["annotations"].is_null()).await;
    assert_eq!(world.metric("coffer_offline_volumes", &[]), 0.0);
    assert_eq!(only(&world, "late").await["state"], "ok");
}

#[tokio::test]
async fn with_rotation_it_becomes_fresh_between_kubelets_calls() {
    let (world, _first) = in_an_outage(Some("1h"), Setup { rotation: Some("1h"), ..setup() }).await;
    let late = pod("late");
    world.publish(&late).await;
    world.vault.secret(SECRET).set(NEWER);
    world.emulator.clear_faults();
    let newer = eventually("the newer secret", || (world.file(&late, SECRET) == NEWER).then_some(()));
    world.while_time_passes("the newer secret", newer).await;
}

#[tokio::test]
async fn without_the_annotation_nothing_is_kept_and_the_pod_does_not_start() {
    for annotation in [None, Some("0")] {
        let (world, _first) = in_an_outage(annotation, setup()).await;
        world.refused(&pod("late"), Code::Unavailable, &[CLASS, "503"]).await;
        // Asking for it in the outage is too late.
        world.api.class("default", CLASS).annotate(ANNOTATION, Some("1h"));
        world.advance(2);
        world.refused(&pod("late"), Code::Unavailable, &[CLASS]).await;
    }
}

#[tokio::test]
async fn an_annotation_that_is_no_duration_is_told_and_is_as_good_as_none() {
    let (world, first) = in_an_outage(Some("a day"), setup()).await;
    let event = world.event(&first, "OfflineStartInvalid").await;
    assert!(format!("{}{}", event["note"], event["message"]).contains(ANNOTATION), "{event}");
    world.refused(&pod("late"), Code::Unavailable, &[CLASS]).await;
}

#[tokio::test]
async fn another_identity_gets_nothing_of_it() {
    let (world, _first) = in_an_outage(Some("1h"), setup()).await;
    let same = [("clientid", CLIENT_ID), ("clientsecret", CLIENT_SECRET)];
    let other = [("clientid", CLIENT_ID), ("clientsecret", "canary of another secret")];
    let volume = |secret: &[(&str, &str)]| Volume::new("secrets", CLASS).secret(secret);
    let strangers = [
        (Pod::new("late").service_account("other").volume(volume(&same)), Code::Unavailable),
        (Pod::new("late").volume(volume(&other)), Code::Unauthenticated),
        (Pod::new("late").volume(volume(&same).attribute("objects", &objects(&["Other"]))), Code::Unavailable),
    ];
    for (stranger, code) in strangers {
        world.refused(&stranger, code, &[CLASS]).await;
    }
    world.publish(&pod("late")).await;
}

#[tokio::test]
async fn another_namespace_and_another_class_get_nothing_of_it() {
    let (world, _first) = in_an_outage(Some("1h"), setup()).await;
    let objects = objects(&[SECRET]);
    for (namespace, class) in [("other", CLASS), ("default", "same")] {
        world.put_class_in(namespace, class, &objects);
        world.api.class(namespace, class).annotate(ANNOTATION, Some("1h"));
        let stranger = Pod::new("late").namespace(namespace).volume(super::world::volume(class));
        world.refused(&stranger, Code::Unavailable, &[class]).await;
    }
}

#[tokio::test]
async fn a_refusal_drops_what_was_kept() {
    let (world, _first) = in_an_outage(Some("1h"), setup()).await;
    world.emulator.clear_faults();
    world.vault.deny(CLIENT_ID);
    world.refused(&pod("late"), Code::PermissionDenied, &[CLASS]).await;
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::unavailable(None), Times::Always);
    world.refused(&pod("late"), Code::Unavailable, &[CLASS]).await;
}

#[tokio::test]
async fn a_refusal_in_a_refresh_drops_it_too() {
    let (world, first) = in_an_outage(Some("1h"), setup()).await;
    world.emulator.clear_faults();
    world.vault.deny(CLIENT_ID);
    world.api.class("default", CLASS).annotate("coffer.dev/refresh", Some("1"));
    world.advance(61);
    world.publish(&first).await;
    world.event(&first, "MountRotationFailed").await;
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::unavailable(None), Times::Always);
    world.refused(&pod("late"), Code::Unavailable, &[CLASS]).await;
}

#[tokio::test]
async fn nothing_older_than_the_class_and_the_configuration_allow_is_used() {
    for (annotation, config, passes) in [
        ("1h", "", HOUR),
        ("24h", "offlineStart: {maxAge: 1h}", HOUR),
        ("24h", "offlineStart: {maxAge: 0}", Duration::ZERO),
        ("24h", "offlineStart: {memory: 10B}", Duration::ZERO),
    ] {
        let (world, _first) = in_an_outage(Some(annotation), Setup { config: config.to_owned(), ..setup() }).await;
        world.clock.advance(passes);
        world.refused(&pod("late"), Code::Unavailable, &[CLASS]).await;
    }
}

#[tokio::test]
async fn a_look_that_finds_nothing_newer_makes_it_young_again() {
    let world = World::with(Setup { rotation: Some("10m"), ..setup() }).await;
    world.api.class("default", CLASS).annotate(ANNOTATION, Some("20m"));
    world.publish(&pod("first")).await;
    for looks in 1..=3 {
        world.advance(700);
        let looked = || (world.metric("rotation_reconcile_total", &[]) >= f64::from(looks)).then_some(());
        eventually("a look", looked).await;
    }
    // What is shared for a while is no kept result.
    world.advance(20);
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::unavailable(None), Times::Always);
    let late = pod("late");
    world.publish(&late).await;
    assert_eq!(world.file(&late, SECRET), VALUE);
    world.event(&late, "MountedFromKeptResult").await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_kept_until_the_next_look_and_an_offline_volume_stays_one() {
    let (world, _first) = in_an_outage(Some("1h"), setup()).await;
    let late = pod("late");
    world.publish(&late).await;
    world.remembers(2).await;
    world.restart().await;
    assert_eq!(only(&world, "late").await["state"], "offline");
    world.refused(&pod("later"), Code::Unavailable, &[CLASS]).await;
    world.emulator.clear_faults();
    world.vault.secret(SECRET).set(NEWER);
    world.publish(&late).await;
    assert_eq!(world.file(&late, SECRET), NEWER);
    assert_eq!(only(&world, "late").await["state"], "ok");
    // That look fetched everything, so it is kept.
    world.advance(300);
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::unavailable(None), Times::Always);
    let later = pod("later");
    world.publish(&later).await;
    assert_eq!(world.file(&later, SECRET), NEWER);
}

#[tokio::test]
async fn whatever_keeps_the_vault_from_answering_is_an_outage() {
    for fault in [
        Fault::Close,
        Fault::Stall,
        Fault::Garbage,
        Fault::internal(),
        Fault::throttled(Some(RetryAfter::Seconds(1800))),
    ] {
        let (world, _first) = in_an_outage(Some("1h"), Setup { limits: "deadline: 2s".to_owned(), ..setup() }).await;
        world.emulator.clear_faults();
        world.emulator.inject(Matcher::kind(Kind::GetSecret), fault, Times::Always);
        let late = pod("late");
        world.publish(&late).await;
        assert_eq!(world.file(&late, SECRET), VALUE);
    }
}
