//! From a JSON Web Key to the PEM of its public key (SubjectPublicKeyInfo, RFC 5280 section 4.1).
//!
//! RSA after RFC 8017, elliptic curves after RFC 5480. A point has to be on its curve: a file that looks like a key and
//! is none would fail far from its cause.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytes};
use pkcs1::{RsaPublicKey, UintRef};
use spki::der::asn1::{AnyRef, BitStringRef};
use spki::der::pem::LineEnding;
use spki::der::{Encode, EncodePem};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::private_key::{EC, P256, P384, P521};
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
    let uint = |bytes| UintRef::new(bytes).map_err(|_| Error::Encoding);
    let key = RsaPublicKey { modulus: uint(modulus)?, public_exponent: uint(exponent)? };
    pem(pkcs1::ALGORITHM_ID, &key.to_der().map_err(|_| Error::Encoding)?)
}

fn elliptic(jwk: &Jwk) -> Result<String, Error> {
    let name = jwk.crv.as_deref().ok_or(Error::Missing("crv"))?;
    let (curve, size) = match name {
        "P-256" => (P256, 32),
        "P-384" => (P384, 48),
        "P-521" => (P521, 66),
        other => return Err(Error::Curve(crate::failure::tidy(other, 40))),
    };
    let (x, y) = (coordinate("x", &jwk.x, size)?, coordinate("y", &jwk.y, size)?);
    let is_point = match name {
        "P-256" => is_point::<p256::NistP256>(&x, &y),
        "P-384" => is_point::<p384::NistP384>(&x, &y),
        _ => is_point::<p521::NistP521>(&x, &y),
    };
    if !is_point {
        return Err(Error::Point);
    }
    // The uncompressed point of SEC 1 section 2.3.3.
    pem(AlgorithmIdentifierRef { oid: EC, parameters: Some(AnyRef::from(&curve)) }, &[&[4], &*x, &*y].concat())
}

fn is_point<C>(x: &[u8], y: &[u8]) -> bool
where
    C: CurveArithmetic,
    AffinePoint<C>: AffineCoordinates<FieldRepr = FieldBytes<C>>,
{
    let (Ok(x), Ok(y)) = (FieldBytes::<C>::try_from(x), FieldBytes::<C>::try_from(y)) else { return false };
    AffinePoint::<C>::from_coordinates(&x, &y).is_some().into()
}

fn pem(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Result<String, Error> {
    let subject_public_key = BitStringRef::from_bytes(key).map_err(|_| Error::Encoding)?;
    SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_pem(LineEnding::LF).map_err(|_| Error::Encoding)
}

/// A coordinate in `size` bytes, padded on the left.
fn coordinate(name: &'static str, text: &Option<String>, size: usize) -> Result<Vec<u8>, Error> {
    let bytes = number(name, text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    let mut padded = vec![0; size.checked_sub(digits.len()).ok_or(Error::Point)?];
    padded.extend_from_slice(digits);
    Ok(padded)
}

fn number(name: &'static str, text: &Option<String>) -> Result<Vec<u8>, Error> {
    let text = text.as_deref().filter(|text| !text.is_empty()).ok_or(Error::Missing(name))?;
    BASE64URL.decode(text).map_err(|_| Error::Base64(name))
}
