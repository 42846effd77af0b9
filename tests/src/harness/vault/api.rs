//! The REST side of a vault: authentication, permission, reading, listing and setting, with the service's status
//! codes, error codes and headers.
//!
//! Order of checks: token, request, firewall, permission, object. Sentences are our own; codes are the service's.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::list::list;
use super::refusal::Refusal;
use super::request::{Operation, Query};
use super::{Collection, Content, Options, Record, SecretValue, Stored, Version};
use crate::harness::answer::{Answer, random_guid, random_hex};
use crate::harness::entra::{Caller, Presented};

const REGION: &str = "westeurope";
/// The longest value of a secret, in bytes.
const VALUE_LIMIT: usize = 25 * 1024;

/// Answers a request to this vault.
pub(crate) fn answer(vault: &mut Record, caller: &Presented, now: i64, head: &Parts, body: &[u8]) -> Answer {
    let outcome = handle(vault, caller, now, head, body);
    let answer = match outcome {
        Ok(document) => Answer::json(200, &document),
        Err(refusal) => refusal.answer(),
    };
    stamp(answer, head)
}

fn handle(vault: &mut Record, caller: &Presented, now: i64, head: &Parts, body: &[u8]) -> Result<Value, Refusal> {
    let caller = authenticate(vault, caller, now)?;
    let query = Query::read(head)?;
    let operation = Operation::parse(head)?;
    permit(vault, &caller, &operation)?;
    match operation {
        Operation::Get { collection, name, version } => read(vault, collection, &name, version.as_deref()),
        Operation::List { collection, versions_of } => list(vault, collection, versions_of.as_deref(), &query, head),
        Operation::Set { name } => set(vault, &name, now, body),
    }
}

fn authenticate(vault: &Record, presented: &Presented, now: i64) -> Result<Caller, Refusal> {
    let authority = format!("https://{}/{}", vault.cloud.login_host, vault.tenant);
    let plain = format!("Bearer authorization=\"{authority}\", resource=\"{}\"", vault.cloud.resource);
    let refuse = |text: String, challenge: String| {
        Err(Refusal { challenge: Some(challenge), ..Refusal::new(401, "Unauthorized", text) })
    };
    let caller = match presented {
        Presented::Nothing => return refuse("AKV10000: the request has no bearer token".into(), plain),
        Presented::Forged => return refuse("AKV10046: the key that signed the token is not known".into(), plain),
        Presented::Expired => return refuse("[TokenExpired] the token is not valid any more".into(), plain),
        Presented::Revoked => {
            let claims = json!({"access_token": {"nbf": {"essential": true, "value": now.to_string()}}}).to_string();
            let challenge = format!(
                "Bearer realm=\"\", authorization_uri=\"{authority}/oauth2/authorize\", \
                 error=\"insufficient_claims\", claims=\"{}\"",
                STANDARD.encode(claims)
            );
            return refuse("the token was revoked".into(), challenge);
        }
        Presented::Valid(caller) => caller,
    };
    if caller.audience != vault.cloud.resource {
        let (wanted, found) = (&vault.cloud.resource, &caller.audience);
        return refuse(format!("AKV10022: Invalid audience. Expected {wanted}, found: {found}"), plain);
    }
    if caller.tenant != vault.tenant {
        let issuer = |tenant: &str| format!("https://sts.windows.net/{tenant}/");
        let (wanted, found) = (issuer(&vault.tenant), issuer(&caller.tenant));
        return refuse(format!("AKV10032: Invalid issuer. Expected one of {wanted}, found {found}"), plain);
    }
    Ok(caller.clone())
}

fn permit(vault: &Record, caller: &Caller, operation: &Operation) -> Result<(), Refusal> {
    if vault.firewalled {
        return Err(Refusal::forbidden("ForbiddenByFirewall", "the firewall of this vault knows no such client"));
    }
    let (collection, action) = operation.needs();
    if vault.permissions.contains(&(caller.client_id.clone(), collection, action)) {
        return Ok(());
    }
    let who =
        format!("appid={};oid={};iss=https://sts.windows.net/{}/", caller.client_id, caller.object_id, caller.tenant);
    let (segment, verb, name) = (collection.segment(), action.verb(), &vault.name);
    Err(if vault.role_based {
        Refusal::forbidden("ForbiddenByRbac", format!("no role of '{who}' covers {segment} {verb} on vault '{name}'"))
    } else {
        let text = format!("'{who}' lacks the {segment} {verb} permission on key vault '{name};location={REGION}'");
        Refusal::forbidden("ForbiddenByPolicy", text)
    })
}

fn read(vault: &Record, collection: Collection, name: &str, version: Option<&str>) -> Result<Value, Refusal> {
    let stored = vault.objects.get(&(collection, name.to_ascii_lowercase()));
    let found = stored.and_then(|stored| {
        let wanted = |kept: &&Version| version.is_none_or(|version| version == kept.id);
        Some((stored, stored.versions.iter().rev().find(wanted)?))
    });
    let Some((stored, found)) = found else {
        return Err(match version {
            Some(version) if version.len() != 32 || !version.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Refusal::bad_parameter(format!("method GET does not allow operation '{version}'"))
            }
            Some(version) => Refusal::not_found(collection, &format!("{name}/{version}")),
            None => Refusal::not_found(collection, name),
        });
    };
    // Only a secret is withheld while it is disabled: the public part of a key or certificate is not.
    if collection == Collection::Secrets && !found.enabled {
        return Err(Refusal::forbidden("SecretDisabled", "operation get is not allowed on a disabled secret"));
    }
    Ok(document(vault, stored, found))
}

/// A version as the service shows it when it is asked for by itself.
fn document(vault: &Record, stored: &Stored, version: &Version) -> Value {
    let url = |collection| vault.url(collection, &stored.name, Some(&version.id));
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    match &version.content {
        Content::Secret(value) => {
            put("value", json!(value.0));
            if let Some(content_type) = &version.content_type {
                put("contentType", json!(content_type));
            }
            put("id", json!(url(Collection::Secrets)));
            if version.managed {
                put("kid", json!(url(Collection::Keys)));
            }
        }
        Content::Key(key) => {
            let mut members = key.0.as_object().cloned().unwrap_or_default();
            members.insert("kid".to_owned(), json!(url(Collection::Keys)));
            members.entry("key_ops").or_insert_with(|| json!(["sign", "verify"]));
            put("key", Value::Object(members));
        }
        Content::Certificate(bundle) => {
            put("id", json!(url(Collection::Certificates)));
            put("kid", json!(url(Collection::Keys)));
            put("sid", json!(url(Collection::Secrets)));
            put("cer", json!(STANDARD.encode(&bundle.der)));
            put(
                "policy",
                json!({
                    "id": format!("{}/policy", vault.url(Collection::Certificates, &stored.name, None)),
                    "secret_props": {"contentType": bundle.content_type},
                    "issuer": {"name": "Self"},
                }),
            );
        }
    }
    if version.managed {
        put("managed", json!(true));
    }
    put("attributes", attributes(version));
    put("tags", json!(version.tags));
    Value::Object(document)
}

pub(super) fn attributes(version: &Version) -> Value {
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    });
    if let Some(members) = attributes.as_object_mut() {
        members.extend(version.not_before.map(|at| ("nbf".to_owned(), json!(at))));
        members.extend(version.expires.map(|at| ("exp".to_owned(), json!(at))));
    }
    attributes
}

/// The body of Set Secret.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetSecret {
    value: String,
    content_type: Option<String>,
    #[serde(default)]
    attributes: SetAttributes,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SetAttributes {
    enabled: Option<bool>,
    nbf: Option<i64>,
    exp: Option<i64>,
}

fn set(vault: &mut Record, name: &str, now: i64, body: &[u8]) -> Result<Value, Refusal> {
    let wanted: SetSecret = serde_json::from_slice(body)
        .map_err(|_| Refusal::bad_parameter("the body is not JSON with a text member 'value'"))?;
    if wanted.value.len() > VALUE_LIMIT {
        return Err(Refusal::bad_parameter(format!("the value is longer than {VALUE_LIMIT} bytes")));
    }
    let key = (Collection::Secrets, name.to_ascii_lowercase());
    if vault.objects.get(&key).and_then(|stored| stored.versions.last()).is_some_and(|current| current.managed) {
        return Err(Refusal::new(409, "Conflict", format!("the secret {name} belongs to a certificate")));
    }
    let options = Options {
        content_type: wanted.content_type,
        disabled: wanted.attributes.enabled == Some(false),
        not_before: wanted.attributes.nbf,
        expires: wanted.attributes.exp,
        tags: wanted.tags.unwrap_or_default(),
        ..Options::default()
    };
    vault.add(name, &random_hex(), Content::Secret(SecretValue(wanted.value)), &options, now);
    let stored = vault.objects.get(&key).and_then(|stored| Some((stored, stored.versions.last()?)));
    let (stored, version) = stored.ok_or_else(|| Refusal::not_found(Collection::Secrets, name))?;
    Ok(document(vault, stored, version))
}

/// Adds the headers that every answer of the service has.
fn stamp(answer: Answer, head: &Parts) -> Answer {
    let given = head.headers.get("x-ms-client-request-id").and_then(|id| id.to_str().ok());
    answer
        .header("Cache-Control", "no-cache")
        .header("Pragma", "no-cache")
        .header("Expires", "-1")
        .header("x-ms-keyvault-region", REGION)
        .header("x-ms-client-request-id", given.map_or_else(random_guid, str::to_owned))
        .header("x-ms-request-id", random_guid())
        .header("x-ms-keyvault-service-version", "1.9.0.1")
        .header("x-ms-keyvault-network-info", "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;")
        .header("X-Content-Type-Options", "nosniff")
        .header("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
}
