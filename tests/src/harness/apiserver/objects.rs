//! The stored objects, and what each verb does to them: identity, versions, generations, managers.
//!
//! Knows no HTTP. `serve` brings requests, the handles of a test come here directly.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::checks;
use super::fields::{self, Managers};
use super::resource::{Resource, Target, Verb, discovery};
use super::status::Refusal;
use crate::harness::answer::random_guid;

type Key = (Resource, String, String);

/// One object and who manages it.
#[derive(Clone)]
struct Stored {
    object: Value,
    managers: Managers,
}

/// A right as a rule of a ClusterRole gives it.
#[derive(Clone, Debug)]
pub struct Right {
    /// API groups.
    pub groups: Vec<String>,
    /// Plurals.
    pub resources: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Names; empty means all.
    pub names: Vec<String>,
}

/// A write of one object.
pub(crate) struct Write<'a> {
    pub(crate) target: &'a Target,
    /// `fieldManager`, or what stands for it.
    pub(crate) manager: &'a str,
    pub(crate) force: bool,
}

/// Everything that the API server knows.
#[derive(Default)]
pub(crate) struct Objects {
    stored: BTreeMap<Key, Stored>,
    /// What reads with `resourceVersion=0` see, while it differs from what is stored.
    cache: Option<BTreeMap<Key, Stored>>,
    version: u64,
    /// The definitions of Coffer's own resources that are missing.
    undefined: BTreeSet<Resource>,
    rights: Option<Vec<Right>>,
}

impl Objects {
    pub(crate) fn define(&mut self, resource: Resource, defined: bool) {
        if defined {
            self.undefined.remove(&resource);
        } else {
            self.undefined.insert(resource);
        }
    }

    pub(crate) fn enforce(&mut self, rights: Option<Vec<Right>>) {
        self.rights = rights;
    }

    /// From now on reads with `resourceVersion=0` see what is stored now; `false` lets them see everything again.
    pub(crate) fn freeze_cache(&mut self, frozen: bool) {
        self.cache = frozen.then(|| self.stored.clone());
    }

    pub(crate) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Value> {
        self.stored.get(&(resource, namespace.to_owned(), name.to_owned())).map(|stored| &stored.object)
    }

    pub(crate) fn all(&self, resource: Resource) -> Vec<Value> {
        self.stored
            .iter()
            .filter(|((kind, ..), _)| *kind == resource)
            .map(|(_, stored)| stored.object.clone())
            .collect()
    }

    /// Stores what a test says, whatever stands there.
    pub(crate) fn put(&mut self, target: &Target, manager: &str, object: Value) -> Result<Value, Refusal> {
        let write = Write { target, manager, force: true };
        match self.get(target.resource, &target.namespace, &target.name) {
            None => self.create(&write, object),
            Some(_) => self.update(&write, object),
        }
    }

    /// Gives an object the uid that somebody else knows it by.
    pub(crate) fn set_uid(&mut self, resource: Resource, namespace: &str, name: &str, uid: &str) {
        if let Some(stored) = self.stored.get_mut(&(resource, namespace.to_owned(), name.to_owned())) {
            stored.object["metadata"]["uid"] = json!(uid);
        }
    }

    pub(crate) fn delete(&mut self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.version += 1;
        self.stored.remove(&(resource, namespace.to_owned(), name.to_owned())).is_some()
    }

    /// What garbage collection does when an owner is gone: takes it out of the references, and removes what has none left.
    pub(crate) fn collect(&mut self, uid: &str) {
        self.stored.retain(|_, stored| {
            let Some(owners) = stored.object["metadata"]["ownerReferences"].as_array_mut() else { return true };
            let before = owners.len();
            owners.retain(|owner| owner["uid"] != uid);
            owners.len() == before || !owners.is_empty()
        });
    }

    /// Whether the request may go on at all.
    pub(crate) fn admit(&self, target: &Target) -> Result<(), Refusal> {
        match target.resource {
            Resource::Other => Err(Refusal::NoSuchPath),
            Resource::Discovery => Ok(()),
            _ if !self.allows(target.verb, target) => Err(Refusal::Forbidden),
            resource if self.undefined.contains(&resource) => Err(Refusal::NoSuchPath),
            _ => Ok(()),
        }
    }

    fn allows(&self, verb: Verb, target: &Target) -> bool {
        let Some(rights) = &self.rights else { return true };
        let has = |list: &[String], what: &str| list.iter().any(|item| item == what || item == "*");
        rights.iter().any(|right| {
            has(&right.groups, &target.group)
                && has(&right.resources, target.resource.plural())
                && has(&right.verbs, verb.name())
                && (right.names.is_empty() || right.names.contains(&target.name))
        })
    }

    pub(crate) fn discover(&self, target: &Target) -> Result<Value, Refusal> {
        let hidden: Vec<Resource> = self.undefined.iter().copied().collect();
        discovery(&target.group, &target.version, &hidden).ok_or(Refusal::NoSuchPath)
    }

    pub(crate) fn read(&self, target: &Target, cached: bool) -> Result<Value, Refusal> {
        let view = self.cache.as_ref().filter(|_| cached).unwrap_or(&self.stored);
        let key = (target.resource, target.namespace.clone(), target.name.clone());
        view.get(&key).map(|stored| served(stored, target)).ok_or(Refusal::NotFound)
    }

    pub(crate) fn list(&self, target: &Target) -> Value {
        let here = |(kind, namespace, _): &&Key| {
            *kind == target.resource && (target.namespace.is_empty() || *namespace == target.namespace)
        };
        let items: Vec<Value> =
            self.stored.iter().filter(|(key, _)| here(key)).map(|(_, stored)| served(stored, target)).collect();
        json!({
            "kind": format!("{}List", target.resource.kind()), "apiVersion": target.api_version(),
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items,
        })
    }

    pub(crate) fn create(&mut self, write: &Write<'_>, mut object: Value) -> Result<Value, Refusal> {
        let generated = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        if object["metadata"]["name"].is_null() && !generated.is_empty() {
            object["metadata"]["name"] = json!(format!("{generated}{}", self.version));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let target = Target { name, ..write.target.clone() };
        let key = (target.resource, target.namespace.clone(), target.name.clone());
        if self.stored.contains_key(&key) {
            return Err(Refusal::AlreadyExists);
        }
        object = checked(&target, object)?;
        if target.resource == Resource::Secrets {
            let wrong = checks::secret(&object);
            if !wrong.is_empty() {
                return Err(Refusal::Invalid(wrong));
            }
        }
        let mut managers = Managers::new();
        fields::update(&Value::Null, &object, &mut managers, write.manager);
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(random_guid());
        metadata["creationTimestamp"] = json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        metadata["resourceVersion"] = json!(self.version.to_string());
        if generations(target.resource) {
            metadata["generation"] = json!(1);
        }
        let stored = Stored { object, managers };
        let answer = served(&stored, &target);
        self.stored.insert(key, stored);
        Ok(answer)
    }

    pub(crate) fn update(&mut self, write: &Write<'_>, object: Value) -> Result<Value, Refusal> {
        let before = self.stored(write.target)?.clone();
        let wanted = object["metadata"]["resourceVersion"].as_str();
        if wanted.is_some_and(|version| before.object["metadata"]["resourceVersion"] != version) {
            return Err(Refusal::Conflict("the object has been modified; please apply your changes".into()));
        }
        let object = checked(write.target, object)?;
        let mut managers = before.managers.clone();
        fields::update(&before.object, &object, &mut managers, write.manager);
        settled(write.target, &before.object, &object)?;
        Ok(self.replace(write.target, &before, object, managers))
    }

    /// A JSON merge patch (RFC 7396).
    pub(crate) fn merge(&mut self, write: &Write<'_>, patch: &Value) -> Result<Value, Refusal> {
        let mut object = self.stored(write.target)?.object.clone();
        lay_over(&mut object, patch);
        self.update(write, object)
    }

    /// Server-side apply.
    pub(crate) fn apply(&mut self, write: &Write<'_>, wanted: Value) -> Result<Value, Refusal> {
        let target = write.target;
        if write.manager.is_empty() {
            return Err(Refusal::BadRequest(
                "PatchOptions.fieldManager: Required value: is required for apply patch".into(),
            ));
        }
        if !wanted["metadata"]["managedFields"].is_null() {
            return Err(Refusal::BadRequest("metadata.managedFields must be nil".into()));
        }
        let expected = wanted["metadata"]["uid"].as_str().map(str::to_owned);
        let wanted = checked(target, wanted)?;
        if self.stored(target).is_err() {
            // Whoever names a uid means an object that is there.
            if let Some(uid) = expected {
                return Err(Refusal::Conflict(format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                )));
            }
            if !self.allows(Verb::Create, target) {
                return Err(Refusal::Forbidden);
            }
            self.create(write, wanted.clone())?;
            // The creation is the first apply.
            let key = (target.resource, target.namespace.clone(), target.name.clone());
            if let Some(stored) = self.stored.get_mut(&key) {
                stored.managers.clear();
                let fresh = fields::apply(&mut stored.object, &mut stored.managers, write.manager, &wanted, true);
                fresh.map_err(Refusal::Owned)?;
                if target.resource == Resource::Secrets && stored.object["type"].is_null() {
                    stored.object["type"] = json!("Opaque");
                }
                return Ok(served(stored, target));
            }
        }
        let before = self.stored(target)?.clone();
        if expected.is_some_and(|uid| before.object["metadata"]["uid"] != uid) {
            return Err(Refusal::Invalid(vec!["metadata.uid: Invalid value: field is immutable".into()]));
        }
        let (mut object, mut managers) = (before.object.clone(), before.managers.clone());
        fields::apply(&mut object, &mut managers, write.manager, &wanted, write.force).map_err(Refusal::Owned)?;
        settled(target, &before.object, &object)?;
        Ok(self.replace(target, &before, object, managers))
    }

    /// A JSON patch (RFC 6902), of the few fields that somebody changes so.
    pub(crate) fn json_patch(&mut self, write: &Write<'_>, patch: &Value) -> Result<Value, Refusal> {
        let before = self.stored(write.target)?.clone();
        let (mut object, mut managers) = (before.object.clone(), before.managers.clone());
        for change in patch.as_array().into_iter().flatten() {
            match (change["op"].as_str(), change["path"].as_str()) {
                (Some("replace"), Some("/metadata/managedFields")) => managers = fields::read(&change["value"]),
                (Some("replace"), Some("/metadata/resourceVersion")) => {
                    if before.object["metadata"]["resourceVersion"] != change["value"] {
                        return Err(Refusal::Conflict("the object has been modified".into()));
                    }
                }
                (Some("replace"), Some("/spec/taints")) => object["spec"]["taints"] = change["value"].clone(),
                _ => return Err(Refusal::BadRequest("this server knows no such JSON patch".into())),
            }
        }
        Ok(self.replace(write.target, &before, object, managers))
    }

    fn stored(&self, target: &Target) -> Result<&Stored, Refusal> {
        let key = (target.resource, target.namespace.clone(), target.name.clone());
        self.stored.get(&key).ok_or(Refusal::NotFound)
    }

    /// Stores a new state. What changes nothing gets no new version; what changes more than metadata gets a new generation.
    fn replace(&mut self, target: &Target, before: &Stored, mut object: Value, managers: Managers) -> Value {
        for own in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                match before.object["metadata"].get(own) {
                    Some(value) => metadata.insert(own.to_owned(), value.clone()),
                    None => metadata.remove(own),
                };
            }
        }
        object["apiVersion"] = before.object["apiVersion"].clone();
        let changed = object != before.object;
        if changed || managers != before.managers {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        if changed && generations(target.resource) && !same_but_metadata(&object, &before.object) {
            let generation = before.object["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let stored = Stored { object, managers };
        let answer = served(&stored, target);
        self.stored.insert((target.resource, target.namespace.clone(), target.name.clone()), stored);
        answer
    }
}

/// What may not change any more.
fn settled(target: &Target, before: &Value, after: &Value) -> Result<(), Refusal> {
    if target.resource != Resource::Secrets {
        return Ok(());
    }
    let mut wrong = checks::secret(after);
    if before["type"] != after["type"] {
        wrong.push(format!("type: Invalid value: {}: field is immutable", after["type"]));
    }
    if before["immutable"] == true && before["data"] != after["data"] {
        wrong.push("data: Forbidden: field is immutable when `immutable` is set".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(Refusal::Invalid(wrong)) }
}

/// The object as the server would store it, in the version that is stored.
fn checked(target: &Target, mut object: Value) -> Result<Value, Refusal> {
    let (kind, version) = (target.resource.kind(), target.api_version());
    if object["kind"] != kind || object["apiVersion"] != version {
        return Err(Refusal::BadRequest(format!("the object must be of kind {kind} and apiVersion {version}")));
    }
    let metadata = &mut object["metadata"];
    if metadata["name"] != target.name.as_str() {
        return Err(Refusal::BadRequest("the name of the object does not match the name on the URL".into()));
    }
    match metadata["namespace"].as_str() {
        None if !target.namespace.is_empty() => metadata["namespace"] = json!(target.namespace),
        Some(namespace) if namespace != target.namespace => {
            return Err(Refusal::BadRequest(
                "the namespace of the object does not match the namespace on the URL".into(),
            ));
        }
        _ => {}
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("managedFields");
    }
    let wrong = checks::invalid(target, &object);
    if !wrong.is_empty() {
        return Err(Refusal::Invalid(wrong));
    }
    // The group of events is a matter of the path, and so is the version of the custom resources.
    object["apiVersion"] = json!(target.api_version());
    Ok(object)
}

/// The object as an answer, in the version that the path asks for.
fn served(stored: &Stored, target: &Target) -> Value {
    let mut object = stored.object.clone();
    object["apiVersion"] = json!(target.api_version());
    object["metadata"]["managedFields"] = fields::describe(&stored.managers, &target.api_version());
    object
}

/// Custom resources without a status subresource count generations on every change but those of metadata; so do the
/// others here that have any.
fn generations(resource: Resource) -> bool {
    !matches!(resource, Resource::Events | Resource::Secrets | Resource::Pods)
}

fn same_but_metadata(one: &Value, other: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        object["metadata"] = Value::Null;
        object
    };
    strip(one) == strip(other)
}

fn lay_over(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(map), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    map.remove(key);
                } else {
                    lay_over(map.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}
