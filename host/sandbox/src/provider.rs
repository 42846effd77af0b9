//! What goes into a provider and what comes out: `wit/provider.wit` in Rust, with secrets in their own type.
//!
//! `bindings` translates between these types and the generated ones; nobody else sees the generated ones.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::secret::SecretBytes;

/// `spec.parameters` of a SecretProviderClass with the pod's volume attributes laid over them.
pub type Parameters = BTreeMap<String, String>;

/// The pod that a volume belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
}

/// A token of the pod's service account for one audience.
#[derive(Debug)]
pub struct ServiceAccountToken {
    /// The audience it was issued for.
    pub audience: String,
    /// The JSON Web Token.
    pub token: SecretBytes,
    /// When it expires.
    pub expires: SystemTime,
}

/// An object of the secret store and its version; neither is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// What the provider calls the object.
    pub id: String,
    /// The store's version of it.
    pub version: String,
}

/// What to mount.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub pod: Pod,
    /// See [`Parameters`].
    pub parameters: Parameters,
    /// Keys and values of the Secret that `nodePublishSecretRef` names.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// The service account's tokens.
    pub tokens: Vec<ServiceAccountToken>,
    /// Granted files, by the path that the parameters name.
    pub config: BTreeMap<String, Vec<u8>>,
    /// The mode for files without one of their own, 0 to 0o777.
    pub default_mode: u32,
    /// What is in the volume now; empty on a first publish.
    pub mounted: Vec<ObjectVersion>,
    /// What the last call with the same identity and session key returned.
    pub session: Option<SecretBytes>,
    /// The time now.
    pub now: SystemTime,
    /// Fresh random bytes for this call.
    pub entropy: [u8; 32],
}

/// One file, as the provider named it; nothing about it is checked yet.
#[derive(Debug)]
pub struct File {
    /// Relative path.
    pub path: String,
    /// Permission bits, if the provider set them.
    pub mode: Option<u32>,
    /// The bytes.
    pub contents: SecretBytes,
}

/// Something a provider wants to have back at its next call.
#[derive(Debug)]
pub struct Session {
    /// Opaque bytes.
    pub state: SecretBytes,
    /// How long they may be used.
    pub expires_in: Duration,
}

/// The whole content of a volume.
#[derive(Debug)]
pub struct Mounted {
    /// Every file.
    pub files: Vec<File>,
    /// Every object and its version.
    pub objects: Vec<ObjectVersion>,
}

/// How a mount that worked ended.
#[derive(Debug)]
pub struct Outcome {
    /// The content, or none when the store has nothing newer than `mounted` of the request.
    pub mounted: Option<Mounted>,
    /// What to keep for the next call.
    pub session: Option<Session>,
}

/// What the provider's own failure means; decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Parameters, secrets or tokens are wrong or missing.
    InvalidRequest,
    /// The store does not accept the credentials.
    Unauthenticated,
    /// The store knows who asks and says no.
    PermissionDenied,
    /// An object does not exist.
    NotFound,
    /// The store asks to slow down.
    Throttled {
        /// How long, if the store said so.
        retry_after: Option<Duration>,
    },
    /// The store cannot be reached or fails.
    Unavailable,
    /// The provider does not understand what it sees.
    Internal,
}

/// A failure that the provider itself reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub kind: FailureKind,
    /// The provider's words, capped and redacted.
    pub message: String,
}

/// How far a result may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All pods of one service account get the same answer.
    ServiceAccount,
    /// Every pod asks for itself.
    Pod,
}

/// What `check` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whom the store authenticates.
    pub scope: Scope,
    /// What in the parameters decides who the store sees.
    pub session_key: String,
    /// What is allowed and yet looks like a mistake, capped and redacted.
    pub remarks: Vec<String>,
}
