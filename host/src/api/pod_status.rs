//! SecretProviderClassPodStatus: what is mounted in which pod. Coffer writes it and never reads it.
//!
//! The name, the label and the owner are how tools find it, so they are those of the Secrets Store CSI Driver.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Serialize;

/// The kind.
pub const KIND: &str = "SecretProviderClassPodStatus";
/// The label with the node's name.
pub const NODE_LABEL: &str = "internal.secrets-store.csi.k8s.io/node-name";
/// The annotation with the reason of the last refresh, while that failed.
pub const FAILURE_ANNOTATION: &str = "coffer.dev/refresh-failure";
/// The annotation of a volume that was mounted from a kept result, with the time of that, until a look works.
pub const OFFLINE_ANNOTATION: &str = "coffer.dev/offline-start";

/// A SecretProviderClassPodStatus as the API server takes it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// `secrets-store.csi.x-k8s.io/v1`.
    pub api_version: String,
    /// [`KIND`].
    pub kind: &'static str,
    /// Name, namespace, label, annotation, owner.
    pub metadata: ObjectMeta,
    /// What is mounted.
    pub status: Status,
}

/// What one pod has of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The name of the pod.
    pub pod_name: String,
    /// The name of the class.
    pub secret_provider_class_name: String,
    /// Whether the volume is mounted.
    pub mounted: bool,
    /// Where the volume is mounted on the node.
    pub target_path: String,
    /// What is in the volume.
    pub objects: Vec<Mounted>,
}

/// One object of the secret store and its version; neither is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(default)]
pub struct Mounted {
    /// What the provider calls the object.
    pub id: String,
    /// The store's version of it.
    pub version: String,
}
