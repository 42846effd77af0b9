//! Why a class could not be published. Who has to act, and with what exit code, is decided in [`crate::error`].

use std::path::PathBuf;

use coffer_sandbox::egress::Record;

use crate::mistake::Position;
use crate::volume::FileError;

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
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
