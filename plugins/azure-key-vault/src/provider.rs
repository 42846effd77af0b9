//! What goes in and what comes out: the types of `wit/provider.wit`, for callers that are not a component.
//!
//! `guest` translates between these and the generated ones. Nothing here is checked yet; `parameters` does that.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// `spec.parameters` of a SecretProviderClass with the pod's volume attributes laid over them.
pub type Parameters = BTreeMap<String, String>;

/// Bytes that are wiped when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// What to mount. Its `Debug` output holds no secret.
#[derive(Clone, Default)]
pub struct Request {
    /// See [`Parameters`].
    pub parameters: Parameters,
    /// Keys and values of the Secret that `nodePublishSecretRef` names; empty without one.
    pub secrets: BTreeMap<String, Secret>,
    /// The pod that the volume belongs to.
    pub pod: Pod,
    /// Tokens of the pod's service account; empty when the cluster projects none.
    pub tokens: Vec<ServiceAccountToken>,
    /// Granted files that the parameters name, by the name that they use.
    pub config: BTreeMap<String, Vec<u8>>,
    /// What the last call with the same identity and session key returned, unless it expired.
    pub session: Option<Secret>,
    /// The time now, in Unix seconds.
    pub now: u64,
    /// Random bytes, fresh for this call.
    pub entropy: [u8; 32],
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("parameters", &self.parameters).field("now", &self.now).finish_non_exhaustive()
    }
}

/// The pod that a volume belongs to, as kubelet named it.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
}

/// A token of the pod's service account for one audience. Its `Debug` output leaves out the token.
#[derive(Clone)]
pub struct ServiceAccountToken {
    /// Whom it is for.
    pub audience: String,
    /// The JSON Web Token.
    pub token: Zeroizing<String>,
    /// When it ends, in Unix seconds.
    pub expires: u64,
}

impl fmt::Debug for ServiceAccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountToken")
            .field("audience", &self.audience)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What a mount brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The whole content of the volume; no two files have the same path.
    pub files: Vec<File>,
    /// Every object and its version; no two have the same id.
    pub objects: Vec<ObjectVersion>,
    /// What to keep for the next call.
    pub session: Option<Session>,
    /// What an operator should know although the mount worked, a line each.
    pub remarks: Vec<String>,
}

/// One file of the volume. Its `Debug` output leaves out the contents.
#[derive(PartialEq, Eq)]
pub struct File {
    /// Relative path, components separated by `/`.
    pub path: String,
    /// Permission bits, if the class sets them.
    pub mode: Option<u32>,
    /// The bytes.
    pub contents: Secret,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// An object of the vault and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// `<objectType>/<objectName>`, never the alias.
    pub id: String,
    /// The version that the vault named.
    pub version: String,
}

/// An access token to be handed back at the next call. Its `Debug` output leaves out the state.
#[derive(PartialEq, Eq)]
pub struct Session {
    /// Opaque bytes.
    pub state: Secret,
    /// How many seconds they may be used.
    pub expires_in_seconds: u32,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("expires_in_seconds", &self.expires_in_seconds).finish_non_exhaustive()
    }
}

/// How far a result may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All pods of one service account get the same answer.
    ServiceAccount,
    /// Every pod asks for itself.
    Pod,
}

/// What `check` found in a class without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whom the vault will authenticate.
    pub scope: Scope,
    /// Everything in the parameters that decides who the vault sees.
    pub session_key: String,
    /// What is allowed and yet looks like a mistake, a line each.
    pub remarks: Vec<String>,
}
