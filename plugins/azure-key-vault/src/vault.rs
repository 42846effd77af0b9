//! One vault and its REST interface: requests out, answers and refusals in.
//!
//! `challenge` judges a 401, `refusal` puts every other refusal into words, `answer` reads an object and `list` a list.
//! A token goes to this vault's host and to no other: of what an answer names as a URL, only the query of a list's next
//! page is used.

pub(crate) mod answer;
pub(crate) mod challenge;
pub(crate) mod list;
pub(crate) mod refusal;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::USER_AGENT;
use crate::http::Request;
use crate::objects::Kind;
use crate::token::Token;
use list::List;

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
    #[error("{0} `{1}` must have 3 to 24 characters")]
    Length(&'static str, String),
    #[error("{0} `{1}` must be the name alone, letters, digits and dashes; the domain follows from cloudName")]
    Characters(&'static str, String),
}

impl Vault {
    /// The vault that the parameter `key` names, in the cloud with this domain. Case is kept.
    pub(crate) fn new(key: &'static str, name: &str, domain: &str) -> Result<Self, NameError> {
        let shown = || crate::failure::tidy(name, 60);
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(NameError::Characters(key, shown()));
        }
        if !(3..=24).contains(&name.len()) {
            return Err(NameError::Length(key, shown()));
        }
        Ok(Self { host: format!("{name}.{domain}") })
    }

    /// Its host, which is also how messages call it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Where one object is in one version, an empty one for the current.
    pub(crate) fn object(&self, kind: Kind, name: &str, version: &str) -> String {
        let (name, version) = (utf8_percent_encode(name, &SEGMENT), utf8_percent_encode(version, &SEGMENT));
        // An empty version leaves the slash at the end, as in the reference.
        format!("https://{}/{}/{name}/{version}?{}", self.host, kind.collection(), Self::query())
    }

    /// The list of an object's versions.
    pub(crate) fn versions(&self, kind: Kind, name: &str) -> List {
        let name = utf8_percent_encode(name, &SEGMENT);
        List::new(format!("https://{}/{}/{name}/versions", self.host, kind.collection()), &Self::query())
    }

    /// The list of all objects of a kind.
    pub(crate) fn names(&self, kind: Kind) -> List {
        List::new(format!("https://{}/{}", self.host, kind.collection()), &Self::query())
    }

    /// The request for what is there.
    pub(crate) fn request(url: String, token: &Token, request_id: &str) -> Request {
        Request {
            method: "GET",
            url,
            headers: vec![
                ("accept", "application/json".into()),
                ("authorization", token.authorization()),
                ("user-agent", USER_AGENT.into()),
                ("x-ms-client-request-id", request_id.into()),
            ],
            body: Vec::new(),
            idempotent: true,
            retry_statuses: None,
        }
    }

    fn query() -> String {
        format!("api-version={API_VERSION}")
    }
}
