//! What an administrator allows: `METHODS scheme://host[:port][/path-prefix][?query]`.
//!
//! A [`Rule`] is parsed once (`rules::parse`), filled with the parameters of a call ([`Rule::fill`]) and then compared
//! with [`Target`]s. All of it is pure. `gate` asks, and `denial` explains why nothing matched.
//!
//! It must never build a URL from a rule and never match a part of a label or segment: a parameter stands for exactly
//! one, so that who chooses the parameter cannot choose more than that.

mod denial;
mod parse;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::target::{Scheme, Target, TargetHost};
use crate::provider::Parameters;

pub(crate) use denial::explain;

/// One egress rule.
///
/// * `METHODS`: one or more in upper case, separated by commas.
/// * Host: a name, an address (`[…]` for IPv6), or a name whose first label is `*`, which stands for exactly one label.
///   A rule that holds an address names it, so it is dialled whatever kind of address it is; `localhost` names the
///   loopback addresses in the same way.
/// * Path: a prefix of whole segments; with or without a slash at the end it means the same.
/// * Query: parameters that a request must have exactly once, with exactly that value. Others pass.
/// * `{name}` or `{a|b}` stands for one whole label, segment or query value: the first of these parameters that is set
///   and not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    text: Arc<str>,
    methods: Vec<String>,
    scheme: Scheme,
    host: HostPattern,
    port: u16,
    path: Vec<Piece>,
    query: Vec<(String, Piece)>,
    references: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Address(IpAddr),
    Name { wildcard: bool, labels: Vec<Piece> },
}

/// A label, segment or query value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// Position in [`Rule::references`] and in [`Values`].
    Reference(usize),
}

/// `{name}` or `{a|b}`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    names: Vec<String>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Label,
    Segment,
}

/// The values of a rule's references in one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<String>);

/// Why a rule cannot be filled with the parameters of a call. Names parameters, never their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The rule holds only where this parameter is true.
    #[error("parameter `{0}` is not true")]
    NotTrue(String),
    /// None of the parameters is set.
    #[error("parameter {0} is not set")]
    Missing(String),
    /// A parameter in a host is not one DNS label.
    #[error("parameter `{0}` is not one DNS label (1 to 63 letters, digits and hyphens)")]
    Label(String),
    /// A parameter in a path or query is not one path segment.
    #[error("parameter `{0}` is not one path segment (no `/`, `\\`, `%` or control character, not `.` or `..`)")]
    Segment(String),
}

/// Whether the parameters meet the condition of a rule: one of them is true, as Go reads booleans.
pub(crate) fn check_condition(when: Option<&str>, parameters: &Parameters) -> Result<(), FillError> {
    let Some(name) = when else { return Ok(()) };
    let value = parameters.get(name).map(|value| value.trim()).unwrap_or_default();
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(()),
        _ => Err(FillError::NotTrue(name.to_owned())),
    }
}

/// In which parts a request differs from a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mismatch {
    method: bool,
    scheme: bool,
    host: bool,
    port: bool,
    path: bool,
    query: bool,
}

impl Rule {
    /// The rule as it was written.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The scheme of the requests that it allows.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The parameters that it refers to, in order of appearance.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.references.iter().flat_map(|reference| reference.names.iter().map(String::as_str))
    }

    /// Whether the rule fits these parameters: every reference is set, and is one label or one segment.
    ///
    /// # Errors
    ///
    /// The first parameter that does not fit.
    pub fn check(&self, parameters: &Parameters) -> Result<(), FillError> {
        self.fill(parameters).map(drop)
    }

    pub(crate) fn fill(&self, parameters: &Parameters) -> Result<Values, FillError> {
        self.references.iter().map(|reference| reference.fill(parameters)).collect::<Result<_, _>>().map(Values)
    }

    /// The address that the rule's URL holds, if it holds one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            HostPattern::Address(address) => Some(address),
            HostPattern::Name { .. } => None,
        }
    }

    /// Whether the rule's URL holds this address.
    pub(crate) fn names_address(&self, address: IpAddr) -> bool {
        self.address() == Some(address)
    }

    /// Whether the rule's URL holds `localhost`, which names the loopback addresses (RFC 6761 section 6.3).
    pub(crate) fn names_localhost(&self) -> bool {
        match &self.host {
            HostPattern::Name { wildcard: false, labels } => {
                matches!(labels.as_slice(), [Piece::Literal(label)] if label == "localhost")
            }
            _ => false,
        }
    }

    /// Compares; none means that the rule allows the request.
    pub(crate) fn compare(&self, values: &Values, method: &str, target: &Target) -> Option<Mismatch> {
        let found = Mismatch {
            method: !self.methods.iter().any(|allowed| allowed == method),
            scheme: self.scheme != target.scheme,
            host: !self.has_host(values, &target.host),
            port: self.port != target.port,
            path: !self.has_path(values, &target.segments),
            query: !self.has_query(values, target),
        };
        (found != Mismatch::default()).then_some(found)
    }

    fn has_host(&self, values: &Values, host: &TargetHost) -> bool {
        match (&self.host, host) {
            (HostPattern::Address(expected), TargetHost::Address(address)) => expected == address,
            (HostPattern::Name { wildcard, labels }, TargetHost::Name(name)) => {
                let mut given = name.split('.');
                // Exactly one label, and labels are never empty.
                if *wildcard && given.next().is_none_or(str::is_empty) {
                    return false;
                }
                labels.iter().all(|label| given.next() == label.text(values)) && given.next().is_none()
            }
            _ => false,
        }
    }

    fn has_path(&self, values: &Values, segments: &[String]) -> bool {
        segments.len() >= self.path.len()
            && self.path.iter().zip(segments).all(|(piece, segment)| piece.text(values) == Some(segment))
    }

    /// Names are counted without regard to case, because some servers read them so: `Resource=` next to `resource=`
    /// is twice.
    fn has_query(&self, values: &Values, target: &Target) -> bool {
        if self.query.is_empty() {
            return true;
        }
        !target.has_semicolon_in_query
            && self.query.iter().all(|(name, value)| {
                let mut given = target.query.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
                let first = given.next().is_some_and(|(n, v)| n == name && Some(v.as_str()) == value.text(values));
                first && given.next().is_none()
            })
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        parse::parse(text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Piece {
    fn text<'a>(&'a self, values: &'a Values) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Reference(slot) => values.0.get(*slot).map(String::as_str),
        }
    }
}

impl Reference {
    fn fill(&self, parameters: &Parameters) -> Result<String, FillError> {
        let set = |name: &&String| parameters.get(*name).map(|value| value.trim()).is_some_and(|v| !v.is_empty());
        let Some(name) = self.names.iter().find(set) else {
            let names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
            return Err(FillError::Missing(names.join(" or ")));
        };
        let value = parameters.get(name).map(|value| value.trim()).unwrap_or_default();
        match self.place {
            Place::Label if is_label(value) => Ok(value.to_ascii_lowercase()),
            Place::Label => Err(FillError::Label(name.clone())),
            Place::Segment if is_segment(value) => Ok(value.to_owned()),
            Place::Segment => Err(FillError::Segment(name.clone())),
        }
    }
}

/// RFC 1123: letters, digits and hyphens, the hyphens inside.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_segment(text: &str) -> bool {
    text.len() <= 1024
        && !text.contains(['/', '\\', '%'])
        && !text.chars().any(char::is_control)
        && !matches!(text.split(';').next(), None | Some("." | ".."))
}

/// What is wrong with the text of a rule, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("egress rule `{text}`, column {column}: expected {expected}, found {found}")]
pub struct RuleError {
    text: String,
    column: usize,
    expected: String,
    found: String,
}

impl RuleError {
    /// The rule as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the mistake is, in characters, the first one being 1. One after the last at the end.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// What should stand there.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What stands there.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// The rule and, in a second line, a caret under the mistake.
    #[must_use]
    pub fn caret(&self) -> String {
        format!("{}\n{}^", self.text, " ".repeat(self.column.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests;
