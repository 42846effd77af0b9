//! A pod with inline volumes, as far as kubelet's words to a driver depend on it.

use std::collections::BTreeMap;

use crate::harness::answer::random_guid;

/// The name that [`Pod::mounts`] gives to a volume.
const VOLUME: &str = "secrets";

/// A pod. A new one has a UID of its own, and the namespace and service account that are called `default`.
///
/// No `Debug`: it holds the content of Secrets.
#[derive(Clone)]
pub struct Pod {
    name: String,
    namespace: String,
    uid: String,
    service_account: String,
    fs_group: Option<u32>,
    volumes: Vec<Volume>,
}

/// An inline volume of the driver: `csi` below a volume of a pod.
#[derive(Clone)]
pub struct Volume {
    pub(super) name: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) secret: Option<BTreeMap<String, String>>,
    pub(super) read_only: bool,
}

impl Pod {
    /// A pod without volumes.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: random_guid(),
            service_account: "default".to_owned(),
            fs_group: None,
            volumes: Vec::new(),
        }
    }

    /// In another namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With this UID.
    pub fn with_uid(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.uid);
        self
    }

    /// With another service account.
    pub fn service_account(mut self, name: &str) -> Self {
        name.clone_into(&mut self.service_account);
        self
    }

    /// With `securityContext.fsGroup`.
    pub fn fs_group(mut self, group: u32) -> Self {
        self.fs_group = Some(group);
        self
    }

    /// With one more volume.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.volumes.push(volume);
        self
    }

    /// With one more volume, `secrets`, of this class.
    pub fn mounts(self, class: &str) -> Self {
        self.volume(Volume::new(VOLUME, class))
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.namespace`.
    pub fn namespace_name(&self) -> &str {
        &self.namespace
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// `spec.serviceAccountName`.
    pub fn service_account_name(&self) -> &str {
        &self.service_account
    }

    pub(super) fn group(&self) -> Option<u32> {
        self.fs_group
    }

    pub(super) fn find(&self, volume: &str) -> Option<&Volume> {
        self.volumes.iter().find(|kept| kept.name == volume)
    }
}

impl Volume {
    /// A read-only volume of a class.
    pub fn new(name: &str, class: &str) -> Self {
        Self::without_class(name).attribute("secretProviderClass", class)
    }

    /// A volume whose author forgot to say which class.
    pub fn without_class(name: &str) -> Self {
        Self { name: name.to_owned(), attributes: BTreeMap::new(), secret: None, read_only: true }
    }

    /// With one of `volumeAttributes`, whatever it is called.
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With the content of the Secret that `nodePublishSecretRef` names.
    pub fn secret(mut self, content: &[(&str, &str)]) -> Self {
        self.secret = Some(content.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        self
    }

    /// Without `readOnly: true`.
    pub fn writable(mut self) -> Self {
        self.read_only = false;
        self
    }
}
