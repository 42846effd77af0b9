//! Why a call did not work, in words for people.
//!
//! [`Failure`] is what leaves this crate; every other error type of the crate ends in one of its kinds here. A message
//! says what is wrong, with which object, and what to do about it. It must never hold a client secret, a token or the
//! value of an object: whoever writes one decides that, nobody filters afterwards.

/// What a failure means to whoever decides what happens next; the cases are those of `wit/provider.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The parameters or secrets are wrong or missing.
    InvalidRequest,
    /// Entra or the vault does not accept the credentials.
    Unauthenticated,
    /// The vault knows who asks and says no, or the grant does not allow the request.
    PermissionDenied,
    /// An object does not exist.
    NotFound,
    /// Entra or the vault asks to slow down.
    Throttled {
        /// How long, in seconds, if it said so.
        retry_after_seconds: Option<u32>,
    },
    /// Entra or the vault cannot be reached, or answers with errors of its own.
    Unavailable,
    /// An answer that this crate does not understand.
    Internal,
}

/// A call that did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What it means.
    pub kind: FailureKind,
    /// What is wrong and what to do about it; one line for each mistake.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidRequest, message)
    }

    /// All mistakes of a class in one failure.
    pub(crate) fn of_mistakes(mistakes: &[String]) -> Self {
        Self::invalid(join(mistakes))
    }

    /// This failure of a vault, with that of the one that was asked instead.
    pub(crate) fn beside(self, other: &Self) -> Self {
        let lines = self.message.lines().map(str::to_owned);
        let others = other.message.lines().map(|line| format!("in the failover vault {line}"));
        Self::new(self.kind, join(&lines.chain(others).collect::<Vec<_>>()))
    }

    /// All objects that failed in one failure. Objects with the same cause share a line; the kind is the one that
    /// somebody has to act on first.
    pub(crate) fn of_objects(failed: Vec<ObjectFailure>) -> Self {
        let kind = failed.iter().map(|f| f.kind).min_by_key(|kind| rank(*kind)).unwrap_or(FailureKind::Internal);
        let kind = match kind {
            FailureKind::Throttled { .. } => {
                FailureKind::Throttled { retry_after_seconds: failed.iter().filter_map(|f| retry_after(f.kind)).max() }
            }
            other => other,
        };
        Self::new(kind, join(&group(failed)))
    }
}

/// One object that could not be fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ObjectFailure {
    /// The object as people know it, `secret/DemoSecret`.
    pub(crate) object: String,
    /// What it means.
    pub(crate) kind: FailureKind,
    /// What is wrong and what to do, without the object's name.
    pub(crate) cause: String,
}

/// Text of somebody else made fit for a message: one line, no control characters, at most `cap` characters.
pub(crate) fn tidy(text: &str, cap: usize) -> String {
    let mut tidied = String::with_capacity(text.len().min(cap));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !tidied.is_empty() {
            tidied.push(' ');
        }
        tidied.push_str(word);
    }
    if tidied.chars().count() > cap {
        tidied = tidied.chars().take(cap).collect();
        tidied.push('…');
    }
    tidied
}

/// Lower comes first: what only a person can change stands before what may pass by itself.
fn rank(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Unauthenticated => 0,
        FailureKind::PermissionDenied => 1,
        FailureKind::NotFound => 2,
        FailureKind::InvalidRequest => 3,
        FailureKind::Internal => 4,
        FailureKind::Throttled { .. } => 5,
        FailureKind::Unavailable => 6,
    }
}

fn retry_after(kind: FailureKind) -> Option<u32> {
    match kind {
        FailureKind::Throttled { retry_after_seconds } => retry_after_seconds,
        _ => None,
    }
}

/// One line per cause, in the order of each cause's first object.
fn group(failed: Vec<ObjectFailure>) -> Vec<String> {
    /// Objects named in one line; a class with a hundred of them and no network needs no hundred names.
    const NAMED: usize = 5;
    let mut causes: Vec<(String, Vec<String>)> = Vec::new();
    for failure in failed {
        match causes.iter_mut().find(|(cause, _)| *cause == failure.cause) {
            Some((_, objects)) => objects.push(failure.object),
            None => causes.push((failure.cause, vec![failure.object])),
        }
    }
    let line = |(cause, objects): (String, Vec<String>)| {
        let named: Vec<&str> = objects.iter().take(NAMED).map(String::as_str).collect();
        let more = match objects.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}: {cause}", named.join(", "))
    };
    causes.into_iter().map(line).collect()
}

/// One line each: the host and its linter take a line for a mistake.
fn join(lines: &[String]) -> String {
    /// Coffer cuts a message at 4 KiB by default. Better to leave out whole lines, and to say so.
    const ROOM: usize = 3_600;
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 && text.len() + line.len() > ROOM {
            return text + &format!("\nand {} more", lines.len() - index);
        }
        if index > 0 {
            text.push('\n');
        }
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(object: &str, kind: FailureKind, cause: &str) -> ObjectFailure {
        ObjectFailure { object: object.into(), kind, cause: cause.into() }
    }

    #[test]
    fn objects_with_one_cause_share_a_line() {
        let failure = Failure::of_objects(vec![
            failed("secret/a", FailureKind::Unavailable, "no answer in time"),
            failed("secret/b", FailureKind::Unavailable, "no answer in time"),
        ]);
        assert_eq!(failure.message, "secret/a, secret/b: no answer in time");
    }

    #[test]
    fn many_objects_with_one_cause_are_counted_not_listed() {
        let failures = (0..8).map(|n| failed(&format!("secret/{n}"), FailureKind::Unavailable, "gone")).collect();
        assert_eq!(
            Failure::of_objects(failures).message,
            "secret/0, secret/1, secret/2, secret/3, secret/4 and 3 more: gone"
        );
    }

    #[test]
    fn throttling_is_the_kind_only_when_nothing_permanent_failed() {
        let throttled = |seconds| FailureKind::Throttled { retry_after_seconds: seconds };
        let both = Failure::of_objects(vec![
            failed("secret/a", throttled(Some(3)), "slow down"),
            failed("secret/b", FailureKind::NotFound, "missing"),
        ]);
        assert_eq!(both.kind, FailureKind::NotFound);
        let passing = Failure::of_objects(vec![
            failed("secret/a", throttled(Some(3)), "slow down"),
            failed("secret/b", throttled(Some(9)), "slow down"),
            failed("secret/c", FailureKind::Unavailable, "gone"),
        ]);
        assert_eq!(passing.kind, throttled(Some(9)));
    }

    #[test]
    fn a_long_list_ends_with_a_count_instead_of_a_cut_line() {
        let mistakes: Vec<String> = (0..100).map(|n| format!("{n} {}", "x".repeat(100))).collect();
        let failure = Failure::of_mistakes(&mistakes);
        assert!(failure.message.len() < 4_096);
        let last = failure.message.lines().last().unwrap();
        assert!(last.starts_with("and ") && last.ends_with(" more"), "{last}");
    }

    #[test]
    fn foreign_text_becomes_one_capped_line() {
        assert_eq!(tidy(" a\r\n b\u{1b}c ", 20), "a b c");
        assert_eq!(tidy("abcdef", 3), "abc…");
    }
}
