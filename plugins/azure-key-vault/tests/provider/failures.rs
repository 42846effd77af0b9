//! What a user reads when it does not work.

use coffer_azure_key_vault::http::Error;
use coffer_azure_key_vault::{Failure, FailureKind, check, mount};

use crate::wire::{Answer, CLIENT_ID, Wire, class, is_sign_in, json, mount_with, name_of, request, secret, token};

fn sign_in_with(answer: impl Fn() -> Answer) -> Failure {
    let wire = Wire::new(|request, _| if is_sign_in(request) { answer() } else { secret(request) });
    let failure = mount(&request(class(&["objectName: a\nobjectType: secret"])), &wire).unwrap_err();
    assert!(!failure.message.contains("hunter2"), "{failure}");
    failure
}

fn refused(status: u16, code: u32, text: &str) -> Failure {
    sign_in_with(|| {
        json(
            status,
            &format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS{code}: {text} Trace ID: x","error_codes":[{code}],"trace_id":"tr-1"}}"#
            ),
        )
    })
}

#[test]
fn a_wrong_client_secret_is_told_with_the_key_to_change() {
    let failure = refused(401, 7_000_215, "Invalid client secret provided.");
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert_eq!(
        failure.message,
        "cannot sign in the service principal 1b2c3d4e-… to the tenant t: the client secret is wrong: put the secret's value, \
         not its id, under the key clientsecret of the Secret that nodePublishSecretRef names; Entra answers with status \
         401, request tr-1: AADSTS7000215: Invalid client secret provided."
    );
}

#[test]
fn a_client_secret_with_a_line_end_is_told_so() {
    let wire = Wire::new(
        |request, _| {
            if is_sign_in(request) { json(401, r#"{"error_codes":[7000215]}"#) } else { secret(request) }
        },
    );
    let mut request = request(class(&["objectName: a\nobjectType: secret"]));
    request.secrets.insert("clientsecret".into(), b"hunter2\n".to_vec().into());
    let failure = mount(&request, &wire).unwrap_err();
    assert!(failure.message.contains("the value of clientsecret starts or ends with white space or a line end"));
    assert!(!failure.message.contains("hunter2"));
}

#[test]
fn each_refusal_of_entra_has_its_advice() {
    for (status, code, kind, advice) in [
        (400, 90_002, FailureKind::InvalidRequest, "there is no such tenant: check tenantID"),
        (400, 900_023, FailureKind::InvalidRequest, "there is no such tenant: check tenantID"),
        (400, 700_016, FailureKind::Unauthenticated, "the tenant has no such application: check clientid"),
        (401, 7_000_222, FailureKind::Unauthenticated, "the client secret has expired"),
        (400, 500_011, FailureKind::Unauthenticated, "check cloudName"),
        (400, 53_003, FailureKind::PermissionDenied, "a conditional access policy forbids it"),
        (400, 1, FailureKind::Unauthenticated, "AADSTS1: text"),
    ] {
        let failure = refused(status, code, "text");
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(advice), "{failure}");
    }
}

#[test]
fn a_client_secret_that_entra_repeats_is_not_shown() {
    let failure = refused(400, 1, "You sent hunter2.");
    assert!(failure.message.contains("You sent [clientsecret]."), "{failure}");
}

#[test]
fn a_client_secret_that_comes_back_as_the_form_had_it_is_not_shown() {
    let wire = Wire::new(|request, _| {
        let is_sign_in = is_sign_in(request);
        if is_sign_in { json(400, r#"{"error_description":"You sent a%7Eb%2Bcd."}"#) } else { secret(request) }
    });
    let mut request = request(class(&["objectName: a\nobjectType: secret"]));
    request.secrets.insert("clientsecret".into(), b"a~b+cd".to_vec().into());
    let failure = mount(&request, &wire).unwrap_err();
    assert!(failure.message.contains("You sent [clientsecret]."), "{failure}");
}

#[test]
fn swapped_keys_are_told_and_the_secret_under_the_wrong_one_is_not_shown() {
    let wire = Wire::new(|request, _| {
        if is_sign_in(request) {
            json(400, r#"{"error_description":"AADSTS700016: Application with identifier 'hunter2' was not found."}"#)
        } else {
            secret(request)
        }
    });
    let mut request = request(class(&["objectName: a\nobjectType: secret"]));
    request.secrets.insert("clientid".into(), b"hunter2".to_vec().into());
    request.secrets.insert("clientsecret".into(), CLIENT_ID.as_bytes().to_vec().into());
    let failure = mount(&request, &wire).unwrap_err();
    assert!(failure.message.contains("are clientid and clientsecret swapped?"), "{failure}");
    assert!(failure.message.contains("identifier '[clientid]'") && !failure.message.contains("hunter2"), "{failure}");
}

#[test]
fn an_unreachable_entra_is_told_by_its_host() {
    let failure = sign_in_with(|| Err(Error::Denied("no rule for POST".into())));
    assert_eq!(failure.kind, FailureKind::PermissionDenied);
    assert!(failure.message.contains("login.microsoftonline.com: ") && failure.message.contains("no rule for POST"));
    assert_eq!(sign_in_with(|| Err(Error::Timeout)).kind, FailureKind::Unavailable);
    assert_eq!(sign_in_with(|| json(503, "")).kind, FailureKind::Unavailable);
    assert_eq!(sign_in_with(|| json(429, "")).kind, FailureKind::Throttled { retry_after_seconds: None });
}

#[test]
fn without_the_keys_of_the_secret_nothing_is_sent() {
    let wire = Wire::new(|_, _| Err(Error::Timeout));
    let mut request = request(class(&["objectName: a\nobjectType: secret"]));
    request.secrets.remove("clientsecret");
    let failure = mount(&request, &wire).unwrap_err();
    assert_eq!(
        failure.message,
        "could not find clientsecret in secrets: the Secret that nodePublishSecretRef names has no key clientsecret"
    );
    request.secrets.clear();
    assert!(mount(&request, &wire).unwrap_err().message.starts_with("nodePublishSecretRef secret is not set"));
    assert!(wire.requests().is_empty());
}

#[test]
fn all_objects_that_fail_are_told_at_once() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret",
        "objectName: b\nobjectType: secret",
        "objectName: c\nobjectType: secret",
        "objectName: d\nobjectType: secret",
    ]);
    let failure = mount_with(parameters, |request| match name_of(request) {
        "a" => json(404, r#"{"error":{"code":"SecretNotFound","message":"A secret with (name/id) a was not found."}}"#),
        "b" => json(403, r#"{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}"#),
        "c" => Err(Error::Timeout),
        _ => secret(request),
    })
    .unwrap_err();
    assert_eq!(failure.kind, FailureKind::PermissionDenied);
    let lines: Vec<&str> = failure.message.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("secret/a: kv1.vault.azure.net has no secret of this name"), "{failure}");
    assert!(lines[1].starts_with("secret/b: give the service principal 1b2c3d4e-… the role Key Vault Secrets User"));
    assert_eq!(lines[2], "secret/c: kv1.vault.azure.net: no answer in time");
}

#[test]
fn an_object_that_cannot_become_a_file_is_named_without_its_value() {
    let failure = mount_with(class(&["objectName: a\nobjectType: secret\nobjectEncoding: hex"]), |_| {
        json(200, r#"{"value":"topsecret","id":"https://h/secrets/a/v"}"#)
    })
    .unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    assert_eq!(failure.message, "secret/a: its value is not hexadecimal digits in pairs: check objectEncoding");
}

#[test]
fn an_answer_without_its_fields_names_object_and_field() {
    let failure = mount_with(class(&["objectName: a\nobjectType: key"]), |_| json(200, r#"{"key":{"kid":"x"}}"#));
    let failure = failure.unwrap_err();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Internal, "key/a: the vault's key has no `kty`")
    );
}

#[test]
fn check_and_mount_find_the_same_mistakes() {
    let mut parameters = class(&["objectName: a\nobjectType: scret"]);
    parameters.insert("cloudName".into(), "Mars".into());
    let wire = Wire::new(|_, _| Err(Error::Timeout));
    assert_eq!(check(&parameters).unwrap_err(), mount(&request(parameters), &wire).unwrap_err());
    assert!(wire.requests().is_empty());
}

#[test]
fn what_only_looks_like_a_mistake_is_remarked_and_stops_nothing() {
    let mut parameters = class(&["objectName: a\nobjectType: secret\nobjectAlais: b"]);
    parameters.insert("cloudname".into(), "AzureChinaCloud".into());
    let remarks = [
        "the parameter `cloudname` is unknown and ignored: did you mean `cloudName`?",
        "objects.array[0] (a): the field `objectAlais` is unknown and ignored: did you mean `objectAlias`?",
    ];
    assert_eq!(check(&parameters).unwrap().remarks, remarks);
    assert_eq!(mount_with(parameters, secret).unwrap().remarks, remarks);
}

#[test]
fn beside_a_mistake_remarks_are_told_after_it() {
    let mut parameters = class(&["objectName: a\nobjectType: secret"]);
    parameters.insert("cloudname".into(), "AzureChinaCloud".into());
    parameters.insert("usePodIdentity".into(), "perhaps".into());
    let message = check(&parameters).unwrap_err().message;
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 2, "{message}");
    assert!(lines[0].contains("usePodIdentity") && lines[1].contains("`cloudname` is unknown"), "{message}");
}

#[test]
fn the_token_of_a_failed_mount_is_in_no_message() {
    let parameters = class(&["objectName: a\nobjectType: secret"]);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-secret-token") } else { json(403, "{}") });
    let failure = mount(&request(parameters), &wire).unwrap_err();
    assert!(!format!("{failure:?}").contains("t-secret-token"));
}

#[test]
fn whoever_is_throttled_learns_how_many_seconds_to_wait() {
    for (text, seconds) in [("17", Some(17)), ("Thu, 01 Jan 1970 00:16:57 GMT", None), ("soon", None)] {
        let answer = || {
            let headers = vec![("retry-after".to_owned(), text.to_owned())];
            Ok(coffer_azure_key_vault::http::Response { status: 429, headers, body: Vec::new() })
        };
        let throttled = FailureKind::Throttled { retry_after_seconds: seconds };
        assert_eq!(sign_in_with(answer).kind, throttled, "{text}");
        let failure = mount_with(class(&["objectName: a\nobjectType: secret"]), |_| answer()).unwrap_err();
        assert_eq!(failure.kind, throttled, "{text}");
    }
}

#[test]
fn a_redirect_of_entra_or_a_vault_is_told_and_nothing_more_is_sent() {
    let redirect = || {
        let headers = vec![("location".to_owned(), "https://elsewhere.example/".to_owned())];
        Ok(coffer_azure_key_vault::http::Response { status: 307, headers, body: Vec::new() })
    };
    let failure = sign_in_with(redirect);
    assert_eq!(failure.kind, FailureKind::Internal);
    assert!(failure.message.contains("status 307, a redirect, which is not followed"), "{failure}");
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { redirect() });
    let failure = mount(&request(class(&["objectName: a\nobjectType: secret"])), &wire).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Internal);
    assert!(failure.message.contains("the vault redirects, and redirects are not followed"), "{failure}");
    assert_eq!(wire.requests().len(), 2);
}
