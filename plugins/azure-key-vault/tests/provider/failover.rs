//! A second vault for the outage of the first.

use coffer_azure_key_vault::http::{Error, Request};
use coffer_azure_key_vault::{FailureKind, Outcome, Parameters, mount};

use crate::wire::{Answer, Wire, class, files, is_sign_in, json, mount_with, name_of, request, secret, token};

fn doubled(objects: &[&str]) -> Parameters {
    let mut parameters = class(objects);
    parameters.insert("failoverKeyvaultName".into(), "kv2".into());
    parameters
}

const TWO: [&str; 2] = ["objectName: a\nobjectType: secret", "objectName: b\nobjectType: secret"];

/// The second vault has every secret, the first answers like this.
fn mounted(first: impl Fn(&Request) -> Answer) -> Outcome {
    let vault = |request: &Request| if is_second(request) { second(request) } else { first(request) };
    mount_with(doubled(&TWO), vault).unwrap()
}

fn is_second(request: &Request) -> bool {
    request.url.starts_with("https://kv2.vault.azure.net/")
}

fn second(request: &Request) -> Answer {
    json(200, &format!(r#"{{"value":"second","id":"https://kv2.vault.azure.net/secrets/{}/v2"}}"#, name_of(request)))
}

#[test]
fn a_vault_that_answers_is_the_only_one_asked() {
    let outcome = mounted(secret);
    assert_eq!(files(&outcome), [("a", "value of a"), ("b", "value of b")]);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { json(404, "") });
    let failure = mount(&request(doubled(&TWO)), &wire).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(wire.requests().iter().all(|request| !is_second(request)));
}

#[test]
fn in_an_outage_everything_comes_from_the_second_and_is_remarked() {
    let failures: [fn() -> Answer; 6] = [
        || json(503, ""),
        || json(500, ""),
        || Err(Error::Timeout),
        || Err(Error::Connect("refused".into())),
        || Err(Error::Dns("no such host".into())),
        || Err(Error::Tls("unknown authority".into())),
    ];
    for failure in failures {
        let outcome = mounted(|request| if name_of(request) == "b" { failure() } else { secret(request) });
        assert_eq!(files(&outcome), [("a", "second"), ("b", "second")]);
        assert!(outcome.remarks[0].ends_with("; everything comes from kv2.vault.azure.net instead"), "{outcome:?}");
        assert_eq!(outcome.objects[0].version, "v2");
    }
}

#[test]
fn a_vault_that_says_no_or_slow_down_is_not_left() {
    for status in [400, 401, 403, 404, 429] {
        let vault = |request: &Request| if is_second(request) { second(request) } else { json(status, "") };
        assert!(mount_with(doubled(&TWO), vault).is_err(), "{status}");
    }
    let vault =
        |request: &Request| if is_second(request) { second(request) } else { Err(Error::Denied("no rule".into())) };
    assert_eq!(mount_with(doubled(&TWO), vault).unwrap_err().kind, FailureKind::PermissionDenied);
}

#[test]
fn where_both_fail_both_are_told_and_it_may_pass() {
    let vault = |request: &Request| if is_second(request) { json(404, "") } else { json(503, "") };
    let failure = mount_with(doubled(&TWO[..1]), vault).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    let lines: Vec<&str> = failure.message.lines().collect();
    assert!(lines[0].starts_with("secret/a: the vault kv1.vault.azure.net has a problem of its own"), "{failure}");
    assert!(lines[1].starts_with("in the failover vault secret/a: kv2.vault.azure.net has no secret"), "{failure}");
}

#[test]
fn the_second_vault_costs_no_second_token() {
    let wire = Wire::new(|request, _| match () {
        () if is_sign_in(request) => token("t"),
        () if is_second(request) => second(request),
        () => json(503, ""),
    });
    mount(&request(doubled(&TWO)), &wire).unwrap();
    assert_eq!(wire.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 2]);
}
