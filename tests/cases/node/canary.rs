//! Every secret of these tests has a canary in it. At the most verbose level, with everything that can go wrong, none is in
//! any log, event, pod status, metric, ledger or answer. [`World`] looks through logs, events, statuses and metrics.

use std::fs;
use std::path::Path;

use coffer_tests::harness::kubelet::{PATIENCE, Pod, Volume};
use coffer_tests::harness::{Fault, Kind, Matcher, Times};

use super::world::{CLASS, CLIENT_ID, SECRET, Setup, World, assert_no_canary, pod, url_of};

/// Every file below a folder as text.
fn assert_no_canary_below(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_canary_below(&path);
        } else if path.is_file() {
            assert_no_canary(&path.display().to_string(), &String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
}

async fn everything(world: &World) {
    world.api.class("default", CLASS).annotate("coffer.dev/offline-start", Some("24h"));
    let pod = pod("web");
    world.publish(&pod).await;
    world.status(&pod).await;
    world.vault.secret(SECRET).set("canary of the second value");
    world.clock.advance(std::time::Duration::from_secs(70));
    world.publish(&pod).await;
    for fault in [
        Fault::challenge("Bearer canary"),
        Fault::CutBody,
        Fault::internal(),
        Fault::redirect(302, "https://canary.example/"),
    ] {
        world.emulator.inject(Matcher::kind(Kind::GetSecret), fault, Times::ONCE);
        world.clock.advance(std::time::Duration::from_secs(300));
        world.publish(&pod).await;
    }
    world.vault.deny(CLIENT_ID);
    world.clock.advance(std::time::Duration::from_secs(300));
    world.publish(&pod).await;
    world.event(&pod, "MountRotationFailed").await;
    look_and_list(world, &pod).await;

    let modes = [
        "logs_its_token",
        "fails_with_its_token",
        "asks_a_path_with_its_token",
        "names_a_file_after_its_token",
        "names_a_version_after_its_token",
        "keeps_a_session",
        "behaves",
    ];
    for mode in modes {
        let class = mode.replace('_', "-");
        world.put_guest(&class, mode, &[("url", &url_of(SECRET))]);
        let volume = Volume::new("secrets", &class).secret(&[("key", "canary of a Secret")]);
        let pod = Pod::new(&class).volume(volume);
        if let Err(error) = world.kubelet.publish(&pod, "secrets").await {
            assert_no_canary("an answer", &error.to_string());
        }
    }
    // A request that makes no sense is no reason to show it.
    let mut request = world.kubelet.request(&pod, "secrets", true).unwrap();
    request.volume_context.insert("csi.storage.k8s.io/serviceAccount.tokens".into(), "canary, no JSON".into());
    request.target_path = "relative".into();
    let error = world.kubelet.send(request, PATIENCE).await.unwrap_err();
    assert_no_canary("an answer", &error.to_string());
    world.unpublish(&pod).await;
}

/// Every command that asks the driver, and a pod that starts with a kept result; [`World::coffer`] looks for secrets.
async fn look_and_list(world: &World, web: &Pod) {
    world.vault.allow_all(CLIENT_ID);
    world.clock.advance(std::time::Duration::from_secs(300));
    // With tokens that last; then past the floor, and not to the next look by time.
    world.publish(web).await;
    world.clock.advance(std::time::Duration::from_secs(20));
    let run = world.coffer(&["refresh", "--all", "--output", "json"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::unavailable(None), Times::Always);
    let late = pod("late");
    world.clock.advance(std::time::Duration::from_secs(300));
    world.publish(&late).await;
    world.event(&late, "MountedFromKeptResult").await;
    for command in [
        "status",
        "refresh --all --timeout 1s",
        "status --output json",
        "refresh --pod late --output json --timeout 1s",
    ] {
        let run = world.coffer(&command.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stdout.contains("late"), "the search meant something");
    }
    world.emulator.clear_faults();
}

#[tokio::test]
async fn no_secret_is_anywhere_at_the_most_verbose_level() {
    for tokens_in_secrets in [false, true] {
        let setup = Setup { level: "trace", tokens_in_secrets, ..Setup::rotating("1m") };
        let world = World::with(setup).await;
        everything(&world).await;
        let text = world.log.text();
        assert!(text.contains("\"trace\"") || text.contains("\"debug\""), "the search meant something");
        assert!(text.contains("vault.azure.net"), "the search meant something");
        assert_no_canary_below(&world.state());
        assert!(world.stop().await.success());
        assert_no_canary_below(&world.state());
    }
}

#[tokio::test]
async fn no_secret_is_in_what_a_reader_of_the_process_sees() {
    let world = World::new().await;
    world.publish(&pod("web")).await;
    let id = world.driver().id();
    for file in ["cmdline", "environ", "status", "mountinfo"] {
        let text = fs::read(format!("/proc/{id}/{file}")).unwrap();
        assert_no_canary(file, &String::from_utf8_lossy(&text));
    }
}
