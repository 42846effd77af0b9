//! What kubelet is told when something is refused: a gRPC code and one text that names the object, says what is wrong
//! and what to do.

use std::fmt;

use tonic::{Code, Status};

/// Why a call of kubelet is refused. The text stands in the pod's `FailedMount` event, so it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// kubelet tries again whatever it is; `Canceled`, `DeadlineExceeded`, `Unavailable`, `ResourceExhausted` and
    /// `Aborted` say that the volume may exist all the same.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with this text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}
