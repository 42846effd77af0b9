//! Why a class could not be published, whose turn it is, and what kubelet is told. The exit codes of commands are in
//! [`crate::error`].
//!
//! kubelet takes `Canceled`, `DeadlineExceeded`, `Unavailable`, `ResourceExhausted` and `Aborted` as "not final": it goes
//! on asking and keeps what it made. Only what may pass by itself gets one of them. No text holds a secret.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coffer_sandbox::egress::{self, Ending, Record};
use coffer_sandbox::error::Cause;
use coffer_sandbox::instance::Usage;
use coffer_sandbox::provider::FailureKind;
use tonic::Code;

use super::tokens::NotTokens;
use crate::app;
use crate::csi::status::Refusal;
use crate::kube::classes::ClassError;
use crate::mistake::Position;
use crate::volume::mount::MountError;
use crate::volume::{FileError, WriteError};

/// Why a class could not be published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `spec.provider` names nothing.
    #[error("SecretProviderClass `{class}`: there is no provider `{provider}`")]
    UnknownProvider {
        /// The class.
        class: String,
        /// What it names.
        provider: String,
        /// Where.
        position: Option<Position>,
        /// The configured ones.
        known: Vec<String>,
    },
    /// The configuration does not let volume attributes set these parameters.
    #[error("the configuration does not allow the volume attributes {} (volumeAttributeOverrides)", list(.0))]
    OverrideDenied(Vec<String>),
    /// A granted file cannot be read.
    #[error("the file {} cannot be read, which the configuration grants as `{name}`", file.display())]
    ConfigFile {
        /// The path as the class names it.
        name: String,
        /// The file of this machine.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A granted file is too large for a description of anything.
    #[error("the file {} is larger than {limit} bytes, which the configuration grants as `{name}`", file.display())]
    ConfigFileTooLarge {
        /// The path as the class names it.
        name: String,
        /// The file of this machine.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The provider did not do it.
    #[error("SecretProviderClass `{class}` cannot be mounted")]
    Provider {
        /// The class.
        class: String,
        /// What went wrong.
        source: Box<coffer_sandbox::error::Error>,
        /// The requests until then.
        records: Vec<Record>,
        /// What the call took.
        usage: Box<Usage>,
    },
    /// What the provider handed back cannot be a volume.
    #[error("SecretProviderClass `{class}`: plugin {plugin:?} handed back files that cannot be written")]
    Files {
        /// The class.
        class: String,
        /// The plugin.
        plugin: String,
        /// Why not.
        source: FileError,
    },
    /// The class cannot be read.
    #[error(transparent)]
    Class(#[from] ClassError),
    /// The class lacks something.
    #[error("SecretProviderClass `{class}`: `spec.{what}` is missing or empty")]
    Incomplete {
        /// The class.
        class: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The tokens are none.
    #[error(transparent)]
    Tokens(#[from] NotTokens),
    /// kubelet is not told to name the pod, so the pod's author could name any.
    #[error(
        "the CSIDriver object `{driver}` does not set `podInfoOnMount: true`, so nobody vouches for the pod's name; apply the \
         CSIDriver object that Coffer comes with"
    )]
    PodInfo {
        /// The driver.
        driver: String,
    },
    /// Nothing is known about the CSIDriver object.
    #[error("the CSIDriver object `{driver}` could not be read yet: {why}")]
    DriverUnknown {
        /// The driver.
        driver: String,
        /// What is wrong.
        why: String,
    },
    /// Somebody else than the pod that the volume was made for.
    #[error("the volume was made for another pod than the one that is named now; nothing is fetched for it")]
    OtherPod,
    /// The plugin cannot be run.
    #[error("the plugin of provider `{provider}` cannot be used")]
    Plugin {
        /// The provider.
        provider: String,
        /// Why not.
        source: Arc<app::Error>,
    },
    /// The plugin is not ready in time.
    #[error("the plugin of provider `{provider}` is still being loaded; kubelet tries again")]
    PluginLoading {
        /// The provider.
        provider: String,
    },
    /// The volume cannot be looked at, mounted or taken away.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The volume cannot be written.
    #[error("the volume at {} cannot be written", target.display())]
    Write {
        /// The target.
        target: PathBuf,
        /// Why not.
        source: WriteError,
    },
    /// The time is up.
    #[error("{what} took longer than kubelet waits; it tries again")]
    Deadline {
        /// What was going on.
        what: &'static str,
    },
    /// The volume is being taken away.
    #[error("the volume was unpublished meanwhile")]
    Unpublished,
    /// A bug of ours.
    #[error("{what} ended early, which is a bug of Coffer; please report it with the log of this node")]
    Lost {
        /// What ended.
        what: &'static str,
    },
}

impl Error {
    /// A stable CamelCase word from a closed set: metric label, event and condition reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownProvider { .. } => "UnknownProvider",
            Self::OverrideDenied(_) => "OverrideDenied",
            Self::ConfigFile { .. } | Self::ConfigFileTooLarge { .. } => "InvalidConfiguration",
            Self::Provider { source, records, .. } if is_denied(&source.cause, records) => "EgressDenied",
            Self::Provider { source, .. } => source.reason(),
            Self::Files { .. } => "ProviderAnswerInvalid",
            // The reference's word.
            Self::Class(_) => "SecretProviderClassNotFound",
            Self::Incomplete { .. } => "SecretProviderClassInvalid",
            Self::Tokens(_) => "TokensInvalid",
            Self::PodInfo { .. } | Self::DriverUnknown { .. } | Self::OtherPod => "CSIDriverInvalid",
            Self::Plugin { source, .. } => match &**source {
                app::Error::Plugin(error) => error.reason(),
                _ => "InvalidConfiguration",
            },
            Self::PluginLoading { .. } => "PluginLoading",
            // Two more words of the reference.
            Self::Mount(_) => "FailedToMount",
            Self::Write { .. } => "FileWriteError",
            Self::Deadline { .. } => "DeadlineExceeded",
            Self::Unpublished => "Unpublished",
            Self::Lost { .. } => "Internal",
        }
    }

    /// The one table of codes.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownProvider { .. }
            | Self::ConfigFile { .. }
            | Self::ConfigFileTooLarge { .. }
            | Self::PodInfo { .. }
            | Self::OtherPod
            | Self::Plugin { .. } => Code::FailedPrecondition,
            Self::OverrideDenied(_) => Code::PermissionDenied,
            Self::Provider { source, records, .. } => provider_code(&source.cause, records),
            Self::Class(ClassError::NotFound { .. } | ClassError::NoName { .. } | ClassError::Undefined { .. }) => {
                Code::NotFound
            }
            Self::Class(ClassError::Forbidden { .. }) => Code::PermissionDenied,
            Self::Incomplete { .. } | Self::Tokens(_) => Code::InvalidArgument,
            Self::Write { source, .. } if source.is_full() => Code::ResourceExhausted,
            Self::Files { .. } | Self::Mount(_) | Self::Write { .. } | Self::Lost { .. } => Code::Internal,
            Self::Class(ClassError::Unavailable { .. }) | Self::DriverUnknown { .. } | Self::PluginLoading { .. } => {
                Code::Unavailable
            }
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Unpublished => Code::Aborted,
        }
    }

    /// Whether the store did not accept who asked.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            Self::Provider { source, .. } => {
                matches!(&source.cause, Cause::Failure(failure) if failure.kind == FailureKind::Unauthenticated)
            }
            _ => false,
        }
    }

    /// Whether it ended because the time was up.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        match self {
            Self::Deadline { .. } => true,
            Self::Provider { source, .. } => matches!(source.cause, Cause::Deadline { .. }),
            _ => false,
        }
    }

    /// Whether the store could not be asked, as far as anybody knows: it is away, it has too much to do, or it took too
    /// long. Not where it, or a policy, said no to any part of it.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Deadline { .. } => true,
            Self::Provider { source, records, .. } => {
                let is_away = match &source.cause {
                    Cause::Failure(failure) => {
                        matches!(failure.kind, FailureKind::Unavailable | FailureKind::Throttled { .. })
                    }
                    Cause::Deadline { .. } => true,
                    _ => false,
                };
                is_away && !self.is_refusal() && !is_denied(&source.cause, records)
            }
            _ => false,
        }
    }

    /// Whether the store, or a policy, said no: whoever asked has no right to it any more, or there is nothing to have.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Provider { source, records, .. } = self else { return false };
        let said_no = match &source.cause {
            Cause::Failure(failure) => matches!(
                failure.kind,
                FailureKind::InvalidRequest
                    | FailureKind::Unauthenticated
                    | FailureKind::PermissionDenied
                    | FailureKind::NotFound
            ),
            _ => false,
        };
        // One of many requests may have been refused while the others got no answer.
        let forbidden = |record: &Record| matches!(record.ending, Ending::Status(403));
        said_no || is_denied(&source.cause, records) || records.iter().any(forbidden)
    }

    /// How long the store asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Provider { source, .. } => match &source.cause {
                Cause::Failure(failure) => match failure.kind {
                    FailureKind::Throttled { retry_after } => retry_after,
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// The message with its causes, outermost first, each once: the text of an event.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let message = error.to_string();
            if !message.is_empty() && !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            next = error.source();
        }
        match self {
            Self::UnknownProvider { provider, known, .. } => {
                format!("{text} ({})", crate::error::help_with_provider(provider, known))
            }
            _ => text,
        }
    }

    /// What kubelet is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::new(self.code(), self.text())
    }
}

/// The first request that policy denied.
fn denied(records: &[Record]) -> Option<&Record> {
    records.iter().find(|record| matches!(record.ending, Ending::Failed(egress::Error::Denied(_))))
}

/// Whether a denied request is why the call failed. What a provider calls that is its own choice, unless it says that
/// something will pass or is not there: then it had got further than the denied request.
#[must_use]
pub fn is_denied(cause: &Cause, records: &[Record]) -> bool {
    let Cause::Failure(failure) = cause else { return false };
    let got_further =
        matches!(failure.kind, FailureKind::Unavailable | FailureKind::Throttled { .. } | FailureKind::NotFound);
    !got_further && denied(records).is_some()
}

fn provider_code(cause: &Cause, records: &[Record]) -> Code {
    match cause {
        cause if is_denied(cause, records) => Code::PermissionDenied,
        Cause::Failure(failure) => match failure.kind {
            FailureKind::InvalidRequest => Code::InvalidArgument,
            FailureKind::Unauthenticated => Code::Unauthenticated,
            FailureKind::PermissionDenied => Code::PermissionDenied,
            FailureKind::NotFound => Code::NotFound,
            FailureKind::Throttled { .. } => Code::ResourceExhausted,
            FailureKind::Unavailable => Code::Unavailable,
            FailureKind::Internal => Code::Internal,
        },
        Cause::Deadline { .. } => Code::DeadlineExceeded,
        Cause::Busy { .. } => Code::Unavailable,
        _ => Code::Internal,
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use coffer_sandbox::error::Stage;
    use coffer_sandbox::provider::Failure;

    use super::*;

    fn failed(cause: Cause, statuses: &[u16]) -> Error {
        let record = |status: &u16| Record {
            rule: None,
            method: "GET".into(),
            host: "h".into(),
            path: "/".into(),
            ending: Ending::Status(*status),
            attempts: 1,
            bytes_out: 0,
            bytes_in: 0,
            duration: Duration::ZERO,
        };
        let source = Box::new(coffer_sandbox::error::Error { plugin: "p".into(), stage: Stage::Mount, cause });
        let records = statuses.iter().map(record).collect();
        Error::Provider { class: "c".into(), source, records, usage: Box::default() }
    }

    fn failure(kind: FailureKind) -> Cause {
        Cause::Failure(Failure { kind, message: String::new() })
    }

    #[test]
    fn a_store_is_away_or_says_no_and_never_both() {
        use FailureKind::{
            Internal, InvalidRequest, NotFound, PermissionDenied, Throttled, Unauthenticated, Unavailable,
        };
        let (away, no, neither) = ((true, false), (false, true), (false, false));
        for (kind, expected) in [
            (Unavailable, away),
            (Throttled { retry_after: None }, away),
            (Internal, neither),
            (InvalidRequest, no),
            (Unauthenticated, no),
            (PermissionDenied, no),
            (NotFound, no),
        ] {
            let error = failed(failure(kind), &[200, 401, 404, 503]);
            assert_eq!((error.is_unreachable(), error.is_refusal()), expected, "{kind:?}");
            let error = failed(failure(kind), &[503, 403]);
            assert_eq!((error.is_unreachable(), error.is_refusal()), no, "{kind:?}");
        }
        let late = failed(Cause::Deadline { limit: Duration::ZERO }, &[]);
        assert_eq!((late.is_unreachable(), late.is_refusal()), away);
        let trap = failed(Cause::Trap { message: String::new() }, &[]);
        assert_eq!((trap.is_unreachable(), trap.is_refusal()), neither);
        assert!(Error::Deadline { what: "it" }.is_unreachable() && !Error::Unpublished.is_unreachable());
    }
}
