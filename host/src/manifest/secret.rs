//! Secret from YAML. Values go straight into [`SecretBytes`]; no message holds one.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::secret::SecretBytes;
use zeroize::Zeroizing;

use super::Secret;
use super::fields::{Fields, Reader, read_metadata};
use crate::mistake::{Mistake, Position};
use crate::yaml::Node;

const TOP: &[&str] = &["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];

/// Reads what is there; what is wrong is noted and left out.
pub fn read(reader: &mut Reader<'_>, mut fields: Fields, position: Position) -> Secret {
    let (name, namespace) = read_metadata(reader, &mut fields, &position);
    let encoded = fields.take("data");
    let plain = fields.take("stringData");
    fields.refuse_others(reader, TOP);

    let mut data = BTreeMap::new();
    for (key, text, place) in encoded.map(|entry| values(reader, "data", entry.value)).unwrap_or_default() {
        match decode(&text) {
            Some(bytes) => {
                data.insert(key, bytes);
            }
            None => {
                let message = format!("`data.{key}` of Secret `{name}` is not base64");
                reader
                    .mistakes
                    .push(Mistake::at(place, message).help(String::from("text as it is belongs into `stringData`")));
            }
        }
    }
    for (key, text, _) in plain.map(|entry| values(reader, "stringData", entry.value)).unwrap_or_default() {
        data.insert(key, text.as_bytes().to_vec().into());
    }
    Secret { name, namespace, data, position }
}

/// Keys and values of a map of strings; a key without a value has an empty one, as in Kubernetes.
fn values(reader: &mut Reader<'_>, path: &str, node: Node) -> Vec<(String, Zeroizing<String>, Position)> {
    let Some(fields) = reader.mapping(format!("`{path}`"), node) else { return Vec::new() };
    let mut values = Vec::new();
    for entry in fields.into_entries() {
        let place = entry.value.place.in_file(reader.file);
        let text = reader.string(&format!("`{path}.{}`", entry.key), entry.value);
        values.push((entry.key, text.unwrap_or_default(), place));
    }
    values
}

/// Base64 as Kubernetes reads it: line ends do not matter, padding does.
fn decode(text: &str) -> Option<SecretBytes> {
    let dense: Zeroizing<Vec<u8>> = Zeroizing::new(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect());
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(dense.len())]);
    let length = STANDARD.decode_slice(&*dense, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(std::mem::take(&mut *bytes).into())
}
