//! What a provider may do, so that the refusals of the other files mean something.

use std::sync::Arc;
use std::time::Duration;

use coffer_sandbox::limits::Limits;
use coffer_sandbox::provider::{Checked, Failure, FailureKind, ObjectVersion, Scope};

use crate::sandbox::{Bench, Friendly, chain, contents, request};

async fn bench() -> Bench {
    Bench::new("guest-modes", Limits::default()).await
}

#[tokio::test]
pub(super) async fn behaves() {
    let bench = bench().await;
    let outcome = bench.mount("behaves", &[("contents", "a value")]).await.result.unwrap();
    assert_eq!(contents(&outcome), "a value");
    assert_eq!(outcome.mounted.unwrap().objects, [ObjectVersion { id: "object".into(), version: "1".into() }]);
    let outcome = bench.mount("behaves", &[("url", "http://vault.example.test/")]).await.result.unwrap();
    assert_eq!(contents(&outcome), "200 hello");
    let checked = bench.check("behaves", &[]).await.result.unwrap();
    assert_eq!(checked, Checked { scope: Scope::ServiceAccount, session_key: "behaves".into(), remarks: Vec::new() });
}

#[tokio::test]
pub(super) async fn says_that_its_scope_is_pod() {
    let bench = bench().await;
    let checked = bench.check("says_that_its_scope_is_pod", &[]).await.result.unwrap();
    assert_eq!(checked.scope, Scope::Pod);
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn answers_unchanged() {
    let bench = bench().await;
    let mut request = request("answers_unchanged", &[]);
    request.mounted = vec![ObjectVersion { id: "object".into(), version: "1".into() }];
    let outcome = bench.send(&request, Arc::new(Friendly)).await.result.unwrap();
    assert!(outcome.mounted.is_none());

    request.mounted.clear();
    let error = bench.send(&request, Arc::new(Friendly)).await.result.unwrap_err();
    assert_eq!(
        chain(&error),
        "plugin \"guest\" did not finish its mount: its answer breaks the contract: `unchanged` for a volume that has \
         nothing in it yet"
    );
    assert_eq!(error.reason(), "ProviderAnswerInvalid");
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn fails_as_told() {
    let bench = bench().await;
    let retry_after = Some(Duration::from_secs(7));
    for (failure, kind, reason) in [
        ("invalid-request", FailureKind::InvalidRequest, "InvalidRequest"),
        ("unauthenticated", FailureKind::Unauthenticated, "Unauthenticated"),
        ("permission-denied", FailureKind::PermissionDenied, "PermissionDenied"),
        ("not-found", FailureKind::NotFound, "NotFound"),
        ("throttled", FailureKind::Throttled { retry_after }, "Throttled"),
        ("unavailable", FailureKind::Unavailable, "Unavailable"),
        ("internal", FailureKind::Internal, "ProviderInternal"),
    ] {
        let parameters = [("failure", failure), ("message", "one line\nanother line")];
        let error = bench.mount("fails_as_told", &parameters).await.result.unwrap_err();
        let coffer_sandbox::error::Cause::Failure(found) = &error.cause else { panic!("{error:?}") };
        assert_eq!(found, &Failure { kind, message: "one line\nanother line".into() });
        assert_eq!(error.reason(), reason);
    }
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn refuses_its_parameters() {
    let bench = bench().await;
    let error = bench.check("refuses_its_parameters", &[]).await.result.unwrap_err();
    assert_eq!(chain(&error), "plugin \"guest\" reports: the parameters are not to my taste");
    assert_eq!(error.reason(), "InvalidRequest");
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn keeps_a_session() {
    let bench = bench().await;
    let mut request = request("keeps_a_session", &[]);
    for round in 0..3 {
        let outcome = bench.send(&request, Arc::new(Friendly)).await.result.unwrap();
        assert_eq!(contents(&outcome), round.to_string(), "what it got was what it gave");
        let session = outcome.session.unwrap();
        assert_eq!(session.expires_in, Duration::from_secs(60));
        request.session = Some(session.state);
    }
}
