//! Every way to fail, with the plugin, the stage and whose fault it is.
//!
//! A message names the object in lower case; the cause travels in [`std::error::Error::source`] and is never repeated in
//! the text above it. No message holds a secret: words of a provider pass `redact` before they get here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::provider::{Failure, FailureKind};
use crate::store::Digest;

/// A plugin that could not be loaded or a call that did not work.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin:?} {}", headline(*.stage, .cause))]
pub struct Error {
    /// The plugin, as `spec.provider` names it.
    pub plugin: String,
    /// How far it got.
    pub stage: Stage,
    /// What happened there.
    #[source]
    pub cause: Cause,
}

impl Error {
    /// Who has to act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.cause.fault()
    }

    /// A stable CamelCase word for metrics, events and conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.cause.reason()
    }
}

/// A provider that says what is wrong did finish.
fn headline(stage: Stage, cause: &Cause) -> String {
    match cause {
        Cause::Failure(_) => "reports".to_owned(),
        _ => stage.to_string(),
    }
}

/// Where in its life a plugin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the component.
    Source,
    /// Comparing it with what the administrator pinned.
    Verify,
    /// Turning it into native code.
    Compile,
    /// Linking it to the contract.
    Load,
    /// A call of `check`.
    Check,
    /// A call of `mount`.
    Mount,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "cannot be read",
            Self::Verify => "is not what was pinned",
            Self::Compile => "cannot be compiled",
            Self::Load => "cannot be loaded",
            Self::Check => "did not finish its check",
            Self::Mount => "did not finish its mount",
        })
    }
}

/// Who has to act so that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Whoever wrote the class, the Secret or the pod.
    Author,
    /// Whoever installed the plugin and wrote its grant.
    Administrator,
    /// Whoever made the plugin.
    Vendor,
    /// The secret store, or the way to it.
    Store,
    /// The node: disk, memory, permissions.
    Node,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The file of the component cannot be read.
    #[error("{path} cannot be read; check that the file exists and that this process may read it")]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The component is larger than the grant allows.
    #[error("the component is larger than {limit} bytes; raise `limits.component` if that is intended")]
    ComponentTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The bytes are something else.
    #[error("{path} is {found}, not a WebAssembly component")]
    NotAComponent {
        /// Where the bytes came from.
        path: PathBuf,
        /// What they look like, and what to do.
        found: &'static str,
    },
    /// The digest differs from the pinned one.
    #[error("its digest is {found}, the grant pins {pinned}; install the right file or change the pin")]
    Digest {
        /// What the grant says.
        pinned: Digest,
        /// What the bytes say.
        found: Digest,
    },
    /// The compiler could not be started or talked to.
    #[error("the compiling process failed: {what}")]
    Compiler {
        /// Doing what.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The compiler ran out of time.
    #[error("compiling took longer than {limit:?}; raise `limits.compileTime` for a large component")]
    CompileDeadline {
        /// The limit.
        limit: Duration,
    },
    /// The compiler ended without a result.
    #[error("the compiler refused the component: {message}")]
    CompileRefused {
        /// What it said, or which signal ended it.
        message: String,
    },
    /// The component wants more than the contract offers.
    #[error("the component imports {}, which the contract does not offer; build it for coffer:provider@{contract} without them", list(.imports))]
    ForeignImport {
        /// The names of the imports, sorted.
        imports: Vec<String>,
        /// The contract that this Coffer speaks.
        contract: &'static str,
    },
    /// The component was built for another version of the contract.
    #[error(
        "the component was built for {found}; this Coffer speaks coffer:provider@{contract}, so build the provider anew or use a Coffer that speaks it"
    )]
    ForeignContract {
        /// The import that shows it.
        found: String,
        /// The contract that this Coffer speaks.
        contract: &'static str,
    },
    /// The component lacks an export, or one has another type.
    #[error("the component does not fit the contract coffer:provider@{contract}: {message}")]
    Mismatch {
        /// What does not fit.
        message: String,
        /// The contract that this Coffer speaks.
        contract: &'static str,
    },
    /// The engine refused the compiled code or an instance.
    #[error("the WebAssembly engine failed: {message}")]
    Engine {
        /// What it said.
        message: String,
    },
    /// No free instance within the deadline.
    #[error("no instance became free within {limit:?}; too many calls run at once")]
    Busy {
        /// How long the call waited.
        limit: Duration,
    },
    /// The call did not end in time.
    #[error("it took longer than {limit:?}")]
    Deadline {
        /// The limit.
        limit: Duration,
    },
    /// The guest exceeded a limit of its grant.
    #[error(
        "it exceeded its limit of {limit}; if the provider is right to need more, raise `limits.{setting}` of its grant"
    )]
    Limit {
        /// What and how much.
        limit: String,
        /// The setting to raise.
        setting: &'static str,
    },
    /// The guest stopped with a trap.
    #[error("it crashed: {message}")]
    Trap {
        /// The trap and the innermost functions.
        message: String,
    },
    /// The guest answered against the contract.
    #[error("its answer breaks the contract: {message}")]
    Answer {
        /// How.
        message: String,
    },
    /// The provider itself says that it did not work.
    #[error("{}", .0.message)]
    Failure(Failure),
}

impl Cause {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreadable { .. }
            | Self::NotAComponent { .. }
            | Self::ComponentTooLarge { .. }
            | Self::Digest { .. } => Fault::Administrator,
            Self::Compiler { .. } | Self::Engine { .. } | Self::Busy { .. } => Fault::Node,
            Self::CompileDeadline { .. }
            | Self::CompileRefused { .. }
            | Self::ForeignImport { .. }
            | Self::ForeignContract { .. }
            | Self::Mismatch { .. }
            | Self::Limit { .. }
            | Self::Trap { .. }
            | Self::Answer { .. } => Fault::Vendor,
            Self::Deadline { .. } => Fault::Store,
            Self::Failure(failure) => match failure.kind {
                FailureKind::InvalidRequest | FailureKind::NotFound => Fault::Author,
                FailureKind::Unauthenticated | FailureKind::PermissionDenied => Fault::Author,
                FailureKind::Throttled { .. } | FailureKind::Unavailable => Fault::Store,
                FailureKind::Internal => Fault::Vendor,
            },
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "PluginUnreadable",
            Self::ComponentTooLarge { .. } => "PluginTooLarge",
            Self::NotAComponent { .. } => "PluginNotAComponent",
            Self::Digest { .. } => "PluginDigestMismatch",
            Self::Compiler { .. } => "CompilerFailed",
            Self::CompileDeadline { .. } => "CompileDeadlineExceeded",
            Self::CompileRefused { .. } => "CompileRefused",
            Self::ForeignImport { .. } => "PluginForeignImport",
            Self::ForeignContract { .. } => "PluginForeignContract",
            Self::Mismatch { .. } => "PluginContractMismatch",
            Self::Engine { .. } => "EngineFailed",
            Self::Busy { .. } => "NoFreeInstance",
            Self::Deadline { .. } => "DeadlineExceeded",
            Self::Limit { .. } => "LimitExceeded",
            Self::Trap { .. } => "ProviderCrashed",
            Self::Answer { .. } => "ProviderAnswerInvalid",
            Self::Failure(failure) => match failure.kind {
                FailureKind::InvalidRequest => "InvalidRequest",
                FailureKind::Unauthenticated => "Unauthenticated",
                FailureKind::PermissionDenied => "PermissionDenied",
                FailureKind::NotFound => "NotFound",
                FailureKind::Throttled { .. } => "Throttled",
                FailureKind::Unavailable => "Unavailable",
                FailureKind::Internal => "ProviderInternal",
            },
        }
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
