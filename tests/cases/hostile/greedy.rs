//! Guests that want more time, memory or space than their grant gives them.

use std::time::Duration;

use coffer_sandbox::limits::Limits;

use crate::sandbox::{Bench, chain, contents};

const URL: (&str, &str) = ("url", "http://vault.example.test/secrets");

async fn bench() -> Bench {
    Bench::new("guest-modes", Limits { cpu: Duration::from_millis(100), ..Limits::default() }).await
}

/// With memory for a hundred mebibytes, so that the memory is not what stops them.
async fn roomy_bench() -> Bench {
    Bench::new("guest-modes", Limits { memory: 200 << 20, ..Limits::default() }).await
}

/// The mode ends with this error, and an honest call after it works.
async fn refuses(bench: &Bench, mode: &str, reason: &str, cause: &str) {
    let error = bench.mount(mode, &[URL]).await.result.unwrap_err();
    assert_eq!(chain(&error), format!("plugin \"guest\" did not finish its mount: {cause}"));
    assert_eq!(error.reason(), reason);
    bench.is_well().await;
}

const OUT_OF_TIME: &str = "it exceeded its limit of 100ms of processor time; if the provider is right to need more, \
                           raise `limits.cpu` of its grant";

#[tokio::test]
pub(super) async fn loops_for_ever() {
    refuses(&bench().await, "loops_for_ever", "LimitExceeded", OUT_OF_TIME).await;
}

#[tokio::test]
pub(super) async fn loops_for_ever_in_check() {
    let bench = bench().await;
    let error = bench.check("loops_for_ever_in_check", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), format!("plugin \"guest\" did not finish its check: {OUT_OF_TIME}"));
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn loops_between_requests() {
    refuses(&bench().await, "loops_between_requests", "LimitExceeded", OUT_OF_TIME).await;
}

#[tokio::test]
pub(super) async fn recurses_without_end() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    refuses(&bench, "recurses_without_end", "ProviderCrashed", "it crashed: its call stack is exhausted").await;
}

#[tokio::test]
pub(super) async fn hoards_memory() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    refuses(
        &bench,
        "hoards_memory",
        "LimitExceeded",
        "it exceeded its limit of 64 MiB of memory; if the provider is right to need more, raise \
         `limits.memory` of its grant",
    )
    .await;
}

const HANDED_OVER: &str = "it exceeded its limit of 6844416 bytes handed over at once; if the provider is right to \
                           need more, raise `limits.fileBytes` of its grant";

#[tokio::test]
pub(super) async fn returns_a_hundred_mebibytes() {
    refuses(&roomy_bench().await, "returns_a_hundred_mebibytes", "LimitExceeded", HANDED_OVER).await;
}

#[tokio::test]
async fn a_result_a_little_over_the_limit_is_refused_with_its_size() {
    let bench = Bench::new("guest-modes", Limits { file_bytes: 1 << 20, ..Limits::default() }).await;
    let fits = "x".repeat(1 << 20);
    let outcome = bench.mount("behaves", &[("contents", &fits)]).await.result.unwrap();
    assert_eq!(contents(&outcome).len(), 1 << 20);
    let too_much = "x".repeat((1 << 20) + 1);
    let error = bench.mount("behaves", &[("contents", &too_much)]).await.result.unwrap_err();
    assert_eq!(
        error.cause.to_string(),
        "it exceeded its limit of 1048576 bytes of file contents with 1048577; if the provider is right to need more, \
         raise `limits.fileBytes` of its grant"
    );
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn returns_one_mebibyte_many_times() {
    refuses(&bench().await, "returns_one_mebibyte_many_times", "LimitExceeded", HANDED_OVER).await;
}

#[tokio::test]
pub(super) async fn returns_a_hundred_thousand_versions() {
    refuses(
        &roomy_bench().await,
        "returns_a_hundred_thousand_versions",
        "LimitExceeded",
        "it exceeded its limit of 2000 object versions with 100000; if the provider is right to need more, raise \
         `limits.objects` of its grant",
    )
    .await;
}

#[tokio::test]
pub(super) async fn returns_a_session_of_a_mebibyte() {
    refuses(
        &bench().await,
        "returns_a_session_of_a_mebibyte",
        "LimitExceeded",
        "it exceeded its limit of 65536 bytes of session with 1048576; if the provider is right to need more, raise \
         `limits.session` of its grant",
    )
    .await;
}

#[tokio::test]
pub(super) async fn traps_half_way() {
    let cause = "it crashed: wasm trap: wasm `unreachable` instruction executed";
    refuses(&bench().await, "traps_half_way", "ProviderCrashed", cause).await;
}

#[tokio::test]
pub(super) async fn floods_the_log() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    let called = bench.mount("floods_the_log", &[]).await;
    assert_eq!(contents(&called.result.unwrap()), "hello");
    assert_eq!(called.usage.log_lines_dropped, 99_800);
    let lines = bench.log.guest();
    assert_eq!(lines.len(), 201, "the limit and one line that says so");
    assert_eq!(lines[199], ("ERROR".to_owned(), "line 199".to_owned()));
    assert_eq!(lines[200], ("WARN".to_owned(), "log lines over the limit were dropped".to_owned()));
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn logs_a_mebibyte() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    bench.mount("logs_a_mebibyte", &[]).await.result.unwrap();
    assert_eq!(bench.log.guest(), [("ERROR".to_owned(), format!("{}… (cut)", "x".repeat(4096)))]);
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn fails_with_a_mebibyte() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    let error = bench.mount("fails_with_a_mebibyte", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), format!("plugin \"guest\" reports: {}… (cut)", "x".repeat(4096)));
    assert_eq!(error.reason(), "ProviderInternal");
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn forges_a_log_line() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    let error = bench.mount("forges_a_log_line", &[]).await.result.unwrap_err();
    // A failure may have lines of its own, because `check` reports one mistake per line.
    assert_eq!(error.cause.to_string(), "oh \n2026-01-01T00:00:00Z ERROR forged [2J");
    let line = "oh  2026-01-01T00:00:00Z ERROR forged [2J";
    assert_eq!(bench.log.guest(), [("ERROR".to_owned(), line.to_owned())]);
    bench.is_well().await;
}
