//! The admin socket: HTTP over a Unix socket that only root may use, and the other end of it for `coffer log-level`,
//! `coffer status` and `coffer refresh`.
//!
//! It may change how much the driver tells, and have volumes looked at that it has; it mounts nothing, unmounts nothing and
//! shows no secret. `commands` are the callers.

pub mod volumes;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use clap::ValueEnum;
use coffer_sandbox::egress::audit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Log, http};
use crate::args::LogLevel;
use crate::socket::{Socket, SocketError};
use crate::tasks::Tasks;

const LOG_LEVEL: &str = "/log-level";

/// The largest body that is read, in bytes.
const LARGEST_BODY: usize = 4 << 10;
/// How long a body, and an answer of the driver that has nothing to wait for, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Serves the log's level, and what `others` adds, until `tasks` stops.
///
/// # Errors
///
/// When the socket cannot be made.
pub fn serve(path: &Path, log: Log, others: Router, tasks: &Tasks) -> Result<(), SocketError> {
    let router = Router::new().route(LOG_LEVEL, get(show_level).put(set_level)).with_state(log);
    http::serve(Socket::bind(path)?, router.merge(others), tasks);
    Ok(())
}

async fn show_level(State(log): State<Log>) -> String {
    format!("{}\n", log.level().name())
}

async fn set_level(State(log): State<Log>, body: Body) -> (StatusCode, String) {
    let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST_BODY)).await else {
        return (StatusCode::BAD_REQUEST, format!("the body is larger than {LARGEST_BODY} bytes, or did not come\n"));
    };
    let level = std::str::from_utf8(&body).ok().and_then(|body| LogLevel::from_str(body.trim(), true).ok());
    let Some(level) = level else {
        let levels: Vec<_> = LogLevel::value_variants().iter().map(|level| level.name()).collect();
        return (StatusCode::BAD_REQUEST, format!("write one of {}\n", levels.join(", ")));
    };
    // A line of the audit, so that it is written whatever the level is or was.
    tracing::info!(target: audit::TARGET, from = log.level().name(), to = level.name(), "log level changed");
    log.set_level(level);
    (StatusCode::OK, format!("{}\n", level.name()))
}

/// Why the driver did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("no driver answers at {}", .0.display())]
    NotThere(PathBuf, #[source] io::Error),
    /// Somebody else's socket.
    #[error("the admin socket {} is for root alone", .0.display())]
    Forbidden(PathBuf),
    /// It broke off, or what came is no answer.
    #[error("the driver at {} ended the connection without an answer", .0.display())]
    NoAnswer(PathBuf),
    /// It takes too long.
    #[error("the driver at {} does not answer within {:?}", .0.display(), .1)]
    TooSlow(PathBuf, Duration),
    /// Another release, perhaps.
    #[error("the answer of the driver at {} is not understood", .0.display())]
    NotUnderstood(PathBuf, #[source] serde_json::Error),
    /// It says no.
    #[error("the driver refuses: {0}")]
    Refused(String),
}

impl AskError {
    /// What to do.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotThere(..) => Some(
                "is `coffer node` running in this container? if its socket is elsewhere, name it with --admin-socket",
            ),
            Self::Forbidden(_) => Some("run this as root"),
            Self::NoAnswer(_) => Some("run this as root, and against the admin socket, not the CSI socket"),
            Self::TooSlow(..) => Some("try again; if it stays so, the driver hangs: see its log"),
            Self::NotUnderstood(..) => {
                Some("use the `coffer` of the driver's own container: another release may say it otherwise")
            }
            Self::Refused(_) => None,
        }
    }
}

/// Asks for the level, or sets it. Returns what the driver says: the level from now on.
///
/// # Errors
///
/// When the driver cannot be asked, or refuses.
pub async fn ask_level(socket: &Path, level: Option<LogLevel>) -> Result<String, AskError> {
    let (method, body) = match level {
        Some(level) => ("PUT", level.name()),
        None => ("GET", ""),
    };
    ask(socket, method, LOG_LEVEL, body, PATIENCE).await
}

async fn ask(socket: &Path, method: &str, path: &str, body: &str, patience: Duration) -> Result<String, AskError> {
    let answer = tokio::time::timeout(patience, exchange(socket, method, path, body));
    let answer = answer.await.map_err(|_| AskError::TooSlow(socket.to_owned(), patience))??;
    // HTTP/1.0, so the body is what stands behind the head.
    let parsed =
        answer.split_once("\r\n\r\n").and_then(|(head, body)| Some((head.split(' ').nth(1)?, body.trim_end())));
    match parsed {
        Some(("200", body)) => Ok(body.to_owned()),
        Some((_, body)) if !body.is_empty() => Err(AskError::Refused(body.to_owned())),
        Some((status, _)) => Err(AskError::Refused(format!("status {status}"))),
        None => Err(AskError::NoAnswer(socket.to_owned())),
    }
}

/// One request without an HTTP library: three lines out, everything in until the end.
async fn exchange(socket: &Path, method: &str, path: &str, body: &str) -> Result<String, AskError> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Forbidden(socket.to_owned()),
        _ => AskError::NotThere(socket.to_owned(), error),
    })?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // A driver that lets only root in ends the connection at once: this fails, or the answer is empty.
    let mut answer = String::new();
    let talk = async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(LARGEST_ANSWER).read_to_string(&mut answer).await
    };
    match talk.await {
        Ok(_) => Ok(answer),
        Err(_) => Err(AskError::NoAnswer(socket.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::ask as ask_with;
    use super::super::tests::captured;
    use super::super::{Audit, Format, Settings};
    use tokio::net::UnixListener;

    use super::*;

    const SETTINGS: Settings = Settings { level: LogLevel::Warn, format: Format::Text, audit: Audit::Always };

    #[tokio::test]
    async fn the_level_changes_at_once_and_the_change_is_audited() {
        let (log, written, _default) = captured(SETTINGS);
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("admin.sock");
        let tasks = Tasks::default();
        serve(&socket, log.clone(), Router::new(), &tasks).unwrap();

        tracing::debug!(target: "coffer::test", "too early");
        assert_eq!(ask_level(&socket, None).await.unwrap(), "warn");
        assert_eq!(ask_level(&socket, Some(LogLevel::Debug)).await.unwrap(), "debug");
        assert_eq!(ask_level(&socket, None).await.unwrap(), "debug");
        tracing::debug!(target: "coffer::test", "heard");
        assert_eq!(ask_level(&socket, Some(LogLevel::Off)).await.unwrap(), "off");
        tracing::error!(target: "coffer::test", "too late");

        let lines = written.lines();
        let ends: Vec<_> = lines.iter().map(|line| line.split_once("] ").unwrap().1).collect();
        let expected = [
            r#""log level changed" from="warn" to="debug""#,
            r#""heard""#,
            r#""log level changed" from="debug" to="off" task{name="http connection"}"#,
        ];
        assert!(expected.iter().all(|line| ends.contains(line)), "{ends:?}");
        assert!(ends.iter().all(|line| !line.contains("too ")), "{ends:?}");
        assert_eq!(log.level(), LogLevel::Off);
    }

    #[tokio::test]
    async fn what_is_no_level_is_refused_with_the_levels() {
        let (log, _written, _default) = captured(SETTINGS);
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("admin.sock");
        let tasks = Tasks::default();
        serve(&socket, log.clone(), Router::new(), &tasks).unwrap();
        let refused = ask(&socket, "PUT", LOG_LEVEL, "loud", PATIENCE).await.unwrap_err();
        assert_eq!(refused.to_string(), "the driver refuses: write one of off, error, warn, info, debug, trace");
        let large = "x".repeat(LARGEST_BODY + 1);
        let refused = ask(&socket, "PUT", LOG_LEVEL, &large, PATIENCE).await.unwrap_err();
        assert!(refused.to_string().contains("larger than 4096 bytes"), "{refused}");
        let refused = ask(&socket, "PUT", LOG_LEVEL, "\u{1b}", PATIENCE).await.unwrap_err();
        assert!(!refused.to_string().contains('\u{1b}'));
        let unknown = ask(&socket, "GET", "/secrets", "", PATIENCE).await.unwrap_err();
        assert_eq!(unknown.to_string(), "the driver refuses: status 404");
        let stream = UnixStream::connect(&socket).await.unwrap();
        let (head, _) = ask_with(stream, "DELETE /log-level HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
        assert_eq!(log.level(), LogLevel::Warn);
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart_from_somebody_who_hangs_up() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("admin.sock");
        let missing = ask_level(&socket, None).await.unwrap_err();
        assert!(matches!(missing, AskError::NotThere(..)), "{missing:?}");
        let listener = UnixListener::bind(&socket).unwrap();
        let hang_up = async { drop(listener.accept().await.unwrap()) };
        let (answer, ()) = tokio::join!(ask_level(&socket, None), hang_up);
        assert!(matches!(answer, Err(AskError::NoAnswer(_))), "{answer:?}");
        drop(listener);
        assert!(matches!(ask_level(&socket, None).await, Err(AskError::NotThere(..))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_does_not_answer_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("admin.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let answer = ask_level(&socket, None).await;
        assert!(matches!(answer, Err(AskError::TooSlow(..))), "{answer:?}");
    }
}
