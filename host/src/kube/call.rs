//! One call to the API server: sent, counted, bounded in time and size, and its failure told in a way that says whether
//! to try again.
//!
//! The only place that speaks HTTP to it. It retries nothing: who asks knows the deadline. Messages hold what the server
//! says about an object, never a header or a body.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::client::{CALL_TIMEOUT, Client};
use super::names;
use crate::api::{GROUP, VERSION};

/// The field manager of what Coffer applies.
pub(super) const MANAGER: &str = "coffer";
/// Asks for an answer without anything but metadata: what a Secret holds is not sent.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// No object in Kubernetes is larger than a third of this.
const LARGEST_ANSWER: usize = 4 << 20;
/// How much of the server's words goes into ours, in bytes.
const LONGEST_MESSAGE: usize = 300;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Classes,
    PodStatuses,
    Events,
    CsiDrivers,
    CsiNodes,
    Secrets,
    Pods,
    Nodes,
    /// The resources of Coffer's own group.
    Discovery,
}

impl Resource {
    /// As RBAC and the metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classes => "secretproviderclasses",
            Self::PodStatuses => "secretproviderclasspodstatuses",
            Self::Events => "events",
            Self::CsiDrivers => "csidrivers",
            Self::CsiNodes => "csinodes",
            Self::Secrets => "secrets",
            Self::Pods => "pods",
            Self::Nodes => "nodes",
            Self::Discovery => "discovery",
        }
    }

    /// The path of the collection.
    fn path(self, namespace: &str) -> String {
        let name = self.name();
        match self {
            Self::Classes | Self::PodStatuses => format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{name}"),
            Self::Events | Self::Secrets | Self::Pods => format!("/api/v1/namespaces/{namespace}/{name}"),
            Self::Nodes => format!("/api/v1/{name}"),
            Self::CsiDrivers | Self::CsiNodes => format!("/apis/storage.k8s.io/v1/{name}"),
            Self::Discovery => format!("/apis/{GROUP}/{VERSION}"),
        }
    }
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// What the API server has in its cache: costs it nothing, and may be some moments old.
    Cached,
    /// What the store behind the API server says now.
    Quorum,
}

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What is wrong, whole enough to be shown.
    pub(crate) message: String,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No answer, 409, 429 or 5xx: it may pass.
    Transient,
    /// The API server does not know who asks.
    Unauthorized,
    /// Coffer may not do this.
    Forbidden,
    /// There is no such object.
    NotFound,
    /// There is no such resource: the definition is missing.
    Undefined,
    /// It is there already.
    AlreadyExists,
    /// Any other refusal, or an answer that cannot be read.
    Refused,
}

impl Client {
    /// Reads one object.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<T, Failure> {
        let path = object_path(resource, namespace, name)?;
        let query = if freshness == Freshness::Cached { "?resourceVersion=0" } else { "" };
        let request = Request::get(format!("{path}{query}"));
        parsed(&self.call("get", resource, request, Vec::new()).await?)
    }

    /// Reads which resources of Coffer's own group are served.
    pub(super) async fn discover<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let request = Request::get(Resource::Discovery.path(""));
        parsed(&self.call("get", Resource::Discovery, request, Vec::new()).await?)
    }

    /// Makes an object.
    pub(super) async fn create(
        &self,
        resource: Resource,
        namespace: &str,
        object: &impl Serialize,
    ) -> Result<(), Failure> {
        let path = collection_path(resource, namespace)?;
        let request = Request::post(format!("{path}?fieldManager={MANAGER}")).header(CONTENT_TYPE, "application/json");
        self.call("create", resource, request, written(object)?).await.map(drop)
    }

    /// Makes an object be so, whoever wrote it before: server-side apply with force.
    pub(super) async fn apply(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        object: &impl Serialize,
    ) -> Result<(), Failure> {
        let path = object_path(resource, namespace, name)?;
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{path}?fieldManager={MANAGER}&force=true"))
            .header(CONTENT_TYPE, "application/apply-patch+yaml");
        self.call("patch", resource, request, written(object)?).await.map(drop)
    }

    /// Reads the metadata of one object and nothing else of it.
    pub(super) async fn metadata(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<ObjectMeta, Failure> {
        let path = object_path(resource, namespace, name)?;
        let query = if freshness == Freshness::Cached { "?resourceVersion=0" } else { "" };
        let request = Request::get(format!("{path}{query}")).header(ACCEPT, METADATA);
        parsed::<Partial>(&self.call("get", resource, request, Vec::new()).await?).map(|partial| partial.metadata)
    }

    /// As [`Client::apply`], by a field manager of the caller's, with an object that is written already. Answers the metadata.
    pub(super) async fn apply_as(
        &self,
        manager: &str,
        resource: Resource,
        namespace: &str,
        name: &str,
        object: Vec<u8>,
    ) -> Result<ObjectMeta, Failure> {
        let path = object_path(resource, namespace, name)?;
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{path}?fieldManager={manager}&force=true"))
            .header(CONTENT_TYPE, "application/apply-patch+yaml")
            .header(ACCEPT, METADATA);
        parsed::<Partial>(&self.call("patch", resource, request, object).await?).map(|partial| partial.metadata)
    }

    /// Changes an object by a JSON patch (RFC 6902).
    pub(super) async fn json_patch(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        patch: &impl Serialize,
    ) -> Result<(), Failure> {
        let path = object_path(resource, namespace, name)?;
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{path}?fieldManager={MANAGER}"))
            .header(CONTENT_TYPE, "application/json-patch+json")
            .header(ACCEPT, METADATA);
        self.call("patch", resource, request, written(patch)?).await.map(drop)
    }

    async fn call(
        &self,
        verb: &'static str,
        resource: Resource,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let request = request.body(Body::from(body)).map_err(|error| Failure::refused(error.to_string()))?;
        let result = match timeout(CALL_TIMEOUT, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(self.silent(&format!("did not answer within {} s", CALL_TIMEOUT.as_secs()))),
        };
        match &result {
            Ok((status, _)) => self.count(verb, resource.name(), &status.to_string()),
            Err(_) => self.count(verb, resource.name(), "error"),
        }
        let (status, answer) = result?;
        if (200..300).contains(&status) { Ok(answer.body) } else { Err(self.failure(status, &answer)) }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<(u16, Answer), Failure> {
        let response = self.http.send(request).await.map_err(|error| self.silent(&root(&error)))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), LARGEST_ANSWER).await;
        let body = body.map_err(|error| self.silent(&root(&error)))?.to_vec();
        Ok((status, Answer { body, retry_after }))
    }

    /// There was no answer.
    fn silent(&self, why: &str) -> Failure {
        let message = format!("no answer from the API server at {}: {}", self.url, cut(why));
        Failure { kind: Kind::Transient, message, retry_after: None }
    }

    /// There was an answer, and it is no good.
    fn failure(&self, code: u16, answer: &Answer) -> Failure {
        let status: Option<Status> = serde_json::from_slice(&answer.body).ok();
        let is_object =
            status.as_ref().is_some_and(|status| status.details.as_ref().is_some_and(|d| !d.name.is_empty()));
        let reason = status.as_ref().map(|status| status.reason.as_str()).unwrap_or_default();
        let kind = match code {
            401 => Kind::Unauthorized,
            403 => Kind::Forbidden,
            404 if is_object => Kind::NotFound,
            404 => Kind::Undefined,
            409 if reason == "AlreadyExists" => Kind::AlreadyExists,
            409 | 429 | 500.. => Kind::Transient,
            _ => Kind::Refused,
        };
        let asked = status.as_ref().and_then(|status| status.details.as_ref()).map_or(0, |d| d.retry_after_seconds);
        let retry_after = answer.retry_after.or_else(|| (asked > 0).then(|| Duration::from_secs(asked.into())));
        let words = status.map(|status| status.message).filter(|message| !message.is_empty());
        let words = words.map_or(String::new(), |words| format!(": {}", cut(&words)));
        let message = match kind {
            Kind::Forbidden => words.trim_start_matches([':', ' ']).to_owned(),
            _ => format!("the API server at {} answers {code}{words}", self.url),
        };
        Failure { kind, message, retry_after }
    }
}

/// What [`METADATA`] is answered with.
#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: ObjectMeta,
}

struct Answer {
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

impl Failure {
    /// Something that is waited for.
    pub(crate) fn transient(message: &str) -> Self {
        Self { kind: Kind::Transient, message: message.to_owned(), retry_after: None }
    }

    pub(crate) fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    fn refused(message: String) -> Self {
        Self { kind: Kind::Refused, message, retry_after: None }
    }
}

/// Names come from pods, and a path must not become another one by them.
fn collection_path(resource: Resource, namespace: &str) -> Result<String, Failure> {
    use Resource::{CsiDrivers, CsiNodes, Discovery, Nodes};
    let needed = !matches!(resource, CsiDrivers | CsiNodes | Nodes | Discovery);
    match !needed || names::is_name(namespace) {
        true => Ok(resource.path(namespace)),
        false => Err(Failure::refused(format!("{namespace:?} cannot be the name of a namespace"))),
    }
}

fn object_path(resource: Resource, namespace: &str, name: &str) -> Result<String, Failure> {
    let collection = collection_path(resource, namespace)?;
    match names::is_name(name) {
        true => Ok(format!("{collection}/{name}")),
        false => Err(Failure::refused(format!("{name:?} cannot be the name of an object"))),
    }
}

fn written(object: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(object).map_err(|error| Failure::refused(format!("the object cannot be written: {error}")))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // What serde says may quote the object.
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::refused(format!("the API server's answer cannot be read (line {line}, column {column})"))
    })
}

/// Kubernetes sends seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The first cause; what stands above it only says that there was one.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}

/// One line of bounded length.
fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    names::cut(&line, LONGEST_MESSAGE)
}
