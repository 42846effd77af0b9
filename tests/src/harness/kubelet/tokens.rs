//! The tokens that kubelet asks the API server for on behalf of a pod, and keeps for a while.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::pod::Pod;
use crate::harness::entra::Issuer;

/// kubelet asks for a new token when so much of the old one's life is over.
const WORN: f64 = 0.8;

/// `tokenRequests` of the CSIDriver object, and who signs.
#[derive(Clone)]
pub struct Tokens {
    /// Who signs.
    pub issuer: Issuer,
    /// One token each.
    pub audiences: Vec<String>,
    /// `expirationSeconds`.
    pub lifetime: Duration,
}

/// Tokens by the pod's UID and the audience.
#[derive(Default)]
pub(super) struct Memory(HashMap<(String, String), Token>);

#[derive(Clone)]
struct Token {
    token: String,
    made: SystemTime,
    expires: SystemTime,
}

impl Memory {
    /// What kubelet writes under the tokens' key.
    pub(super) fn json(&mut self, tokens: &Tokens, pod: &Pod) -> String {
        let now = SystemTime::now();
        let entries = tokens.audiences.iter().map(|audience| {
            let token = self.token(tokens, pod, audience, now);
            let status = json!({"token": token.token, "expirationTimestamp": rfc3339(token.expires)});
            (audience.clone(), status)
        });
        Value::Object(entries.collect::<Map<_, _>>()).to_string()
    }

    fn token(&mut self, tokens: &Tokens, pod: &Pod, audience: &str, now: SystemTime) -> Token {
        let key = (pod.uid().to_owned(), audience.to_owned());
        match self.0.get(&key) {
            Some(kept) if kept.is_fresh(now) => kept.clone(),
            _ => {
                let subject = format!("system:serviceaccount:{}:{}", pod.namespace_name(), pod.service_account_name());
                let token = tokens.issuer.sign(&subject, audience, tokens.lifetime);
                let token = Token { token, made: now, expires: now + tokens.lifetime };
                self.0.insert(key, token.clone());
                token
            }
        }
    }
}

impl Token {
    fn is_fresh(&self, now: SystemTime) -> bool {
        let life = self.expires.duration_since(self.made).unwrap_or_default();
        now < self.made + life.mul_f64(WORN)
    }
}

/// With whole seconds, as Kubernetes writes times.
fn rfc3339(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
