//! What a version of a secret, key or certificate holds, and how a test describes it.
//!
//! Nothing here checks that a test makes sense: a vault may hold broken keys and certificates, and clients must cope.
//! Secret values and exported private keys are never `Debug`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData};
use serde_json::{Value, json};

/// What a version holds.
pub enum Content {
    /// A secret's value.
    Secret(SecretValue),
    /// A public key.
    Key(Jwk),
    /// A certificate.
    Certificate(CertificateBundle),
}

/// The value of a secret.
pub struct SecretValue(pub(super) String);

impl<T: Into<String>> From<T> for SecretValue {
    fn from(value: T) -> Self {
        Self(value.into())
    }
}

impl From<SecretValue> for Content {
    fn from(value: SecretValue) -> Self {
        Self::Secret(value)
    }
}

/// The public part of a key as the vault shows it (RFC 7517), without `kid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk(pub Value);

impl Jwk {
    /// A new P-256 key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn p256() -> Result<Self, rcgen::Error> {
        Ok(Self::of_point("P-256", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// A new P-384 key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn p384() -> Result<Self, rcgen::Error> {
        Ok(Self::of_point("P-384", &KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?))
    }

    /// A fixed RSA key of 2048 bits, made with OpenSSL; nobody has its private part.
    pub fn rsa() -> Self {
        Self(json!({"kty": "RSA", "n": RSA_MODULUS, "e": "AQAB"}))
    }

    /// The same key of another type, such as `RSA-HSM` or `oct`.
    pub fn with_type(mut self, kty: &str) -> Self {
        if let Some(members) = self.0.as_object_mut() {
            members.insert("kty".to_owned(), json!(kty));
        }
        self
    }

    fn of_point(curve: &str, key: &KeyPair) -> Self {
        // SEC 1, section 2.3.3: 04, then both coordinates at full width.
        let point = key.der_bytes().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        Self(json!({
            "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }))
    }
}

impl From<Value> for Jwk {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl From<Jwk> for Content {
    fn from(key: Jwk) -> Self {
        Self::Key(key)
    }
}

/// A certificate with what the vault keeps beside it.
#[derive(Clone)]
pub struct CertificateBundle {
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// The value of the secret of the same name: private key and chain.
    pub exported: String,
    /// How that value is written: `application/x-pkcs12` or `application/x-pem-file`.
    pub content_type: String,
    /// The key of the same name.
    pub key: Jwk,
}

impl CertificateBundle {
    /// A new P-256 certificate that signs itself, exported as PEM.
    ///
    /// # Errors
    /// The name is not ASCII, or there is no randomness.
    pub fn self_signed(common_name: &str) -> Result<Self, rcgen::Error> {
        let mut parameters = CertificateParams::new(vec![common_name.to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().to_vec(),
            exported: format!("{}{}", key.serialize_pem(), certificate.pem()),
            content_type: "application/x-pem-file".to_owned(),
            key: Jwk::of_point("P-256", &key),
        })
    }
}

impl From<CertificateBundle> for Content {
    fn from(bundle: CertificateBundle) -> Self {
        Self::Certificate(bundle)
    }
}

/// The attributes of a new version; times are Unix seconds. The service answers requests for secrets that have
/// expired or are not valid yet as for any other: their times are for the reader.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(in crate::harness) version: Option<String>,
    pub(in crate::harness) content_type: Option<String>,
    pub(in crate::harness) disabled: bool,
    pub(in crate::harness) created: Option<i64>,
    pub(in crate::harness) not_before: Option<i64>,
    pub(in crate::harness) expires: Option<i64>,
    pub(in crate::harness) tags: BTreeMap<String, String>,
}

impl Options {
    /// Enabled, without a lifetime, content type or tags, created now, with a random version id.
    pub fn new() -> Self {
        Self::default()
    }

    /// A version id of one's own choice; the service's are 32 hexadecimal digits.
    pub fn version(mut self, id: &str) -> Self {
        self.version = Some(id.to_owned());
        self
    }

    /// The content type of a secret.
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.to_owned());
        self
    }

    /// Not enabled.
    pub fn disabled(mut self) -> Self {
        self.disabled = true;
        self
    }

    /// When it claims to have been made.
    pub fn created(mut self, at: i64) -> Self {
        self.created = Some(at);
        self
    }

    /// From when on it is valid.
    pub fn not_before(mut self, at: i64) -> Self {
        self.not_before = Some(at);
        self
    }

    /// Until when it is valid.
    pub fn expires(mut self, at: i64) -> Self {
        self.expires = Some(at);
        self
    }

    /// A tag, beside those it has.
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.insert(name.to_owned(), value.to_owned());
        self
    }
}

const RSA_MODULUS: &str = "\
    qYcc8vyVCRhKKsxWLzZUFJIva8IvfLIhztTjO8z6HxPX5tcWVP9XVC363eQEaj7p_TesWA0iJQMEPxa1d1TXshraoA0DNYFsTPxO\
    9vJYr0kqBVYxxthZoKrRQheRPGmM_8UikVzjsR_XcNxJqTVrAJDef3ciMX-wK8Y6WgcBBE7QXiSegObsffH0YNIDCeZQKPXAnfEM\
    LG0NRtTnuUPcNzZFcs6EoNDROpZ92MnOEIkmhdPki70R8WQUDOD47z5rWQzeiT3qGxQo_NuQlLKzE84-vy6H6i_bBODr-2lO2mOM\
    bT8J3PdH521AymTMDxeuTREWem84sQ5DnXIaPA0LNw";
