//! What a request to a vault wants, parsed once: the operation from method and path, the rest from the query.
//!
//! Knows nothing of what is in the vault; what is malformed is refused here, what does not exist is found out by
//! `api`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::refusal::Refusal;
use super::{Action, Collection};

/// The versions of the data-plane API that the service knows.
const API_VERSIONS: [&str; 9] = ["2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01"];
/// The longest page of a list, and the length of one where the client asks for none.
const PAGE: usize = 25;

/// What a request wants, told from its method and path.
pub(super) enum Operation {
    Get { collection: Collection, name: String, version: Option<String> },
    List { collection: Collection, versions_of: Option<String> },
    Set { name: String },
}

impl Operation {
    pub(super) fn parse(head: &Parts) -> Result<Self, Refusal> {
        let mut segments = Vec::new();
        for segment in head.uri.path().split('/').filter(|segment| !segment.is_empty()) {
            let decoded = percent_decode_str(segment).decode_utf8();
            segments.push(decoded.map_err(|_| Refusal::bad_parameter("the path is not UTF-8"))?.into_owned());
        }
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let nothing = || {
            let last = parts.last().copied().unwrap_or_default();
            Refusal::bad_parameter(format!("method {} does not allow operation '{last}'", head.method))
        };
        let (Some(first), rest) = (parts.first(), parts.get(1..).unwrap_or_default()) else { return Err(nothing()) };
        let collection = Collection::ALL.into_iter().find(|collection| collection.segment() == *first);
        let collection = collection.ok_or_else(nothing)?;
        match (head.method.as_str(), collection, rest) {
            ("GET", _, []) => Ok(Self::List { collection, versions_of: None }),
            ("GET", _, [name, "versions"]) => Ok(Self::List { collection, versions_of: Some(valid_name(name)?) }),
            ("GET", _, [name]) => Ok(Self::Get { collection, name: valid_name(name)?, version: None }),
            ("GET", _, [name, version]) => {
                Ok(Self::Get { collection, name: valid_name(name)?, version: Some((*version).to_owned()) })
            }
            ("PUT", Collection::Secrets, [name]) => Ok(Self::Set { name: valid_name(name)? }),
            _ => Err(nothing()),
        }
    }

    pub(super) fn needs(&self) -> (Collection, Action) {
        match self {
            Self::Get { collection, .. } => (*collection, Action::Get),
            Self::List { collection, .. } => (*collection, Action::List),
            Self::Set { .. } => (Collection::Secrets, Action::Set),
        }
    }
}

fn valid_name(name: &str) -> Result<String, Refusal> {
    if name.len() <= 127 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(name.to_owned());
    }
    Err(Refusal::bad_parameter(format!("the URI contains an invalid name: {name}")))
}

/// The query parameters that the service understands.
pub(super) struct Query {
    pub(super) api_version: String,
    /// The most rows it wants.
    pub(super) page: usize,
    /// The version or name after which a page begins.
    pub(super) after: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SkipToken {
    next_marker: String,
}

impl Query {
    pub(super) fn read(head: &Parts) -> Result<Self, Refusal> {
        let text = head.uri.query().unwrap_or_default();
        let parameters: BTreeMap<String, String> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let Some(api_version) = parameters.get("api-version") else {
            return Err(Refusal::bad_parameter("the query parameter api-version is missing"));
        };
        if !API_VERSIONS.contains(&api_version.as_str()) {
            return Err(Refusal::bad_parameter(format!("the api-version {api_version} is not known")));
        }
        let page = match parameters.get("maxresults") {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|page| (1..=PAGE).contains(page))
                .ok_or_else(|| Refusal::bad_parameter(format!("maxresults must be from 1 to {PAGE}")))?,
        };
        let after = match parameters.get("$skiptoken") {
            None => None,
            Some(token) => Some(
                URL_SAFE_NO_PAD
                    .decode(token)
                    .ok()
                    .and_then(|json| serde_json::from_slice::<SkipToken>(&json).ok())
                    .ok_or_else(|| Refusal::bad_parameter("the $skiptoken is not one of this service"))?
                    .next_marker,
            ),
        };
        Ok(Self { api_version: api_version.clone(), page, after })
    }
}
