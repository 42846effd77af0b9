//! Client certificates: an assertion is taken apart and verified by another implementation than the one that made it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_azure_key_vault::http::Error;
use coffer_azure_key_vault::{Failure, FailureKind, Request, Secret, mount};
use proptest::prelude::*;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use crate::wire::{CLIENT_ID, Wire, challenge, class_with, form, is_sign_in, json, secret, token};

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../vectors/client/", $name))
    };
}

const RSA: &[u8] = vector!("rsa.pem");

fn request(certificate: &[u8]) -> Request {
    let mut request = crate::wire::request(class_with(&[]));
    request.secrets.remove("clientsecret");
    request.secrets.insert("clientcertificate".into(), Secret::new(certificate.to_vec()));
    request
}

/// The same with AD FS in Entra's place.
fn request_to_adfs(certificate: &[u8]) -> Request {
    let changes = [("tenantID", "adfs"), ("cloudName", "AzureStackCloud"), ("cloudEnvFileName", "/c")];
    let cloud = br#"{"activeDirectoryEndpoint":"https://adfs.hub.test","keyVaultDNSSuffix":"vault.hub.test"}"#;
    let config = [("/c".to_owned(), cloud.to_vec())].into();
    Request { parameters: class_with(&changes), config, ..request(certificate) }
}

/// What a mount sends to sign in.
fn form_of(request: &Request) -> Vec<(String, String)> {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { secret(request) });
    mount(request, &wire).unwrap();
    form(&wire.requests()[0])
}

/// Header, claims, what is signed, and the signature.
fn take_apart(request: &Request) -> (Value, Value, String, Vec<u8>) {
    let form = form_of(request);
    let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..4], ["client_assertion", "client_assertion_type", "client_id", "grant_type"]);
    assert_eq!(form[1].1, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (text, signature) = form[0].1.rsplit_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let (header, claims) = text.split_once('.').unwrap();
    let read = |part| serde_json::from_slice(&decode(part)).unwrap();
    (read(header), read(claims), text.to_owned(), decode(signature))
}

fn failure_of(request: &Request) -> Failure {
    let wire = Wire::new(|_, _| Err(Error::Timeout));
    let failure = mount(request, &wire).unwrap_err();
    assert!(wire.requests().is_empty());
    failure
}

fn mistake(certificate: &[u8]) -> String {
    let failure = failure_of(&request(certificate));
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    failure.message
}

#[test]
fn an_assertion_for_entra_is_signed_by_the_key_of_the_certificate_that_it_names() {
    let cases: [(&[u8], &[u8], &[u8]); 3] = [
        (RSA, vector!("rsa.pub.der"), vector!("rsa.crt.der")),
        (vector!("rsa-traditional.pem"), vector!("rsa.pub.der"), vector!("rsa.crt.der")),
        (vector!("rsa-4096.pem"), vector!("rsa-4096.pub.der"), vector!("rsa-4096.crt.der")),
    ];
    for (pem, public, certificate) in cases {
        let (header, _, text, signature) = take_apart(&request(pem));
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate));
        assert_eq!(header, serde_json::json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public).verify(text.as_bytes(), &signature).unwrap();
    }
}

#[test]
fn an_assertion_for_ad_fs_has_the_older_signature_and_thumbprint() {
    let (header, claims, text, signature) = take_apart(&request_to_adfs(RSA));
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, vector!("rsa.crt.der")));
    assert_eq!(header, serde_json::json!({"alg": "RS256", "typ": "JWT", "x5t": thumbprint}));
    assert_eq!(claims["aud"], "https://adfs.hub.test/adfs/oauth2/token");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, vector!("rsa.pub.der"));
    public.verify(text.as_bytes(), &signature).unwrap();
}

#[test]
fn an_assertion_is_for_this_endpoint_for_ten_minutes_and_once() {
    let (_, claims, ..) = take_apart(&request(RSA));
    assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some(CLIENT_ID), Some(CLIENT_ID)));
    assert_eq!(claims["aud"], "https://login.microsoftonline.com/t/oauth2/v2.0/token");
    assert_eq!((claims["nbf"].as_u64(), claims["exp"].as_u64()), (Some(1_000), Some(1_600)));
    let mut later = request(RSA);
    later.entropy = [8; 32];
    let (_, other, ..) = take_apart(&later);
    assert_ne!(claims["jti"], other["jti"]);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
}

#[test]
fn a_second_sign_in_of_a_mount_brings_an_assertion_of_its_own() {
    let wire = Wire::new(|request, before| match (is_sign_in(request), before) {
        (true, _) => token("t"),
        (false, 1) => challenge("https://vault.azure.net"),
        _ => secret(request),
    });
    mount(&request(RSA), &wire).unwrap();
    let requests = wire.requests();
    assert_ne!(form(&requests[0])[0], form(&requests[2])[0]);
}

#[test]
fn a_certificate_behind_line_ends_of_windows_and_other_text_is_found() {
    let text = String::from_utf8(RSA.to_vec()).unwrap();
    let (header, ..) = take_apart(&request(format!("Bag Attributes\n  x: y\n{text}").replace('\n', "\r\n").as_bytes()));
    assert_eq!(header["alg"], "PS256");
}

#[test]
fn a_broken_certificate_is_told_by_what_is_wrong_with_it() {
    let text = std::str::from_utf8(RSA).unwrap();
    let (key, certificates) = text.split_once("-----BEGIN CERTIFICATE").unwrap();
    let certificates = format!("-----BEGIN CERTIFICATE{certificates}");
    let foreign = format!(
        "{}{certificates}",
        std::str::from_utf8(vector!("rsa-4096.pem")).unwrap().split("-----BEGIN CERT").next().unwrap()
    );
    let cases: [(&[u8], &str); 14] = [
        (b"not PEM", "is not PEM"),
        (b" ", "is not PEM"),
        (key.as_bytes(), "has no certificate beside the private key"),
        (certificates.as_bytes(), "has no private key beside the certificate"),
        (format!("{key}{text}").leak().as_bytes(), "has several private keys"),
        (foreign.leak().as_bytes(), "belongs to none of its certificates"),
        (vector!("rsa-encrypted.pem"), "has an encrypted private key"),
        (vector!("rsa-encrypted-traditional.pem"), "has an encrypted private key"),
        (vector!("p256.pem"), "is not RSA of up to 4096 bits"),
        (vector!("p256-traditional.pem"), "is not RSA of up to 4096 bits"),
        (vector!("ed25519.pem"), "is not RSA of up to 4096 bits"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "has a block `PRIVATE KEY` that is broken"),
        (b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", "has a block `PRIVATE KEY` that is broken"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is not RSA"),
    ];
    for (pem, words) in cases {
        let message = mistake(pem);
        assert!(
            message.starts_with("the key clientcertificate of the Secret that nodePublishSecretRef names "),
            "{message}"
        );
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("MII"), "{message}");
    }
}

#[test]
fn a_secret_and_a_certificate_exclude_each_other() {
    let mut request = request(RSA);
    request.secrets.insert("clientSecret".into(), Secret::new(b"hunter2".to_vec()));
    assert!(failure_of(&request).message.starts_with("clientsecret and clientcertificate exclude each other"));
    // An empty one is none.
    request.secrets.insert("clientSecret".into(), Secret::default());
    assert_eq!(form_of(&request)[0].0, "client_assertion");
}

#[test]
fn a_certificate_that_the_application_does_not_have_is_told_so() {
    let wire = Wire::new(|request, _| match is_sign_in(request) {
        true => json(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS700027: no key.","error_codes":[700027]}"#,
        ),
        false => secret(request),
    });
    let failure = mount(&request(RSA), &wire).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert!(failure.message.contains("upload the certificate of clientcertificate to the application"), "{failure}");
}

#[test]
fn with_a_session_nothing_is_signed_or_even_read() {
    let mut request = request(RSA);
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { secret(request) });
    request.session = mount(&request, &wire).unwrap().session.map(|session| session.state);
    request.secrets.insert("clientcertificate".into(), Secret::new(b"broken".to_vec()));
    assert!(mount(&request, &wire).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_certificate_is_too_strange(at in 0..3_800_usize, bytes in prop::collection::vec(any::<u8>(), 0..6), cut in any::<bool>()) {
        let mut pem = RSA.to_vec();
        let end = if cut { pem.len() } else { (at + bytes.len()).min(pem.len()) };
        pem.splice(at..end, bytes);
        let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { secret(request) });
        let _ = mount(&request(&pem), &wire);
    }
}
