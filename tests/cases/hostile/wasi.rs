//! A guest whose standard library imports WASI finds nothing there.

use std::sync::Arc;
use std::time::Duration;

use coffer_sandbox::limits::Limits;
use coffer_sandbox::provider::{Outcome, Request};

use crate::sandbox::{Bench, Friendly, chain, request};

async fn bench(limits: Limits) -> Bench {
    Bench::new("guest-wasi", limits).await
}

/// Each fact that the guest found, by name.
fn facts(outcome: Outcome) -> std::collections::BTreeMap<String, String> {
    let files = outcome.mounted.unwrap().files.into_iter();
    files.map(|file| (file.path, String::from_utf8(file.contents.expose().to_vec()).unwrap())).collect()
}

async fn seen(bench: &Bench, request: &Request) -> std::collections::BTreeMap<String, String> {
    facts(bench.send(request, Arc::new(Friendly)).await.result.unwrap())
}

#[tokio::test]
pub(super) async fn tells_what_it_sees() {
    let bench = bench(Limits::default()).await;
    let seen = seen(&bench, &request("tells_what_it_sees", &[])).await;
    let inert = [
        ("wall-clock", "1800000000.000000000"),
        ("monotonic-clock", "true"),
        ("environment", "[]"),
        ("arguments", "[]"),
        ("working-directory", "None"),
        ("directories", "0"),
        ("input", "Err(\"closed\")"),
    ];
    for (name, value) in inert {
        assert_eq!(seen[name], value, "{name}");
    }
    assert_eq!(seen.len(), inert.len() + RANDOM.len(), "a fact is not tested");
}

const RANDOM: [&str; 3] = ["random", "insecure-random", "insecure-seed"];

#[tokio::test]
async fn randomness_follows_from_the_entropy_of_the_request_and_from_nothing_else() {
    let bench = bench(Limits::default()).await;
    let one = request("tells_what_it_sees", &[]);
    let mut other = request("tells_what_it_sees", &[]);
    other.entropy = [8; 32];
    let (first, again, different) = (seen(&bench, &one).await, seen(&bench, &one).await, seen(&bench, &other).await);
    for kind in RANDOM {
        assert_eq!(first[kind], again[kind], "{kind}");
        assert_ne!(first[kind], different[kind], "{kind}");
    }
    assert_ne!(first["random"], first["insecure-random"], "the insecure one would give the secure one away");
    assert!(!first["random"].contains("07, 07, 07"), "the entropy itself is for the provider's own use");
}

#[tokio::test]
pub(super) async fn writes_to_its_output() {
    let bench = bench(Limits::default()).await;
    assert_eq!(seen(&bench, &request("writes_to_its_output", &[])).await["written"], "2");
    let line = |level: &str, text: &str| (level.to_owned(), text.to_owned());
    let expected = [line("INFO", "a line on standard output"), line("WARN", "a line on standard error")];
    assert_eq!(bench.log.guest(), expected);
}

#[tokio::test]
pub(super) async fn floods_its_output() {
    let bench = bench(Limits { cpu: Duration::from_secs(60), ..Limits::default() }).await;
    let called = bench.mount("floods_its_output", &[]).await;
    assert_eq!(facts(called.result.unwrap())["written"], "100000");
    assert_eq!(called.usage.log_lines_dropped, 99_800);
    assert_eq!(bench.log.guest().len(), 201, "the limit and one line that says so");
}

#[tokio::test]
pub(super) async fn opens_sockets() {
    let bench = bench(Limits::default()).await;
    for (name, said) in seen(&bench, &request("opens_sockets", &[])).await {
        assert!(said != "allowed", "{name} is allowed");
        assert_eq!(said, expected(&name), "{name}");
    }
}

fn expected(name: &str) -> &'static str {
    match name {
        "lookup" | "lookup-address" => "permanent-resolver-failure",
        _ => "access-denied",
    }
}

#[tokio::test]
pub(super) async fn exits() {
    let bench = bench(Limits::default()).await;
    let error = bench.mount("exits", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), "plugin \"guest\" did not finish its mount: it crashed: Exited with i32 exit status 0");
    is_well(&bench).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn sleeps() {
    let bench = bench(Limits::default()).await;
    let error = bench.mount("sleeps", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), "plugin \"guest\" did not finish its mount: it took longer than 60s");
    is_well(&bench).await;
}

#[tokio::test]
pub(super) async fn wants_a_gibibyte_of_randomness() {
    let bench = bench(Limits::default()).await;
    let error = bench.mount("wants_a_gibibyte_of_randomness", &[]).await.result.unwrap_err();
    assert_eq!(
        chain(&error),
        "plugin \"guest\" did not finish its mount: it crashed: requested len 1073741824 exceeds limit 65536"
    );
    is_well(&bench).await;
}

#[tokio::test]
pub(super) async fn hoards_streams() {
    let bench = bench(Limits { cpu: Duration::from_secs(10), ..Limits::default() }).await;
    let error = bench.mount("hoards_streams", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), "plugin \"guest\" did not finish its mount: it crashed: resource table has no free keys");
    is_well(&bench).await;
}

async fn is_well(bench: &Bench) {
    assert_eq!(seen(bench, &request("writes_to_its_output", &[])).await["written"], "2");
}
