//! What an administrator on the node is told by `coffer status`, and has done by `coffer refresh`.

use std::process::Stdio;
use std::time::Duration;

use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, RetryAfter, Times};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::patience::{eventually, in_time};
use super::world::{CLASS, CLIENT_ID, SECRET, Setup, VALUE, World, objects, pod, url_of, volume};

const NEWER: &str = "canary of the second value";
/// More than the time between two looks at one volume.
const FLOOR: u64 = 11;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The only volume of the node as `coffer status` knows it, and how it ended.
async fn only(world: &World) -> (Value, Option<i32>) {
    let run = world.coffer(&["status", "--output", "json"]).await;
    let status: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
    let volumes = status["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 1, "{status}");
    (volumes[0].clone(), run.code)
}

#[tokio::test]
async fn the_status_has_every_volume_with_its_times_and_versions() {
    let world = World::with(Setup::rotating("2m")).await;
    let version = world.vault.secret(SECRET).set("canary that is the latest");
    world.publish(&pod("web")).await;
    world.publish(&pod("api")).await;
    let run = world.coffer(&["status"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    for part in ["NAMESPACE", "web", "api", CLASS, "azure", "ok", "s ago", "secret/DemoSecret", &version, "all right"] {
        assert!(run.stdout.contains(part), "{part} is not in\n{}", run.stdout);
    }
    let run = world.coffer(&["status", "--pod", "api", "--output", "json"]).await;
    let status: Value = serde_json::from_str(&run.stdout).unwrap();
    let volume = &status["volumes"][0];
    assert_eq!(status["volumes"].as_array().unwrap().len(), 1);
    assert_eq!((text(volume, "pod"), text(volume, "volume"), text(volume, "state")), ("api", "secrets", "ok"));
    assert_eq!((text(volume, "class"), text(volume, "provider")), (CLASS, "azure"));
    assert_eq!(volume["objects"][0]["version"], version);
    assert!(text(volume, "due") > text(volume, "checked"), "{volume}");
    assert_eq!(status["rotation"]["intervalSeconds"], 120);
    let run = world.coffer(&["status", "--pod", "nobody"]).await;
    assert_eq!(run.code, Some(65), "{run:?}");
    assert!(run.stderr.contains("pod `nobody`"), "{run:?}");
}

#[tokio::test]
async fn times_and_versions_are_known_after_a_restart() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.status(&pod).await;
    let (before, _) = only(&world).await;
    world.advance(600);
    world.restart().await;
    let (after, code) = only(&world).await;
    for key in ["checked", "changed", "class", "provider", "objects", "namespace", "pod", "podUid", "serviceAccount"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_beginning_until_it_is_over() {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.vault.deny(CLIENT_ID);
    world.clock.advance(Duration::from_secs(70));
    world.publish(&pod).await;
    world.event(&pod, "MountRotationFailed").await;
    let (first, code) = only(&world).await;
    assert_eq!((text(&first, "state"), code), ("failing", Some(1)));
    assert_eq!(text(&first["failure"], "reason"), "PermissionDenied");
    world.clock.advance(Duration::from_secs(300));
    world.publish(&pod).await;
    let again = |volume: &Value| volume["failure"]["times"].as_u64() >= Some(2);
    let mut second = only(&world).await.0;
    while !again(&second) {
        second = only(&world).await.0;
    }
    assert_eq!(second["failure"]["since"], first["failure"]["since"]);
    assert_eq!((&second["changed"], &second["checked"]), (&first["changed"], &first["checked"]));
    let table = world.coffer(&["status"]).await;
    assert!(
        table.stdout.contains("the permission Get for secrets") && table.stdout.contains("1 not right"),
        "{table:?}"
    );

    world.vault.allow_all(CLIENT_ID);
    world.clock.advance(Duration::from_secs(300));
    world.publish(&pod).await;
    let (healed, code) = only(&world).await;
    assert_eq!((text(&healed, "state"), code), ("ok", Some(0)));
    assert!(healed["failure"].is_null() && text(&healed, "checked") > text(&first, "checked"));
}

#[tokio::test]
async fn a_refresh_is_at_once_where_rotation_is_on() {
    let world = World::with(Setup::rotating("1h")).await;
    let (web, api) = (pod("web"), pod("api"));
    world.publish(&web).await;
    world.publish(&api).await;
    let version = world.vault.secret(SECRET).set(NEWER);
    world.emulator.log().clear();
    let run = world.coffer(&["refresh", "--pod", "web"]).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "default/web secrets (kv): changed\n"), "{run:?}");
    assert_eq!((world.file(&web, SECRET).as_str(), world.file(&api, SECRET).as_str()), (NEWER, VALUE));
    let run = world.coffer(&["refresh", "--class", CLASS, "--pod", "api", "--output", "json"]).await;
    let looks: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (text(&looks["volumes"][0], "result"), run.code),
        ("changed", Some(0)),
        "a kept result is not asked for"
    );
    assert_eq!(world.gets(), 2, "each command asks the vault");

    world.advance(FLOOR);
    world.emulator.log().clear();
    let run = world.coffer(&["refresh", "--all"]).await;
    let expected = "default/api secrets (kv): unchanged\ndefault/web secrets (kv): unchanged\n";
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), expected), "{run:?}");
    assert_eq!(world.gets(), 1, "equal volumes are looked at together");
    let run = world.coffer(&["status", "--pod", "web", "--output", "json"]).await;
    assert!(run.stdout.contains(&version), "{run:?}");
}

#[tokio::test]
async fn a_refresh_that_fails_says_why_and_ends_with_one() {
    let world = World::with(Setup::rotating("1h")).await;
    let web = pod("web");
    world.publish(&web).await;
    world.vault.deny(CLIENT_ID);
    let run = world.coffer(&["refresh", "--namespace", "default"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stdout.starts_with("default/web secrets (kv): failed: ") && run.stdout.contains("permission Get"),
        "{run:?}"
    );
    let run = world.coffer(&["refresh", "--namespace", "nowhere"]).await;
    assert_eq!(run.code, Some(65), "{run:?}");
    assert_eq!(world.file(&web, SECRET), VALUE);
}

#[tokio::test]
async fn the_floor_between_two_looks_stays_and_what_was_asked_for_is_not_lost() {
    let world = World::with(Setup::rotating("1h")).await;
    let web = pod("web");
    world.publish(&web).await;
    world.coffer(&["refresh", "--all"]).await;
    world.vault.secret(SECRET).set(NEWER);
    world.emulator.log().clear();
    for _ in 0..2 {
        let run = world.coffer(&["refresh", "--all", "--no-wait"]).await;
        assert!(run.stdout.contains("not yet: ") && run.code == Some(0), "{run:?}");
    }
    assert_eq!(world.gets(), 0);
    world.advance(FLOOR);
    eventually("the newer secret", || (world.file(&web, SECRET) == NEWER).then_some(())).await;
    assert_eq!(world.gets(), 1);
}

#[tokio::test]
async fn without_rotation_a_refresh_waits_for_kubelets_next_call() {
    let world = World::new().await;
    let web = pod("web");
    world.publish(&web).await;
    world.vault.secret(SECRET).set(NEWER);
    let run = world.coffer(&["refresh", "--all", "--timeout", "1s"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.contains("not yet: waits for kubelet's next call"), "{run:?}");
    assert!(only(&world).await.0["waitsForKubelet"].as_bool().unwrap());

    world.publish(&web).await;
    assert_eq!(world.file(&web, SECRET), NEWER, "what was asked for is not lost");

    world.vault.secret(SECRET).set("canary of the third value");
    let kubelet = async {
        loop {
            world.advance(FLOOR);
            world.publish(&web).await;
        }
    };
    let run = tokio::select! {
        run = world.coffer(&["refresh", "--all"]) => run,
        never = kubelet => never,
    };
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "default/web secrets (kv): changed\n"), "{run:?}");
    assert_eq!(world.file(&web, SECRET), "canary of the third value");
}

#[tokio::test]
async fn a_refresh_waits_for_kubelet_where_its_tokens_do_not_last() {
    let mut world = World::with(Setup::rotating("1h")).await;
    world.kubelet.driver().tokens.as_mut().unwrap().lifetime = Duration::from_secs(50);
    world.put_guest("asking", "behaves", &[("url", &url_of(SECRET))]);
    let web = Pod::new("web").mounts("asking");
    world.publish(&web).await;
    let run = world.coffer(&["refresh", "--all", "--timeout", "1s"]).await;
    assert!(run.stdout.contains("not yet: waits for kubelet: the tokens") && run.code == Some(1), "{run:?}");
    assert_eq!(world.gets(), 1);
    world.kubelet.driver().tokens.as_mut().unwrap().lifetime = Duration::from_secs(3600);
    world.kubelet.forget_tokens();
    world.publish(&web).await;
    assert_eq!(world.gets(), 2, "kubelet's call does what was asked for");
}

#[tokio::test]
async fn a_store_that_wants_to_be_left_alone_is_also_by_command() {
    let world = World::with(Setup::rotating("1h")).await;
    let web = pod("web");
    world.publish(&web).await;
    let fault = Fault::throttled(Some(RetryAfter::Seconds(1800)));
    world.emulator.inject(Matcher::kind(Kind::GetSecret), fault, Times::Always);
    let run = world.coffer(&["refresh", "--all"]).await;
    assert!(run.stdout.contains("failed: ") && run.code == Some(1), "{run:?}");
    world.advance(FLOOR);
    world.emulator.log().clear();
    let run = world.coffer(&["refresh", "--all", "--timeout", "1s"]).await;
    assert!(run.stdout.contains("not yet: the store asked to be left alone until 20"), "{run:?}");
    assert_eq!(world.gets(), 0);
    let (volume, _) = only(&world).await;
    assert!(!volume["throttledUntil"].is_null(), "{volume}");
}

#[tokio::test]
async fn a_volume_that_goes_while_it_is_looked_at_is_gone() {
    let world = World::with(Setup::rotating("1h")).await;
    let web = pod("web");
    world.publish(&web).await;
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    let (run, ()) = tokio::join!(world.coffer(&["refresh", "--all"]), async {
        in_time("the vault to be asked", gate.arrived(1)).await;
        world.unpublish(&web).await;
        gate.open();
    });
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "default/web secrets (kv): gone\n"), "{run:?}");
    assert_eq!(world.coffer(&["status"]).await.stdout, "0 volumes, all right\n");
}

#[tokio::test]
async fn an_edited_class_is_seen_by_a_refresh_at_once() {
    let world = World::with(Setup::rotating("1h")).await;
    let web = pod("web");
    world.publish(&web).await;
    world.vault.secret("Other").set("canary of the other");
    world.put_class(CLASS, &objects(&["Other"]));
    world.advance(2);
    let run = world.coffer(&["refresh", "--all"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(world.has_file(&web, "Other") && !world.has_file(&web, SECRET));
}

#[tokio::test]
async fn who_watches_gets_a_line_for_each_change_until_they_end_it() {
    let world = World::new().await;
    let web = pod("web");
    world.publish(&web).await;
    let mut command: Command = world.coffer_command(&["status", "--watch"]);
    let mut watch = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let line = in_time("the first line", lines.next_line()).await.unwrap().unwrap();
    assert!(line.contains("default/web secrets (kv): ok; secret/DemoSecret "), "{line}");
    world.publish(&Pod::new("api").volume(volume(CLASS))).await;
    let line = in_time("a line for the new pod", lines.next_line()).await.unwrap().unwrap();
    assert!(line.contains("default/api secrets (kv): ok"), "{line}");
    world.unpublish(&web).await;
    let line = in_time("a line for the pod that ended", lines.next_line()).await.unwrap().unwrap();
    assert!(line.ends_with("default/web secrets (kv): gone"), "{line}");
    let id = rustix::process::Pid::from_raw(i32::try_from(watch.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(in_time("the watch to end", watch.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn names_of_secrets_are_told_over_the_socket_alone() {
    let world = World::new().await;
    world.publish(&pod("web")).await;
    assert!(world.coffer(&["status", "--output", "json"]).await.stdout.contains(SECRET));
    for path in ["/metrics", "/healthz", "/readyz?verbose"] {
        let (_, text) = world.driver().get(path).unwrap();
        assert!(!text.contains(SECRET), "{path}");
    }
}
