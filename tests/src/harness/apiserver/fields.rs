//! Who manages which field: what server-side apply rests on.
//!
//! The rules for what Coffer writes: maps are merged key by key, `metadata.ownerReferences` is a list with one item per
//! `uid`, every other list is a value of its own. Neither `apiVersion`, `kind`, name, namespace nor anything that the
//! server itself sets has a manager.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A path to a field. An item of the owner references is a step `uid=…`.
pub(crate) type Path = Vec<String>;
/// Fields of one manager.
pub(crate) type Fields = BTreeSet<Path>;

/// How a manager came to its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) fields: Fields,
}

/// Everybody who manages fields of one object.
pub(crate) type Managers = Vec<Manager>;

/// Fields that another manager holds with another value: manager and field.
pub(crate) type Conflicts = Vec<(String, String)>;

/// What the server sets itself.
const SERVERS_OWN: [&str; 8] =
    ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "generateName"];

/// All fields that an object sets, in the sense of the module.
pub(crate) fn fields_of(object: &Value) -> Fields {
    let mut fields = Fields::new();
    collect(object, &mut Vec::new(), &mut fields);
    fields
}

fn collect(value: &Value, path: &mut Path, fields: &mut Fields) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if is_servers_own(path, key) {
                    continue;
                }
                path.push(key.clone());
                collect(value, path, fields);
                path.pop();
            }
            if map.is_empty() && !path.is_empty() {
                fields.insert(path.clone());
            }
        }
        Value::Array(items) if is_owners(path) => {
            for item in items {
                path.push(step_of(item));
                fields.insert(path.clone());
                collect(item, path, fields);
                path.pop();
            }
        }
        _ => {
            fields.insert(path.clone());
        }
    }
}

fn is_servers_own(path: &[String], key: &str) -> bool {
    match path {
        [] => matches!(key, "apiVersion" | "kind"),
        [metadata] if metadata == "metadata" => SERVERS_OWN.contains(&key),
        _ => false,
    }
}

fn is_owners(path: &[String]) -> bool {
    matches!(path, [metadata, owners] if metadata == "metadata" && owners == "ownerReferences")
}

fn step_of(item: &Value) -> String {
    format!("uid={}", item["uid"].as_str().unwrap_or_default())
}

fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.iter().find(|item| step_of(item) == *step),
        _ => None,
    })
}

/// Takes a field away; maps that become empty stay, as they do in the API server for what had them.
fn remove(object: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(object, |value, step| match value {
        Value::Object(map) => map.get_mut(step),
        Value::Array(items) => items.iter_mut().find(|item| step_of(item) == *step),
        _ => None,
    });
    match parent {
        Some(Value::Object(map)) => {
            map.remove(last);
        }
        Some(Value::Array(items)) => items.retain(|item| step_of(item) != *last),
        _ => {}
    }
}

/// Takes away maps and owner references that nobody fills any more.
fn prune(value: &mut Value, depth: usize) {
    let Value::Object(map) = value else { return };
    for child in map.values_mut() {
        prune(child, depth + 1);
    }
    if depth < 2 {
        map.retain(|key, child| {
            !(is_empty(child) && matches!(key.as_str(), "labels" | "annotations" | "ownerReferences"))
        });
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Lays `wanted` over `object`.
fn merge(object: &mut Value, wanted: &Value, path: &mut Path) {
    match (object, wanted) {
        (Value::Object(map), Value::Object(wanted)) => {
            for (key, value) in wanted {
                path.push(key.clone());
                merge(map.entry(key.clone()).or_insert(Value::Null), value, path);
                path.pop();
            }
        }
        (Value::Array(items), Value::Array(wanted)) if is_owners(path) => {
            for value in wanted {
                match items.iter_mut().find(|item| step_of(item) == step_of(value)) {
                    Some(item) => merge(item, value, path),
                    None => items.push(value.clone()),
                }
            }
        }
        (object, wanted) => *object = wanted.clone(),
    }
}

/// Server-side apply: `wanted` is all that the manager wants of the object from now on.
///
/// # Errors
/// The fields that others hold with other values, unless `force`.
pub(crate) fn apply(
    object: &mut Value,
    managers: &mut Managers,
    name: &str,
    wanted: &Value,
    force: bool,
) -> Result<(), Conflicts> {
    let fields = fields_of(wanted);
    let is_self = |manager: &Manager| manager.name == name && manager.operation == Operation::Apply;
    let differs = |path: &&Path| get(object, path) != get(wanted, path) && !is_item(path);
    let changed: Fields = fields.iter().filter(differs).cloned().collect();
    let conflicts: Conflicts = managers
        .iter()
        .filter(|manager| !is_self(manager))
        .flat_map(|manager| {
            manager.fields.intersection(&changed).map(|path| (manager.name.clone(), format!(".{}", path.join("."))))
        })
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let before = managers.iter().position(is_self).map(|index| managers.remove(index).fields).unwrap_or_default();
    for manager in managers.iter_mut() {
        manager.fields.retain(|path| !changed.contains(path));
    }
    for path in before.difference(&fields) {
        if !managers.iter().any(|manager| manager.fields.contains(path)) {
            remove(object, path);
        }
    }
    merge(object, wanted, &mut Vec::new());
    prune(object, 0);
    managers.push(Manager { name: name.to_owned(), operation: Operation::Apply, fields });
    managers.retain(|manager| !manager.fields.is_empty());
    Ok(())
}

/// A whole item has no value of its own.
fn is_item(path: &[String]) -> bool {
    path.last().is_some_and(|step| step.starts_with("uid="))
}

/// What a create, update or patch does to the managers: who changes a field holds it alone.
pub(crate) fn update(before: &Value, after: &Value, managers: &mut Managers, name: &str) {
    let fields = fields_of(after);
    let changed: Fields = fields
        .iter()
        .filter(|path| if is_item(path) { get(before, path).is_none() } else { get(before, path) != get(after, path) })
        .cloned()
        .collect();
    for manager in managers.iter_mut() {
        manager.fields.retain(|path| fields.contains(path) && !changed.contains(path));
    }
    let is_self = |manager: &&mut Manager| manager.name == name && manager.operation == Operation::Update;
    match managers.iter_mut().find(is_self) {
        Some(manager) => manager.fields.extend(changed),
        None => managers.push(Manager { name: name.to_owned(), operation: Operation::Update, fields: changed }),
    }
    managers.retain(|manager| !manager.fields.is_empty());
}

/// The entries of `metadata.managedFields`.
pub(crate) fn describe(managers: &Managers, api_version: &str) -> Value {
    let entry = |manager: &Manager| {
        let mut tree = Value::Object(Map::new());
        manager.fields.iter().for_each(|path| plant(&mut tree, path));
        serde_json::json!({
            "manager": manager.name, "operation": format!("{:?}", manager.operation), "apiVersion": api_version,
            "fieldsType": "FieldsV1", "fieldsV1": tree,
        })
    };
    Value::Array(managers.iter().map(entry).collect())
}

/// The managers that entries of `metadata.managedFields` tell of.
pub(crate) fn read(entries: &Value) -> Managers {
    let manager = |entry: &Value| {
        let mut fields = Fields::new();
        gather(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
        let name = entry["manager"].as_str().unwrap_or_default().to_owned();
        let operation = if entry["operation"] == "Apply" { Operation::Apply } else { Operation::Update };
        Manager { name, operation, fields }
    };
    entries.as_array().into_iter().flatten().map(manager).collect()
}

fn gather(tree: &Value, path: &mut Path, fields: &mut Fields) {
    for (key, inner) in tree.as_object().into_iter().flatten() {
        let step = match (key.strip_prefix("f:"), key.strip_prefix("k:")) {
            (Some(step), _) => step.to_owned(),
            (_, Some(item)) => serde_json::from_str(item).map_or_else(|_| item.to_owned(), |item| step_of(&item)),
            _ => continue,
        };
        let is_item = step.starts_with("uid=");
        path.push(step);
        if is_item || inner.as_object().is_none_or(Map::is_empty) {
            fields.insert(path.clone());
        }
        gather(inner, path, fields);
        path.pop();
    }
}

fn plant(tree: &mut Value, path: &[String]) {
    let mut node = tree;
    for step in path {
        let key = match step.strip_prefix("uid=") {
            Some(uid) => format!("k:{}", serde_json::json!({ "uid": uid })),
            None => format!("f:{step}"),
        };
        let Value::Object(map) = node else { return };
        node = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    }
}
