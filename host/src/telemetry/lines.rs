//! How an event becomes one line of `coffer node`'s log. Tools look at the first letter of a text line, so it is the
//! level's, as in the reference.
//!
//! A line is one line whatever the values hold: every control character is escaped, in either form.

use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `E1125 01:39:45.123456 1 coffer::csi] "message" key="value" span{key="value"}`: level, time in UTC, process,
    /// target.
    Text,
    /// `{"level":"error","timestamp":…,"target":…,"message":…,"key":"value","span":{"key":"value"}}`
    Json,
}

/// Formats events, and the fields of spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines(pub(super) Style);

/// Keys of a JSON line that no field of an event may take.
const RESERVED: [&str; 4] = ["level", "timestamp", "target", "message"];

impl<'w> FormatFields<'w> for Lines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut pairs = Pairs::new(self.0);
        fields.record(&mut pairs);
        writer.write_str(&pairs.text)
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &tracing::span::Record<'_>) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (level, target, now) = (*event.metadata().level(), event.metadata().target(), Timestamp::now());
        let mut pairs = Pairs::new(self.0);
        event.record(&mut pairs);
        match self.0 {
            Style::Text => {
                let (now, process) = (now.strftime("%m%d %H:%M:%S%.6f"), std::process::id());
                write!(line, "{}{now} {process} {target}] {:?}{}", letter(level), pairs.message, pairs.text)?;
            }
            Style::Json => {
                let (now, target) = (now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"), quote(target));
                let message = quote(&pairs.message);
                write!(line, "{{\"level\":\"{}\",\"timestamp\":\"{now}\",\"target\":{target}", word(level))?;
                write!(line, ",\"message\":{message}{}", pairs.text)?;
            }
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) else {
                continue;
            };
            // What stands between the fields does not stand before them.
            match self.0 {
                Style::Text => write!(line, " {}{{{}}}", span.name(), fields.trim_start_matches(' '))?,
                Style::Json => write!(line, ",{}:{{{}}}", quote(span.name()), fields.trim_start_matches(','))?,
            }
        }
        line.write_str(if self.0 == Style::Json { "}\n" } else { "\n" })
    }
}

/// The fields of an event or a span, its message apart.
struct Pairs {
    style: Style,
    message: String,
    text: String,
}

impl Pairs {
    fn new(style: Style) -> Self {
        Self { style, message: String::new(), text: String::new() }
    }

    /// A value that has its final form.
    fn push(&mut self, field: &Field, value: &str) {
        let name = field.name();
        // Writing to a `String` cannot fail.
        let _ = match self.style {
            Style::Text => write!(self.text, " {name}={value}"),
            Style::Json if RESERVED.contains(&name) => write!(self.text, ",\"{name}_\":{value}"),
            Style::Json => write!(self.text, ",{}:{value}", quote(name)),
        };
    }

    fn push_text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        match self.style {
            Style::Text => self.push(field, &format!("{value:?}")),
            Style::Json => self.push(field, &quote(value)),
        }
    }
}

impl Visit for Pairs {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push_text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    /// With its causes.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut next = value.source();
        while let Some(cause) = next {
            let _ = write!(text, ": {cause}");
            next = cause.source();
        }
        self.push_text(field, &text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        if value.is_finite() {
            self.push(field, &value.to_string());
        } else {
            self.push_text(field, &value.to_string());
        }
    }
}

/// A JSON string. JSON itself lets delete and the C1 controls pass, on which terminals act.
fn quote(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        let _ = if c.is_control() { write!(quoted, "\\u{:04x}", u32::from(c)) } else { quoted.write_char(c) };
    }
    quoted
}

fn letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO => 'I',
        Level::DEBUG => 'D',
        Level::TRACE => 'T',
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
