//! What is in a PFX file (PKCS#12, RFC 7292) that has no password, as those that Key Vault exports.
//!
//! More than the reference reads: any number of safes, PBES2, SHA-2, files without a MAC, keys that are not encrypted.
//! `decrypt` derives keys and opens what they close. A file is somebody's upload: the work that it may ask for is
//! limited before any is done, and so is the number of its bags. The provider uses it, and the host for Secrets of type
//! `kubernetes.io/tls`.

mod decrypt;

use spki::ObjectIdentifier;
use spki::der::asn1::{AnyRef, OctetStringRef};
use spki::der::{self, Reader, SliceReader};
use zeroize::Zeroizing;

use crate::{Secret, asn1};
use decrypt::{Mac, Password};

pub use decrypt::Work;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
const KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const CRL_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.4");
const SECRET_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.5");
const SAFE_CONTENTS_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.6");

/// Safes and bags of a file together. Chains have three or four certificates; ordering them compares each with each.
const MAX_BAGS: usize = 1_000;
/// Safes inside of safes.
const MAX_DEPTH: u8 = 4;

/// What a file holds, in its order.
#[derive(Default)]
pub struct Pfx {
    /// PKCS#8, DER.
    pub keys: Vec<Secret>,
    /// X.509, DER.
    pub certificates: Vec<Vec<u8>>,
}

/// Why a file cannot be opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none.
    #[error("its PFX is not well-formed")]
    Malformed,
    /// Of another version.
    #[error("its PFX is of another version than 3")]
    Version,
    /// Somebody closed it.
    #[error("its PFX is damaged or closed with a password: make it anew without one")]
    Password,
    /// Something that nothing here can do: what, and which.
    #[error("its PFX uses {0} {1}, which is not supported")]
    Unsupported(&'static str, String),
    /// Too many iterations, in this file or in those before it.
    #[error(
        "its PFX asks for too much work to derive its keys, or too little is left by the others of the class: export it \
         with fewer iterations, 2,000 say"
    )]
    Work,
    /// Too many parts.
    #[error("its PFX has too many parts")]
    Size,
}

impl From<der::Error> for Error {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// Opens a file, DER. What it asks for is taken from `work`.
///
/// # Errors
/// When it is no such file, is closed with a password, or asks for more than is allowed.
pub fn open(der: &[u8], work: &mut Work) -> Result<Pfx, Error> {
    let (version, authenticated, mac) = asn1::whole(der, |reader| {
        reader.sequence(|reader| {
            let version: u8 = reader.decode()?;
            let authenticated = ContentInfo::read(reader)?;
            let mac = if reader.is_finished() { None } else { Some(Mac::read(reader)?) };
            Ok((version, authenticated, mac))
        })
    })?;
    if version != 3 {
        return Err(Error::Version);
    }
    if authenticated.kind != DATA {
        return Err(unsupported("the integrity mode", authenticated.kind));
    }
    let safes = authenticated.octets()?;
    match mac {
        Some(mac) => {
            let password = mac.verify(safes, work)?;
            Opener::new(password, work).open(safes)
        }
        // Nothing says which of the two it is.
        None => match Opener::new(Password::Empty, work).open(safes) {
            Err(Error::Password) => Opener::new(Password::None, work).open(safes),
            opened => opened,
        },
    }
}

fn unsupported(what: &'static str, oid: ObjectIdentifier) -> Error {
    Error::Unsupported(what, oid.to_string())
}

/// RFC 5652 section 3: something, and what it is.
struct ContentInfo<'d> {
    kind: ObjectIdentifier,
    content: &'d [u8],
}

impl<'d> ContentInfo<'d> {
    fn read(reader: &mut SliceReader<'d>) -> der::Result<Self> {
        reader.sequence(|reader| Ok(Self { kind: reader.decode()?, content: asn1::required(reader, 0)? }))
    }

    fn octets(&self) -> der::Result<&'d [u8]> {
        asn1::whole(self.content, |reader| Ok(reader.decode::<&'d OctetStringRef>()?.as_bytes()))
    }
}

/// Goes through safes and bags.
struct Opener<'w> {
    password: Password,
    work: &'w mut Work,
    bags: usize,
    pfx: Pfx,
}

impl<'w> Opener<'w> {
    fn new(password: Password, work: &'w mut Work) -> Self {
        Self { password, work, bags: 0, pfx: Pfx::default() }
    }

    fn open(mut self, safes: &[u8]) -> Result<Pfx, Error> {
        for safe in asn1::elements(safes)? {
            self.count()?;
            let safe = asn1::whole(safe, ContentInfo::read)?;
            match safe.kind {
                DATA => self.bags(safe.octets()?, 0)?,
                ENCRYPTED_DATA => {
                    if let Some(bags) = self.decrypt(safe.content)? {
                        // A wrong key leaves a right padding once in 256 times.
                        asn1::elements(&bags).map_err(|_| Error::Password)?;
                        self.bags(&bags, 0)?;
                    }
                }
                other => return Err(unsupported("a safe of the kind", other)),
            }
        }
        Ok(self.pfx)
    }

    /// The bags in an EncryptedData (RFC 5652 section 8); none if it is empty.
    fn decrypt(&mut self, der: &[u8]) -> Result<Option<Secret>, Error> {
        let (algorithm, content) = asn1::sequence(der, |reader| {
            let _version: u8 = reader.decode()?;
            reader.sequence(|reader| {
                let _kind: ObjectIdentifier = reader.decode()?;
                Ok((reader.decode()?, asn1::field(reader, 0)?))
            })
        })?;
        content.map(|content| decrypt::decrypt(algorithm, content, self.password, self.work)).transpose()
    }

    fn bags(&mut self, der: &[u8], depth: u8) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Size);
        }
        for bag in asn1::elements(der)? {
            self.count()?;
            let (kind, value) = asn1::sequence(bag, |reader| Ok((reader.decode()?, asn1::required(reader, 0)?)))?;
            match kind {
                KEY_BAG => self.pfx.keys.push(Zeroizing::new(value.to_vec())),
                SHROUDED_KEY_BAG => {
                    let (algorithm, content) = asn1::sequence(value, |reader| {
                        Ok((reader.decode()?, reader.decode::<&OctetStringRef>()?.as_bytes()))
                    })?;
                    let key = decrypt::decrypt(algorithm, content, self.password, self.work)?;
                    asn1::sequence(&key, |_| Ok(())).map_err(|_| Error::Password)?;
                    self.pfx.keys.push(key);
                }
                CERTIFICATE_BAG => self.pfx.certificates.push(certificate(value)?.to_vec()),
                // Neither is a certificate or its key.
                CRL_BAG | SECRET_BAG => {}
                SAFE_CONTENTS_BAG => self.bags(value, depth + 1)?,
                other => return Err(unsupported("a bag of the kind", other)),
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Error> {
        self.bags += 1;
        if self.bags > MAX_BAGS { Err(Error::Size) } else { Ok(()) }
    }
}

/// The certificate in a bag; other kinds than X.509 have not been seen since the standard was written.
fn certificate(der: &[u8]) -> Result<&[u8], Error> {
    let (kind, value) = asn1::sequence(der, |reader| Ok((reader.decode()?, asn1::required(reader, 0)?)))?;
    if kind != X509_CERTIFICATE {
        return Err(unsupported("a certificate of the kind", kind));
    }
    Ok(asn1::whole(value, |reader| Ok(reader.decode::<AnyRef<'_>>()?.value()))?)
}
