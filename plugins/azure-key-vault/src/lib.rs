//! The Azure Key Vault provider: secrets, keys and certificates of one vault as the files of a volume.
//!
//! In the order in which a class meets them:
//!
//! * `parameters`, `objects`, `cloud`: what the class asks for, with every mistake in it.
//! * `identity`: who signs in and how; `token`: what comes of it, and how it is kept for the next call.
//! * `vault`: requests to the vault, its answers, refusals and challenges.
//! * `content`: from an object to the bytes of its file.
//! * [`mount()`] and [`check`]: the two things a provider does.
//! * `guest`: the same two as exports of a WebAssembly component.
//!
//! The crate is a function of its request and of HTTP: no clock, no randomness, no file, no thread. Only `guest` knows
//! that there is a sandbox, so everything else builds, tests and is measured natively:
//!
//! ```
//! use coffer_azure_key_vault::{Parameters, check};
//!
//! let parameters: Parameters = [("keyVaultName".to_owned(), "kv1".to_owned())].into();
//! let failure = check(&parameters).unwrap_err();
//! assert!(failure.message.contains("did you mean `keyvaultName`?"));
//! ```
//!
//! No message, remark or `Debug` output of this crate holds a secret.

mod check;
mod cloud;
mod content;
mod failure;
#[cfg(target_family = "wasm")]
mod guest;
pub mod http;
mod identity;
mod mount;
mod objects;
mod parameters;
mod provider;
mod spelling;
mod token;
mod vault;
mod yaml;

pub use check::check;
pub use failure::{Failure, FailureKind};
pub use mount::mount;
pub use provider::{
    Checked, File, ObjectVersion, Outcome, Parameters, Pod, Request, Scope, Secret, ServiceAccountToken, Session,
};

/// How this provider introduces itself to Entra and to vaults.
const USER_AGENT: &str = concat!("csi-secrets-store/", env!("CARGO_PKG_VERSION"), " coffer-azure-key-vault");
