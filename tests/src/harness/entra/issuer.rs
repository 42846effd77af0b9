//! Somebody whose service account tokens an application may trust: a cluster's API server.
//!
//! A signature is believed because the token was handed out here, not because it can be verified: there is no key, so
//! nothing outside the emulator can accept these tokens.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::signed;
use crate::harness::answer::random_guid;
use crate::harness::emulator::Services;

/// Signs service account tokens that the emulator can tell from forged ones.
#[derive(Clone)]
pub struct Issuer {
    services: Arc<Services>,
    url: String,
}

impl Issuer {
    pub(crate) fn new(services: &Arc<Services>, url: &str) -> Self {
        Self { services: Arc::clone(services), url: url.to_owned() }
    }

    /// A token for a subject such as `system:serviceaccount:<namespace>:<name>`, good from now on for `lifetime`.
    pub fn sign(&self, subject: &str, audience: &str, lifetime: Duration) -> String {
        let now = self.services.clock.now();
        let token = signed(&json!({
            "iss": self.url, "sub": subject, "aud": [audience], "jti": random_guid(),
            "iat": now, "nbf": now,
            "exp": now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)),
        }));
        self.services.directory().assertions.insert(token.clone());
        token
    }
}
