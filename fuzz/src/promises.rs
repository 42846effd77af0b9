//! What holds for every mount, whatever it was asked and answered.

use std::collections::HashSet;

use coffer_azure_key_vault::Failure;
use spki::der::Decode;
use spki::der::asn1::AnyRef;
use spki::der::pem;

use crate::wire::{LOGIN, Mounted, VAULT};

/// The longest message of a failure: lines up to 3,600 bytes together, or one line.
const LONGEST_MESSAGE: usize = 8 << 10;

/// Checks what came of a mount.
pub fn check(mounted: &Mounted) {
    match &mounted.result {
        Err(failure) => check_failure(failure),
        Ok(outcome) => {
            let paths: HashSet<&str> = outcome.files.iter().map(|file| file.path.as_str()).collect();
            assert_eq!(paths.len(), outcome.files.len(), "two files have the same path");
            for path in &paths {
                check_path(path);
                for (end, _) in path.match_indices('/') {
                    let folder = path.get(..end).unwrap_or_default();
                    assert!(!paths.contains(folder), "{folder} is a file and a folder");
                }
            }
            assert!(outcome.files.iter().all(|file| file.mode.is_none_or(|mode| mode <= 0o777)));
            let ids: HashSet<&str> = outcome.objects.iter().map(|object| object.id.as_str()).collect();
            assert_eq!(ids.len(), outcome.objects.len(), "two objects have the same id");
            outcome.remarks.iter().for_each(|remark| check_line(remark));
        }
    }
}

/// A failure says something, in lines that a log can take.
pub fn check_failure(failure: &Failure) {
    assert!(!failure.message.is_empty() && failure.message.len() <= LONGEST_MESSAGE, "{}", failure.message.len());
    failure.message.split('\n').for_each(check_line);
}

/// One line of text for people.
pub fn check_line(line: &str) {
    assert!(!line.chars().any(char::is_control), "a message has control characters: {line:?}");
}

/// Nothing was asked of anybody but the vault and the sign-in of `wire::class`.
pub fn check_hosts(mounted: &Mounted) {
    for request in &mounted.requests {
        assert!(request.url.starts_with(VAULT) || request.url.starts_with(LOGIN), "{}", request.url);
        assert!(request.url.bytes().all(|byte| byte.is_ascii_graphic()), "{}", request.url);
    }
}

/// The blocks of a text that is PEM from its first to its last character: label and DER.
pub fn blocks(text: &str) -> Vec<(&str, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find("-----END ").expect("a block ends");
        let line = rest.get(end..).and_then(|last| last.find('\n')).expect("its last line ends");
        let (block, after) = rest.split_at(end + line + 1);
        let (label, der) = pem::decode_vec(block.as_bytes()).expect("a block is PEM");
        blocks.push((label, der));
        rest = after;
    }
    blocks
}

/// Some DER and nothing behind it.
pub fn check_der(der: &[u8]) {
    AnyRef::from_der(der).expect("it is DER");
}

fn check_path(path: &str) {
    assert!(!path.is_empty() && path.len() <= 4_096 + 300, "{path:?}");
    for component in path.split('/') {
        assert!(!matches!(component, "" | "." | ".."), "{path:?}");
    }
    assert!(!path.chars().any(char::is_control), "{path:?}");
}
