use std::io;

use clap::Parser;
use serde_json::Value;
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Metadata, span};

use super::*;

/// What was logged.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Wants nothing and decides nothing beforehand. `tracing` remembers for all threads what the subscribers of all
/// threads want, and races where they want different things; with this one as everybody's default, it asks each time.
struct Undecided;

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A log of this thread, until the guard is dropped.
pub(super) fn captured(settings: Settings) -> (Log, Written, DefaultGuard) {
    // Fails but for the first time.
    let _ = tracing::subscriber::set_global_default(Undecided);
    let written = Written::default();
    let writer = written.clone();
    let (subscriber, log) = subscribe(settings, move || writer.clone());
    (log, written, tracing::subscriber::set_default(subscriber))
}

fn settings(level: LogLevel, format: Format, audit: Audit) -> Settings {
    Settings { level, format, audit }
}

const HOSTILE: &str = "a\nE0101 forged]\r\u{1b}[2J\u{9b}\u{85}\"\\ \u{202e}end";

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] io::Error);

fn log_everything() {
    let failed = Outer(io::Error::other("inner"));
    let failed: &dyn std::error::Error = &failed;
    let span = tracing::info_span!(target: "coffer::test", "publish", pod.name = "p\n", attempt = 2, later = tracing::field::Empty);
    span.record("later", "l");
    let _inside = span.enter();
    tracing::error!(
        target: "coffer::test",
        text = HOSTILE,
        shown = %HOSTILE,
        debugged = ?Some(HOSTILE),
        error = failed,
        number = -3_i64,
        large = u64::MAX,
        fraction = 0.5,
        none = f64::NAN,
        yes = true,
        absent = None::<u32>,
        level = "mine",
        "what \"happened\"\nhere",
    );
}

#[test]
fn a_text_line_starts_with_the_letter_of_its_level_and_is_one_line() {
    let (_log, written, _default) = captured(settings(LogLevel::Trace, Format::Text, Audit::Always));
    log_everything();
    tracing::warn!(target: "coffer::test", "w");
    tracing::info!(target: "coffer::test", "i");
    tracing::debug!(target: "coffer::test", "d");
    tracing::trace!(target: "coffer::test", "t");
    let lines = written.lines();
    let letters: String = lines.iter().map(|line| line.chars().next().unwrap()).collect();
    assert_eq!(letters, "EWIDT");
    let (head, rest) = lines[0].split_once("] ").unwrap();
    let expected = concat!(
        r#""what \"happened\"\nhere" text="a\nE0101 forged]\r\u{1b}[2J\u{9b}\u{85}\"\\ \u{202e}end" "#,
        r#"shown="a\nE0101 forged]\r\u{1b}[2J\u{9b}\u{85}\"\\ \u{202e}end" "#,
        r#"debugged="Some(\"a\\nE0101 forged]\\r\\u{1b}[2J\\u{9b}\\u{85}\\\"\\\\ \\u{202e}end\")" "#,
        r#"error="outer: inner" number=-3 large=18446744073709551615 fraction=0.5 none="NaN" yes=true level="mine" "#,
        r#"publish{pod.name="p\n" attempt=2 later="l"}"#
    );
    assert_eq!(rest, expected);
    // `E1125 01:39:45.123456 1 coffer::test`
    let words: Vec<_> = head.split(' ').collect();
    let shape = |word: &str| word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    assert_eq!((shape(words[0]), shape(words[1])), ("E0000".to_owned(), "00:00:00.000000".to_owned()));
    assert_eq!(words[2..], [std::process::id().to_string().as_str(), "coffer::test"]);
}

#[test]
fn a_json_line_is_one_flat_object_with_values_of_their_types() {
    let (_log, written, _default) = captured(settings(LogLevel::Info, Format::Json, Audit::Always));
    log_everything();
    let lines = written.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].chars().any(char::is_control), "{lines:?}");
    let mut value: Value = serde_json::from_str(&lines[0]).unwrap();
    let timestamp = value.as_object_mut().unwrap().remove("timestamp").unwrap();
    let expected = serde_json::json!({
        "level": "error",
        "target": "coffer::test",
        "message": "what \"happened\"\nhere",
        "text": HOSTILE,
        "shown": HOSTILE,
        "debugged": format!("{:?}", Some(HOSTILE)),
        "error": "outer: inner",
        "number": -3,
        "large": u64::MAX,
        "fraction": 0.5,
        "none": "NaN",
        "yes": true,
        "level_": "mine",
        "publish": { "pod.name": "p\n", "attempt": 2, "later": "l" },
    });
    assert_eq!(value, expected);
    let timestamp = timestamp.as_str().unwrap();
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok() && timestamp.len() == 27, "{timestamp}");
}

fn log_each_level() {
    tracing::error!(target: "coffer::test", "error");
    tracing::warn!(target: "coffer_sandbox::test", "warn");
    tracing::info!(target: "coffer::test", "info");
    tracing::debug!(target: "coffer::test", "debug");
    tracing::warn!(target: "hyper::test", "foreign warn");
    tracing::info!(target: "hyper::test", "foreign info");
    tracing::info!(target: audit::TARGET, "audit");
}

fn messages(level: LogLevel, audit: Audit) -> Vec<String> {
    let (_log, written, _default) = captured(settings(level, Format::Json, audit));
    log_each_level();
    let message = |line: String| serde_json::from_str::<Value>(&line).unwrap()["message"].as_str().unwrap().to_owned();
    written.lines().into_iter().map(message).collect()
}

#[test]
fn libraries_warn_at_most() {
    use LogLevel::{Error, Info, Off, Trace, Warn};
    assert_eq!(messages(Off, Audit::AsTheLog), [""; 0]);
    assert_eq!(messages(Error, Audit::AsTheLog), ["error"]);
    assert_eq!(messages(Warn, Audit::AsTheLog), ["error", "warn", "foreign warn"]);
    assert_eq!(messages(Info, Audit::AsTheLog), ["error", "warn", "info", "foreign warn", "audit"]);
    assert_eq!(messages(Trace, Audit::AsTheLog), ["error", "warn", "info", "debug", "foreign warn", "audit"]);
}

#[test]
fn the_audit_has_a_switch_of_its_own() {
    assert_eq!(messages(LogLevel::Off, Audit::Always), ["audit"]);
    assert_eq!(messages(LogLevel::Warn, Audit::Always), ["error", "warn", "foreign warn", "audit"]);
    assert_eq!(messages(LogLevel::Info, Audit::Never), ["error", "warn", "info", "foreign warn"]);
}

#[test]
fn the_level_changes_while_the_log_runs() {
    let (log, written, _default) = captured(settings(LogLevel::Error, Format::Json, Audit::Never));
    log_each_level();
    assert_eq!(written.lines().len(), 1);
    log.set_level(LogLevel::Debug);
    assert_eq!(log.level(), LogLevel::Debug);
    log_each_level();
    assert_eq!(written.lines().len(), 1 + 5);
    log.clone().set_level(LogLevel::Off);
    log_each_level();
    assert_eq!((written.lines().len(), log.level()), (1 + 5, LogLevel::Off));
}

#[test]
fn commands_log_for_a_terminal_and_the_driver_for_a_collector() {
    let of = |words: &str| Settings::of(&Arguments::try_parse_from(words.split(' ')).unwrap());
    assert_eq!(of("coffer crds"), settings(LogLevel::Warn, Format::Terminal, Audit::AsTheLog));
    assert_eq!(of("coffer --log-level info crds"), settings(LogLevel::Info, Format::Terminal, Audit::AsTheLog));
    assert_eq!(of("coffer node"), settings(LogLevel::Info, Format::Text, Audit::Always));
    assert_eq!(of("coffer node --v=5"), settings(LogLevel::Debug, Format::Text, Audit::Always));
    assert_eq!(of("coffer node --v=5 --log-level=warn").level, LogLevel::Warn);
    assert_eq!(
        of("coffer node --log-format-json=true --audit=false"),
        settings(LogLevel::Info, Format::Json, Audit::Never)
    );
}
