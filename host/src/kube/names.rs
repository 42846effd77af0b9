//! Names of Kubernetes objects and values of labels: which are valid, and how a longer one becomes a valid one.
//!
//! What is cut ends in a digest of the whole, so that it stays one of its kind and is the same every time.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The most bytes of an object's name.
const LONGEST_NAME: usize = 253;
/// The most bytes of a label's value.
const LONGEST_LABEL: usize = 63;
/// How many hexadecimal digits of the digest stand at the end of what was cut.
const DIGITS: usize = 16;

/// Whether an object or a namespace may be called so: a DNS subdomain. Anything else has no place in a path.
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    text.len() <= LONGEST_NAME && text.split('.').all(is_part)
}

/// A name, cut where it is too long.
pub(super) fn name(text: &str) -> String {
    if text.len() <= LONGEST_NAME { text.to_owned() } else { shortened(text, text, LONGEST_NAME) }
}

/// A label's value: the text itself where it can be one, else as much of it as can.
pub(super) fn label(text: &str) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let ends = is_end(text.chars().next()) && is_end(text.chars().next_back());
    if text.is_empty() || (text.len() <= LONGEST_LABEL && text.chars().all(inner) && ends) {
        return text.to_owned();
    }
    let valid: String = text.chars().map(|c| if inner(c) { c } else { '-' }).collect();
    shortened(valid.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()), text, LONGEST_LABEL)
}

/// The beginning of `text`, and a digest of `whole`.
fn shortened(text: &str, whole: &str, longest: usize) -> String {
    let start = text.get(..text.len().min(longest - DIGITS - 1)).unwrap_or_default();
    let start = start.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let digest = hex(&Sha256::digest(whole), DIGITS);
    if start.is_empty() { digest } else { format!("{start}-{digest}") }
}

/// The first digits of a digest.
pub(crate) fn hex(digest: &[u8], digits: usize) -> String {
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

/// At most so many bytes, between two characters; what was cut ends in `…`.
pub(super) fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mark = "…";
    let room = longest.saturating_sub(mark.len());
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last().unwrap_or_default();
    format!("{}{mark}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_way_out_of_its_path() {
        for name in ["a", "kv-1.shop", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a?b", "a%2fb", "A", "a_b", "a.", ".a", "-a", "a-", "a..b", "ä", "a b"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name(&"a".repeat(253)));
        assert!(!is_name(&"a".repeat(254)));
    }

    #[test]
    fn a_long_name_is_cut_and_stays_one_of_its_kind() {
        assert_eq!(name(&"a".repeat(253)), "a".repeat(253));
        let long = |end: &str| name(&format!("{}{end}", "a".repeat(260)));
        assert_eq!(long("x"), long("x"));
        assert_ne!(long("x"), long("y"));
        assert!(is_name(&long("x")), "{}", long("x"));
        let dotted = name(&format!("{}...-{}", "a".repeat(234), "b".repeat(40)));
        assert!(is_name(&dotted), "{dotted}");
    }

    #[test]
    fn a_label_keeps_what_it_can() {
        assert_eq!(label("node-1.example.com"), "node-1.example.com");
        assert_eq!(label(""), "");
        for text in ["n".repeat(64), "n".repeat(253), "node 1".into(), "-node".into(), "node.".into(), "ä".repeat(9)] {
            let value = label(&text);
            assert!(value.len() <= 63 && value == label(&value), "{text}: {value}");
            assert_eq!(value, label(&text));
        }
        assert_ne!(label(&format!("{}a", "n".repeat(70))), label(&format!("{}b", "n".repeat(70))));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("ääää", 7), "ää…");
        for longest in 0..9 {
            assert!(cut("aäöüa", longest).len() <= longest.max("…".len()), "{longest}");
        }
    }
}
