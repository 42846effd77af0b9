//! Assertions that a client signs with the key of its certificate (RFC 7523), checked as Entra and AD FS check them.
//!
//! Unlike the tokens that the emulator hands out, these come from outside, so their signatures are verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey};
use serde_json::Value;

/// The longest life of an assertion, in seconds, and how far clocks may differ.
const LONGEST_LIFE: i64 = 24 * 60 * 60;
const SKEW: i64 = 300;

/// A certificate of an application.
pub(super) struct Certificate {
    sha256: String,
    sha1: String,
    public_key: Vec<u8>,
}

impl Certificate {
    pub(super) fn new(der: &[u8], public_key: &[u8]) -> Self {
        let encode = |algorithm| URL_SAFE_NO_PAD.encode(digest(algorithm, der));
        Self { sha256: encode(&SHA256), sha1: encode(&SHA1_FOR_LEGACY_USE_ONLY), public_key: public_key.to_vec() }
    }

    fn has_thumbprint(&self, header: &Value) -> bool {
        let is = |name: &str, own: &str| header.get(name).and_then(Value::as_str) == Some(own);
        is("x5t#S256", &self.sha256) || is("x5t", &self.sha1)
    }
}

/// The header of an assertion that names a certificate; none for a service account's token.
pub(super) fn header_of(assertion: &str) -> Option<Value> {
    let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    (header.get("x5t").is_some() || header.get("x5t#S256").is_some()).then_some(header)
}

/// What is wrong with an assertion: a code, and words.
pub(super) fn check(
    certificates: &[Certificate],
    assertion: &str,
    header: &Value,
    claims: &Value,
    client_id: &str,
    endpoint: &str,
    now: i64,
) -> Result<(), (u32, &'static str)> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    if !text("iss").eq_ignore_ascii_case(client_id) || !text("sub").eq_ignore_ascii_case(client_id) {
        return Err((700_021, "issuer and subject of the assertion are not the application"));
    }
    if text("aud") != endpoint {
        return Err((50_027, "the assertion is not meant for this endpoint"));
    }
    let (Some(start), Some(end)) = (time("nbf"), time("exp")) else {
        return Err((50_027, "the assertion does not say when it is valid"));
    };
    if text("jti").is_empty() || end - start > LONGEST_LIFE {
        return Err((50_027, "the assertion has no id, or lives too long"));
    }
    if start > now + SKEW || end <= now - SKEW {
        return Err((700_024, "the assertion is not valid at this time"));
    }
    let certificate = certificates.iter().find(|certificate| certificate.has_thumbprint(header));
    let certificate = certificate.ok_or((700_027, "the application has no certificate of this thumbprint"))?;
    let algorithm: &RsaParameters = match header.get("alg").and_then(Value::as_str) {
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Err((700_027, "the signature's algorithm is not supported")),
    };
    let invalid = (700_027, "the signature of the assertion is not valid");
    let (signed, signature) = assertion.rsplit_once('.').ok_or(invalid)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid)?;
    let key = UnparsedPublicKey::new(algorithm, &certificate.public_key);
    key.verify(signed.as_bytes(), &signature).map_err(|_| invalid)
}
