//! HTTP as this crate needs it: whole requests out, whole responses in, several at once.
//!
//! Inside a component `guest` implements [`Http`] over the contract's `http.send`; natively a test, a benchmark or any
//! client can. Nobody here retries, waits, follows a redirect or opens a connection: that is the implementation's.

use std::fmt;

use crate::failure::FailureKind;

/// Characters of an [`Error`] that a message shows. A denial names the request and the rules that come nearest, which
/// takes more room than other people's words get.
pub(crate) const LONGEST_ERROR: usize = 800;

/// Sends requests.
pub trait Http {
    /// Sends all requests at once and waits for all. The answers come in the order of the requests, one each.
    fn send(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>>;

    /// As [`Http::send`], with a limit on the time that one attempt may take, for callers that can ask somebody else.
    /// Who knows no such limit may ignore it.
    fn send_impatiently(&self, requests: Vec<Request>, attempt_ms: u32) -> Vec<Result<Response, Error>> {
        let _ = attempt_ms;
        self.send(requests)
    }
}

/// One HTTP request. Its `Debug` output leaves out headers and body, which hold credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method in upper case.
    pub method: &'static str,
    /// The absolute URL.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// Whether the request may be sent twice without harm, so that it may be retried like `GET`.
    pub idempotent: bool,
    /// The statuses to retry instead of the usual ones.
    pub retry_statuses: Option<&'static [u16]>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("url", &self.url).finish_non_exhaustive()
    }
}

/// One HTTP response. Its `Debug` output is the status alone: a body is somebody's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `Retry-After` where it counts seconds (RFC 9110 section 10.2.3). Whoever retries heeds its other form, a date, as
    /// well; to report that too is not worth the ten kilobytes that reading a date takes.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.header("retry-after")?.trim().parse().ok()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why there is no response; the cases are those of `wit/provider.wit`. The texts name host and cause and hold no
/// header, body or query value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No egress rule allows the request.
    #[error("the egress rules of the grant do not allow the request: {0}")]
    Denied(String),
    /// The name does not resolve.
    #[error("the name does not resolve: {0}")]
    Dns(String),
    /// No connection to host or proxy.
    #[error("no connection: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("no trusted TLS connection: {0}")]
    Tls(String),
    /// No whole answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The response exceeds the limit.
    #[error("the answer is larger than the grant allows: {0}")]
    TooLarge(String),
    /// A budget of the call is used up.
    #[error("a budget of the call is used up: {0}")]
    Exhausted(String),
    /// Not valid HTTP, on one side or the other.
    #[error("not valid HTTP: {0}")]
    Protocol(String),
}

impl Error {
    /// What it means for the call. A grant that is too small is a refusal of the administrator, like one that names
    /// other hosts; everything else may pass.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Denied(_) | Self::TooLarge(_) | Self::Exhausted(_) => FailureKind::PermissionDenied,
            Self::Dns(_) | Self::Connect(_) | Self::Tls(_) | Self::Timeout | Self::Protocol(_) => {
                FailureKind::Unavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_neither_headers_nor_bodies() {
        let request = Request {
            method: "POST",
            url: "https://host/path".into(),
            headers: vec![("authorization", "Bearer hidden".into())],
            body: b"hidden".to_vec(),
            idempotent: false,
            retry_statuses: None,
        };
        let response = Response { status: 200, headers: vec![("x".into(), "hidden".into())], body: b"hidden".to_vec() };
        assert!(!format!("{request:?} {response:?}").contains("hidden"));
    }
}
