//! The calls about Kubernetes Secrets: what stands there, without what it holds; values; owners.
//!
//! Values are applied by the one field manager that all nodes share, each owner by a manager of its own, so that no node
//! takes away what another one wrote. No call answers with what a Secret holds. `sync` is the caller, and decides.

use std::collections::{BTreeMap, HashSet};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::provider::Pod;
use coffer_sandbox::secret::SecretBytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::call::{Failure, Freshness, Kind, MANAGER, Resource};
use super::client::Client;
use super::names;
use crate::api::pod_status::KIND as POD_STATUS;
use crate::api::{GROUP, VERSION};

/// The label of every Secret that is made of mounted files.
pub(crate) const MANAGED_LABEL: &str = "secrets-store.csi.k8s.io/managed";
/// The field manager of the Secrets Store CSI Driver: the first part of its user agent.
const OTHER_DRIVER: &str = "csi-secrets-store";
/// Begins the field managers of owners.
const OWNER_MANAGER: &str = "coffer-owner-";
/// How much of an owner's digest is in the name of its manager.
const DIGITS: usize = 16;

/// Secrets of any namespace.
pub(crate) struct Secrets(Client);

/// A Secret that stands there.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) uid: String,
    /// The uids of its owners.
    pub(crate) owners: HashSet<String>,
    pub(crate) standing: Standing,
    /// The fields that the other driver manages, with which their keys would stay for ever.
    inherited: Option<Inherited>,
}

/// Whose a Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Coffer's, or the other driver's whose place it takes.
    Ours,
    /// It does not say that it is managed.
    NotManaged,
    /// It says so, and neither driver ever wrote it.
    NotWritten,
}

/// Managed fields, of one version of the object.
#[derive(Debug)]
struct Inherited {
    version: String,
    entries: Vec<ManagedFieldsEntry>,
}

/// What a Secret shall hold.
pub(crate) struct Values<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) data: &'a BTreeMap<String, SecretBytes>,
}

/// A Secret as it is applied.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    secret_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<BTreeMap<&'a str, Encoded<'a>>>,
}

/// Bytes as Kubernetes writes them.
struct Encoded<'a>(&'a SecretBytes);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0.expose(), &STANDARD))
    }
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// What stands there. That there is nothing is confirmed by the store behind the API server.
    pub(crate) async fn look(
        &self,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<Option<Found>, Failure> {
        let metadata = self.metadata(Resource::Secrets, namespace, name, freshness).await?;
        Ok(metadata.map(Found::from))
    }

    /// Makes the Secret hold this. `uid` is that of the Secret that was seen there: another one is left alone.
    pub(crate) async fn write(
        &self,
        namespace: &str,
        values: &Values<'_>,
        uid: Option<&str>,
    ) -> Result<String, Failure> {
        let some = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
        let metadata = ObjectMeta {
            labels: some(values.labels),
            annotations: some(values.annotations),
            ..metadata(namespace, values.name, uid)
        };
        let data = values.data.iter().map(|(key, value)| (key.as_str(), Encoded(value))).collect();
        let applied =
            Applied { api_version: "v1", kind: "Secret", metadata, secret_type: Some(values.kind), data: Some(data) };
        let written = self.apply(MANAGER, namespace, values.name, &applied).await?;
        Ok(written.uid.unwrap_or_default())
    }

    /// Makes the Secret with this uid belong to an owner too. Where it is gone, none is made.
    pub(crate) async fn own(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        owner: &OwnerReference,
    ) -> Result<(), Failure> {
        let metadata =
            ObjectMeta { owner_references: Some(vec![owner.clone()]), ..metadata(namespace, name, Some(uid)) };
        let applied = Applied { api_version: "v1", kind: "Secret", metadata, secret_type: None, data: None };
        self.apply(&owner_manager(&owner.uid), namespace, name, &applied).await.map(drop)
    }

    /// Takes over what the other driver manages of a Secret, its owners excepted. Nothing, where it manages nothing.
    pub(crate) async fn adopt(&self, namespace: &str, name: &str, found: &Found) -> Result<(), Failure> {
        let Some(Inherited { version, entries }) = &found.inherited else { return Ok(()) };
        // The version is the lock: whoever wrote meanwhile makes this fail.
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": taken_over(entries)},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]);
        self.0.json_patch(Resource::Secrets, namespace, name, &patch).await
    }

    /// Who owns a pod, reduced to what a reference needs; none if the pod is gone or another one has its name.
    pub(crate) async fn owners_of(&self, pod: &Pod) -> Result<Option<Vec<OwnerReference>>, Failure> {
        let found = self.metadata(Resource::Pods, &pod.namespace, &pod.name, Freshness::Cached).await?;
        let found = match found {
            // An older pod of the same name may be what the cache still has.
            Some(found) if found.uid.as_deref() != Some(&pod.uid) => {
                self.metadata(Resource::Pods, &pod.namespace, &pod.name, Freshness::Quorum).await?
            }
            found => found,
        };
        let found = found.filter(|found| found.uid.as_deref() == Some(&pod.uid));
        Ok(found.map(|found| found.owner_references.unwrap_or_default().into_iter().map(reduced).collect()))
    }

    /// The pod status of a pod and a class as an owner; none while it is not written for this very pod: one of an earlier pod
    /// of the same name is about to be collected, and what it owns goes with it.
    pub(crate) async fn pod_status(&self, pod: &Pod, class: &str) -> Result<Option<OwnerReference>, Failure> {
        let name = names::name(&format!("{}-{}-{class}", pod.name, pod.namespace));
        let is_of_pod = |found: &ObjectMeta| found.owner_references.iter().flatten().any(|owner| owner.uid == pod.uid);
        let read = async |freshness| self.metadata(Resource::PodStatuses, &pod.namespace, &name, freshness).await;
        let found = match read(Freshness::Cached).await? {
            Some(found) if !is_of_pod(&found) => read(Freshness::Quorum).await?,
            found => found,
        };
        Ok(found.filter(is_of_pod).and_then(|found| found.uid).map(|uid| OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: POD_STATUS.to_owned(),
            name,
            uid,
            ..OwnerReference::default()
        }))
    }

    async fn metadata(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<Option<ObjectMeta>, Failure> {
        let read = async |freshness| match self.0.metadata(resource, namespace, name, freshness).await {
            Ok(metadata) => Ok(Some(metadata)),
            Err(failure) if failure.kind == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        };
        match read(freshness).await? {
            None if freshness == Freshness::Cached => read(Freshness::Quorum).await,
            found => Ok(found),
        }
    }

    async fn apply(
        &self,
        manager: &str,
        namespace: &str,
        name: &str,
        applied: &Applied<'_>,
    ) -> Result<ObjectMeta, Failure> {
        let body = serde_json::to_vec(applied).map_err(|error| Failure {
            kind: Kind::Refused,
            message: format!("the Secret cannot be written: {error}"),
            retry_after: None,
        })?;
        self.0.apply_as(manager, Resource::Secrets, namespace, name, body).await.map_err(|failure| {
            // Another Secret than the one that was seen stands there by now.
            let is_other = failure.kind == Kind::Refused && failure.message.contains("metadata.uid");
            if is_other { Failure { kind: Kind::Transient, ..failure } } else { failure }
        })
    }
}

impl From<ObjectMeta> for Found {
    fn from(metadata: ObjectMeta) -> Self {
        let entries = metadata.managed_fields.unwrap_or_default();
        let is_by = |entry: &ManagedFieldsEntry, manager: &str| entry.manager.as_deref() == Some(manager);
        let is_managed =
            metadata.labels.is_some_and(|labels| labels.get(MANAGED_LABEL).map(String::as_str) == Some("true"));
        let is_written = entries.iter().any(|entry| is_by(entry, MANAGER) || is_by(entry, OTHER_DRIVER));
        let standing = match (is_managed, is_written) {
            (false, _) => Standing::NotManaged,
            (true, false) => Standing::NotWritten,
            (true, true) => Standing::Ours,
        };
        let inherits = entries.iter().any(|entry| is_inherited(entry) && !split(entry).1.is_empty());
        let version = metadata.resource_version.unwrap_or_default();
        Self {
            uid: metadata.uid.unwrap_or_default(),
            owners: metadata.owner_references.unwrap_or_default().into_iter().map(|owner| owner.uid).collect(),
            standing,
            inherited: inherits.then_some(Inherited { version, entries }),
        }
    }
}

fn metadata(namespace: &str, name: &str, uid: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

/// What the reference keeps of an owner.
fn reduced(owner: OwnerReference) -> OwnerReference {
    let OwnerReference { api_version, kind, name, uid, .. } = owner;
    OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() }
}

/// The same on every node, so that the same owner of two nodes is one.
fn owner_manager(uid: &str) -> String {
    format!("{OWNER_MANAGER}{}", names::hex(&Sha256::digest(uid), DIGITS))
}

fn is_inherited(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(OTHER_DRIVER) && entry.operation.as_deref() == Some("Update")
}

/// The owners among the fields of an entry, and the others.
fn split(entry: &ManagedFieldsEntry) -> (Map<String, Value>, Map<String, Value>) {
    const METADATA: &str = "f:metadata";
    const OWNERS: &str = "f:ownerReferences";
    let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.as_object()).cloned();
    let mut others = fields.unwrap_or_default();
    let mut owners = Map::new();
    if let Some(metadata) = others.get_mut(METADATA).and_then(Value::as_object_mut) {
        if let Some(taken) = metadata.remove(OWNERS) {
            owners.insert(METADATA.to_owned(), json!({ OWNERS: taken }));
        }
        if metadata.is_empty() {
            others.remove(METADATA);
        }
    }
    (owners, others)
}

/// The entries when Coffer has taken the other driver's place: what that one applied is Coffer's to take away.
fn taken_over(entries: &[ManagedFieldsEntry]) -> Vec<ManagedFieldsEntry> {
    let mut ours = Map::new();
    let mut kept = Vec::new();
    let mut time = None;
    for entry in entries {
        let is_ours = entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply");
        if is_ours {
            unite(&mut ours, entry.fields_v1.as_ref().and_then(|fields| fields.0.as_object()));
            time = entry.time.clone().or(time);
        } else if is_inherited(entry) {
            let (owners, others) = split(entry);
            unite(&mut ours, Some(&others));
            time = time.or_else(|| entry.time.clone());
            if !owners.is_empty() {
                kept.push(ManagedFieldsEntry { fields_v1: Some(FieldsV1(Value::Object(owners))), ..entry.clone() });
            }
        } else {
            kept.push(entry.clone());
        }
    }
    kept.push(ManagedFieldsEntry {
        manager: Some(MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        api_version: Some("v1".to_owned()),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(Value::Object(ours))),
        time,
        subresource: None,
    });
    kept
}

fn unite(into: &mut Map<String, Value>, more: Option<&Map<String, Value>>) {
    for (key, value) in more.into_iter().flatten() {
        match (into.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
            (Some(inner), more) => unite(inner, more),
            (None, _) => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn found(label: Option<&str>, entries: Vec<ManagedFieldsEntry>) -> Found {
        let labels = label.map(|value| [(MANAGED_LABEL.to_owned(), value.to_owned())].into());
        ObjectMeta { labels, managed_fields: Some(entries), ..ObjectMeta::default() }.into()
    }

    #[test]
    fn a_secret_is_ours_by_its_label_and_by_who_wrote_it() {
        let coffer = || entry(MANAGER, "Apply", json!({"f:type": {}}));
        let other = || entry(OTHER_DRIVER, "Update", json!({"f:type": {}}));
        let user = || entry("kubectl-create", "Update", json!({"f:type": {}}));
        assert_eq!(found(Some("true"), vec![user(), coffer()]).standing, Standing::Ours);
        assert_eq!(found(Some("true"), vec![other()]).standing, Standing::Ours);
        assert_eq!(found(Some("true"), vec![user()]).standing, Standing::NotWritten);
        assert_eq!(found(None, vec![coffer()]).standing, Standing::NotManaged);
        assert_eq!(found(Some("false"), vec![coffer()]).standing, Standing::NotManaged);
    }

    #[test]
    fn taking_over_leaves_the_owners_and_everybody_else_where_they_are() {
        let owners = json!({"f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}});
        let inherited = json!({
            "f:data": {".": {}, "f:a": {}}, "f:type": {},
            "f:metadata": {"f:labels": {"f:l": {}}, "f:ownerReferences": owners["f:ownerReferences"]},
        });
        let ours = json!({"f:data": {"f:b": {}}});
        let user = entry("kubectl", "Update", json!({"f:data": {"f:c": {}}}));
        let before = [user.clone(), entry(OTHER_DRIVER, "Update", inherited), entry(MANAGER, "Apply", ours)];
        let after = taken_over(&before);
        assert_eq!(after.len(), 3);
        assert_eq!(after[0], user);
        assert_eq!(after[1].fields_v1.as_ref().unwrap().0, json!({"f:metadata": owners}));
        assert_eq!(after[2].manager.as_deref(), Some(MANAGER));
        assert_eq!(
            after[2].fields_v1.as_ref().unwrap().0,
            json!({
                "f:data": {".": {}, "f:a": {}, "f:b": {}}, "f:type": {}, "f:metadata": {"f:labels": {"f:l": {}}},
            })
        );
        assert!(found(Some("true"), after).inherited.is_none(), "nothing is left to take over");
    }

    #[test]
    fn the_manager_of_an_owner_is_short_and_its_own() {
        let manager = owner_manager(&"u".repeat(300));
        assert!(manager.len() <= 128 && manager.starts_with(OWNER_MANAGER), "{manager}");
        assert_ne!(owner_manager("a"), owner_manager("b"));
    }
}
