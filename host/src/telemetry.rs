//! What the process tells: the log here, metrics, health and the admin socket in the modules below.
//!
//! `main` starts the log once, before anything else; everybody writes to it with `tracing`. The level can change while
//! it runs, by [`Log`]. It must never hold a secret: libraries log warnings at most, as what they say below may hold
//! headers, and no value can break out of its line.

pub mod admin;
pub mod health;
mod http;
mod lines;
pub mod metrics;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_sandbox::egress::audit;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::args::{Arguments, Command, LogLevel};
use lines::{Lines, Style};

/// How the log starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much.
    pub level: LogLevel,
    /// How it looks.
    pub format: Format,
    /// The lines of the audit.
    pub audit: Audit,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For somebody at a terminal: `mount`, `check` and the like.
    Terminal,
    /// `E1125 01:39:45.123456 1 coffer::csi] "message" key="value"`, much like the reference.
    Text,
    /// One object per line.
    Json,
}

/// Which lines of the audit are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Those of the log's level.
    AsTheLog,
    /// All, whatever the level is.
    Always,
    /// None.
    Never,
}

/// The log's switch. Clones share it.
#[derive(Clone)]
pub struct Log {
    level: Arc<Mutex<LogLevel>>,
    audit: Audit,
    filter: reload::Handle<Targets, Registry>,
}

impl Settings {
    /// What the command line asks for.
    #[must_use]
    pub fn of(arguments: &Arguments) -> Self {
        let Command::Node(node) = &arguments.command else {
            let level = arguments.log_level.unwrap_or(LogLevel::Warn);
            return Self { level, format: Format::Terminal, audit: Audit::AsTheLog };
        };
        Self {
            level: arguments.log_level.or(node.level_of_verbosity()).unwrap_or(LogLevel::Info),
            format: if node.log_format_json { Format::Json } else { Format::Text },
            audit: if node.audit { Audit::Always } else { Audit::Never },
        }
    }
}

/// Starts the log, to stderr.
pub fn start(settings: Settings) -> Log {
    let (subscriber, log) = subscribe(settings, std::io::stderr);
    // Fails only where a test harness has started a log before.
    let _ = subscriber.try_init();
    log
}

impl Log {
    /// How much is logged now.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, for all threads.
    pub fn set_level(&self, level: LogLevel) {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails only where the log was never started, or has ended.
        let _ = self.filter.modify(|filter| *filter = targets(level, self.audit));
        *current = level;
    }
}

fn subscribe<W>(settings: Settings, writer: W) -> (impl Subscriber + Send + Sync, Log)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let Settings { level, format, audit } = settings;
    let (filter, handle) = reload::Layer::new(targets(level, audit));
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Terminal => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
        Format::Text => lines.fmt_fields(Lines(Style::Text)).event_format(Lines(Style::Text)).boxed(),
        Format::Json => lines.fmt_fields(Lines(Style::Json)).event_format(Lines(Style::Json)).boxed(),
    };
    let log = Log { level: Arc::new(Mutex::new(level)), audit, filter: handle };
    (tracing_subscriber::registry().with(filter).with(lines), log)
}

fn targets(level: LogLevel, audit: Audit) -> Targets {
    let level = filter(level);
    let audited = match audit {
        Audit::AsTheLog => level,
        Audit::Always => level.max(LevelFilter::INFO),
        Audit::Never => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("coffer", level)
        .with_target(audit::TARGET, audited)
        // It calls every answer that is none an error; `kube` decides what is worth a line.
        .with_target("kube_client", LevelFilter::OFF)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
