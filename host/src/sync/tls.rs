//! Certificates and private keys for Secrets of type `kubernetes.io/tls`, out of PEM or PFX files.
//!
//! Forms are those of the Secrets Store CSI Driver: every certificate of a file in its order; RSA keys as PKCS#1, keys on
//! elliptic curves as SEC 1. On top of it, Edwards keys (as PKCS#8), PFX of every make without a password, and `ca.crt`;
//! and what is no key is an error, never an empty block. Pure; `objects` is the caller. No error holds any content.

use base64::Engine as _;
use coffer_pki::{BASE64, Secret, asn1, pem, pfx};
use pkcs1::RsaPrivateKeyRef;
use sec1::{EcParameters, EcPrivateKey};
use spki::der::asn1::OctetStringRef;
use spki::der::{self, Decode, Encode, Reader as _};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier};
use zeroize::Zeroizing;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ED448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.113");

/// The first byte of every PFX file.
const SEQUENCE: u8 = 0x30;

/// Why a file is not what its key wants.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("key `{0}` is not supported in a Secret of type kubernetes.io/tls: only tls.crt, tls.key and ca.crt are")]
    Key(String),
    #[error("it holds no certificate in PEM form and is no PFX file")]
    NoCertificate,
    #[error("it holds no private key in PEM form and is no PFX file")]
    NoKey,
    #[error("it holds no private key that can be read: RSA, elliptic curves and Edwards curves can")]
    UnreadableKey,
    #[error("its private key is encrypted with a passphrase: store it without one")]
    Encrypted,
    #[error("its private key is of the unknown type {0}: RSA, elliptic curves and Edwards curves are supported")]
    KeyType(ObjectIdentifier),
    #[error(transparent)]
    Pfx(#[from] pfx::Error),
}

/// What a key of the Secret holds of a file.
pub(super) fn extract(key: &str, file: &[u8]) -> Result<Secret, Error> {
    match key {
        "tls.crt" | "ca.crt" => certificates(file),
        "tls.key" => private_key(file),
        _ => Err(Error::Key(key.chars().take(64).collect())),
    }
}

fn certificates(file: &[u8]) -> Result<Secret, Error> {
    let mut text = Zeroizing::new(String::new());
    for block in blocks(file).iter().filter(|block| block.is_certificate()) {
        block.write(&mut text);
    }
    if text.is_empty() {
        for certificate in pfx_of(file).ok_or(Error::NoCertificate)??.certificates {
            text.push_str(&pem::encode("CERTIFICATE", &certificate).ok_or(Error::NoCertificate)?);
        }
    }
    if text.is_empty() { Err(Error::NoCertificate) } else { Ok(bytes(text)) }
}

fn private_key(file: &[u8]) -> Result<Secret, Error> {
    let blocks = blocks(file);
    let mut mistake = None;
    // The last one counts, as in the Secrets Store CSI Driver; parameters, requests and public keys are none.
    for block in blocks.iter().rev().filter(|block| !block.is_certificate()) {
        match of_block(block) {
            Ok(key) => return Ok(key),
            Err(error) => mistake = mistake.or(Some(error)),
        }
    }
    if let Some(mistake) = mistake {
        return Err(mistake);
    }
    let key = pfx_of(file).ok_or(Error::NoKey)??.keys;
    of_pkcs8(key.last().ok_or(Error::NoKey)?)?.ok_or(Error::UnreadableKey)
}

fn of_block(block: &pem::Block) -> Result<Secret, Error> {
    if block.is_encrypted() {
        return Err(Error::Encrypted);
    }
    let der = block.content();
    if RsaPrivateKeyRef::from_der(der).is_ok() {
        return encoded("RSA PRIVATE KEY", der);
    }
    if let Some(key) = of_pkcs8(der)? {
        return Ok(key);
    }
    match EcPrivateKey::from_der(der) {
        // Without its curve it is a number and nothing else.
        Ok(key) if key.parameters.is_some() => encoded("EC PRIVATE KEY", &Zeroizing::new(written(&key)?)),
        _ => Err(Error::UnreadableKey),
    }
}

/// The key in a PKCS#8 of any version, if it is one.
fn of_pkcs8(der: &[u8]) -> Result<Option<Secret>, Error> {
    let read = asn1::sequence(der, |reader| {
        let _version: u8 = reader.decode()?;
        let algorithm: AlgorithmIdentifierRef<'_> = reader.decode()?;
        Ok((algorithm, reader.decode::<&OctetStringRef>()?.as_bytes()))
    });
    let Ok((algorithm, key)) = read else { return Ok(None) };
    match algorithm.oid {
        pkcs1::ALGORITHM_OID => {
            RsaPrivateKeyRef::from_der(key).map_err(|_| Error::UnreadableKey)?;
            encoded("RSA PRIVATE KEY", key).map(Some)
        }
        EC => elliptic(algorithm, key).map(Some),
        ED25519 | ED448 => encoded("PRIVATE KEY", der).map(Some),
        other => Err(Error::KeyType(other)),
    }
}

/// SEC 1 names the curve in the key itself.
fn elliptic(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Result<Secret, Error> {
    let mut key = EcPrivateKey::from_der(key).map_err(|_| Error::UnreadableKey)?;
    let named = algorithm.parameters.and_then(|parameters| ObjectIdentifier::try_from(parameters).ok());
    key.parameters = named.map(EcParameters::NamedCurve).or(key.parameters);
    if key.parameters.is_none() {
        return Err(Error::UnreadableKey);
    }
    encoded("EC PRIVATE KEY", &Zeroizing::new(written(&key)?))
}

fn written(key: &EcPrivateKey<'_>) -> Result<Vec<u8>, Error> {
    key.to_der().map_err(|_: der::Error| Error::UnreadableKey)
}

fn encoded(label: &str, der: &[u8]) -> Result<Secret, Error> {
    pem::encode(label, der).map(bytes).ok_or(Error::UnreadableKey)
}

fn bytes(mut text: Zeroizing<String>) -> Secret {
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

/// The blocks of a text; what is no text has none.
fn blocks(file: &[u8]) -> Vec<pem::Block> {
    // A stray byte in a comment must not hide the certificates around it.
    pem::blocks(&Zeroizing::new(String::from_utf8_lossy(file).into_owned()))
}

/// The content of a PFX file, as it is or in base64; none if it is neither by its first byte.
fn pfx_of(file: &[u8]) -> Option<Result<pfx::Pfx, pfx::Error>> {
    if file.first() == Some(&SEQUENCE) && asn1::sequence(file, |_| Ok(())).is_ok() {
        return Some(pfx::open(file, &mut pfx::Work::default()));
    }
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(file.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect());
    let der = BASE64.decode(&*text).map(Zeroizing::new).ok().filter(|der| der.first() == Some(&SEQUENCE))?;
    Some(pfx::open(&der, &mut pfx::Work::default()))
}

#[cfg(test)]
mod tests;
