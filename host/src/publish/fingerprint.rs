//! Who is asking, and for what, as numbers that can be compared and say nothing.
//!
//! Identities, session keys and shared results are looked up by an HMAC-SHA-256 under a key that is made at the start of
//! the process and never leaves it: what goes in is partly secret, and whoever could compute a fingerprint could test
//! guesses. A fingerprint is never logged. `obtain` is the caller.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Makes fingerprints; those of two makers cannot be compared.
pub struct Fingerprints {
    key: Zeroizing<[u8; 32]>,
}

/// A fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(hidden)")
    }
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self { key: Zeroizing::new(rand::random()) }
    }
}

impl Fingerprints {
    /// Begins a fingerprint; those for different purposes never meet.
    #[must_use]
    pub fn begin(&self, purpose: &str) -> Taking {
        // HMAC takes keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(self.key.as_slice()) else { return Taking(None) };
        Taking(Some(mac)).with(purpose.as_bytes())
    }
}

impl Fingerprint {
    /// For fingerprints of more than this.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A fingerprint that is being taken. Every part is preceded by its length, so no two lists of parts are the same.
pub struct Taking(Option<Hmac<Sha256>>);

impl Taking {
    /// Adds one part.
    #[must_use]
    pub fn with(mut self, part: &[u8]) -> Self {
        if let Some(mac) = &mut self.0 {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        self
    }

    /// Adds keys and values.
    #[must_use]
    pub fn with_map<V>(self, map: &BTreeMap<String, V>, bytes: impl Fn(&V) -> &[u8]) -> Self {
        let taking = self.with(&(map.len() as u64).to_be_bytes());
        map.iter().fold(taking, |taking, (key, value)| taking.with(key.as_bytes()).with(bytes(value)))
    }

    /// The fingerprint of all parts in their order.
    #[must_use]
    pub fn end(self) -> Fingerprint {
        // Without a key there is nothing to compare, so nothing may be equal.
        Fingerprint(self.0.map_or_else(rand::random, |mac| mac.finalize().into_bytes().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_have_the_same_fingerprint_and_no_others() {
        let made = Fingerprints::default();
        let take = |parts: &[&str]| parts.iter().fold(made.begin("p"), |t, part| t.with(part.as_bytes())).end();
        assert_eq!(take(&["a", "b"]), take(&["a", "b"]));
        let others = [&["ab"][..], &["a", "b", ""], &["b", "a"], &["", "ab"], &["a"]];
        for other in others {
            assert_ne!(take(&["a", "b"]), take(other), "{other:?}");
        }
        assert_ne!(made.begin("p").with(b"a").end(), made.begin("q").with(b"a").end());
    }

    #[test]
    fn a_value_that_moves_to_another_key_changes_the_fingerprint() {
        let made = Fingerprints::default();
        let take = |pairs: &[(&str, &str)]| {
            let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            made.begin("p").with_map(&map, String::as_bytes).end()
        };
        assert_eq!(take(&[("a", "1"), ("b", "2")]), take(&[("b", "2"), ("a", "1")]));
        assert_ne!(take(&[("a", "1"), ("b", "2")]), take(&[("a", "2"), ("b", "1")]));
        assert_ne!(take(&[("a", "1b"), ("c", "2")]), take(&[("a", "1"), ("bc", "2")]));
    }

    #[test]
    fn another_process_makes_other_fingerprints() {
        let take = || Fingerprints::default().begin("p").with(b"a").end();
        assert_ne!(take(), take());
    }
}
