//! An access token, and how it travels from one call to the next.
//!
//! A call hands its token out as the session and gets it back at the next one, so a vault is read with one round trip.
//! The host keeps sessions by identity and session key; here they are checked once more, because a token used for
//! another principal is the one mistake that must not happen. A token is never shown.

use zeroize::Zeroizing;

use crate::provider::{Secret, Session};

/// Seconds before its end at which a token is no longer begun with: the call itself takes time, and clocks differ.
const MARGIN: u64 = 300;
/// The first line of a session's state; the others are owner, end and token. Another form gets another number, and a
/// session of the older one is then ignored.
const FORM: &str = "token 1";

/// An access token for the vaults of one cloud.
pub(crate) struct Token {
    secret: Zeroizing<String>,
    /// Unix seconds; margin subtracted.
    usable_until: u64,
}

impl Token {
    /// A token that lives for `lifetime` seconds; none when it could not stand in a header.
    pub(crate) fn new(secret: Zeroizing<String>, lifetime: u64, now: u64) -> Option<Self> {
        if !is_token(&secret) {
            return None;
        }
        // A short life still has to be worth keeping.
        let margin = MARGIN.min(lifetime / 4);
        Some(Self { secret, usable_until: now.saturating_add(lifetime - margin) })
    }

    /// The token of an earlier call, if it belongs to `owner` and has not ended.
    pub(crate) fn restore(session: &[u8], owner: &str, now: u64) -> Option<Self> {
        let mut lines = std::str::from_utf8(session).ok()?.split('\n');
        let (form, kept_owner, usable_until, token) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
        let usable_until = usable_until.parse().ok()?;
        if form != FORM || kept_owner != owner || usable_until <= now || lines.next().is_some() {
            return None;
        }
        is_token(token).then(|| Self { secret: Zeroizing::new(token.to_owned()), usable_until })
    }

    /// What to keep for the next call of `owner`; none when the token ends before that.
    pub(crate) fn keep(&self, owner: &str, now: u64) -> Option<Session> {
        let seconds = self.seconds_left(now)?;
        let state = format!("{FORM}\n{owner}\n{}\n{}", self.usable_until, self.secret.as_str());
        let state = Secret::new(state.into_bytes());
        Some(Session { state, expires_in_seconds: u32::try_from(seconds).unwrap_or(u32::MAX) })
    }

    /// The value of an `Authorization` header.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.secret.as_str())
    }

    /// How long it may be used from `now` on, in seconds.
    pub(crate) fn seconds_left(&self, now: u64) -> Option<u64> {
        self.usable_until.checked_sub(now).filter(|left| *left > 0)
    }
}

/// Whether it can stand in a header: RFC 6750 section 2.1 allows less, but what a token is made of is Entra's to say.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(lifetime: u64) -> Token {
        Token::new(Zeroizing::new("abc".into()), lifetime, 1_000).unwrap()
    }

    #[test]
    fn a_token_is_kept_until_five_minutes_before_its_end_or_three_quarters_of_a_short_life() {
        assert_eq!(token(3_600).keep("o", 1_000).unwrap().expires_in_seconds, 3_300);
        assert_eq!(token(80).keep("o", 1_000).unwrap().expires_in_seconds, 60);
        assert!(token(0).keep("o", 1_000).is_none());
        assert_eq!(token(u64::MAX).keep("o", 1_000).unwrap().expires_in_seconds, u32::MAX);
    }

    #[test]
    fn a_kept_token_comes_back_to_its_owner_while_it_lasts() {
        let session = token(3_600).keep("owner", 1_000).unwrap();
        let back = Token::restore(&session.state, "owner", 4_299).unwrap();
        assert_eq!((back.authorization().as_str(), back.seconds_left(4_299)), ("Bearer abc", Some(1)));
        assert!(Token::restore(&session.state, "owner", 4_300).is_none());
        assert!(Token::restore(&session.state, "another", 1_001).is_none());
    }

    #[test]
    fn a_session_that_is_not_understood_is_ignored() {
        for bytes in [
            &b""[..],
            b"{}",
            b"\xff",
            b"token 2\no\n9\nt",
            b"token 1\no\n9",
            b"token 1\no\n9\n",
            b"token 1\no\n-9\nt",
            b"token 1\no\n9\nt\nmore",
            b"token 1\no\n9\nt\r",
        ] {
            assert!(Token::restore(bytes, "o", 1).is_none());
        }
    }
}
