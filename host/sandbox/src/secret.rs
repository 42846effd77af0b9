//! The type for everything that must not be seen: contents of files, tokens, credentials, sessions.
//!
//! It is wiped when dropped and cannot be printed, serialised, compared or cloned by accident.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes that never appear in logs, errors or `Debug` output, and are wiped when dropped.
#[derive(Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes. Every caller of this function handles a secret.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, for the rare place that needs one; named, so that it is seen.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_neither_bytes_nor_length() {
        let secret = SecretBytes::from(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "SecretBytes(hidden)");
        assert_eq!(secret.expose(), b"hunter2");
    }
}
