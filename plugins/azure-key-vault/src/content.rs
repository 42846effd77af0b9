//! From the content of an object to the bytes of its files.
//!
//! `key` makes PEM of public keys; the crate `coffer-pki` opens PFX files and takes PEM apart, `private_key` and `chain`
//! bring what is in them into the form and order of the reference, and `json` takes JSON apart. What stands here: which of
//! them an object needs, and the encodings that a secret may have. No error holds any of the content.

mod chain;
mod json;
mod key;
mod private_key;

use base64::Engine as _;
use coffer_pki::{BASE64, asn1, pem, pfx};
use zeroize::Zeroizing;

use crate::failure::FailureKind;
use crate::objects::{Encoding, Format, Object, Part};
use crate::provider;
use crate::vault::answer::{Content, Secret};

pub(crate) use pfx::Work;

/// What a class says about all its certificates with private keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `constructPEMChain`: whether the certificates of a PFX are put into the order of their chain.
    pub(crate) ordered: bool,
    /// `writeCertAndKeyInSeparateFiles`: whether there is a file for the certificates and one for the keys as well.
    pub(crate) separate: bool,
}

/// What an object becomes.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    /// What is appended to the object's path, and the bytes.
    pub(crate) files: Vec<(&'static str, provider::Secret)>,
    /// What the object's parts are, in their order.
    pub(crate) parts: Vec<provider::Secret>,
    /// What somebody should know about them.
    pub(crate) remark: Option<&'static str>,
}

/// Why there is no file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("its value is not base64: check objectEncoding")]
    Base64,
    #[error("its value is not hexadecimal digits in pairs: check objectEncoding")]
    Hex,
    #[error("a certificate is behind it, but the vault does not say of which content type it is")]
    NoContentType,
    #[error("it has the unknown content type `{0}`: a certificate is application/x-pem-file or application/x-pkcs12")]
    ContentType(String),
    #[error("it is a certificate in PFX form, but its value is not base64")]
    PfxBase64,
    #[error(transparent)]
    Pfx(#[from] pfx::Error),
    #[error(transparent)]
    PrivateKey(#[from] private_key::Error),
    #[error(transparent)]
    Chain(#[from] chain::Error),
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error("the vault's certificate is not base64")]
    Certificate,
    #[error(transparent)]
    Key(#[from] key::Error),
}

impl Error {
    /// Who has to act.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Key(error) if error.is_unsupported() => FailureKind::InvalidRequest,
            Self::NoContentType | Self::Certificate | Self::Key(_) => FailureKind::Internal,
            Self::Base64 | Self::Hex | Self::ContentType(_) | Self::PfxBase64 => FailureKind::InvalidRequest,
            Self::Pfx(_) | Self::PrivateKey(_) | Self::Chain(_) | Self::Json(_) => FailureKind::InvalidRequest,
        }
    }
}

/// The bytes of the object's files. `work` is what is left for the PFX files of the call.
pub(crate) fn render(content: Content, object: &Object, options: Options, work: &mut Work) -> Result<Rendered, Error> {
    let one = |contents| Rendered { files: vec![("", contents)], ..Rendered::default() };
    match content {
        Content::Secret(secret) => {
            let separate = options.separate && secret.of_certificate;
            let (text, remark) = text_of(secret, object.format, options.ordered, work)?;
            let mut rendered = Rendered { remark, ..Rendered::default() };
            if separate {
                let (certificates, keys) = split(&text);
                rendered.files.push((".crt", decode(certificates, object.encoding)?));
                rendered.files.push((".key", decode(keys, object.encoding)?));
            }
            let whole = decode(text, object.encoding)?;
            rendered.parts = parts(&whole, &object.parts)?;
            rendered.files.push(("", whole));
            Ok(rendered)
        }
        Content::Key(jwk) => Ok(one(Zeroizing::new(key::to_pem(&jwk)?.into_bytes()))),
        Content::Certificate(base64) => Ok(one(certificate(&base64)?)),
    }
}

fn parts(whole: &[u8], parts: &[Part]) -> Result<Vec<provider::Secret>, Error> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let json = json::Json::read(whole)?;
    Ok(parts.iter().map(|part| json.find(&part.expression)).collect::<Result<_, _>>()?)
}

/// A text, and what somebody should know about it.
type Text = (Zeroizing<String>, Option<&'static str>);

/// The text of a secret. Content types are compared exactly, as in the reference, and PEM is not rearranged.
fn text_of(secret: Secret, format: Format, ordered: bool, work: &mut Work) -> Result<Text, Error> {
    if !secret.of_certificate {
        return Ok((secret.value, None));
    }
    match (secret.content_type.as_deref(), format) {
        (Some("application/x-pem-file"), _) | (Some("application/x-pkcs12"), Format::Pfx) => Ok((secret.value, None)),
        (Some("application/x-pkcs12"), Format::Pem) => pem_of(&secret.value, ordered, work),
        (Some(other), _) => Err(Error::ContentType(crate::failure::tidy(other, 60))),
        (None, _) => Err(Error::NoContentType),
    }
}

/// PEM of a PFX: all private keys, then all certificates.
fn pem_of(value: &str, ordered: bool, work: &mut Work) -> Result<Text, Error> {
    let der = base64_bytes(value).ok_or(Error::PfxBase64)?;
    let pfx = pfx::open(&der, work)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * der.len()));
    for key in &pfx.keys {
        let key = private_key::normalise(key)?;
        text.push_str(&pem::encode("PRIVATE KEY", &key).ok_or(private_key::Error::Malformed)?);
    }
    let (certificates, is_complete) = if ordered {
        let chain = chain::order(pfx.certificates)?;
        (chain.certificates, chain.is_complete)
    } else {
        (pfx.certificates, true)
    };
    for certificate in certificates {
        text.push_str(&pem::encode("CERTIFICATE", &certificate).ok_or(Error::Certificate)?);
    }
    let remark = (!is_complete).then_some("its certificates are not one chain, and stay in the order of the PFX");
    Ok((text, remark))
}

/// The certificates of a PEM text, and everything else.
fn split(text: &str) -> (Zeroizing<String>, Zeroizing<String>) {
    let (mut certificates, mut keys) = (Zeroizing::default(), Zeroizing::default());
    for block in pem::blocks(text) {
        block.write(if block.is_certificate() { &mut certificates } else { &mut keys });
    }
    (certificates, keys)
}

fn decode(mut text: Zeroizing<String>, encoding: Encoding) -> Result<provider::Secret, Error> {
    match encoding {
        Encoding::Utf8 => Ok(Zeroizing::new(std::mem::take(&mut *text).into_bytes())),
        Encoding::Base64 => base64_bytes(&text).ok_or(Error::Base64),
        Encoding::Hex => hex_bytes(&text).ok_or(Error::Hex),
    }
}

/// Line ends inside are skipped, other white space is not.
fn base64_bytes(text: &str) -> Option<provider::Secret> {
    let compact: Zeroizing<Vec<u8>> = Zeroizing::new(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect());
    BASE64.decode(&*compact).ok().map(Zeroizing::new)
}

fn hex_bytes(text: &str) -> Option<provider::Secret> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = *pair else { return None };
        bytes.push(digit(high)? << 4 | digit(low)?);
    }
    Some(bytes)
}

/// PEM of whatever the vault calls the certificate; it is not looked into.
fn certificate(base64: &str) -> Result<provider::Secret, Error> {
    let der = base64_bytes(base64).ok_or(Error::Certificate)?;
    decode(pem::encode("CERTIFICATE", &der).ok_or(Error::Certificate)?, Encoding::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str, content_type: Option<&str>, of_certificate: bool) -> Secret {
        Secret { value: Zeroizing::new(value.into()), of_certificate, content_type: content_type.map(str::to_owned) }
    }

    fn decoded(text: &str, encoding: Encoding) -> Result<Vec<u8>, Error> {
        decode(Zeroizing::new(text.into()), encoding).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn base64_has_padding_may_have_line_ends_and_forgives_trailing_bits() {
        for (text, bytes) in
            [("", &b""[..]), ("aGk=", b"hi"), ("a\r\nGk\n=", b"hi"), ("aGl=", b"hi"), ("+/8=", &[0xfb, 0xff])]
        {
            assert_eq!(decoded(text, Encoding::Base64).unwrap(), bytes, "{text}");
        }
        for text in ["aGk", "aG k=", "-_8=", "aGk==", "-----BEGIN CERTIFICATE-----"] {
            assert_eq!(decoded(text, Encoding::Base64), Err(Error::Base64), "{text}");
        }
    }

    #[test]
    fn hex_has_both_cases_and_whole_bytes() {
        for (text, bytes) in [("", &b""[..]), ("00fF", &[0, 0xff]), ("Ab", &[0xab])] {
            assert_eq!(decoded(text, Encoding::Hex).unwrap(), bytes, "{text}");
        }
        for text in ["0", "0g", "0x00", "00 ff", "00\n", "ää"] {
            assert_eq!(decoded(text, Encoding::Hex), Err(Error::Hex), "{text}");
        }
    }

    #[test]
    fn a_plain_secret_is_its_value_whatever_its_content_type() {
        for content_type in [None, Some("application/x-pkcs12"), Some("text/plain")] {
            assert_eq!(
                *text_of(secret("v", content_type, false), Format::Pem, true, &mut Work::default()).unwrap().0,
                "v"
            );
        }
    }

    #[test]
    fn the_secret_of_a_certificate_follows_content_type_and_format() {
        let of = |content_type, format| {
            text_of(secret("v", content_type, true), format, true, &mut Work::default())
                .map(|(text, _)| text.to_string())
        };
        assert_eq!(of(Some("application/x-pem-file"), Format::Pem).as_deref(), Ok("v"));
        assert_eq!(of(Some("application/x-pem-file"), Format::Pfx).as_deref(), Ok("v"));
        assert_eq!(of(Some("application/x-pkcs12"), Format::Pfx).as_deref(), Ok("v"));
        assert_eq!(of(Some("application/x-pkcs12"), Format::Pem), Err(Error::PfxBase64));
        assert_eq!(
            of(Some("Application/X-PEM-file"), Format::Pem),
            Err(Error::ContentType("Application/X-PEM-file".into()))
        );
        assert_eq!(of(None, Format::Pem), Err(Error::NoContentType));
    }

    #[test]
    fn a_certificate_becomes_pem_of_sixty_four_columns_whatever_its_bytes() {
        let der = vec![7_u8; 50];
        let text = certificate(&BASE64.encode(&der)).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (lines[0], lines[1].len(), lines[3]),
            ("-----BEGIN CERTIFICATE-----", 64, "-----END CERTIFICATE-----")
        );
        assert!(text.ends_with("-----\n"));
        assert_eq!(certificate("%"), Err(Error::Certificate));
    }
}
