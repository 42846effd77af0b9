//! What a run prints: for programs, in a dry run, after a retry, and at the highest log level.

use coffer_tests::harness::{Fault, Matcher, Times};
use serde_json::json;

use super::World;
use super::world::{CLIENT_ID, HOST, LOGIN, TENANT};

#[tokio::test]
async fn a_mount_as_json_lists_files_requests_and_times() {
    let world = World::new().await;
    let version = world.vault.secret("DemoSecret").set("canary with 22 letters");
    let run = world.mount(&["--output", "json"]).await;
    let report = run.json();
    assert_eq!(run.stderr, "");
    let file = json!({"path": "DemoSecret", "size": 22, "mode": "0644", "version": version});
    assert_eq!(report["files"], json!([file]));
    assert_eq!(report["change"], json!({"kind": "replaced", "written": 1, "removed": 0}));
    let expected = json!({"class": "akvprovider-demo", "provider": "azure", "target": "target", "dryRun": false});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&report[key], value, "{key}");
    }
    assert!(report["plugin"].as_str().unwrap().starts_with("sha256:"));
    let requests = report["requests"].as_array().unwrap();
    let lines: Vec<_> = requests.iter().map(|r| (&r["method"], &r["host"], &r["status"], &r["attempts"])).collect();
    assert_eq!(
        lines,
        [
            (&json!("POST"), &json!(LOGIN), &json!(200), &json!(1)),
            (&json!("GET"), &json!(HOST), &json!(200), &json!(1))
        ]
    );
    assert_eq!(requests[0]["rule"], "POST https://login.microsoftonline.com/{tenantID|tenantId}/oauth2/v2.0/token");
    for time in ["total", "plugin", "call", "network", "cpu"] {
        assert!(report["milliseconds"][time].as_f64().is_some_and(|time| time >= 0.0), "{time}");
    }
}

#[tokio::test]
async fn a_failure_as_json_has_code_reason_causes_and_requests() {
    let world = World::new().await;
    world.emulator.tenant(TENANT).vault("contoso-kv").deny(CLIENT_ID);
    let arguments = ["mount", "class.yaml", "secret.yaml", "target", "--config", "config.yaml", "--output", "json"];
    let run = world.run(&arguments, &[]).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(77), ""));
    let error = &run.json()["error"];
    assert_eq!((&error["exitCode"], &error["reason"]), (&json!(77), &json!("PermissionDenied")));
    assert_eq!(error["message"], "SecretProviderClass `akvprovider-demo` cannot be mounted");
    let causes = error["causes"].as_array().unwrap();
    assert!(causes.iter().any(|cause| cause.as_str().unwrap().contains("secret/DemoSecret")), "{causes:?}");
    assert_eq!(error["requests"][1]["status"], 403);
    assert!(world.tree().is_none());
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let world = World::new().await;
    let run = world.mount(&["--dry-run", "--output", "json"]).await;
    assert_eq!(run.json()["change"], json!({"kind": "replaced", "written": 1, "removed": 0}));
    assert!(world.tree().is_none());

    world.mount(&[]).await;
    let before = world.tree();
    let run = world.mount(&["--dry-run", "--output", "json"]).await;
    assert_eq!((&run.json()["change"]["kind"], &run.json()["dryRun"]), (&json!("unchanged"), &json!(true)));
    world.vault.secret("DemoSecret").set("canary");
    let run = world.mount(&["--dry-run"]).await;
    assert!(run.stdout.contains("would"), "{run:#?}");
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn an_answer_that_was_worth_a_retry_shows_as_a_second_attempt() {
    let world = World::new().await;
    world.emulator.inject(Matcher::any().host(HOST), Fault::unavailable(None), Times::ONCE);
    let run = world.mount(&["--output", "json"]).await;
    let report = run.json();
    let attempts: Vec<_> = report["requests"].as_array().unwrap().iter().map(|request| &request["attempts"]).collect();
    assert_eq!(attempts, [&json!(1), &json!(2)]);
    assert_eq!(report["requests"][1]["status"], 200);
    assert_eq!(world.file("DemoSecret"), "MyExampleSecret");
}

#[tokio::test]
async fn nothing_secret_is_logged_at_any_level() {
    let world = World::new().await;
    let run = world.mount(&["--log-level", "trace"]).await;
    assert!(run.stderr.contains(HOST), "the requests are logged, so the search meant something: {run:#?}");
    world.emulator.tenant(TENANT).app(CLIENT_ID).forget_secrets();
    let arguments = ["mount", "class.yaml", "secret.yaml", "target", "--config", "config.yaml", "--log-level", "trace"];
    let run = world.run(&arguments, &[]).await;
    assert_eq!(run.code, Some(77));
}
