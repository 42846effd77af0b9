//! The text of this repository, for the tests that hold tables and pages against it: which tests there are, and which
//! words a message has.
//!
//! A message counts as said where its words stand in one literal of the code, or in one that a test expects.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What is searched.
const FOLDERS: [&str; 5] =
    ["pki/src", "plugins/azure-key-vault/src", "plugins/azure-key-vault/tests", "host", "tests/cases"];

/// Those that only repeat what others say.
const TABLES: [&str; 3] = ["/ledger", "/documentation", "provider/sources"];

/// A file of code.
struct Source {
    /// Without `.rs`.
    path: String,
    text: String,
    /// With literals as they are at run time, and numbers without separators.
    words: String,
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let mut found = Vec::new();
    FOLDERS.iter().for_each(|folder| gather(&root().join(folder), &mut found));
    assert!(found.len() > 100, "{} files", found.len());
    found
});

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn gather(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, found);
        } else if let Some(name) = path.to_str().and_then(|path| path.strip_suffix(".rs")) {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path: name.to_owned(), words: words(&text), text });
        }
    }
}

/// Line ends that a literal steps over, escaped quotes, and `7_000_215`; no comments.
fn words(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let text = text.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    let mut words = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\\\n") {
        words.push_str(before);
        rest = after.trim_start();
    }
    words.push_str(rest);
    let words = words.replace("\\\"", "\"");
    let is_digit = |index: usize| words.as_bytes().get(index).is_some_and(u8::is_ascii_digit);
    let separates = |index: usize| index > 0 && is_digit(index - 1) && is_digit(index + 1);
    words.char_indices().filter(|(index, c)| *c != '_' || !separates(*index)).map(|(_, c)| c).collect()
}

/// Whether there is a test of this name in a file whose path ends with `place`.
pub fn has_test(place: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let is_test = |text: &str| {
        let before = text.split_once(&head).map(|(before, _)| before);
        before.is_some_and(|before| {
            before.lines().rev().take(4).any(|line| matches!(line.trim(), "#[test]" | "#[tokio::test]"))
        })
    };
    SOURCES.iter().any(|source| source.path.ends_with(&format!("/{place}")) && is_test(&source.text))
}

/// The parts of `message` between its `…` that nothing says.
pub fn unsaid(message: &str) -> Vec<&str> {
    let is_said = |part: &str| {
        let mut sources = SOURCES.iter().filter(|source| !TABLES.iter().any(|table| source.path.contains(table)));
        sources.any(|source| source.words.contains(part))
    };
    message.split('…').map(str::trim).filter(|part| !part.is_empty() && !is_said(part)).collect()
}

/// The words of `const NAME: [&str; N]` in a file.
pub fn list(path: &str, name: &str) -> Vec<String> {
    let text = read(path);
    let (_, after) = text.split_once(&format!("const {name}: [&str; ")).unwrap();
    let (_, after) = after.split_once('=').unwrap();
    let (words, _) = after.split_once(';').unwrap();
    words.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every parameter that the provider knows.
pub fn parameters() -> Vec<String> {
    list("plugins/azure-key-vault/src/parameters.rs", "KNOWN")
}

/// Every field of an object that the provider knows.
pub fn fields() -> Vec<String> {
    list("plugins/azure-key-vault/src/objects/fields.rs", "KNOWN")
}

#[test]
fn literals_are_read_as_they_are_at_run_time() {
    let text = "\"a \\\n      b\" 7_000_215\n  // no word\nc_d \\\"e\\\"";
    assert_eq!(words(text), "\"a b\" 7000215\nc_d \"e\"");
    assert!(has_test("provider/sources", "literals_are_read_as_they_are_at_run_time"));
    assert!(!has_test("provider/sources", "gather"));
    assert_eq!(unsaid("objects is not set … zzz nobody says …"), ["zzz nobody says"]);
}
