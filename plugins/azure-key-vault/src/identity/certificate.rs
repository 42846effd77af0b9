//! A client certificate with its private key, and the assertion that proves the key's possession (RFC 7523, section 3).
//!
//! Reads PEM as `openssl` and vaults write it: an RSA key, PKCS#8 or PKCS#1, unencrypted, beside one or more certificates
//! in any order. Azure's own libraries sign in with no other kind, nor does this. The assertion is good for ten minutes,
//! for one token endpoint, and once. No key, and no part of one, is in an error.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use rsa::PrivateKey as RsaPrivateKey;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::DecodePrivateKey;
use rsa::sha2::{Digest, Sha256};
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use serde_json::json;
use sha1::Sha1;
use zeroize::Zeroizing;

/// Seconds that an assertion is good for; Microsoft recommends five to ten minutes.
const LIFETIME: u64 = 600;

/// Blocks that are read of one PEM text; a chain has three or four.
const MOST_BLOCKS: usize = 32;

/// A certificate and its key.
pub(super) struct Certificate {
    der: Vec<u8>,
    key: Box<RsaPrivateKey>,
}

/// What an assertion is made of besides the certificate.
pub(super) struct Subject<'a> {
    /// Who signs in.
    pub(super) client_id: &'a str,
    /// The URL that the assertion will be sent to.
    pub(super) endpoint: &'a str,
    /// Now, in Unix seconds.
    pub(super) now: u64,
    /// Fresh randomness of the call.
    pub(super) entropy: [u8; 32],
    /// What tells this request from the others of the call.
    pub(super) request_id: &'a str,
    /// Whether AD FS reads it, which is older than Entra: another signature, another thumbprint.
    pub(super) adfs: bool,
}

/// Why there is no certificate, to go on after the name of what holds it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("is not PEM: it needs a certificate and its private key, each between `-----BEGIN …` and `-----END …`")]
    NotPem,
    #[error("has a block `{0}` that is broken")]
    Broken(String),
    #[error("has no certificate beside the private key")]
    NoCertificate,
    #[error("has no private key beside the certificate")]
    NoKey,
    #[error("has several private keys: keep the one of the certificate")]
    Keys,
    #[error("has an encrypted private key: decrypt it, with `openssl pkey` say, before it goes into the Secret")]
    Encrypted,
    #[error("has a private key that is not RSA of up to 4096 bits: no other kind signs in")]
    KeyType,
    #[error("has a private key that belongs to none of its certificates")]
    Foreign,
    #[error("has a private key that cannot sign")]
    Unable,
}

/// One block of a PEM text (RFC 7468).
struct Block<'t> {
    label: &'t str,
    der: Zeroizing<Vec<u8>>,
}

impl Certificate {
    /// Finds the private key and the certificate that is its own.
    pub(super) fn read(pem: &str) -> Result<Self, Error> {
        let blocks = read_blocks(pem)?;
        let mut keys = blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
        let mut certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE").peekable();
        let key = match (keys.next(), keys.next()) {
            (Some(block), None) => read_key(block)?,
            (Some(_), Some(_)) => return Err(Error::Keys),
            (None, _) if certificates.peek().is_some() => return Err(Error::NoKey),
            (None, _) => return Err(Error::NotPem),
        };
        if certificates.peek().is_none() {
            return Err(Error::NoCertificate);
        }
        // A certificate holds its own public key, bit for bit; an authority's holds another one.
        let public = key.to_public_key().to_pkcs1_der().map_err(|_| Error::KeyType)?.into_vec();
        let mut own = certificates.filter(|block| block.der.windows(public.len()).any(|part| part == public));
        let own = own.next().ok_or(Error::Foreign)?;
        Ok(Self { der: own.der.to_vec(), key })
    }

    /// A new assertion.
    pub(super) fn assert(&self, subject: &Subject<'_>) -> Result<Zeroizing<String>, Error> {
        // A call may sign twice, and request ids show a part of the entropy.
        let seed = Sha256::new().chain_update(subject.entropy).chain_update(subject.request_id).finalize();
        let mut random = ChaCha20Rng::from_seed(seed.into());
        let mut id = [0; 16];
        random.fill_bytes(&mut id);
        let header = match subject.adfs {
            true => json!({"alg": "RS256", "typ": "JWT", "x5t": encode(Sha1::digest(&self.der))}),
            false => json!({"alg": "PS256", "typ": "JWT", "x5t#S256": encode(Sha256::digest(&self.der))}),
        };
        let claims = json!({
            "aud": subject.endpoint, "iss": subject.client_id, "sub": subject.client_id, "jti": encode(id),
            "iat": subject.now, "nbf": subject.now, "exp": subject.now.saturating_add(LIFETIME),
        });
        let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(text.as_bytes(), subject.adfs, &mut random)?;
        Ok(Zeroizing::new(format!("{text}.{}", encode(signature))))
    }

    fn sign(&self, text: &[u8], adfs: bool, random: &mut ChaCha20Rng) -> Result<Vec<u8>, Error> {
        let key = RsaPrivateKey::clone(&self.key);
        let signature = if adfs {
            rsa::pkcs1v15::SigningKey::<Sha256>::new(key).try_sign_with_rng(random, text).map(|signed| signed.to_vec())
        } else {
            rsa::pss::SigningKey::<Sha256>::new(key).try_sign_with_rng(random, text).map(|signed| signed.to_vec())
        };
        signature.map_err(|_| Error::Unable)
    }
}

fn read_key(block: &Block<'_>) -> Result<Box<RsaPrivateKey>, Error> {
    let der = block.der.as_slice();
    let key = match block.label {
        "ENCRYPTED PRIVATE KEY" => return Err(Error::Encrypted),
        "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(der).ok(),
        _ => RsaPrivateKey::from_pkcs8_der(der).ok(),
    };
    key.map(Box::new).ok_or(Error::KeyType)
}

fn read_blocks(pem: &str) -> Result<Vec<Block<'_>>, Error> {
    let mut blocks = Vec::new();
    let mut lines = pem.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let broken = || Error::Broken(crate::failure::tidy(label, 40));
        if blocks.len() == MOST_BLOCKS {
            return Err(broken());
        }
        let mut text = Zeroizing::new(String::with_capacity(pem.len()));
        loop {
            let line = lines.next().ok_or_else(broken)?;
            if line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) == Some(label) {
                break;
            }
            // RFC 1421: what openssl writes in front of a key that it has encrypted.
            if line.starts_with("Proc-Type:") {
                return Err(Error::Encrypted);
            }
            text.push_str(line);
        }
        blocks.push(Block { label, der: Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| broken())?) });
    }
    Ok(blocks)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
