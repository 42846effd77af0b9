//! SecretProviderClass from YAML, with every mistake in its shape.

use std::collections::BTreeMap;

use super::Class;
use super::fields::{Fields, Reader, read_metadata};
use crate::api::class::SecretProviderClass;
use crate::mistake::{Mistake, Position};
use crate::yaml::Node;

const TOP: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
const SPEC: &[&str] = &["provider", "parameters", "secretObjects"];
const SECRET_OBJECT: &[&str] = &["secretName", "type", "labels", "annotations", "data"];
const SECRET_DATA: &[&str] = &["objectName", "key"];

/// Reads what is there; what is missing or wrong is noted and left empty.
pub fn read(reader: &mut Reader<'_>, mut fields: Fields, position: Position) -> Class {
    let (name, namespace) = read_metadata(reader, &mut fields, &position);
    let object = SecretProviderClass { name, namespace, ..Default::default() };
    let mut class = Class { object, position, provider_position: None };
    match fields.take("spec") {
        Some(spec) => read_spec(reader, spec.value, &mut class),
        None => reader.mistakes.push(super::missing(&class.position, "`spec`", &fields, "spec")),
    }
    fields.refuse_others(reader, TOP);
    class
}

fn read_spec(reader: &mut Reader<'_>, node: Node, class: &mut Class) {
    let position = node.place.in_file(reader.file);
    let Some(mut spec) = reader.mapping("`spec`", node) else { return };
    let provider = spec.take("provider");
    class.provider_position = provider.as_ref().map(|entry| entry.value.place.in_file(reader.file));
    let parameters = spec.take("parameters");
    let objects = spec.take("secretObjects");
    let missing =
        |what: &str| format!("SecretProviderClass `{}`: `spec.{what}` is missing or empty", class.object.name);
    let (no_provider, no_parameters) = (missing("provider"), missing("parameters"));
    spec.refuse_others(reader, SPEC);

    let before = reader.mistakes.len();
    if let Some(provider) = provider.and_then(|entry| reader.string("`spec.provider`", entry.value)) {
        class.object.provider = provider.trim().to_owned();
    }
    if class.object.provider.is_empty() && reader.mistakes.len() == before {
        reader.mistakes.push(Mistake::at(position.clone(), no_provider));
    }
    let before = reader.mistakes.len();
    if let Some(parameters) = parameters {
        class.object.parameters = read_strings(reader, "spec.parameters", parameters.value);
    }
    if class.object.parameters.is_empty() && reader.mistakes.len() == before {
        reader.mistakes.push(Mistake::at(position, no_parameters));
    }
    let objects = objects.map(|entry| reader.sequence("`spec.secretObjects`", entry.value)).unwrap_or_default();
    for (index, object) in objects.into_iter().enumerate() {
        check_secret_object(reader, &format!("spec.secretObjects[{index}]"), object);
    }
}

/// A map of strings to strings. A pair without a value is left out, as the API server does.
fn read_strings(reader: &mut Reader<'_>, path: &str, node: Node) -> BTreeMap<String, String> {
    let Some(fields) = reader.mapping(format!("`{path}`"), node) else { return BTreeMap::new() };
    let mut strings = BTreeMap::new();
    for entry in fields.into_entries() {
        if let Some(text) = reader.string(&format!("`{path}.{}`", entry.key), entry.value) {
            strings.insert(entry.key, text.as_str().to_owned());
        }
    }
    strings
}

/// `coffer mount` makes no Secrets; a class that asks for them wrongly is still a wrong class.
fn check_secret_object(reader: &mut Reader<'_>, path: &str, node: Node) {
    let Some(mut object) = reader.mapping(format!("`{path}`"), node) else { return };
    for key in ["secretName", "type"] {
        if let Some(entry) = object.take(key) {
            reader.string(&format!("`{path}.{key}`"), entry.value);
        }
    }
    for key in ["labels", "annotations"] {
        if let Some(entry) = object.take(key) {
            read_strings(reader, &format!("{path}.{key}"), entry.value);
        }
    }
    let data = object.take("data").map(|entry| reader.sequence(&format!("`{path}.data`"), entry.value));
    object.refuse_others(reader, SECRET_OBJECT);
    for (index, item) in data.unwrap_or_default().into_iter().enumerate() {
        let path = format!("{path}.data[{index}]");
        let Some(mut item) = reader.mapping(format!("`{path}`"), item) else { continue };
        for key in SECRET_DATA {
            if let Some(entry) = item.take(key) {
                reader.string(&format!("`{path}.{key}`"), entry.value);
            }
        }
        item.refuse_others(reader, SECRET_DATA);
    }
}
