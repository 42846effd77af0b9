//! From the content of an object to the bytes of its file.
//!
//! `key` makes PEM of public keys. What stands here: certificates, secrets, and the encodings that a secret may have.
//! The conversion of PFX to PEM will be a file beside `key`. No error holds any of the content.

mod key;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use spki::der::pem::{self, LineEnding};
use zeroize::Zeroizing;

use crate::failure::FailureKind;
use crate::objects::{Encoding, Format, Object};
use crate::provider;
use crate::vault::answer::{Content, Secret};

/// Standard alphabet, padding required, bits after the last byte ignored: what Go's decoder accepts.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

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
    #[error(
        "it is a certificate in PFX form, which this version of the provider cannot turn into PEM: set \
         `objectFormat: pfx` to mount the PFX as it is, or make the certificate with the content type \
         application/x-pem-file"
    )]
    Pfx,
    #[error("the vault's certificate is not base64")]
    Certificate,
    #[error(transparent)]
    Key(#[from] key::Error),
}

impl Error {
    /// Who has to act.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Base64 | Self::Hex | Self::Pfx | Self::ContentType(_) => FailureKind::InvalidRequest,
            Self::Key(error) if error.is_unsupported() => FailureKind::InvalidRequest,
            Self::NoContentType | Self::Certificate | Self::Key(_) => FailureKind::Internal,
        }
    }
}

/// The bytes of the object's file.
pub(crate) fn render(content: Content, object: &Object) -> Result<provider::Secret, Error> {
    match content {
        Content::Secret(secret) => decode(text_of(secret, object.format)?, object.encoding),
        Content::Key(jwk) => Ok(Zeroizing::new(key::to_pem(&jwk)?.into_bytes())),
        Content::Certificate(base64) => certificate(&base64),
    }
}

/// The text of a secret. Content types are compared exactly, as in the reference, and PEM is not rearranged.
fn text_of(secret: Secret, format: Format) -> Result<Zeroizing<String>, Error> {
    if !secret.of_certificate {
        return Ok(secret.value);
    }
    match (secret.content_type.as_deref(), format) {
        (Some("application/x-pem-file"), _) | (Some("application/x-pkcs12"), Format::Pfx) => Ok(secret.value),
        (Some("application/x-pkcs12"), Format::Pem) => Err(Error::Pfx),
        (Some(other), _) => Err(Error::ContentType(crate::failure::tidy(other, 60))),
        (None, _) => Err(Error::NoContentType),
    }
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
    let text = pem::encode_string("CERTIFICATE", LineEnding::LF, &der).map_err(|_| Error::Certificate)?;
    Ok(Zeroizing::new(text.into_bytes()))
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
            assert_eq!(*text_of(secret("v", content_type, false), Format::Pem).unwrap(), "v");
        }
    }

    #[test]
    fn the_secret_of_a_certificate_follows_content_type_and_format() {
        let of = |content_type, format| text_of(secret("v", content_type, true), format).map(|text| text.to_string());
        assert_eq!(of(Some("application/x-pem-file"), Format::Pem).as_deref(), Ok("v"));
        assert_eq!(of(Some("application/x-pem-file"), Format::Pfx).as_deref(), Ok("v"));
        assert_eq!(of(Some("application/x-pkcs12"), Format::Pfx).as_deref(), Ok("v"));
        assert_eq!(of(Some("application/x-pkcs12"), Format::Pem), Err(Error::Pfx));
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
