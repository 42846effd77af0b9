//! One vault and its REST interface: requests out, answers and refusals in.
//!
//! `challenge` judges a 401, `refusal` puts every other refusal into words, `answer` reads what was asked for. A token
//! goes to this vault's host and to no other: every URL is made here, none is taken from an answer.

pub(crate) mod answer;
pub(crate) mod challenge;
pub(crate) mod refusal;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::USER_AGENT;
use crate::http::Request;
use crate::objects::Object;
use crate::token::Token;

const API_VERSION: &str = "7.4";

/// Everything but the unreserved characters of RFC 3986 section 2.3.
const SEGMENT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A vault, by its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vault {
    host: String,
}

/// Why there can be no such vault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("keyvaultName `{0}` must have 3 to 24 characters")]
    Length(String),
    #[error("keyvaultName `{0}` must be the name alone, letters, digits and dashes; the domain follows from cloudName")]
    Characters(String),
}

impl Vault {
    /// The vault of this name in the cloud with this domain. Case is kept.
    pub(crate) fn new(name: &str, domain: &str) -> Result<Self, NameError> {
        let shown = || crate::failure::tidy(name, 60);
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(NameError::Characters(shown()));
        }
        if !(3..=24).contains(&name.len()) {
            return Err(NameError::Length(shown()));
        }
        Ok(Self { host: format!("{name}.{domain}") })
    }

    /// Its host, which is also how messages call it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The request for one object in one version.
    pub(crate) fn read(&self, object: &Object, token: &Token, request_id: &str) -> Request {
        let collection = object.kind.collection();
        let name = utf8_percent_encode(&object.name, &SEGMENT);
        // An empty version leaves the slash at the end, as in the reference.
        let version = utf8_percent_encode(&object.version, &SEGMENT);
        Request {
            method: "GET",
            url: format!("https://{}/{collection}/{name}/{version}?api-version={API_VERSION}", self.host),
            headers: vec![
                ("accept", "application/json".into()),
                ("authorization", token.authorization()),
                ("user-agent", USER_AGENT.into()),
                ("x-ms-client-request-id", request_id.into()),
            ],
            body: Vec::new(),
            idempotent: true,
        }
    }
}
