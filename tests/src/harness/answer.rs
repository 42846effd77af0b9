//! One HTTP answer as the emulated services give it, before a fault or hyper touches it.
//!
//! Made by `entra` and `vault`, sent by `server`. Also the random ids that both services put into their answers.

use serde_json::Value;

/// A status, headers in order, and a body.
///
/// No `Debug`: a body may hold a secret or a token.
#[derive(Clone)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Names and values in the order they are sent; `Content-Length` and `Date` are added by the server.
    pub headers: Vec<(String, String)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer without headers and body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A JSON answer, labelled as both services label theirs.
    pub fn json(status: u16, body: &Value) -> Self {
        let mut answer = Self::empty(status).header("Content-Type", "application/json; charset=utf-8");
        answer.body = body.to_string().into_bytes();
        answer
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A random id in the form that both services use for requests, tenants and applications.
pub(crate) fn random_guid() -> String {
    let hex = random_hex();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Thirty-two random lower-case hexadecimal digits: a Key Vault version id.
pub(crate) fn random_hex() -> String {
    format!("{:032x}", rand::random::<u128>())
}
