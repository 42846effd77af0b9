//! The Kubernetes objects that Coffer reads and writes, as types, and their CustomResourceDefinitions.
//!
//! Nothing is required and unknown fields are ignored, as in the definitions. Callers are `kube`, `manifest`, `publish`
//! and `commands::crds`.

pub mod class;
pub mod definitions;
pub mod pod_status;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// The API group.
pub const GROUP: &str = "secrets-store.csi.x-k8s.io";
/// The version that is stored, and the only one that Coffer asks for.
pub const VERSION: &str = "v1";
/// The version that is served for whoever still has it in a manifest.
pub const OLD_VERSION: &str = "v1alpha1";

/// `null` is the same as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A map whose value `null` is the same as a missing key, and that may be `null` itself.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map: Option<BTreeMap<String, Option<String>>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}
