//! What kubelet wants, in our own types: made by `csi`, carried out by `publish`.
//!
//! Nothing here is looked up, and nothing can be printed by accident: tokens and Secrets are [`SecretBytes`], and
//! attributes are the pod author's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use coffer_sandbox::provider::Pod;
use coffer_sandbox::secret::SecretBytes;

/// One NodePublishVolume, checked for what can be checked without looking anything up.
#[derive(Default)]
pub struct PublishRequest {
    /// `volume_id`.
    pub volume: String,
    /// `target_path`, absolute.
    pub target: PathBuf,
    /// The class's name; its namespace is the pod's.
    pub class: String,
    /// The pod, as kubelet names it (`podInfoOnMount`).
    pub pod: Pod,
    /// `volume_context` as kubelet sent it, without the tokens: the pod's volume attributes and kubelet's own keys.
    pub attributes: BTreeMap<String, String>,
    /// `secrets`: the Secret that `nodePublishSecretRef` names, without the tokens.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// The service account's tokens.
    pub tokens: Option<Tokens>,
    /// `volume_mount_group`: the pod's fsGroup.
    pub group: Option<u32>,
}

/// The JSON object under `csi.storage.k8s.io/serviceAccount.tokens`, and where it stood.
#[derive(Debug)]
pub struct Tokens {
    /// `{"<audience>": {"token": "…", "expirationTimestamp": "…"}}`.
    pub json: SecretBytes,
    /// Where kubelet put it.
    pub origin: TokenOrigin,
}

/// Where kubelet put the tokens. The context can also be written by the pod's author, `secrets` cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    /// `secrets` (CSIDriver `serviceAccountTokenInSecrets`).
    Secrets,
    /// `volume_context`.
    Context,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest")
            .field("volume", &self.volume)
            .field("target", &self.target)
            .field("class", &self.class)
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}
