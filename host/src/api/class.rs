//! SecretProviderClass: which provider, and with what parameters.
//!
//! The group has two served versions of the same shape; the older one differs in a `status` that nobody writes.
//! Parameters are the provider's business: all of them are kept, none is interpreted here. `manifest` makes these
//! from files, `kube` from what the API server has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{or_default, texts};

pub use super::GROUP;

/// The kind.
pub const KIND: &str = "SecretProviderClass";
/// `apiVersion` of a class, current first.
pub const API_VERSIONS: [&str; 2] = ["secrets-store.csi.x-k8s.io/v1", "secrets-store.csi.x-k8s.io/v1alpha1"];

/// A SecretProviderClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretProviderClass {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, if the manifest says one.
    pub namespace: Option<String>,
    /// `spec.provider`: the name of a configured provider.
    pub provider: String,
    /// `spec.parameters`.
    pub parameters: BTreeMap<String, String>,
}

/// A SecretProviderClass as the API server has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Object {
    /// Name, namespace, uid, generation, annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: Spec,
}

impl Object {
    /// The class, without what only a cluster knows.
    #[must_use]
    pub fn class(&self) -> SecretProviderClass {
        SecretProviderClass {
            name: self.metadata.name.clone().unwrap_or_default(),
            namespace: self.metadata.namespace.clone(),
            provider: self.spec.provider.clone(),
            parameters: self.spec.parameters.clone(),
        }
    }
}

/// Which provider mounts what, and which Secrets are made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The name of a configured provider, `azure` for example.
    #[serde(deserialize_with = "or_default")]
    pub provider: String,
    /// What the provider is told; each provider documents its own.
    #[serde(deserialize_with = "texts")]
    pub parameters: BTreeMap<String, String>,
    /// Kubernetes Secrets to make of mounted files.
    #[serde(deserialize_with = "or_default")]
    pub secret_objects: Vec<SecretObject>,
}

/// A Kubernetes Secret to make of mounted files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretObject {
    /// The name of the Secret.
    #[serde(deserialize_with = "or_default")]
    pub secret_name: String,
    /// The type of the Secret, `Opaque` for example.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// Labels of the Secret.
    #[serde(deserialize_with = "texts")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Secret.
    #[serde(deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
    /// Which file becomes which key.
    #[serde(deserialize_with = "or_default")]
    pub data: Vec<SecretData>,
}

/// One key of a Kubernetes Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretData {
    /// The path of a mounted file, relative to the volume.
    #[serde(deserialize_with = "or_default")]
    pub object_name: String,
    /// The key in the Secret.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
}

/// Nothing: what a class does shows in the pod statuses.
#[derive(JsonSchema)]
pub(super) struct Status {}

/// What an old release of the driver said about a class; nobody writes it.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code, reason = "the fields are for the definition alone")]
#[derive(Default)]
pub(super) struct OldStatus {
    /// Pods that mounted the class.
    by_pod: Vec<OldPod>,
}

/// A pod that mounted the class.
#[derive(JsonSchema)]
#[serde(default)]
#[allow(dead_code, reason = "the fields are for the definition alone")]
#[derive(Default)]
struct OldPod {
    /// The pod's uid.
    id: String,
    /// The pod's namespace.
    namespace: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(object: Value) -> Object {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn nothing_is_required() {
        for object in [json!({}), json!({"spec": null}), json!({"spec": {}}), json!({"spec": {"parameters": null}})] {
            assert_eq!(read(object.clone()).spec, Spec::default(), "{object}");
        }
    }

    #[test]
    fn unknown_fields_and_null_values_are_left_out() {
        let object = read(json!({
            "apiVersion": API_VERSIONS[0], "kind": KIND, "extra": 1,
            "metadata": {"name": "kv", "namespace": "shop", "unheard": {}},
            "spec": {"provider": "azure", "parameters": {"a": "1", "b": null}, "extra": [], "secretObjects": [
                {"secretName": "s", "type": "Opaque", "data": [{"objectName": "o", "key": null, "extra": 2}]},
            ]},
            "status": {"byPod": []},
        }));
        let class = object.class();
        assert_eq!((class.name.as_str(), class.namespace.as_deref()), ("kv", Some("shop")));
        assert_eq!((class.provider.as_str(), class.parameters), ("azure", [("a".to_owned(), "1".to_owned())].into()));
        let data = SecretData { object_name: "o".into(), key: String::new() };
        assert_eq!(object.spec.secret_objects[0].data, [data]);
    }
}
