//! The REST side of a vault: authentication, permission, reading, listing and setting, with the service's status
//! codes, error codes and headers.
//!
//! Order of checks: firewall, token, request, permission, object. Sentences are our own; codes are the service's.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Action, Collection, Content, NextLink, Options, Record, SecretValue, Stored, Version};
use crate::harness::answer::{Answer, random_guid, random_hex};
use crate::harness::entra::{Caller, Presented};

/// The versions of the data-plane API that the service knows.
const API_VERSIONS: [&str; 9] = ["2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01"];
const REGION: &str = "westeurope";
/// The longest page of a list, and the length of one where the client asks for none.
const PAGE: usize = 25;
/// The longest value of a secret, in bytes.
const VALUE_LIMIT: usize = 25 * 1024;

/// Why a request fails.
struct Refusal {
    status: u16,
    code: String,
    text: String,
    inner: Option<&'static str>,
    challenge: Option<String>,
}

impl Refusal {
    fn new(status: u16, code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, code: code.into(), text: text.into(), inner: None, challenge: None }
    }

    fn bad_parameter(text: impl Into<String>) -> Self {
        Self::new(400, "BadParameter", text)
    }

    fn forbidden(inner: &'static str, text: impl Into<String>) -> Self {
        Self { inner: Some(inner), ..Self::new(403, "Forbidden", text) }
    }

    fn not_found(collection: Collection, what: &str) -> Self {
        let text = format!(
            "A {} with (name/id) {what} was not found in this key vault",
            collection.noun().to_ascii_lowercase()
        );
        Self::new(404, format!("{}NotFound", collection.noun()), text)
    }
}

/// Answers a request to this vault.
pub(crate) fn answer(vault: &mut Record, caller: &Presented, now: i64, head: &Parts, body: &[u8]) -> Answer {
    let outcome = handle(vault, caller, now, head, body);
    let answer = match outcome {
        Ok(document) => Answer::json(200, &document),
        Err(refusal) => refused(&refusal),
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

/// What a request wants, told from its method and path.
enum Operation {
    Get { collection: Collection, name: String, version: Option<String> },
    List { collection: Collection, versions_of: Option<String> },
    Set { name: String },
}

impl Operation {
    fn parse(head: &Parts) -> Result<Self, Refusal> {
        let mut segments = Vec::new();
        for segment in head.uri.path().split('/').filter(|segment| !segment.is_empty()) {
            let decoded = percent_decode_str(segment).decode_utf8();
            segments.push(decoded.map_err(|_| Refusal::bad_parameter("the path is not UTF-8"))?.into_owned());
        }
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let nothing = || {
            let last = parts.last().copied().unwrap_or_default();
            Refusal::bad_parameter(format!("method {} does not allow operation '{last}'", head.method))
        };
        let (Some(first), rest) = (parts.first(), parts.get(1..).unwrap_or_default()) else { return Err(nothing()) };
        let collection = Collection::ALL.into_iter().find(|collection| collection.segment() == *first);
        let collection = collection.ok_or_else(nothing)?;
        match (head.method.as_str(), collection, rest) {
            ("GET", _, []) => Ok(Self::List { collection, versions_of: None }),
            ("GET", _, [name, "versions"]) => Ok(Self::List { collection, versions_of: Some(valid_name(name)?) }),
            ("GET", _, [name]) => Ok(Self::Get { collection, name: valid_name(name)?, version: None }),
            ("GET", _, [name, version]) => {
                Ok(Self::Get { collection, name: valid_name(name)?, version: Some((*version).to_owned()) })
            }
            ("PUT", Collection::Secrets, [name]) => Ok(Self::Set { name: valid_name(name)? }),
            _ => Err(nothing()),
        }
    }

    fn needs(&self) -> (Collection, Action) {
        match self {
            Self::Get { collection, .. } => (*collection, Action::Get),
            Self::List { collection, .. } => (*collection, Action::List),
            Self::Set { .. } => (Collection::Secrets, Action::Set),
        }
    }
}

fn valid_name(name: &str) -> Result<String, Refusal> {
    if name.len() <= 127 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(name.to_owned());
    }
    Err(Refusal::bad_parameter(format!("the URI contains an invalid name: {name}")))
}

/// The query parameters that the service understands.
struct Query {
    api_version: String,
    page: usize,
    /// The version or name after which a page begins.
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SkipToken {
    next_marker: String,
}

impl Query {
    fn read(head: &Parts) -> Result<Self, Refusal> {
        let text = head.uri.query().unwrap_or_default();
        let parameters: BTreeMap<String, String> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let Some(api_version) = parameters.get("api-version") else {
            return Err(Refusal::bad_parameter("the query parameter api-version is missing"));
        };
        if !API_VERSIONS.contains(&api_version.as_str()) {
            return Err(Refusal::bad_parameter(format!("the api-version {api_version} is not known")));
        }
        let page = match parameters.get("maxresults") {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|page| (1..=PAGE).contains(page))
                .ok_or_else(|| Refusal::bad_parameter(format!("maxresults must be from 1 to {PAGE}")))?,
        };
        let after = match parameters.get("$skiptoken") {
            None => None,
            Some(token) => Some(
                URL_SAFE_NO_PAD
                    .decode(token)
                    .ok()
                    .and_then(|json| serde_json::from_slice::<SkipToken>(&json).ok())
                    .ok_or_else(|| Refusal::bad_parameter("the $skiptoken is not one of this service"))?
                    .next_marker,
            ),
        };
        Ok(Self { api_version: api_version.clone(), page, after })
    }
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

fn attributes(version: &Version) -> Value {
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

/// One page of names, or of the versions of one object. Versions come in the order of their ids, as the service
/// promises none.
fn list(
    vault: &Record,
    collection: Collection,
    versions_of: Option<&str>,
    query: &Query,
    head: &Parts,
) -> Result<Value, Refusal> {
    let mut rows: Vec<(String, Value)> = match versions_of {
        Some(name) => {
            let stored = vault.objects.get(&(collection, name.to_ascii_lowercase()));
            let versions = stored.into_iter().flat_map(|stored| stored.versions.iter().map(move |kept| (stored, kept)));
            versions
                .map(|(stored, kept)| {
                    (kept.id.clone(), row(collection, vault.url(collection, &stored.name, Some(&kept.id)), kept))
                })
                .collect()
        }
        None => vault
            .objects
            .iter()
            .filter(|((kept, _), _)| *kept == collection)
            .filter_map(|((_, key), stored)| {
                let current = stored.versions.last()?;
                Some((key.clone(), row(collection, vault.url(collection, &stored.name, None), current)))
            })
            .collect(),
    };
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.retain(|(marker, _)| query.after.as_ref().is_none_or(|after| marker > after));
    let more = rows.len() > query.page;
    rows.truncate(query.page);
    let next = next_link(vault, rows.last().filter(|_| more).map(|(marker, _)| marker.as_str()), query, head);
    let value: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(json!({"value": value, "nextLink": next}))
}

fn row(collection: Collection, url: String, version: &Version) -> Value {
    let id = if collection == Collection::Keys { "kid" } else { "id" };
    let mut row = json!({id: url, "attributes": attributes(version), "tags": version.tags});
    if let Some(members) = row.as_object_mut() {
        members.extend(version.content_type.as_ref().map(|kept| ("contentType".to_owned(), json!(kept))));
        members.extend(version.managed.then(|| ("managed".to_owned(), json!(true))));
    }
    row
}

fn next_link(vault: &Record, last: Option<&str>, query: &Query, head: &Parts) -> Option<String> {
    // The service spells the port out.
    let base = format!("https://{}:443{}", vault.cloud.vault_host(&vault.name), head.uri.path());
    match &vault.next_link {
        NextLink::Honest => last.map(|marker| {
            let token = json!({"NextMarker": marker, "TargetLocation": 0}).to_string();
            let (version, page) = (&query.api_version, query.page);
            format!("{base}?api-version={version}&$skiptoken={}&maxresults={page}", URL_SAFE_NO_PAD.encode(token))
        }),
        NextLink::Always(url) => Some(url.clone()),
        NextLink::SamePage => Some(format!("{base}?{}", head.uri.query().unwrap_or_default())),
    }
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

fn refused(refusal: &Refusal) -> Answer {
    let mut error = json!({"code": refusal.code, "message": refusal.text});
    if let (Some(members), Some(inner)) = (error.as_object_mut(), refusal.inner) {
        members.insert("innererror".to_owned(), json!({"code": inner}));
    }
    let answer = Answer::json(refusal.status, &json!({"error": error}));
    match &refusal.challenge {
        Some(challenge) => answer.header("WWW-Authenticate", challenge),
        None => answer,
    }
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
