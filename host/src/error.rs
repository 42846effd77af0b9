//! Every way in which a command can end badly: the exit code, a stable reason, and what to do. The one table between
//! the errors of the modules and what a user sees; `main` prints them.

use std::error::Error as _;

use coffer_sandbox::egress::{self, Ending, Record};
use coffer_sandbox::error::Cause;
use coffer_sandbox::provider::FailureKind;

use crate::exit::Exit;
use crate::kube::client::ClientError;
use crate::mistake::Mistakes;
use crate::publish::error::is_denied;
use crate::socket::SocketError;
use crate::telemetry::admin;
use crate::telemetry::health::ListenError;
use crate::{app, config, manifest, nearest, publish, volume};

/// How a command ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Manifests are wrong.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// No object, or more than one, fits.
    #[error("{message}")]
    Selection {
        /// What does not fit.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// A plugin cannot be made callable.
    #[error(transparent)]
    App(#[from] app::Error),
    /// The class cannot be published.
    #[error(transparent)]
    Publish(#[from] publish::Error),
    /// The target cannot be made.
    #[error(transparent)]
    Target(#[from] volume::TargetError),
    /// The target cannot be opened.
    #[error(transparent)]
    Open(#[from] volume::OpenError),
    /// The target cannot be written.
    #[error("{} cannot be written", target.display())]
    Write {
        /// The target.
        target: std::path::PathBuf,
        /// Why not.
        source: volume::WriteError,
    },
    /// A task of this process ended early.
    #[error("writing the files ended early")]
    Task(#[source] tokio::task::JoinError),
    /// The runtime cannot be started.
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    /// The result cannot be printed.
    #[error("the result cannot be printed")]
    Print(#[source] std::io::Error),
    /// No volume of the node fits.
    #[error("no published volume of this node is one of {which}")]
    NoVolume {
        /// What was asked for.
        which: String,
    },
    /// The running driver cannot be asked.
    #[error(transparent)]
    Admin(#[from] admin::AskError),
    /// Privileges cannot be dropped.
    #[error("the privileges that the driver does not need cannot be dropped: {0}")]
    Privilege(String),
    /// Nobody says which node this is.
    #[error("the node has no name: say it with --nodeid, or with the variable KUBE_NODE_NAME")]
    NoNodeName,
    /// The system hands out no signals.
    #[error("signals cannot be waited for")]
    Signals(#[source] std::io::Error),
    /// The ledger cannot be used.
    #[error("the folder {} cannot be used to remember volumes; choose another with --state-dir", folder.display())]
    State {
        /// The folder.
        folder: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A socket cannot be served.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A port cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The compiling child failed; its parent says what that means.
    #[error("{0}")]
    Compile(String),
}

impl Error {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Manifest(manifest::Error::StdinTwice) | Self::Selection { .. } => Exit::Usage,
            Self::Mistakes(_) | Self::Manifest(_) | Self::Config(_) | Self::NoVolume { .. } => Exit::Invalid,
            Self::App(app::Error::Plugin(error)) => sandbox_exit(&error.cause, &[]),
            Self::App(app::Error::Egress { .. }) => Exit::Invalid,
            Self::Publish(error) => publish_exit(error),
            Self::Admin(admin::AskError::Forbidden(_)) | Self::Privilege(_) => Exit::Denied,
            Self::NoNodeName => Exit::Usage,
            Self::Admin(_) | Self::Client(_) | Self::Socket(_) | Self::Listen(_) => Exit::Unavailable,
            Self::App(_) | Self::Task(_) | Self::Runtime(_) | Self::Signals(_) | Self::Compile(_) => Exit::Fault,
            Self::Target(_) | Self::Open(_) | Self::Write { .. } | Self::Print(_) | Self::State { .. } => {
                Exit::CannotWrite
            }
        }
    }

    /// A stable CamelCase word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Mistakes(_) | Self::Manifest(_) => "InvalidManifest",
            Self::Selection { .. } => "InvalidSelection",
            Self::Config(_) => "InvalidConfiguration",
            Self::App(app::Error::Plugin(error)) => error.reason(),
            Self::App(app::Error::Egress { .. }) => "InvalidConfiguration",
            Self::App(_) | Self::Task(_) | Self::Runtime(_) | Self::Signals(_) => "Internal",
            Self::Publish(error) => error.reason(),
            Self::Target(_) | Self::Open(_) | Self::Write { .. } => "TargetNotWritable",
            Self::Print(_) => "OutputNotWritable",
            Self::NoVolume { .. } => "NoSuchVolume",
            Self::Admin(_) => "DriverNotAsked",
            Self::Privilege(_) => "PrivilegesNotDropped",
            Self::NoNodeName => "NoNodeName",
            Self::State { .. } => "StateNotWritable",
            Self::Client(_) => "NoApiServer",
            Self::Socket(_) | Self::Listen(_) => "CannotListen",
            Self::Compile(_) => "CompileRefused",
        }
    }

    /// What to do about it, where the message does not say it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Selection { help, .. } => help.clone(),
            Self::Publish(publish::Error::UnknownProvider { provider, known, .. }) => {
                Some(help_with_provider(provider, known))
            }
            Self::NoVolume { .. } => Some(
                "`coffer status` lists all of them; a volume that was never mounted has events on its pod instead"
                    .to_owned(),
            ),
            Self::Admin(error) => error.help().map(str::to_owned),
            _ => None,
        }
    }

    /// The messages of the causes, outermost first; a message that the one before already holds is left out.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut before = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            let message = error.to_string();
            if !message.is_empty() && !before.contains(&message) {
                causes.push(message.clone());
                before = message;
            }
            next = error.source();
        }
        causes
    }

    /// The mistakes, where there may be more than one.
    #[must_use]
    pub fn mistakes(&self) -> Option<&Mistakes> {
        match self {
            Self::Mistakes(mistakes) | Self::Config(config::Error::Mistakes(mistakes)) => Some(mistakes),
            _ => None,
        }
    }

    /// The requests that were made until then.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        match self {
            Self::Publish(publish::Error::Provider { records, .. }) => records,
            _ => &[],
        }
    }
}

/// Which provider was meant, else which ones there are.
#[must_use]
pub fn help_with_provider(provider: &str, known: &[String]) -> String {
    nearest::did_you_mean(provider, known.iter().map(String::as_str))
        .unwrap_or_else(|| format!("configured providers: {}", known.join(", ")))
}

fn publish_exit(error: &publish::Error) -> Exit {
    use publish::Error;
    match error {
        Error::UnknownProvider { .. }
        | Error::ConfigFile { .. }
        | Error::ConfigFileTooLarge { .. }
        | Error::Class(_)
        | Error::Incomplete { .. }
        | Error::Tokens(_)
        | Error::PodInfo { .. }
        | Error::OtherPod => Exit::Invalid,
        Error::OverrideDenied(_) => Exit::Denied,
        Error::Provider { source, records, .. } => sandbox_exit(&source.cause, records),
        Error::Plugin { source, .. } => match &**source {
            app::Error::Plugin(error) => sandbox_exit(&error.cause, &[]),
            _ => Exit::Invalid,
        },
        Error::DriverUnknown { .. } | Error::PluginLoading { .. } | Error::Deadline { .. } | Error::Unpublished => {
            Exit::Unavailable
        }
        Error::Mount(_) | Error::Write { .. } => Exit::CannotWrite,
        Error::Files { .. } | Error::Lost { .. } => Exit::Fault,
    }
}

/// What a provider calls a request that policy denied is its own choice; the records know better.
fn sandbox_exit(cause: &Cause, records: &[Record]) -> Exit {
    match cause {
        cause if is_denied(cause, records) => Exit::Denied,
        Cause::Failure(_) if records.iter().any(exceeded) => Exit::Fault,
        Cause::Failure(failure) => match failure.kind {
            FailureKind::InvalidRequest | FailureKind::NotFound => Exit::Invalid,
            FailureKind::Unauthenticated | FailureKind::PermissionDenied => Exit::Denied,
            FailureKind::Throttled { .. } | FailureKind::Unavailable => Exit::Unavailable,
            FailureKind::Internal => Exit::Fault,
        },
        Cause::Deadline { .. } | Cause::Busy { .. } => Exit::Unavailable,
        _ => Exit::Fault,
    }
}

fn exceeded(record: &Record) -> bool {
    matches!(record.ending, Ending::Failed(egress::Error::Exhausted(_) | egress::Error::TooLarge(_)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coffer_sandbox::error::Stage;
    use coffer_sandbox::provider::Failure;

    use super::*;

    fn failed(cause: Cause, endings: &[Ending]) -> Error {
        let record = |ending: &Ending| Record {
            rule: None,
            method: "GET".into(),
            host: "h".into(),
            path: "/".into(),
            ending: ending.clone(),
            attempts: 0,
            bytes_out: 0,
            bytes_in: 0,
            duration: Duration::ZERO,
        };
        let source = Box::new(coffer_sandbox::error::Error { plugin: "p".into(), stage: Stage::Mount, cause });
        let records = endings.iter().map(record).collect();
        publish::Error::Provider { class: "c".into(), source, records, usage: Box::default() }.into()
    }

    fn failure(kind: FailureKind) -> Cause {
        Cause::Failure(Failure { kind, message: "said the provider".into() })
    }

    #[test]
    fn each_failure_of_a_provider_has_its_exit_code() {
        let cases = [
            (FailureKind::InvalidRequest, 65),
            (FailureKind::NotFound, 65),
            (FailureKind::Unauthenticated, 77),
            (FailureKind::PermissionDenied, 77),
            (FailureKind::Throttled { retry_after: None }, 69),
            (FailureKind::Unavailable, 69),
            (FailureKind::Internal, 70),
        ];
        for (kind, code) in cases {
            assert_eq!(failed(failure(kind), &[]).exit().code(), code, "{kind:?}");
        }
        assert_eq!(failed(Cause::Deadline { limit: Duration::ZERO }, &[]).exit(), Exit::Unavailable);
        assert_eq!(failed(Cause::Trap { message: String::new() }, &[]).exit(), Exit::Fault);
    }

    #[test]
    fn a_denied_request_counts_more_than_what_the_provider_makes_of_it() {
        let denied = Ending::Failed(egress::Error::Denied("no".into()));
        let error = failed(failure(FailureKind::Internal), &[Ending::Status(200), denied]);
        assert_eq!((error.exit(), error.reason()), (Exit::Denied, "EgressDenied"));
        let exhausted = Ending::Failed(egress::Error::Exhausted("requests".into()));
        assert_eq!(failed(failure(FailureKind::PermissionDenied), &[exhausted]).exit(), Exit::Fault);
    }

    #[test]
    fn causes_are_told_once_each() {
        let error = failed(failure(FailureKind::Internal), &[]);
        assert_eq!(error.to_string(), "SecretProviderClass `c` cannot be mounted");
        assert_eq!(error.causes(), ["plugin \"p\" reports", "said the provider"]);
        let read = std::io::Error::other("no such file");
        let error = Error::from(manifest::Error::Read { path: "x".into(), source: read });
        assert_eq!((error.to_string().as_str(), error.causes()), ("cannot read x", vec!["no such file".to_owned()]));
    }
}
