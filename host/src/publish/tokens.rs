//! The service account's tokens, as kubelet writes them: `{"<audience>": {"token": "…", "expirationTimestamp": "…"}}`
//! (CSIDriver `spec.tokenRequests`).
//!
//! Nothing of the text gets into an error.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use coffer_sandbox::provider::ServiceAccountToken;
use coffer_sandbox::secret::SecretBytes;
use jiff::Timestamp;
use serde::Deserialize;

/// The most audiences; the API server allows fewer.
const MOST: usize = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    token: String,
    /// RFC 3339.
    expiration_timestamp: String,
}

/// The text is something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service account tokens are not what kubelet sends: check `tokenRequests` of the CSIDriver object, and that the \
     pod does not set the volume attribute csi.storage.k8s.io/serviceAccount.tokens itself"
)]
pub struct NotTokens;

/// Reads the tokens, sorted by audience.
///
/// # Errors
///
/// [`NotTokens`], without a word of the text.
pub fn read(json: &SecretBytes) -> Result<Vec<ServiceAccountToken>, NotTokens> {
    let written: BTreeMap<String, Written> = serde_json::from_slice(json.expose()).map_err(|_| NotTokens)?;
    if written.len() > MOST {
        return Err(NotTokens);
    }
    let token = |(audience, Written { token, expiration_timestamp })| {
        let expires: Timestamp = expiration_timestamp.parse().map_err(|_| NotTokens)?;
        Ok(ServiceAccountToken { audience, token: token.into(), expires: system_time(expires) })
    };
    written.into_iter().map(token).collect()
}

/// Whole seconds are kubelet's own precision; a time before 1970 is as over as any.
fn system_time(timestamp: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(timestamp.as_second().try_into().unwrap_or(0))
}

/// Whether every token may still be used `spare` from `now` on.
#[must_use]
pub fn last(tokens: &[ServiceAccountToken], now: SystemTime, spare: Duration) -> bool {
    tokens.iter().all(|token| token.expires >= now + spare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = r#"{
        "b": {"token": "canary-b", "expirationTimestamp": "2026-01-01T00:10:00Z"},
        "a": {"token": "canary-a", "expirationTimestamp": "2026-01-01T00:20:00Z"}
    }"#;

    fn tokens(text: &str) -> Result<Vec<ServiceAccountToken>, NotTokens> {
        read(&SecretBytes::from(text.to_owned()))
    }

    fn at(text: &str) -> SystemTime {
        system_time(text.parse().unwrap())
    }

    #[test]
    fn every_audience_has_its_token_and_its_end() {
        let tokens = tokens(TWO).unwrap();
        let read: Vec<_> = tokens.iter().map(|t| (t.audience.as_str(), t.token.expose())).collect();
        assert_eq!(read, [("a", &b"canary-a"[..]), ("b", b"canary-b")]);
        assert_eq!(tokens[1].expires, at("2026-01-01T00:10:00Z"));
    }

    #[test]
    fn what_is_something_else_is_refused_without_a_word_of_it() {
        for text in ["", "null", "[]", "canary", r#"{"a": "canary"}"#, r#"{"a": {"token": "canary"}}"#, "\u{0}"] {
            let error = tokens(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{text}");
        }
        assert!(tokens("{}").unwrap().is_empty());
    }

    #[test]
    fn tokens_last_as_long_as_the_first_that_ends() {
        let tokens = tokens(TWO).unwrap();
        let minute = Duration::from_secs(60);
        assert!(last(&tokens, at("2026-01-01T00:09:00Z"), minute));
        assert!(!last(&tokens, at("2026-01-01T00:09:01Z"), minute));
        assert!(last(&[], at("2026-01-01T00:09:01Z"), minute));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(
            text in ".{0,60}",
            entries in prop::collection::vec(("[a-c]", "[a-z]{0,5}", "[-0-9TZ:.+]{0,25}|2026-01-01T00:10:00Z|-009999-01-01T00:00:00Z"), 0..40),
        ) {
            let entry = |(audience, token, end): &(String, String, String)| {
                format!(r#""{audience}{token}": {{"token": "canary", "expirationTimestamp": "{end}"}}"#)
            };
            let json = format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","));
            for text in [format!("canary{text}"), text, json] {
                match tokens(&text) {
                    Ok(tokens) => {
                        prop_assert!(tokens.len() <= MOST);
                        prop_assert!(tokens.is_sorted_by(|one, other| one.audience < other.audience));
                    }
                    Err(error) => {
                        let shown = format!("{error} {error:?}");
                        prop_assert!(!shown.contains("canary"), "{shown}");
                    }
                }
            }
        }
    }
}
