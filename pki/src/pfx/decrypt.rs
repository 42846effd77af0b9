//! Keys from no password, and what they open: PKCS#12's own derivation (RFC 7292 appendix B) and PBES2 (RFC 8018).
//!
//! Derivation, ciphers and digests are those of crates. What stands here: which belongs to which identifier, and
//! [`Work`], the limit on what the files of a call may ask for.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use hmac::digest::block_api::BlockSizeUser;
use hmac::digest::{Digest, FixedOutputReset};
use hmac::{Mac as _, SimpleHmac};
use pbkdf2::pbkdf2_hmac;
use pkcs5::pbes2::{self, EncryptionScheme, Kdf, Pbkdf2Params, Pbkdf2Prf};
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use spki::der::asn1::OctetStringRef;
use spki::der::{self, Reader, SliceReader};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier};
use zeroize::Zeroizing;

use super::{Error, unsupported};
use crate::Secret;

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA224: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
/// The schemes of RFC 7292 appendix C.
const TRIPLE_DES_3_KEYS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
const TRIPLE_DES_2_KEYS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.4");
const RC2_128: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.5");
const RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");

/// The two things that programs mean by "no password". They differ only in PKCS#12's own derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Password {
    /// An empty text, with the two zero bytes that end it: OpenSSL.
    Empty,
    /// No text at all: Windows.
    None,
}

impl Password {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Empty => &[0, 0],
            Self::None => &[],
        }
    }
}

/// What the files of a call may still ask for, in hash computations. A file decides how many a key costs, up to 2³¹, and
/// a class how many files there are.
#[derive(Debug)]
pub struct Work {
    left: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self { left: 1_200_000 }
    }
}

impl Work {
    /// Takes `iterations` with `hashes` each.
    fn spend(&mut self, iterations: u32, hashes: usize) -> Result<(), Error> {
        let cost = u64::from(iterations).checked_mul(hashes as u64).ok_or(Error::Work)?;
        self.left = self.left.checked_sub(cost).ok_or(Error::Work)?;
        Ok(())
    }
}

/// MacData of RFC 7292 section 4.
pub(super) struct Mac<'d> {
    digest: ObjectIdentifier,
    value: &'d [u8],
    salt: &'d [u8],
    iterations: u32,
}

impl<'d> Mac<'d> {
    pub(super) fn read(reader: &mut SliceReader<'d>) -> der::Result<Self> {
        reader.sequence(|reader| {
            let (digest, value) = reader.sequence(|reader| {
                let algorithm: AlgorithmIdentifierRef<'d> = reader.decode()?;
                Ok::<_, der::Error>((algorithm.oid, octets(reader)?))
            })?;
            let salt = octets(reader)?;
            let iterations = if reader.is_finished() { 1 } else { reader.decode()? };
            Ok(Self { digest, value, salt, iterations })
        })
    }

    /// The password under which this is the MAC of `content`.
    pub(super) fn verify(&self, content: &[u8], work: &mut Work) -> Result<Password, Error> {
        for password in [Password::Empty, Password::None] {
            work.spend(self.iterations, 1)?;
            if self.is_of(content, password)? {
                return Ok(password);
            }
        }
        Err(Error::Password)
    }

    fn is_of(&self, content: &[u8], password: Password) -> Result<bool, Error> {
        match self.digest {
            SHA1 => self.is_digest_of::<sha1::Sha1>(content, password),
            SHA224 => self.is_digest_of::<sha2::Sha224>(content, password),
            SHA256 => self.is_digest_of::<sha2::Sha256>(content, password),
            SHA384 => self.is_digest_of::<sha2::Sha384>(content, password),
            SHA512 => self.is_digest_of::<sha2::Sha512>(content, password),
            other => Err(unsupported("the MAC algorithm", other)),
        }
    }

    fn is_digest_of<D: Digest + FixedOutputReset + BlockSizeUser>(
        &self,
        content: &[u8],
        password: Password,
    ) -> Result<bool, Error> {
        let size = <D as Digest>::output_size();
        let key = derive::<D>(password, self.salt, Pkcs12KeyType::Mac, self.iterations, size)?;
        let mut mac = <SimpleHmac<D> as KeyInit>::new_from_slice(&key).map_err(|_| Error::Malformed)?;
        mac.update(content);
        Ok(mac.verify_slice(self.value).is_ok())
    }
}

/// Opens what `algorithm` closed.
pub(super) fn decrypt(
    algorithm: AlgorithmIdentifierRef<'_>,
    content: &[u8],
    password: Password,
    work: &mut Work,
) -> Result<Secret, Error> {
    let pbes1 = |work: &mut Work| Pbes1::read(algorithm, password, work);
    match algorithm.oid {
        PBES2 => pbes2(algorithm, content, work),
        TRIPLE_DES_3_KEYS => pbes1(work)?.decrypt::<des::TdesEde3>(content, 24),
        TRIPLE_DES_2_KEYS => pbes1(work)?.decrypt::<des::TdesEde2>(content, 16),
        RC2_128 => pbes1(work)?.decrypt::<rc2::Rc2>(content, 16),
        RC2_40 => pbes1(work)?.decrypt::<rc2::Rc2>(content, 5),
        other => Err(unsupported("the encryption", other)),
    }
}

/// PBKDF2 and a cipher. Of the other derivation, scrypt, no program makes PFX files.
fn pbes2(algorithm: AlgorithmIdentifierRef<'_>, content: &[u8], work: &mut Work) -> Result<Secret, Error> {
    let parameters = pbes2::Parameters::try_from(algorithm.parameters.ok_or(Error::Malformed)?)
        .map_err(|_| Error::Unsupported("PBES2 with parameters of", "an unknown kind".into()))?;
    let kdf = match &parameters.kdf {
        Kdf::Pbkdf2(kdf) => kdf,
        other => return Err(unsupported("the key derivation", other.oid())),
    };
    let key = pbkdf2(kdf, parameters.encryption.key_size(), work)?;
    match parameters.encryption {
        EncryptionScheme::Aes128Cbc { iv } => open::<aes::Aes128Dec>(&key, &iv, content),
        EncryptionScheme::Aes192Cbc { iv } => open::<aes::Aes192Dec>(&key, &iv, content),
        EncryptionScheme::Aes256Cbc { iv } => open::<aes::Aes256Dec>(&key, &iv, content),
        EncryptionScheme::DesEde3Cbc { iv } => open::<des::TdesEde3>(&key, &iv, content),
        other => Err(unsupported("the encryption", other.oid())),
    }
}

fn pbkdf2(kdf: &Pbkdf2Params, size: usize, work: &mut Work) -> Result<Secret, Error> {
    if kdf.key_length.is_some_and(|length| usize::from(length) != size) {
        return Err(Error::Malformed);
    }
    let output = match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => 20,
        Pbkdf2Prf::HmacWithSha224 => 28,
        _ => 32,
    };
    work.spend(kdf.iteration_count, 2 * size.div_ceil(output))?;
    let mut key = Zeroizing::new(vec![0; size]);
    let (salt, iterations) = (kdf.salt.as_ref(), kdf.iteration_count);
    match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => pbkdf2_hmac::<sha1::Sha1>(&[], salt, iterations, &mut key),
        Pbkdf2Prf::HmacWithSha224 => pbkdf2_hmac::<sha2::Sha224>(&[], salt, iterations, &mut key),
        Pbkdf2Prf::HmacWithSha256 => pbkdf2_hmac::<sha2::Sha256>(&[], salt, iterations, &mut key),
        Pbkdf2Prf::HmacWithSha384 => pbkdf2_hmac::<sha2::Sha384>(&[], salt, iterations, &mut key),
        Pbkdf2Prf::HmacWithSha512 => pbkdf2_hmac::<sha2::Sha512>(&[], salt, iterations, &mut key),
        other => return Err(unsupported("the pseudorandom function", other.oid())),
    }
    Ok(key)
}

/// A scheme of RFC 7292 appendix C: SHA-1 and a block cipher with blocks of eight bytes.
struct Pbes1<'d> {
    salt: &'d [u8],
    iterations: u32,
    password: Password,
}

impl<'d> Pbes1<'d> {
    fn read(algorithm: AlgorithmIdentifierRef<'d>, password: Password, work: &mut Work) -> Result<Self, Error> {
        let parameters = algorithm.parameters.ok_or(Error::Malformed)?;
        let (salt, iterations) =
            parameters.sequence(|reader| Ok::<_, der::Error>((octets(reader)?, reader.decode()?)))?;
        // Two of 20 bytes for a key, one for the vector.
        work.spend(iterations, 3)?;
        Ok(Self { salt, iterations, password })
    }

    fn decrypt<C: BlockCipherDecrypt + KeyInit>(&self, content: &[u8], size: usize) -> Result<Secret, Error> {
        let derive = |kind, size| derive::<sha1::Sha1>(self.password, self.salt, kind, self.iterations, size);
        let (key, iv) = (derive(Pkcs12KeyType::EncryptionKey, size)?, derive(Pkcs12KeyType::Iv, 8)?);
        open::<C>(&key, &iv, content)
    }
}

/// A block cipher in the mode CBC, padded (RFC 5652 section 6.3).
fn open<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], content: &[u8]) -> Result<Secret, Error> {
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Error::Malformed)?;
    let mut content = Zeroizing::new(content.to_vec());
    let length = cipher.decrypt_padded::<Pkcs7>(&mut content).map_err(|_| Error::Password)?.len();
    content.truncate(length);
    Ok(content)
}

fn derive<D: Digest + FixedOutputReset + BlockSizeUser>(
    password: Password,
    salt: &[u8],
    kind: Pkcs12KeyType,
    iterations: u32,
    size: usize,
) -> Result<Secret, Error> {
    let iterations = i32::try_from(iterations).map_err(|_| Error::Work)?;
    Ok(Zeroizing::new(derive_key::<D>(password.bytes(), salt, kind, iterations, size)))
}

fn octets<'d>(reader: &mut SliceReader<'d>) -> der::Result<&'d [u8]> {
    Ok(reader.decode::<&'d OctetStringRef>()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_may_ask_for_so_much_work_and_no_more() {
        let mut work = Work::default();
        assert_eq!(work.spend(600_000, 2), Ok(()));
        assert_eq!(work.spend(1, 1), Err(Error::Work));
        assert_eq!(Work::default().spend(u32::MAX, usize::MAX), Err(Error::Work));
    }
}
