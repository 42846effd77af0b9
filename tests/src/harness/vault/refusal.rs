//! How a vault says no: status, code, sentence, inner code and challenge.
//!
//! Codes are the service's, sentences our own. A refusal never repeats a value, a token or the body of a request.

use serde_json::json;

use super::Collection;
use crate::harness::answer::Answer;

/// Why a request fails.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) text: String,
    pub(super) inner: Option<&'static str>,
    pub(super) challenge: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, code: code.into(), text: text.into(), inner: None, challenge: None }
    }

    pub(super) fn bad_parameter(text: impl Into<String>) -> Self {
        Self::new(400, "BadParameter", text)
    }

    pub(super) fn forbidden(inner: &'static str, text: impl Into<String>) -> Self {
        Self { inner: Some(inner), ..Self::new(403, "Forbidden", text) }
    }

    pub(super) fn not_found(collection: Collection, what: &str) -> Self {
        let text = format!(
            "A {} with (name/id) {what} was not found in this key vault",
            collection.noun().to_ascii_lowercase()
        );
        Self::new(404, format!("{}NotFound", collection.noun()), text)
    }

    /// The answer of the service to it.
    pub(super) fn answer(&self) -> Answer {
        let mut error = json!({"code": self.code, "message": self.text});
        if let (Some(members), Some(inner)) = (error.as_object_mut(), self.inner) {
            members.insert("innererror".to_owned(), json!({"code": inner}));
        }
        let answer = Answer::json(self.status, &json!({"error": error}));
        match &self.challenge {
            Some(challenge) => answer.header("WWW-Authenticate", challenge),
            None => answer,
        }
    }
}
