//! The answer of whoever hands out tokens: Entra, AD FS, the metadata service. RFC 6749 section 5.1, and the forms that
//! Microsoft's services make of it.
//!
//! No text of an answer is ever part of an error: it could be the token.

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::failure::tidy;
use crate::http::Error;
use crate::http::LONGEST_ERROR;
use crate::token::Token;

/// A token and what is said about its life.
#[derive(Deserialize)]
pub(super) struct Granted {
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    expires_on: Value,
}

/// Why an answer holds no token, to go on after the name of who gave it.
pub(super) type NotUnderstood = &'static str;

impl Granted {
    /// The token, and how long it may be used from `now` on. One whose end is not told serves the call and no other.
    pub(super) fn token(self, now: u64) -> Result<Token, NotUnderstood> {
        let secret = self.access_token.map(Zeroizing::new).filter(|token| !token.is_empty());
        let secret = secret.ok_or("answer has no access_token")?;
        let until = seconds(&self.expires_on).map(|at| at.saturating_sub(now));
        let lifetime = seconds(&self.expires_in).or(until).unwrap_or_default();
        Token::new(secret, lifetime, now).ok_or("access_token has characters that no token has")
    }
}

/// Reads the body of a 200.
pub(super) fn read(body: Vec<u8>, now: u64) -> Result<Token, NotUnderstood> {
    let body = Zeroizing::new(body);
    let granted: Granted = serde_json::from_slice(&body).map_err(|_| "answer is not the JSON of a token")?;
    granted.token(now)
}

/// A number, or a text that holds one: both are in use. A fraction is cut off.
fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| whole(text.parse().ok()?))
        }
        _ => None,
    }
}

fn whole(number: f64) -> Option<u64> {
    // Beyond this a float no longer counts seconds, and nothing lives so long.
    const LONGEST: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..LONGEST).contains(&number).then_some(number as u64)
}

/// Why there is no answer, after the name of who should have given it.
pub(super) fn explain_error(host: &str, error: &Error) -> String {
    let text = tidy(&error.to_string(), LONGEST_ERROR);
    match error {
        Error::Denied(_) => format!("{host}: {text}; an administrator has to allow it"),
        _ => format!("{host}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_read_from_any_of_its_spellings() {
        for body in [
            r#"{"access_token":"t","expires_in":3600}"#,
            r#"{"access_token":"t","expires_in":3600.9}"#,
            r#"{"access_token":"t","expires_in":"3600"}"#,
            r#"{"access_token":"t","expires_in":"3600.5"}"#,
            r#"{"access_token":"t","expires_on":"4600"}"#,
            r#"{"access_token":"t","expires_on":4600}"#,
            r#"{"access_token":"t","expires_in":"soon","expires_on":4600}"#,
            r#"{"access_token":"t","expires_in":3600,"expires_on":"10/11/2030 3:04:05 PM +00:00"}"#,
        ] {
            let token = read(body.into(), 1_000).unwrap();
            assert_eq!(token.seconds_left(1_000), Some(3_300), "{body}");
        }
    }

    #[test]
    fn a_token_whose_end_is_not_told_is_used_and_not_kept() {
        for body in [
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"t","expires_in":null,"expires_on":-1}"#,
            r#"{"access_token":"t","expires_on":"10/11/2030 3:04:05 PM +00:00"}"#,
            r#"{"access_token":"t","expires_in":-5,"expires_on":999}"#,
            r#"{"access_token":"t","expires_in":1e300}"#,
        ] {
            let token = read(body.into(), 1_000).unwrap();
            assert!(token.keep("o", 1_000).is_none(), "{body}");
            assert_eq!(token.authorization(), "Bearer t");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_not_understood() {
        for body in ["", "<html>", "[]", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#] {
            assert!(read(body.into(), 0).is_err(), "{body}");
        }
    }
}
