//! Private keys in the one form in which the reference writes them, whatever form the PFX has them in.
//!
//! PKCS#8 version 0 without attributes (RFC 5208): RSA as PKCS#1 (RFC 8017), elliptic curves as RFC 5915 without
//! parameters and with the public key, Edwards curves as RFC 8410. This equals `openssl pkcs8 -topk8 -nocrypt`.
//! Nothing here checks whether numbers fit together: whoever loads the key does.

use p256::elliptic_curve::sec1::ModulusSize;
use p256::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p256::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytesSize, SecretKey};
use pkcs1::RsaPrivateKeyRef;
use sec1::EcPrivateKey;
use spki::der::asn1::{AnyRef, OctetStringRef};
use spki::der::{self, Decode, Encode, Reader};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier};
use zeroize::Zeroizing;

use super::asn1;
use crate::provider;

pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// X25519, X448, Ed25519 and Ed448 (RFC 8410 section 3).
const EDWARDS: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.3.101.110"),
    ObjectIdentifier::new_unwrap("1.3.101.111"),
    ObjectIdentifier::new_unwrap("1.3.101.112"),
    ObjectIdentifier::new_unwrap("1.3.101.113"),
];

/// Why a key cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("its private key is not well-formed")]
    Malformed,
    #[error("its private key is of the unknown type {0}: RSA, EC and Edwards curves are supported")]
    Type(ObjectIdentifier),
}

impl From<der::Error> for Error {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// The key in the reference's form; `der` is PKCS#8 in any version, with or without attributes.
pub(super) fn normalise(der: &[u8]) -> Result<provider::Secret, Error> {
    let (algorithm, key) = asn1::sequence(der, |reader| {
        let _version: u8 = reader.decode()?;
        let algorithm: AlgorithmIdentifierRef<'_> = reader.decode()?;
        Ok((algorithm, reader.decode::<&OctetStringRef>()?.as_bytes()))
    })?;
    if algorithm.oid == pkcs1::ALGORITHM_OID {
        let key = Zeroizing::new(RsaPrivateKeyRef::from_der(key)?.to_der()?);
        return pkcs8(pkcs1::ALGORITHM_ID, &key);
    }
    if algorithm.oid == EC {
        return elliptic(algorithm, EcPrivateKey::from_der(key)?);
    }
    if EDWARDS.contains(&algorithm.oid) {
        return pkcs8(algorithm, key);
    }
    Err(Error::Type(algorithm.oid))
}

fn elliptic(algorithm: AlgorithmIdentifierRef<'_>, key: EcPrivateKey<'_>) -> Result<provider::Secret, Error> {
    let named = algorithm.parameters.and_then(|parameters| ObjectIdentifier::try_from(parameters).ok());
    let curve = named.or(key.parameters.and_then(|parameters| parameters.named_curve())).ok_or(Error::Malformed)?;
    let (scalar, public) = match curve {
        P256 => both::<p256::NistP256>(key.private_key, 32)?,
        P384 => both::<p384::NistP384>(key.private_key, 48)?,
        P521 => both::<p521::NistP521>(key.private_key, 66)?,
        // Nothing here computes on other curves, so both halves stay as they are.
        _ => (Zeroizing::new(key.private_key.to_vec()), key.public_key.unwrap_or_default().to_vec()),
    };
    let public_key = Some(public.as_slice()).filter(|public| !public.is_empty());
    let key = Zeroizing::new(EcPrivateKey { private_key: &scalar, parameters: None, public_key }.to_der()?);
    pkcs8(AlgorithmIdentifierRef { oid: EC, parameters: Some(AnyRef::from(&curve)) }, &key)
}

/// The scalar in `size` bytes, and the uncompressed point that belongs to it.
fn both<C>(scalar: &[u8], size: usize) -> Result<(provider::Secret, Vec<u8>), Error>
where
    C: CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
    let digits = scalar.get(zeros..).unwrap_or_default();
    let mut padded = Zeroizing::new(vec![0; size.checked_sub(digits.len()).ok_or(Error::Malformed)?]);
    padded.extend_from_slice(digits);
    let key = SecretKey::<C>::from_slice(&padded).map_err(|_| Error::Malformed)?;
    Ok((padded, key.public_key().to_sec1_point(false).as_bytes().to_vec()))
}

/// RFC 5208 section 5.
fn pkcs8(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Result<provider::Secret, Error> {
    let key = OctetStringRef::new(key)?;
    let length = (0_u8.encoded_len()? + algorithm.encoded_len()? + key.encoded_len()?)?;
    let mut der = Zeroizing::new(Vec::new());
    der::Header::new(der::Tag::Sequence, length).encode_to_vec(&mut der)?;
    0_u8.encode_to_vec(&mut der)?;
    algorithm.encode_to_vec(&mut der)?;
    key.encode_to_vec(&mut der)?;
    Ok(der)
}
