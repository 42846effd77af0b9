//! What listens on a node of Azure for whoever runs there: the instance metadata service (IMDS) with the node's managed
//! identities, and the NMI, the agent of the deprecated AAD pod identity.
//!
//! Both give tokens without a proof, so their few checks are all there is: they are made as the services make them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

use super::answer::Answer;
use super::emulator::Services;
use super::entra::{App, Caller};
use super::log::Kind;

const IMDS: &str = "169.254.169.254";
const NMI: &str = "localhost";

/// An application, by tenant and client id.
type Principal = (String, String);

/// The node, to be furnished.
#[derive(Clone)]
pub struct Node {
    services: Arc<Services>,
}

impl Node {
    pub(crate) fn new(services: &Arc<Services>) -> Self {
        Self { services: Arc::clone(services) }
    }

    /// Makes this the node's system-assigned identity.
    pub fn system_identity(&self, app: &App) -> &Self {
        self.change(|node| node.system = Some(principal(app)));
        self
    }

    /// Assigns an identity to the node.
    pub fn assign(&self, app: &App) -> &Self {
        self.change(|node| {
            node.assigned.insert(principal(app));
        });
        self
    }

    /// Binds an identity to a pod.
    pub fn bind_pod(&self, namespace: &str, name: &str, app: &App) -> &Self {
        self.change(|node| {
            node.pods.insert((namespace.to_owned(), name.to_owned()), principal(app));
        });
        self
    }

    fn change(&self, change: impl FnOnce(&mut NodeRecord)) {
        change(&mut self.services.directory().node);
    }
}

fn principal(app: &App) -> Principal {
    (app.tenant().to_owned(), app.client_id().to_owned())
}

/// What the node's services know.
#[derive(Default)]
pub(crate) struct NodeRecord {
    system: Option<Principal>,
    assigned: HashSet<Principal>,
    pods: HashMap<(String, String), Principal>,
}

/// What a request without TLS asks for; none for hosts that are no service of a node.
pub(crate) fn classify(host: &str, segments: &[&str]) -> Option<Kind> {
    match (host, segments) {
        (IMDS, ["metadata", "identity", "oauth2", "token"]) => Some(Kind::NodeToken),
        (NMI, ["host", "token"]) => Some(Kind::PodToken),
        (IMDS | NMI, _) => Some(Kind::Other),
        _ => None,
    }
}

/// Answers a request without TLS.
pub(crate) fn answer(services: &Services, kind: Kind, head: &Parts) -> Answer {
    match kind {
        Kind::NodeToken => of_metadata_service(services, head)
            .unwrap_or_else(|text| Answer::json(400, &json!({"error": "invalid_request", "error_description": text}))),
        Kind::PodToken => of_nmi(services, head).unwrap_or_else(|(status, text)| Answer::empty(status).body(text)),
        _ => Answer::empty(404),
    }
}

fn of_metadata_service(services: &Services, head: &Parts) -> Result<Answer, &'static str> {
    if head.method != Method::GET {
        return Err("only GET is understood");
    }
    if header(head, "metadata") != Some("true") || head.headers.contains_key("x-forwarded-for") {
        return Err("Required metadata header not specified");
    }
    let query = query(head, true);
    let value = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if value("api-version") != Some("2018-02-01") {
        return Err("Required query variable 'api-version' is missing or not supported");
    }
    let resource = value("resource").ok_or("Required query variable 'resource' is missing")?;
    let directory = services.directory();
    let principal = match value("client_id") {
        Some(id) => directory.node.assigned.iter().find(|(_, client_id)| client_id.eq_ignore_ascii_case(id)),
        None => directory.node.system.as_ref(),
    };
    let principal = principal.cloned().ok_or("Identity not found")?;
    drop(directory);
    grant(services, &principal, resource).ok_or("AADSTS500011: the resource was not found in the tenant")
}

fn of_nmi(services: &Services, head: &Parts) -> Result<Answer, (u16, &'static str)> {
    if head.method != Method::GET {
        return Err((405, "only GET is understood"));
    }
    let (Some(namespace), Some(name)) = (header(head, "podns"), header(head, "podname")) else {
        return Err((400, "the headers podns and podname are missing"));
    };
    let pod = (namespace.to_owned(), name.to_owned());
    let principal = services.directory().node.pods.get(&pod).cloned();
    let principal = principal.ok_or((404, "no AzureAssignedIdentity found for the pod"))?;
    // The agent is old: it takes the resource as it stands.
    let query = query(head, false);
    let resource = query.get("resource").ok_or((400, "the query variable resource is missing"))?;
    let granted = grant(services, &principal, resource).ok_or((500, "the resource was not found in the tenant"))?;
    let token: Value = serde_json::from_slice(&granted.body).unwrap_or_default();
    Ok(Answer::json(200, &json!({"token": token, "clientid": principal.1})))
}

/// A token as both services put it: every number is text.
fn grant(services: &Services, principal: &Principal, resource: &str) -> Option<Answer> {
    let now = services.clock.now();
    let (tenant, client_id) = principal.clone();
    let mut directory = services.directory();
    let (object_id, known) = directory.principal(&tenant, &client_id)?;
    if resource.trim_end_matches('/') != known {
        return None;
    }
    let caller = Caller { tenant, client_id: client_id.clone(), object_id, audience: resource.to_owned() };
    let (token, lifetime) = directory.issue(caller, false, now);
    Some(Answer::json(
        200,
        &json!({
            "access_token": token, "client_id": client_id, "token_type": "Bearer", "resource": resource,
            "expires_in": lifetime.to_string(), "ext_expires_in": lifetime.to_string(),
            "expires_on": now.saturating_add(lifetime).to_string(), "not_before": now.to_string(),
        }),
    ))
}

fn header<'h>(head: &'h Parts, name: &str) -> Option<&'h str> {
    head.headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

fn query(head: &Parts, decode: bool) -> HashMap<String, String> {
    let text = head.uri.query().unwrap_or_default();
    if decode {
        return form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    }
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
