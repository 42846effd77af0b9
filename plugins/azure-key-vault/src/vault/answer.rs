//! What a vault answers with a 200: the content of an object and its version.
//!
//! A field that is missing is an error that names it. No text of the body is ever part of an error.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::objects::Kind;

/// One object as the vault has it.
pub(crate) struct Answer {
    /// The version, from the object's identifier; empty if that has none.
    pub(crate) version: String,
    /// When the object's life begins and ends, in Unix seconds.
    pub(crate) attributes: Attributes,
    pub(crate) content: Content,
}

/// The content of an object, not yet in the form of a file.
pub(crate) enum Content {
    Secret(Secret),
    Key(Jwk),
    /// Standard base64 of the DER.
    Certificate(String),
}

/// A secret, or a certificate with its private key.
pub(crate) struct Secret {
    pub(crate) value: Zeroizing<String>,
    /// Whether a certificate stands behind it (`kid`).
    pub(crate) of_certificate: bool,
    pub(crate) content_type: Option<String>,
}

/// A public key as RFC 7517 and 7518 write it; numbers are base64url.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Jwk {
    kid: Option<String>,
    pub(crate) kty: Option<String>,
    pub(crate) crv: Option<String>,
    pub(crate) n: Option<String>,
    pub(crate) e: Option<String>,
    pub(crate) x: Option<String>,
    pub(crate) y: Option<String>,
}

/// Those attributes of an object that are told to people.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Attributes {
    pub(crate) nbf: Option<i64>,
    pub(crate) exp: Option<i64>,
}

/// Why an answer cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the vault's answer is not the JSON that it should be")]
    Json,
    #[error("the vault's answer has no `{0}`")]
    Missing(&'static str),
}

/// What any of the three collections answers with; one type, because each costs kilobytes of code.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Bundle {
    id: Option<String>,
    attributes: Option<Attributes>,
    value: Option<String>,
    kid: Option<String>,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    key: Option<Jwk>,
    cer: Option<String>,
}

impl Answer {
    /// Reads the body of a 200.
    pub(crate) fn read(kind: Kind, body: &[u8]) -> Result<Self, Error> {
        let bundle: Bundle = serde_json::from_slice(body).map_err(|_| Error::Json)?;
        // Wiped even where the answer turns out to be useless.
        let value = bundle.value.map(Zeroizing::new);
        let (content, id) = match kind {
            Kind::Secret => {
                let of_certificate = bundle.kid.is_some_and(|kid| !kid.is_empty());
                let value = value.ok_or(Error::Missing("value"))?;
                let secret = Secret { value, of_certificate, content_type: bundle.content_type };
                (Content::Secret(secret), bundle.id.ok_or(Error::Missing("id"))?)
            }
            Kind::Key => {
                let mut key = bundle.key.ok_or(Error::Missing("key"))?;
                let id = key.kid.take().ok_or(Error::Missing("key.kid"))?;
                (Content::Key(key), id)
            }
            Kind::Certificate => {
                let content = Content::Certificate(bundle.cer.ok_or(Error::Missing("cer"))?);
                (content, bundle.id.ok_or(Error::Missing("id"))?)
            }
        };
        Ok(Self { version: version(&id), attributes: bundle.attributes.unwrap_or_default(), content })
    }
}

/// The third segment of the path of an identifier, `https://host/secrets/name/version`.
pub(super) fn version(id: &str) -> String {
    segment(id, 3)
}

/// The second segment.
pub(super) fn name(id: &str) -> String {
    segment(id, 2)
}

fn segment(id: &str, position: usize) -> String {
    let after_scheme = id.split_once("://").map_or(id, |(_, rest)| rest);
    let path = after_scheme.split(['?', '#']).next().unwrap_or_default();
    crate::failure::tidy(path.split('/').nth(position).unwrap_or_default(), 127)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(kind: Kind, body: &str) -> Error {
        Answer::read(kind, body.as_bytes()).err().unwrap()
    }

    #[test]
    fn the_version_is_the_third_segment_of_the_identifier() {
        for (id, expected) in [
            ("https://kv1.vault.azure.net/secrets/a/0123", "0123"),
            ("https://kv1.vault.azure.net:8443/secrets/a/0123?x=y", "0123"),
            ("https://kv1.vault.azure.net/secrets/a", ""),
            ("", ""),
        ] {
            assert_eq!(version(id), expected, "{id}");
        }
    }

    #[test]
    fn every_missing_field_is_named() {
        assert_eq!(error(Kind::Secret, r#"{"id":"x"}"#), Error::Missing("value"));
        assert_eq!(error(Kind::Secret, r#"{"value":"x"}"#), Error::Missing("id"));
        assert_eq!(error(Kind::Key, "{}"), Error::Missing("key"));
        assert_eq!(error(Kind::Key, r#"{"key":{}}"#), Error::Missing("key.kid"));
        assert_eq!(error(Kind::Certificate, r#"{"id":"x"}"#), Error::Missing("cer"));
        assert_eq!(error(Kind::Certificate, r#"{"cer":"x"}"#), Error::Missing("id"));
    }

    #[test]
    fn what_is_not_json_is_an_error_without_a_quote_of_it() {
        for body in ["", "<html>", "7", r#"{"value":{"hidden":1}}"#] {
            let error = error(Kind::Secret, body);
            assert_eq!(error.to_string(), "the vault's answer is not the JSON that it should be");
        }
    }

    #[test]
    fn an_empty_value_is_a_value() {
        assert!(Answer::read(Kind::Secret, br#"{"value":"","id":"https://h/secrets/a/v","attributes":null}"#).is_ok());
    }

    proptest! {
        #[test]
        fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..200), id in ".*") {
            for kind in [Kind::Secret, Kind::Key, Kind::Certificate] {
                let _ = Answer::read(kind, &body);
            }
            version(&id);
        }
    }
}
