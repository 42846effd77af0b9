//! Answers that nobody should send: whatever comes back, a mount ends with an outcome or a failure.

use coffer_azure_key_vault::http::{Error, Http, Request, Response};
use coffer_azure_key_vault::mount;
use proptest::prelude::*;

use crate::wire::{Answer, Wire, class, is_sign_in, request, token};

const OBJECTS: [&str; 7] = [
    "objectName: s\nobjectType: secret",
    "objectName: k\nobjectType: key",
    "objectName: c\nobjectType: cert",
    "objectName: h\nobjectType: secret\nobjectVersionHistory: 3",
    "objectName: l\nobjectType: key\nobjectVersionHistory: 2\nobjectOptional: true",
    "objectType: secret\nobjectNamePattern: a*\nobjectTags: {a: b}\nobjectAlias: p",
    "objectName: j\nobjectType: secret\njmesPath: [{path: 'a[0]', objectAlias: x}]",
];

/// JSON of the right names and wrong values.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("-1e999".to_owned()),
        "[0-9]{1,20}",
        "\"[-_A-Za-z0-9/:=]{0,90}\"",
        Just(r#"{"kid":"https://h/keys/k/v","kty":"EC","crv":"P-521","x":"AQ","y":"AA"}"#.to_owned()),
        Just(r#"{"kid":"","kty":"RSA","n":"AAAA","e":"_w"}"#.to_owned()),
        Just(r#"{"code":7}"#.to_owned()),
        Just("\"https://kv1.vault.azure.net/secrets/h/versions?x\"".to_owned()),
        Just("\"application/x-pkcs12\"".to_owned()),
        Just(
            r#"[{"id":"https://h/secrets/h/v","attributes":{"created":-1}},{"id":"https://h/secrets/a1"}]"#.to_owned()
        ),
        Just(r#"[{"id":"https://h/secrets/a1","attributes":{},"tags":{"a":"b"}}]"#.to_owned()),
    ];
    let name = prop::sample::select(vec![
        "value",
        "id",
        "kid",
        "contentType",
        "key",
        "cer",
        "attributes",
        "nextLink",
        "error",
        "error_codes",
        "access_token",
        "expires_in",
        "token",
        "clientid",
    ]);
    let object = prop::collection::vec((name, value), 0..6).prop_map(|entries| {
        let entry = |(name, value): &(&str, String)| format!("\"{name}\":{value}");
        format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(",")).into_bytes()
    });
    prop_oneof![object, prop::collection::vec(any::<u8>(), 0..60)]
}

fn answer() -> impl Strategy<Value = Answer> {
    let status = prop::sample::select(vec![200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 999]);
    let header = "(Bearer )?[a-z]{0,9}=?\"?[a-z:/.]{0,30}\"?,? ?(resource|scope)=.{0,30}";
    let response = (status, header, body()).prop_map(|(status, header, body)| {
        let headers =
            vec![("www-authenticate".to_owned(), header), ("retry-after".to_owned(), "99999999999".to_owned())];
        Ok(Response { status, headers, body })
    });
    prop_oneof![9 => response, 1 => Just(Err(Error::Timeout))]
}

proptest! {
    #[test]
    fn no_answer_of_a_vault_is_too_strange(answers in prop::collection::vec(answer(), 6), fresh in any::<bool>()) {
        let wire = Wire::new(|request, before| {
            if is_sign_in(request) { token("t") } else { answers[before % answers.len()].clone() }
        });
        let mut parameters = class(&OBJECTS);
        parameters.insert("failoverKeyvaultName".into(), "kv2".into());
        let mut request = request(parameters);
        if !fresh {
            let good = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { crate::wire::secret(request) });
            let first = mount(&crate::wire::request(class(&OBJECTS[..1])), &good).unwrap();
            request.session = first.session.map(|session| session.state);
        }
        let _ = mount(&request, &wire);
    }

    #[test]
    fn no_answer_of_entra_is_too_strange(answer in answer()) {
        let wire = Wire::new(|_, _| answer.clone());
        let _ = mount(&request(class(&OBJECTS)), &wire);
    }

    #[test]
    fn no_answer_of_a_metadata_service_or_an_nmi_is_too_strange(answer in answer(), nmi in any::<bool>()) {
        let wire = Wire::new(|_, _| answer.clone());
        let mode = if nmi { "usePodIdentity" } else { "useVMManagedIdentity" };
        let mut request = request(crate::wire::class_with(&[(mode, "true")]));
        (request.pod.name, request.pod.namespace) = ("p".into(), "n".into());
        let _ = mount(&request, &wire);
    }

    #[test]
    fn no_parameter_of_an_identity_is_too_strange(
        values in prop::collection::vec(prop_oneof![Just("true".to_owned()), Just("adfs".to_owned()), ".{0,20}"], 8),
        file in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let keys = ["usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy", "clientID", "userAssignedIdentityID",
            "tenantID", "cloudName", "cloudEnvFileName"];
        let changes: Vec<(&str, &str)> = keys.into_iter().zip(values.iter().map(String::as_str)).collect();
        let mut request = request(crate::wire::class_with(&changes));
        request.config.insert(values[7].clone(), file);
        let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { crate::wire::secret(request) });
        let _ = (coffer_azure_key_vault::check(&request.parameters), mount(&request, &wire));
    }
}

/// Loses every answer.
struct Lossy;

impl Http for Lossy {
    fn send(&self, _: Vec<Request>) -> Vec<Answer> {
        Vec::new()
    }
}

#[test]
fn answers_that_are_missing_are_a_failure() {
    let failure = mount(&request(class(&OBJECTS)), &Lossy).unwrap_err();
    assert!(failure.message.contains("no answer"), "{failure}");
}
