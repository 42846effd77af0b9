//! What a class asks for and what it gets.

use coffer_azure_key_vault::http::Request;
use coffer_azure_key_vault::{ObjectVersion, mount};

use crate::wire::{Answer, Wire, class, files, is_sign_in, json, mount_with, request, secret, token};

#[test]
fn all_objects_are_asked_for_in_one_batch_with_one_token() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret",
        "objectName: b\nobjectType: secret\nobjectVersion: 0123",
        "objectName: c d\nobjectType: secret",
    ]);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
    mount(&request(parameters), &wire).unwrap();
    let batches = wire.batches();
    assert_eq!(batches.len(), 2);
    assert_eq!(
        batches[1],
        [
            "GET https://kv1.vault.azure.net/secrets/a/?api-version=7.4",
            "GET https://kv1.vault.azure.net/secrets/b/0123?api-version=7.4",
            "GET https://kv1.vault.azure.net/secrets/c%20d/?api-version=7.4",
        ]
    );
    for read in &wire.requests()[1..] {
        assert!(read.headers.contains(&("authorization", "Bearer t-1".into())));
        assert!(
            read.headers.iter().any(|(name, value)| *name == "user-agent" && value.starts_with("csi-secrets-store/"))
        );
    }
}

#[test]
fn the_token_request_holds_what_entra_asks_for() {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
    mount(&request(class(&["objectName: a\nobjectType: secret"])), &wire).unwrap();
    let sign_in = wire.requests().remove(0);
    assert_eq!(
        std::str::from_utf8(&sign_in.body).unwrap(),
        "client_id=1b2c3d4e-0000-4000-8000-000000000001&client_secret=hunter2&grant_type=client_credentials&scope=https%3A%2F%2Fvault.azure.net%2F.default"
    );
    assert!(sign_in.idempotent);
    assert!(sign_in.headers.contains(&("content-type", "application/x-www-form-urlencoded".into())));
    assert!(sign_in.headers.contains(&("client-request-id", "07070707-0707-4707-8707-070707070707".into())));
}

#[test]
fn aliases_modes_and_encodings_shape_the_files() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret\nobjectAlias: folder/A\nfilePermission: 0400",
        "objectName: b\nobjectType: secret\nobjectEncoding: base64",
        "objectName: c\nobjectType: secret\nobjectEncoding: hex\nobjectVersion: latest",
    ]);
    let outcome = mount_with(parameters, |request| {
        let value = if request.url.contains("/b/") { "aGk=" } else { "6869" };
        json(200, &format!(r#"{{"value":"{value}","id":"https://kv1.vault.azure.net/secrets/x/v"}}"#))
    })
    .unwrap();
    assert_eq!(files(&outcome), [("folder/A", "6869"), ("b", "hi"), ("c", "hi")]);
    assert_eq!(outcome.files.iter().map(|file| file.mode).collect::<Vec<_>>(), [Some(0o400), None, None]);
    assert_eq!(outcome.objects[0], ObjectVersion { id: "secret/a".into(), version: "v".into() });
}

#[test]
fn one_object_of_the_vault_for_two_files_is_asked_for_once() {
    let parameters =
        class(&["objectName: a\nobjectType: secret", "objectName: a\nobjectType: secret\nobjectAlias: again"]);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t-1") } else { secret(request) });
    let outcome = mount(&request(parameters), &wire).unwrap();
    assert_eq!(files(&outcome), [("a", "value of a"), ("again", "value of a")]);
    assert_eq!(wire.batches()[1].len(), 1);
    assert_eq!(outcome.objects.len(), 1);
}

#[test]
fn of_two_objects_with_one_path_the_last_wins() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret\nobjectAlias: x",
        "objectName: b\nobjectType: secret",
        "objectName: c\nobjectType: secret\nobjectAlias: x",
    ]);
    let outcome = mount_with(parameters, secret).unwrap();
    assert_eq!(files(&outcome), [("b", "value of b"), ("x", "value of c")]);
    assert_eq!(outcome.objects.len(), 3);
}

#[test]
fn of_two_versions_of_one_object_the_status_names_the_last() {
    let parameters = class(&[
        "objectName: a\nobjectType: secret\nobjectVersion: v1\nobjectAlias: old",
        "objectName: a\nobjectType: secret",
    ]);
    let outcome = mount_with(parameters, |request| {
        let version = if request.url.contains("/v1?") { "v1" } else { "v2" };
        json(200, &format!(r#"{{"value":"{version}","id":"https://kv1.vault.azure.net/secrets/a/{version}"}}"#))
    })
    .unwrap();
    assert_eq!(files(&outcome), [("old", "v1"), ("a", "v2")]);
    assert_eq!(outcome.objects, [ObjectVersion { id: "secret/a".into(), version: "v2".into() }]);
}

/// Answers with a secret that a certificate stands behind.
fn of_certificate(content_type: &str) -> impl Fn(&Request) -> Answer {
    let body = format!(
        r#"{{"value":"cGZ4","id":"https://kv1.vault.azure.net/secrets/a/v","kid":"https://k","contentType":"{content_type}"}}"#
    );
    move |_| json(200, &body)
}

#[test]
fn a_pfx_is_mounted_as_it_is_where_the_class_says_so() {
    let text = class(&["objectName: a\nobjectType: secret\nobjectFormat: pfx"]);
    let bytes = class(&["objectName: a\nobjectType: secret\nobjectFormat: PFX\nobjectEncoding: base64"]);
    assert_eq!(files(&mount_with(text, of_certificate("application/x-pkcs12")).unwrap()), [("a", "cGZ4")]);
    assert_eq!(files(&mount_with(bytes, of_certificate("application/x-pkcs12")).unwrap()), [("a", "pfx")]);
}

#[test]
fn keys_and_certificates_become_pem_and_keep_their_ids() {
    let parameters = class(&["objectName: k\nobjectType: key", "objectName: c\nobjectType: cert"]);
    let outcome = mount_with(parameters, |request| {
        if request.url.contains("/keys/") {
            // RFC 7517, appendix A.1.
            json(
                200,
                r#"{"key":{"kid":"https://kv1.vault.azure.net/keys/k/vk","kty":"EC","crv":"P-256",
                    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}}"#,
            )
        } else {
            json(200, r#"{"cer":"MAA=","id":"https://kv1.vault.azure.net/certificates/c/vc"}"#)
        }
    })
    .unwrap();
    let files = files(&outcome);
    assert!(
        files[0].1.starts_with("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"),
        "{}",
        files[0].1
    );
    assert_eq!(files[1].1, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let ids: Vec<(&str, &str)> = outcome.objects.iter().map(|o| (o.id.as_str(), o.version.as_str())).collect();
    assert_eq!(ids, [("key/k", "vk"), ("cert/c", "vc")]);
}

#[test]
fn what_has_expired_or_is_not_valid_yet_is_mounted_with_a_remark() {
    for (attributes, words) in
        [(r#"{"exp":1000}"#, "secret/a has expired"), (r#"{"nbf":1001}"#, "secret/a is not valid yet")]
    {
        let outcome = mount_with(class(&["objectName: a\nobjectType: secret"]), |_| {
            json(200, &format!(r#"{{"value":"v","id":"https://h/secrets/a/v","attributes":{attributes}}}"#))
        })
        .unwrap();
        assert_eq!(outcome.remarks.len(), 1);
        assert!(outcome.remarks[0].starts_with(words), "{:?}", outcome.remarks);
    }
}

#[test]
fn a_misspelt_field_does_not_stop_a_class_that_works() {
    let parameters = class(&["objectName: a\nobjectType: secret\nobjectAlais: b"]);
    let outcome = mount_with(parameters, secret).unwrap();
    assert_eq!(files(&outcome), [("a", "value of a")]);
    assert!(outcome.remarks[0].contains("did you mean `objectAlias`?"), "{:?}", outcome.remarks);
}
