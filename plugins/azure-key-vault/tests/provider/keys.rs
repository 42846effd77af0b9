//! Public keys against files that OpenSSL wrote.

use coffer_azure_key_vault::{Failure, FailureKind};
use proptest::prelude::*;

use crate::wire::{class, files, json, mount_with};

/// Mounts a key for which the vault has this JSON Web Key.
fn mount_key(jwk: &str) -> Result<String, Failure> {
    let kid = r#"{"kid":"https://kv1.vault.azure.net/keys/k/v","#;
    let key = jwk.trim_start().replacen('{', kid, 1);
    let outcome =
        mount_with(class(&["objectName: k\nobjectType: key"]), |_| json(200, &format!(r#"{{"key":{key}}}"#)))?;
    let contents = files(&outcome).into_iter().map(|(_, contents)| contents.to_owned()).next();
    Ok(contents.unwrap())
}

macro_rules! vectors {
    ($($test:ident: $name:literal,)*) => {$(
        #[test]
        fn $test() {
            let pem = mount_key(include_str!(concat!("../vectors/", $name, ".json"))).unwrap();
            assert_eq!(pem, include_str!(concat!("../vectors/", $name, ".pem")));
        }
    )*};
}

vectors! {
    a_key_on_p256_is_what_openssl_writes: "p256",
    a_key_on_p384_is_what_openssl_writes: "p384",
    a_key_on_p521_is_what_openssl_writes: "p521",
    a_coordinate_without_its_leading_zero_is_padded: "p256-short-x",
    an_rsa_key_is_what_openssl_writes: "rsa-2048",
    a_large_rsa_key_is_what_openssl_writes: "rsa-4096",
    an_rsa_key_with_a_small_exponent_is_what_openssl_writes: "rsa-2048-e3",
}

#[test]
fn keys_of_a_hardware_module_are_written_like_any_other() {
    for (name, kind) in [("p256", "EC"), ("p384", "EC"), ("p521", "EC"), ("rsa-2048", "RSA")] {
        let read = |suffix: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
            std::fs::read_to_string(format!("{folder}/{name}.{suffix}")).unwrap()
        };
        let jwk = read("json").replace(&format!("\"{kind}\""), &format!("\"{kind}-HSM\""));
        assert!(jwk.contains("-HSM"), "{jwk}");
        assert_eq!(mount_key(&jwk).unwrap(), read("pem"), "{name}");
    }
}

proptest! {
    #[test]
    fn no_key_is_too_strange(
        kty in prop::sample::select(vec!["RSA", "EC", "EC-HSM", "oct", ""]),
        crv in prop::sample::select(vec!["P-256", "P-384", "P-521", "P-256K", ""]),
        numbers in prop::collection::vec("[A-Za-z0-9_=-]{0,100}", 4),
    ) {
        let [n, e, x, y] = [&numbers[0], &numbers[1], &numbers[2], &numbers[3]];
        let _ = mount_key(&format!(r#"{{"kty":"{kty}","crv":"{crv}","n":"{n}","e":"{e}","x":"{x}","y":"{y}"}}"#));
    }
}

fn mistake(jwk: &str) -> (FailureKind, String) {
    let failure = mount_key(jwk).unwrap_err();
    (failure.kind, failure.message)
}

#[test]
fn a_point_beside_its_curve_is_refused() {
    let jwk = include_str!("../vectors/p256.json").replacen("\"y\": \"", "\"y\": \"AQAB", 1);
    assert_eq!(mistake(&jwk).1, "key/k: the vault's key is not a point on its curve");
    assert_eq!(
        mistake(r#"{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}"#),
        (FailureKind::Internal, "key/k: the vault's key is not a point on its curve".into())
    );
    assert_eq!(
        mistake(r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#),
        (FailureKind::Internal, "key/k: the vault's key is not a point on its curve".into())
    );
}

#[test]
fn keys_that_have_no_public_pem_are_named_by_type_or_curve() {
    for (jwk, word) in [
        (r#"{"kty":"oct"}"#, "`oct`"),
        (r#"{"kty":"oct-HSM"}"#, "`oct-HSM`"),
        (r#"{"kty":"OKP"}"#, "`OKP`"),
        (r#"{"kty":"EC","crv":"P-256K"}"#, "`P-256K`"),
    ] {
        let (kind, message) = mistake(jwk);
        assert_eq!(kind, FailureKind::InvalidRequest);
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_field_that_is_missing_or_broken_is_named() {
    for (jwk, word) in [
        (r#"{"x":"AQ"}"#, "has no `kty`"),
        (r#"{"kty":"EC","x":"AQ"}"#, "has no `crv`"),
        (r#"{"kty":"EC","crv":"P-256","x":"AQ"}"#, "has no `y`"),
        (r#"{"kty":"RSA","e":"AQAB"}"#, "has no `n`"),
        (r#"{"kty":"RSA","n":"AQ","e":""}"#, "has no `e`"),
        (r#"{"kty":"RSA","n":"a+b=","e":"AQAB"}"#, "has a `n` that is not base64url"),
    ] {
        let (kind, message) = mistake(jwk);
        assert_eq!(kind, FailureKind::Internal);
        assert!(message.contains(word), "{message}");
    }
}
