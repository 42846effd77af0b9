//! What the API server refuses to store, as far as Coffer could get it wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::resource::{Resource, Target};

/// Everything that is wrong with an object; empty when it may be stored.
pub(crate) fn invalid(target: &Target, object: &Value) -> Vec<String> {
    let metadata = &object["metadata"];
    let mut wrong = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if !is_subdomain(name) {
        wrong.push(format!("metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of …"));
    }
    for (key, value) in pairs(&metadata["labels"]) {
        let fine = is_qualified(key) && value.as_str().is_some_and(|text| text.is_empty() || is_label(text));
        if !fine {
            wrong.push(format!(
                "metadata.labels: Invalid value: {value}: of {key:?} must be no more than 63 characters"
            ));
        }
    }
    for (key, value) in pairs(&metadata["annotations"]) {
        if !is_qualified(key) || !value.is_string() {
            wrong.push(format!("metadata.annotations: Invalid value: {key:?}"));
        }
    }
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                wrong.push(format!("metadata.ownerReferences[0].{field}: Invalid value: must not be empty"));
            }
        }
    }
    if target.resource == Resource::Events {
        event(target, object, &mut wrong);
    }
    wrong
}

/// What is wrong with the content of a Secret.
pub(crate) fn secret(object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, value) in pairs(&object["data"]) {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > 253 || !key.bytes().all(inner) {
            wrong.push(format!("data[{key}]: Invalid value: {key:?}: a valid config key must consist of …"));
        }
        if value.as_str().is_none_or(|text| STANDARD.decode(text).is_err()) {
            wrong.push(format!("data[{key}]: Invalid value: it is not base64"));
        }
    }
    let required: &[&str] = match object["type"].as_str().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        _ => &[],
    };
    wrong.extend(
        required.iter().filter(|key| object["data"][**key].is_null()).map(|key| format!("data[{key}]: Required value")),
    );
    wrong
}

/// An event of either group; the core group takes the older form without `eventTime` too.
fn event(target: &Target, event: &Value, wrong: &mut Vec<String>) {
    let core = target.group.is_empty();
    let about = if core { &event["involvedObject"] } else { &event["regarding"] };
    if about["namespace"].as_str() != Some(&target.namespace) {
        wrong.push("involvedObject.namespace: Invalid value: does not match event.namespace".into());
    }
    if core && event["eventTime"].is_null() {
        return;
    }
    let required = |field: &str, most: usize| match event[field].as_str() {
        Some(text) if !text.is_empty() && text.len() <= most => None,
        _ => Some(format!("{field}: Invalid value: must be set and have at most {most} characters")),
    };
    let instance = if core { "reportingInstance" } else { "reportingController" };
    wrong.extend(["reason", "action", "reportingInstance", instance].iter().filter_map(|field| required(field, 128)));
    let text = if core { &event["message"] } else { &event["note"] };
    if text.as_str().is_some_and(|text| text.len() > 1024) {
        wrong.push("message: Invalid value: can have at most 1024 characters".into());
    }
    if !matches!(event["type"].as_str(), Some("Normal" | "Warning")) {
        wrong.push(format!("type: Invalid value: {}", event["type"]));
    }
    if !core {
        let unset = ["deprecatedSource", "deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount"];
        let set = unset.iter().filter(|field| !event[**field].is_null());
        wrong.extend(set.map(|field| format!("{field}: Invalid value: needs to be unset")));
        if event["eventTime"].is_null() {
            wrong.push("eventTime: Required value".into());
        }
    }
}

fn pairs(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    name.len() <= 253 && name.split('.').all(part)
}

/// A label's value, or the part of a key behind the slash.
fn is_label(text: &str) -> bool {
    let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= 63 && text.bytes().all(inner) && end(text.bytes().next()) && end(text.bytes().last())
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label(name),
        None => is_label(key),
    }
}
