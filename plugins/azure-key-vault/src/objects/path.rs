//! Which texts may be the path of a file.
//!
//! The rules are the reference's (no absolute path, no `..` anywhere) and the contract's (nothing that a cleaned path
//! would not have). The host checks again; here a mistake is found before a vault is asked.

/// Bytes of one component of a path.
const MAX_COMPONENT: usize = 255;
/// Bytes of a path.
const MAX_PATH: usize = 4_096;

/// What is wrong with a path; reads on after the path itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("starts with `/`: a file's path is relative to the volume")]
    Absolute,
    #[error("contains `..`, which no file's path may")]
    Parent,
    #[error("is not a clean path: it has an empty component or one that is `.`")]
    Unclean,
    #[error("contains a control character")]
    Control,
    #[error("is too long: 255 bytes for each component, 4096 in all")]
    TooLong,
}

/// Whether `path` can be the path of a file in a volume.
pub(super) fn check(path: &str) -> Result<(), Problem> {
    if path.starts_with('/') {
        Err(Problem::Absolute)
    } else if path.contains("..") {
        Err(Problem::Parent)
    } else if path.split('/').any(|component| component.is_empty() || component == ".") {
        Err(Problem::Unclean)
    } else if path.chars().any(char::is_control) {
        Err(Problem::Control)
    } else if path.len() > MAX_PATH || path.split('/').any(|component| component.len() > MAX_COMPONENT) {
        Err(Problem::TooLong)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_are_paths() {
        for path in ["a", "a/b/c.txt", ".hidden", "a b", "ä", "a\\b"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn each_rule_has_its_own_problem() {
        let long = "x".repeat(256);
        for (path, problem) in [
            ("/a", Problem::Absolute),
            ("../a", Problem::Parent),
            ("v1..2", Problem::Parent),
            ("a//b", Problem::Unclean),
            ("./a", Problem::Unclean),
            ("a/", Problem::Unclean),
            ("a\nb", Problem::Control),
            (long.as_str(), Problem::TooLong),
        ] {
            assert_eq!(check(path), Err(problem), "{path}");
        }
    }
}
