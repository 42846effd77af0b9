//! SecretProviderClass: which provider, and with what parameters.
//!
//! The group has two served versions of the same shape; the older one differs in a `status` that nobody writes.
//! Parameters are the provider's business: all of them are kept, none is interpreted here. `manifest` makes these
//! from files.

use std::collections::BTreeMap;

/// The API group.
pub const GROUP: &str = "secrets-store.csi.x-k8s.io";
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
