//! Sessions and challenges: when a token is asked for, kept, given up, and never sent.

use coffer_azure_key_vault::http::Response;
use coffer_azure_key_vault::{FailureKind, Request, Session, mount};

use crate::wire::{Wire, challenge, class, files, is_sign_in, name_of, request, secret, token};

/// A request for the secrets `a` and `b`, with a session of an earlier mount whose token was `t-1`.
fn second_request() -> Request {
    let mut request = request(class(&["objectName: a\nobjectType: secret", "objectName: b\nobjectType: secret"]));
    request.session = Some(first_session(&request).state);
    request
}

fn first_session(request: &Request) -> Session {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
    mount(request, &wire).unwrap().session.unwrap()
}

fn bearer(request: &coffer_azure_key_vault::http::Request) -> Option<&str> {
    request.headers.iter().find(|(name, _)| *name == "authorization").map(|(_, value)| value.as_str())
}

#[test]
fn the_token_goes_out_as_the_session_with_a_margin() {
    let session = first_session(&request(class(&["objectName: a\nobjectType: secret"])));
    assert_eq!(session.expires_in_seconds, 3_300);
}

#[test]
fn with_a_session_a_mount_is_one_round_trip_and_hands_the_session_on() {
    let mut request = second_request();
    request.now = 1_300;
    let wire = Wire::new(|request, _| secret(request));
    let outcome = mount(&request, &wire).unwrap();
    assert_eq!(wire.batches().len(), 1);
    assert!(wire.requests().iter().all(|request| bearer(request) == Some("Bearer t-1")));
    assert_eq!(outcome.session.unwrap().expires_in_seconds, 3_000);
}

#[test]
fn a_session_that_ended_or_is_broken_or_belongs_to_another_is_not_used() {
    let mut ended = second_request();
    ended.now = 4_300;
    let mut broken = second_request();
    broken.session = Some(b"{".to_vec().into());
    let mut another_tenant = second_request();
    another_tenant.parameters.insert("tenantID".into(), "u".into());
    let mut another_client = second_request();
    another_client.secrets.insert("clientid".into(), b"id-2".to_vec().into());
    for request in [ended, broken, another_tenant, another_client] {
        let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-2") } else { secret(request) });
        mount(&request, &wire).unwrap();
        assert_eq!(wire.batches().len(), 2);
        assert_eq!(bearer(&wire.requests()[1]), Some("Bearer t-2"));
    }
}

#[test]
fn a_rejected_session_is_replaced_once_and_only_what_failed_is_asked_for_again() {
    let wire = Wire::new(|request, _| {
        if is_sign_in(request) {
            token("t-2")
        } else if name_of(request) == "b" && bearer(request) == Some("Bearer t-1") {
            challenge("https://vault.azure.net")
        } else {
            secret(request)
        }
    });
    let outcome = mount(&second_request(), &wire).unwrap();
    assert_eq!(files(&outcome), [("a", "value of a"), ("b", "value of b")]);
    let batches = wire.batches();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    assert!(batches[2][0].contains("/secrets/b/"));
    assert_eq!(bearer(&wire.requests()[3]), Some("Bearer t-2"));
}

#[test]
fn a_rejected_session_is_replaced_even_without_a_challenge() {
    let wire = Wire::new(|request, _| {
        if is_sign_in(request) {
            token("t-2")
        } else if bearer(request) == Some("Bearer t-1") {
            Ok(Response { status: 401, headers: vec![], body: vec![] })
        } else {
            secret(request)
        }
    });
    mount(&second_request(), &wire).unwrap();
    assert_eq!(wire.batches().len(), 3);
}

#[test]
fn a_vault_that_keeps_rejecting_is_asked_twice_and_no_more() {
    let wire =
        Wire::new(|request, _| if is_sign_in(request) { token("t") } else { challenge("https://vault.azure.net") });
    let failure = mount(&second_request(), &wire).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert!(failure.message.starts_with("secret/a, secret/b: the vault kv1.vault.azure.net does not accept the token"));
    assert_eq!(wire.batches().len(), 3);
}

#[test]
fn an_expected_challenge_to_a_new_token_is_followed_once() {
    let wire = Wire::new(|request, before| match (is_sign_in(request), before) {
        (true, _) => token("t"),
        (false, 1) => challenge("https://vault.azure.net"),
        _ => secret(request),
    });
    mount(&request(class(&["objectName: a\nobjectType: secret"])), &wire).unwrap();
    assert_eq!(wire.batches().len(), 4);
}

#[test]
fn a_new_token_rejected_without_a_challenge_is_not_replaced() {
    let wire = Wire::new(|request, _| {
        if is_sign_in(request) { token("t") } else { Ok(Response { status: 401, headers: vec![], body: vec![] }) }
    });
    let failure = mount(&request(class(&["objectName: a\nobjectType: secret"])), &wire).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert_eq!(wire.batches().len(), 2);
}

#[test]
fn a_challenge_for_another_resource_is_not_followed_with_or_without_a_session() {
    let first = request(class(&["objectName: a\nobjectType: secret", "objectName: b\nobjectType: secret"]));
    for (request, batches) in [(first, 2), (second_request(), 1)] {
        for resource in ["https://azure.net", "https://net", "https://management.azure.com", "https://evil.example"] {
            let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { challenge(resource) });
            let failure = mount(&request, &wire).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Unauthenticated);
            assert!(failure.message.contains(&format!("asks for a token for `{resource}`")), "{failure}");
            assert_eq!(wire.batches().len(), batches);
        }
    }
}

#[test]
fn the_two_sign_ins_of_a_mount_have_different_request_ids() {
    let wire =
        Wire::new(|request, _| if is_sign_in(request) { token("t") } else { challenge("https://vault.azure.net") });
    mount(&request(class(&["objectName: a\nobjectType: secret"])), &wire).unwrap_err();
    let requests = wire.requests();
    let id = |index: usize| requests[index].headers.iter().find(|(name, _)| *name == "client-request-id").cloned();
    assert!(id(0).is_some() && id(0) != id(2));
}

/// A 401 of a vault that no longer takes a token because something happened since.
fn claims_challenge() -> Response {
    let value = "Bearer authorization_uri=\"https://login.microsoftonline.com/t\", error=\"insufficient_claims\", \
                 claims=\"eyJhY2Nlc3NfdG9rZW4iOnt9fQ==\"";
    Response { status: 401, headers: vec![("www-authenticate".into(), value.into())], body: vec![] }
}

#[test]
fn a_claims_challenge_costs_a_kept_token_and_is_told_when_a_new_one_meets_it_too() {
    let wire = Wire::new(|request, _| {
        if is_sign_in(request) {
            token("t-2")
        } else if bearer(request) == Some("Bearer t-1") {
            Ok(claims_challenge())
        } else {
            secret(request)
        }
    });
    assert_eq!(files(&mount(&second_request(), &wire).unwrap()).len(), 2);
    assert_eq!(wire.batches().len(), 3);

    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-2") } else { Ok(claims_challenge()) });
    let failure = mount(&second_request(), &wire).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert!(failure.message.contains("it asks for further claims, and a new token did not bring them"), "{failure}");
    assert!(failure.message.contains("continuous access evaluation") && !failure.message.contains("eyJ"), "{failure}");
    assert_eq!(wire.batches().len(), 3);
}
