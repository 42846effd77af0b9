//! How an error looks: lines for people, or one JSON object. `main` prints it to stderr.
//!
//! ```text
//! error: what is wrong, with the object
//! cause: why, once for each level
//! help: what to do
//! ```

use std::fmt::Write;

use serde::Serialize;

use crate::args::Output;
use crate::commands::report::RequestLine;
use crate::error::Error;
use crate::mistake::Mistake;

/// The error as text that ends with a line end.
#[must_use]
pub fn render(error: &Error, output: Output) -> String {
    match output {
        Output::Table => render_lines(error),
        Output::Json => render_json(error),
    }
}

fn render_lines(error: &Error) -> String {
    let mut text = String::new();
    match error.mistakes() {
        Some(mistakes) => mistakes.0.iter().for_each(|mistake| push_mistake(&mut text, mistake)),
        None => {
            push(&mut text, "error", &error.to_string());
            error.causes().iter().for_each(|cause| push(&mut text, "cause", cause));
            error.help().iter().for_each(|help| push(&mut text, "help", help));
        }
    }
    text
}

/// One mistake as lines.
pub fn push_mistake(text: &mut String, mistake: &Mistake) {
    push(text, "error", &mistake.to_string());
    mistake.help.iter().for_each(|help| push(text, "help", help));
}

/// Further lines of a message are indented, and no control character gets to the terminal.
fn push(text: &mut String, label: &str, message: &str) {
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    let _ = writeln!(text, "{label}: {}", printable(lines.next().unwrap_or_default()));
    for line in lines {
        let _ = writeln!(text, "{:width$}{}", "", printable(line), width = label.len() + 2);
    }
}

/// `text` without anything that a terminal would act on.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    exit_code: u8,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mistakes: Option<&'a [Mistake]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requests: Vec<RequestLine>,
}

#[derive(Serialize)]
struct Outer<'a> {
    error: Failed<'a>,
}

/// One JSON object and a line end.
#[must_use]
pub fn json_object(value: &impl Serialize) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text + "\n",
        // Strings, numbers and lists always have a JSON form.
        Err(error) => format!("{error}\n"),
    }
}

fn render_json(error: &Error) -> String {
    let failed = Failed {
        exit_code: error.exit().code(),
        reason: error.reason(),
        message: message(error),
        causes: error.causes(),
        help: error.help(),
        mistakes: error.mistakes().map(|mistakes| mistakes.0.as_slice()),
        requests: error.records().iter().map(RequestLine::from).collect(),
    };
    json_object(&Outer { error: failed })
}

/// Several mistakes are listed, so the message only counts them.
fn message(error: &Error) -> String {
    match error.mistakes() {
        Some(mistakes) if mistakes.0.len() > 1 => format!("there are {} mistakes", mistakes.0.len()),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mistake::{Mistakes, Position};

    #[test]
    fn each_mistake_has_its_own_lines() {
        let position = Position { file: "f".into(), line: 1, column: 2 };
        let mistakes =
            vec![Mistake::at(position, "one").help(String::from("do it")), Mistake::anywhere("two\nmore\u{1b}[2J")];
        let text = render(&Error::Mistakes(Mistakes(mistakes)), Output::Table);
        assert_eq!(text, "error: f:1:2: one\nhelp: do it\nerror: two\n       more\u{fffd}[2J\n");
    }

    #[test]
    fn json_holds_code_and_reason() {
        let error = Error::Selection { message: "m".into(), help: Some("h".into()) };
        let value: serde_json::Value = serde_json::from_str(&render(&error, Output::Json)).unwrap();
        assert_eq!(value["error"]["exitCode"], 64);
        assert_eq!(value["error"]["reason"], "InvalidSelection");
        assert_eq!(value["error"]["help"], "h");
        assert!(value["error"].get("causes").is_none());
    }
}
