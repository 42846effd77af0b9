//! From a JSON Web Key to the PEM of its public key (SubjectPublicKeyInfo, RFC 5280 section 4.1).
//!
//! RSA after RFC 8017, elliptic curves after RFC 5480. A point has to be on its curve: a file that looks like a key and
//! is none would fail far from its cause.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use p256::pkcs8::EncodePublicKey;
use pkcs1::{RsaPublicKey, UintRef};
use spki::SubjectPublicKeyInfoRef;
use spki::der::asn1::BitStringRef;
use spki::der::pem::LineEnding;
use spki::der::{Encode, EncodePem};

use crate::vault::answer::Jwk;

/// RFC 7515 section 2: no padding. Some writers pad.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why there is no PEM.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is a key of the type `{0}`, which has no public PEM: only RSA and EC keys have")]
    KeyType(String),
    #[error("it is on the curve `{0}`, which is not supported: P-256, P-384 and P-521 are")]
    Curve(String),
    #[error("the vault's key has no `{0}`")]
    Missing(&'static str),
    #[error("the vault's key has a `{0}` that is not base64url")]
    Base64(&'static str),
    #[error("the vault's key is not a point on its curve")]
    Point,
    #[error("the vault's key cannot be written as PEM")]
    Encoding,
}

impl Error {
    /// Whether the key is a good one of a kind that cannot become a file.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::KeyType(_) | Self::Curve(_))
    }
}

/// The key as PEM with the label `PUBLIC KEY`, 64 columns, `\n`.
pub(super) fn to_pem(jwk: &Jwk) -> Result<String, Error> {
    match jwk.kty.as_deref().ok_or(Error::Missing("kty"))? {
        "RSA" | "RSA-HSM" => rsa(&number("n", &jwk.n)?, &number("e", &jwk.e)?),
        "EC" | "EC-HSM" => elliptic(jwk),
        other => Err(Error::KeyType(crate::failure::tidy(other, 40))),
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<String, Error> {
    let encoding = |_| Error::Encoding;
    let uint = |bytes| UintRef::new(bytes).map_err(encoding);
    let key = RsaPublicKey { modulus: uint(modulus)?, public_exponent: uint(exponent)? };
    let key = key.to_der().map_err(encoding)?;
    let subject_public_key = BitStringRef::from_bytes(&key).map_err(encoding)?;
    SubjectPublicKeyInfoRef { algorithm: pkcs1::ALGORITHM_ID, subject_public_key }
        .to_pem(LineEnding::LF)
        .map_err(encoding)
}

fn elliptic(jwk: &Jwk) -> Result<String, Error> {
    let curve = jwk.crv.as_deref().ok_or(Error::Missing("crv"))?;
    let point = |size| point(&number("x", &jwk.x)?, &number("y", &jwk.y)?, size);
    let pem = match curve {
        "P-256" => pem(&p256::PublicKey::from_sec1_bytes(&point(32)?).map_err(|_| Error::Point)?),
        "P-384" => pem(&p384::PublicKey::from_sec1_bytes(&point(48)?).map_err(|_| Error::Point)?),
        "P-521" => pem(&p521::PublicKey::from_sec1_bytes(&point(66)?).map_err(|_| Error::Point)?),
        other => return Err(Error::Curve(crate::failure::tidy(other, 40))),
    };
    pem.ok_or(Error::Encoding)
}

fn pem(key: &impl EncodePublicKey) -> Option<String> {
    key.to_public_key_pem(LineEnding::LF).ok()
}

/// The uncompressed point of SEC 1 section 2.3.3, coordinates padded on the left.
fn point(x: &[u8], y: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        let zeros = coordinate.iter().take_while(|byte| **byte == 0).count();
        let digits = coordinate.get(zeros..).unwrap_or_default();
        let padding = size.checked_sub(digits.len()).ok_or(Error::Point)?;
        point.resize(point.len() + padding, 0);
        point.extend_from_slice(digits);
    }
    Ok(point)
}

fn number(name: &'static str, text: &Option<String>) -> Result<Vec<u8>, Error> {
    let text = text.as_deref().filter(|text| !text.is_empty()).ok_or(Error::Missing(name))?;
    BASE64URL.decode(text).map_err(|_| Error::Base64(name))
}
