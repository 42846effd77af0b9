//! Guests that put the pod's token where people would see it. What a guest encodes first still passes: see the threat
//! model.

use coffer_sandbox::limits::Limits;

use super::world::World;
use crate::sandbox::{Bench, TOKEN, chain, contents};

async fn bench() -> Bench {
    Bench::new("guest-modes", Limits::default()).await
}

/// Neither the whole token nor its middle is anywhere in the log.
fn assert_not_logged(bench: &Bench) {
    let log = bench.log.text();
    assert!(!log.contains(TOKEN) && !log.contains("canary"), "{log}");
}

#[tokio::test]
pub(super) async fn logs_its_token() {
    let bench = bench().await;
    bench.mount("logs_its_token", &[]).await.result.unwrap();
    assert_eq!(bench.log.guest(), [("ERROR".to_owned(), "the token is [redacted]".to_owned())]);
    assert_not_logged(&bench);
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn fails_with_its_token() {
    let bench = bench().await;
    let error = bench.mount("fails_with_its_token", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), "plugin \"guest\" reports: [redacted] is not good");
    assert!(!format!("{error:?}").contains("canary"));
    assert_not_logged(&bench);
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn names_a_file_after_its_token() {
    let bench = bench().await;
    let error = bench.mount("names_a_file_after_its_token", &[]).await.result.unwrap_err();
    assert_eq!(
        chain(&error),
        "plugin \"guest\" did not finish its mount: its answer breaks the contract: the path of a file contains a \
         secret of the request"
    );
    assert_not_logged(&bench);
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn names_a_version_after_its_token() {
    let bench = bench().await;
    let outcome = bench.mount("names_a_version_after_its_token", &[]).await.result.unwrap();
    assert_eq!(contents(&outcome), "hello");
    assert_eq!(outcome.mounted.unwrap().objects[0].version, "[redacted]");
    assert_not_logged(&bench);
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn asks_a_path_with_its_token() {
    let rule = "GET http://vault.example.test/secrets";
    let world = World::connected(rule).await;
    let asked = world.ask("asks_a_path_with_its_token", &[("url", "http://vault.example.test/secrets")]).await;
    assert_eq!(asked.answers(), ["200 hello"]);
    assert!(world.store.heads()[0].contains(TOKEN), "the rule allows the path, whatever it is");
    assert_eq!(asked.records[0].path, "/secrets/[redacted]");
    assert_not_logged(&world.bench);

    let asked = world.ask("asks_a_path_with_its_token", &[("url", "http://vault.example.test/admin")]).await;
    assert_eq!(
        asked.answers(),
        [format!(
            "denied: no egress rule of plugin `guest` allows GET http://vault.example.test/admin/[redacted]; nearest: \
             `{rule}` (differs in path)"
        )]
    );
    assert_eq!(asked.records[0].path, "/admin/[redacted]");
    assert_not_logged(&world.bench);
}
