//! Makes a provider's words fit to be shown: capped, without control characters, without the secrets of the call.
//!
//! A net, not a proof: what a provider encodes passes (see `docs/threat-model.md`). Used by `instance` for messages
//! and by `egress` for the paths in audit records.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Secrets shorter than this are not searched for: replacing every `a` would make messages unreadable and say more
/// than it hides.
const SHORTEST: usize = 6;

/// The secrets of one call. Clones share what they know.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<Mutex<Vec<Zeroizing<String>>>>,
}

impl Redactor {
    /// Remembers a secret value. Bytes that are not UTF-8 cannot stand in a message, so they are skipped.
    pub fn learn(&self, secret: &[u8]) {
        let Ok(text) = std::str::from_utf8(secret) else { return };
        let text = text.trim();
        if text.len() < SHORTEST {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|k| k.as_str() == text) {
            known.push(Zeroizing::new(text.to_owned()));
            // A secret that contains another one is replaced as a whole.
            known.sort_by_key(|k| std::cmp::Reverse(k.len()));
        }
    }

    /// Whether `text` contains a known secret.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|k| text.contains(k.as_str()))
    }

    /// `text` as one line: known secrets replaced, control characters (line ends included) turned into spaces, cut to
    /// `cap` bytes.
    #[must_use]
    pub fn clean(&self, text: &str, cap: usize) -> String {
        let clean: String = self.replace(text).chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect();
        cut(clean.trim(), cap)
    }

    /// Like [`Redactor::clean`], for texts that may have several lines: line feeds stay.
    #[must_use]
    pub fn clean_lines(&self, text: &str, cap: usize) -> String {
        let replace = |c| if c != '\n' && is_unprintable(c) { ' ' } else { c };
        let clean: String = self.replace(text).chars().map(replace).collect();
        cut(clean.trim(), cap)
    }

    fn replace(&self, text: &str) -> Zeroizing<String> {
        let mut clean = Zeroizing::new(text.to_owned());
        for secret in self.known.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if clean.contains(secret.as_str()) {
                clean = Zeroizing::new(clean.replace(secret.as_str(), REDACTED));
            }
        }
        clean
    }
}

/// Control characters, and the invisible ones that change the direction of text or end lines in terminals.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn cut(text: &str, cap: usize) -> String {
    if text.len() <= cap {
        return text.to_owned();
    }
    let mut end = cap;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… (cut)", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_secret_is_replaced_wherever_it_stands() {
        let redactor = Redactor::default();
        redactor.learn(b"s3cr3t-value");
        assert_eq!(redactor.clean("got s3cr3t-value!", 100), "got [redacted]!");
        assert!(redactor.finds("xs3cr3t-valuey"));
    }

    #[test]
    fn the_longer_of_two_nested_secrets_goes_first() {
        let redactor = Redactor::default();
        redactor.learn(b"abcdef");
        redactor.learn(b"abcdefghi");
        assert_eq!(redactor.clean("abcdefghi abcdef", 100), "[redacted] [redacted]");
    }

    #[test]
    fn control_and_direction_characters_become_spaces() {
        assert_eq!(Redactor::default().clean("a\nb\u{1b}[31mc\u{202e}d", 100), "a b [31mc d");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(Redactor::default().clean("ääää", 3), "ä… (cut)");
    }

    #[test]
    fn short_secrets_are_not_searched_for() {
        let redactor = Redactor::default();
        redactor.learn(b"ab");
        assert_eq!(redactor.clean("abc", 100), "abc");
    }
}
