//! PEM as the reference reads and writes it (RFC 7468 with the headers of RFC 1421), for files that are taken apart.
//!
//! The reader is forgiving: text around and between blocks is stepped over, and so is a block that cannot be read. The
//! crates for PEM refuse a text as a whole for one such block, which is why this is our own.

use base64::Engine as _;
use spki::der::pem::{self, LineEnding};
use zeroize::Zeroizing;

use crate::{BASE64, Secret};

/// Columns of a line of base64.
const COLUMNS: usize = 64;

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    label: String,
    /// In the order in which they are written: `Proc-Type` first, then sorted.
    headers: Vec<(String, String)>,
    content: Secret,
}

impl Block {
    /// What it says it is.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The decoded content. Every caller of this function handles a secret.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Whether it is a certificate by its label.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        self.label == "CERTIFICATE"
    }

    /// Whether a passphrase closes it, by its label or its headers.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.label.starts_with("ENCRYPTED")
            || self.headers.iter().any(|(key, value)| key == "Proc-Type" && value.ends_with("ENCRYPTED"))
    }

    /// Appends the block.
    pub fn write(&self, text: &mut Zeroizing<String>) {
        let base64 = Zeroizing::new(BASE64.encode(&*self.content));
        text.push_str(&format!("-----BEGIN {}-----\n", self.label));
        for (key, value) in &self.headers {
            text.push_str(&format!("{key}: {value}\n"));
        }
        if !self.headers.is_empty() {
            text.push('\n');
        }
        for line in base64.as_bytes().chunks(COLUMNS) {
            text.push_str(std::str::from_utf8(line).unwrap_or_default());
            text.push('\n');
        }
        text.push_str(&format!("-----END {}-----\n", self.label));
    }
}

/// One block without headers, as text.
#[must_use]
pub fn encode(label: &str, content: &[u8]) -> Option<Zeroizing<String>> {
    pem::encode_string(label, LineEnding::LF, content).ok().map(Zeroizing::new)
}

/// Every block of a text that can be read.
#[must_use]
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for line in text.split('\n') {
        if let Some(label) = label(line, "-----BEGIN ") {
            // Whatever was open does not end, so it is no block.
            open = Some(Open::new(label));
        } else if let Some(label) = label(line, "-----END ") {
            blocks.extend(open.take().and_then(|open| open.close(label)));
        } else if let Some(open) = &mut open {
            open.add(line);
        }
    }
    blocks
}

/// The label of a line that begins or ends a block.
fn label<'t>(line: &'t str, start: &str) -> Option<&'t str> {
    line.trim_end_matches([' ', '\t', '\r']).strip_prefix(start)?.strip_suffix("-----")
}

/// A block that has not ended.
struct Open<'t> {
    label: &'t str,
    headers: Vec<(String, String)>,
    base64: Zeroizing<String>,
}

impl<'t> Open<'t> {
    fn new(label: &'t str) -> Self {
        Self { label, headers: Vec::new(), base64: Zeroizing::default() }
    }

    fn add(&mut self, line: &str) {
        match line.split_once(':') {
            Some((key, value)) if self.base64.is_empty() => {
                self.headers.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            _ => self.base64.extend(line.chars().filter(|c| !c.is_ascii_whitespace())),
        }
    }

    fn close(mut self, label: &str) -> Option<Block> {
        let content = BASE64.decode(self.base64.as_bytes()).ok().filter(|_| label == self.label)?;
        let rank = |key: &str| (key != "Proc-Type", key.to_owned());
        self.headers.sort_by_key(|(key, _)| rank(key));
        self.headers.dedup_by(|(one, _), (other, _)| one == other);
        Some(Block { label: label.to_owned(), headers: self.headers, content: Zeroizing::new(content) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> Vec<String> {
        blocks(text).into_iter().map(|block| block.label).collect()
    }

    fn rewritten(text: &str) -> String {
        let mut written = Zeroizing::new(String::new());
        blocks(text).iter().for_each(|block| block.write(&mut written));
        written.to_string()
    }

    #[test]
    fn blocks_are_found_between_other_text() {
        let text = "subject=x\n-----BEGIN A-----\r\naGk=\r\n-----END A-----\r\nbag\n-----BEGIN B B-----\naGk=\n-----END B B-----";
        assert_eq!(labels(text), ["A", "B B"]);
        assert!(labels("").is_empty() && labels("MIIB").is_empty());
    }

    #[test]
    fn a_block_that_cannot_be_read_is_stepped_over() {
        let good = "-----BEGIN A-----\naGk=\n-----END A-----\n";
        for bad in [
            "-----BEGIN B-----\n%\n-----END B-----\n",
            "-----BEGIN B-----\naGk=\n-----END C-----\n",
            "-----BEGIN B-----\naGk=\n",
            "-----BEGIN B\n",
        ] {
            assert_eq!(labels(&format!("{bad}{good}")), ["A"], "{bad}");
            assert_eq!(labels(&format!("{good}{bad}")), ["A"], "{bad}");
        }
    }

    #[test]
    fn lines_have_sixty_four_columns_and_headers_stay() {
        let long = BASE64.encode([7; 60]);
        let text = format!(
            "-----BEGIN A-----\nDEK-Info: x,y\nProc-Type: 4,ENCRYPTED\n\n{long}\n-----END A-----\n-----BEGIN B-----\n-----END B-----\n"
        );
        let (first, second) = long.split_at(64);
        assert_eq!(
            rewritten(&text),
            format!(
                "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x,y\n\n{first}\n{second}\n-----END A-----\n-----BEGIN B-----\n-----END B-----\n"
            )
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_as_the_same(text in "(-----(BEGIN|END) [AB]-----\n|[a-zA-Z0-9+/=: ]{0,70}\n|\r){0,12}") {
            let found = blocks(&text);
            prop_assert_eq!(blocks(&rewritten(&text)), found);
        }
    }
}
