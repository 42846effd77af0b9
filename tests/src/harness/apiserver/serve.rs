//! The HTTP listener: accepts, checks the credential, applies the planned faults, keeps the log, asks the objects.
//!
//! Owns every connection of the API server; when its future is dropped they all end.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::faults::{Fault, Faults};
use super::log::{Entry, Log};
use super::objects::{Objects, Write};
use super::resource::{Resource, Target, Verb};
use super::status::Refusal;
use crate::harness::answer::Answer;

/// What the API server takes at most.
const REQUEST_BODY_LIMIT: usize = 3 << 20;

/// What the connections and the handles share.
pub(crate) struct Services {
    pub(crate) faults: Faults,
    pub(crate) log: Arc<Log>,
    pub(crate) token: String,
    /// Told of every change of the objects.
    pub(crate) changed: watch::Sender<()>,
    objects: Mutex<Objects>,
}

impl Services {
    pub(crate) fn new(token: String) -> Self {
        let (faults, log, changed) = (Faults::default(), Log::new(), watch::Sender::new(()));
        Self { faults, log, token, changed, objects: Mutex::default() }
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes objects and tells everybody who waits.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let result = change(&mut self.objects());
        self.changed.send_replace(());
        result
    }
}

/// Serves until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, services: Arc<Services>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        // A connection that died in the backlog is the client's business.
        let Ok((stream, _)) = accepted else { continue };
        services.log.connected();
        connections.spawn(speak(stream, Arc::clone(&services)));
    }
}

async fn speak(stream: TcpStream, services: Arc<Services>) {
    // Both ends are on one machine; Nagle would only add latency that no client caused.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let services = Arc::clone(&services);
        async move { respond(&services, request).await }
    });
    let mut server = http1::Builder::new();
    // No deadline between requests: an idle connection is the client's to close.
    server.timer(TokioTimer::new()).header_read_timeout(None);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// The request cannot be answered; hyper ends the connection.
#[derive(Debug, thiserror::Error)]
#[error("the API server was told to close the connection")]
struct Closed;

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn respond(services: &Services, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let target = Target::of(request.method(), request.uri().path(), &query);
    let ticket = services.log.begin(describe(services, &request, &target, &query));
    let fault = services.faults.strike(&target);
    if let Some(fault) = &fault {
        ticket.met(fault.name());
    }
    let answer = match fault {
        Some(Fault::Answer(answer)) => answer,
        Some(Fault::Forbidden) => Refusal::Forbidden.answer(&target),
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Close) => return Err(Closed),
        Some(Fault::CloseAfter) => {
            answer(services, request, &target, &query).await;
            return Err(Closed);
        }
        Some(Fault::Hold(gate)) => {
            gate.pass().await;
            answer(services, request, &target, &query).await
        }
        None => answer(services, request, &target, &query).await,
    };
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    ticket.answered(answer.status);
    builder.body(Full::new(Bytes::from(answer.body))).map_err(|_| Closed)
}

fn describe(services: &Services, request: &Request<Incoming>, target: &Target, query: &[(String, String)]) -> Entry {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Entry {
        sequence: 0,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: query.iter().map(|(name, _)| name.clone()).collect(),
        target: target.clone(),
        cached: is_cached(query),
        metadata_only: wants_metadata(header(ACCEPT)),
        authorized: header(AUTHORIZATION) == format!("Bearer {}", services.token),
        user_agent: header(USER_AGENT).to_owned(),
        status: None,
        fault: None,
    }
}

/// The form of an answer that holds nothing of the object but its metadata.
fn wants_metadata(accept: &str) -> bool {
    let mut words = accept.split(';').map(str::trim);
    words.next() == Some("application/json")
        && ["as=PartialObjectMetadata", "g=meta.k8s.io", "v=v1"].iter().all(|word| accept.contains(word))
}

fn is_cached(query: &[(String, String)]) -> bool {
    value(query, "resourceVersion") == Some("0")
}

fn value<'a>(query: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// The real answer, after the configured latency.
async fn answer(
    services: &Services,
    request: Request<Incoming>,
    target: &Target,
    query: &[(String, String)],
) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BODY_LIMIT).collect().await else { return Answer::empty(413) };
    let latency = services.faults.latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let authorized = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if authorized != Some(&format!("Bearer {}", services.token)) {
        return Refusal::Unauthorized.answer(target);
    }
    match perform(services, &head, &body.to_bytes(), target, query) {
        Ok((status, object)) => {
            let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !wants_metadata(accept) {
                return Answer::json(status, &object);
            }
            let metadata = object.get("metadata").cloned().unwrap_or_default();
            let kind = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            Answer::json(status, &kind)
        }
        Err(refusal) => refusal.answer(target),
    }
}

fn perform(
    services: &Services,
    head: &Parts,
    body: &[u8],
    target: &Target,
    query: &[(String, String)],
) -> Result<(u16, Value), Refusal> {
    services.objects().admit(target)?;
    if target.resource == Resource::Discovery {
        return Ok((200, services.objects().discover(target)?));
    }
    let manager = manager(head, query);
    let write = Write { target, manager: &manager, force: value(query, "force") == Some("true") };
    match target.verb {
        Verb::Get => Ok((200, services.objects().read(target, is_cached(query))?)),
        Verb::List => Ok((200, services.objects().list(target))),
        Verb::Watch => Err(Refusal::MethodNotAllowed),
        Verb::Create => {
            let object = parsed(body)?;
            Ok((201, services.change(|objects| objects.create(&write, object))?))
        }
        Verb::Update => {
            let object = parsed(body)?;
            Ok((200, services.change(|objects| objects.update(&write, object))?))
        }
        Verb::Patch => patch(services, head, body, &write),
        Verb::Delete => {
            let object = services.objects().read(target, false)?;
            services.change(|objects| objects.delete(target.resource, &target.namespace, &target.name));
            Ok((200, object))
        }
    }
}

fn patch(services: &Services, head: &Parts, body: &[u8], write: &Write<'_>) -> Result<(u16, Value), Refusal> {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match kind {
        "application/apply-patch+yaml" => {
            let wanted = parsed(body)?;
            let target = write.target;
            let new = services.objects().get(target.resource, &target.namespace, &target.name).is_none();
            let object = services.change(|objects| objects.apply(write, wanted))?;
            Ok((if new { 201 } else { 200 }, object))
        }
        "application/merge-patch+json" => {
            let patch = parsed(body)?;
            Ok((200, services.change(|objects| objects.merge(write, &patch))?))
        }
        "application/json-patch+json" => {
            let patch = parsed(body)?;
            Ok((200, services.change(|objects| objects.json_patch(write, &patch))?))
        }
        _ => Err(Refusal::UnsupportedMedia),
    }
}

/// `fieldManager`, else what stands before the slash in the user agent. Server-side apply has no such default.
fn manager(head: &Parts, query: &[(String, String)]) -> String {
    let agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    match value(query, "fieldManager") {
        Some(manager) => manager.to_owned(),
        None if head.method == Method::PATCH => String::new(),
        None => agent.split('/').next().unwrap_or_default().to_owned(),
    }
}

/// JSON is the part of YAML that is read here.
fn parsed(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::BadRequest("the body of the request is not JSON".into()))
}
