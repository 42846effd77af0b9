//! The generated side of `wit/provider.wit`, and the two tables between it and [`crate::provider`].
//!
//! The only file that sees generated types. It translates and bounds nothing else; limits of answers are in
//! `instance`.

use std::time::{Duration, SystemTime};

use crate::egress;
use crate::provider;

#[allow(missing_docs, clippy::indexing_slicing, clippy::allow_attributes_without_reason, reason = "generated code")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "provider",
        imports: { default: async },
        exports: { default: async },
    });
}

pub(crate) use generated::coffer::provider::http::{Error as HttpError, Host as HttpHost, Request, Response};
pub(crate) use generated::coffer::provider::log::{Host as LogHost, Level};
pub(crate) use generated::coffer::provider::types;
pub(crate) use generated::{Provider, ProviderPre};

/// The version of the contract that this file speaks.
pub(crate) const CONTRACT: &str = "0.1.0";

/// What a guest sent, as egress takes it.
pub(crate) fn outgoing(request: Request) -> egress::Request {
    let options = request.options.map_or_else(egress::Options::default, |options| egress::Options {
        retry_statuses: options.retry_statuses,
        idempotent: options.idempotent,
        timeout: options.timeout_ms.map(|ms| Duration::from_millis(u64::from(ms))),
    });
    egress::Request { method: request.method, url: request.url, headers: request.headers, body: request.body, options }
}

/// What egress answered, as a guest takes it.
pub(crate) fn incoming(result: Result<egress::Response, egress::Error>) -> Result<Response, HttpError> {
    match result {
        Ok(egress::Response { status, headers, body }) => Ok(Response { status, headers, body }),
        Err(error) => Err(match error {
            egress::Error::Denied(text) => HttpError::Denied(text),
            egress::Error::Dns(text) => HttpError::Dns(text),
            egress::Error::Connect(text) => HttpError::Connect(text),
            egress::Error::Tls(text) => HttpError::Tls(text),
            egress::Error::Timeout => HttpError::Timeout,
            egress::Error::TooLarge(text) => HttpError::TooLarge(text),
            egress::Error::Exhausted(text) => HttpError::Exhausted(text),
            egress::Error::Protocol(text) => HttpError::Protocol(text),
            egress::Error::Unavailable(text) => HttpError::Connect(text),
            // The answer that the host would give, as every provider knows it.
            egress::Error::Throttled { text, retry_after } => return Ok(slow_down(text, retry_after)),
        }),
    }
}

fn slow_down(text: String, retry_after: Duration) -> Response {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let headers = vec![
        header("content-type", "text/plain; charset=utf-8".to_owned()),
        header("retry-after", retry_after.as_secs().to_string()),
    ];
    Response { status: 429, headers, body: text.into_bytes() }
}

/// A request as the guest takes it. Copies secrets into the guest; the copies on this side are wiped by the allocator
/// of the program.
pub(crate) fn request(request: &provider::Request) -> types::Request {
    let pod = &request.pod;
    types::Request {
        pod: types::Pod {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
        },
        parameters: parameters(&request.parameters),
        secrets: request.secrets.iter().map(|(key, value)| (key.clone(), value.expose().to_vec())).collect(),
        tokens: request.tokens.iter().map(token).collect(),
        config: request.config.iter().map(|(path, contents)| (path.clone(), contents.clone())).collect(),
        default_mode: request.default_mode,
        mounted: request
            .mounted
            .iter()
            .cloned()
            .map(|o| types::ObjectVersion { id: o.id, version: o.version })
            .collect(),
        session: request.session.as_ref().map(|session| session.expose().to_vec()),
        now: unix_seconds(request.now),
        entropy: request.entropy.to_vec(),
    }
}

fn token(token: &provider::ServiceAccountToken) -> types::ServiceAccountToken {
    types::ServiceAccountToken {
        audience: token.audience.clone(),
        // A token is a JSON Web Token, which is ASCII; anything else would be refused by the store anyway.
        token: String::from_utf8_lossy(token.token.expose()).into_owned(),
        expires: unix_seconds(token.expires),
    }
}

pub(crate) fn parameters(parameters: &provider::Parameters) -> Vec<(String, String)> {
    parameters.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What the guest answered, not checked yet.
pub(crate) fn outcome(outcome: types::Outcome) -> provider::Outcome {
    match outcome {
        types::Outcome::Unchanged(kept) => provider::Outcome { mounted: None, session: kept.map(session) },
        types::Outcome::Files(types::Mounted { files, objects, session: kept }) => provider::Outcome {
            mounted: Some(provider::Mounted {
                files: files.into_iter().map(file).collect(),
                objects: objects
                    .into_iter()
                    .map(|o| provider::ObjectVersion { id: o.id, version: o.version })
                    .collect(),
            }),
            session: kept.map(session),
        },
    }
}

fn file(file: types::File) -> provider::File {
    provider::File { path: file.path, mode: file.mode, contents: file.contents.into() }
}

fn session(session: types::Session) -> provider::Session {
    let expires_in = Duration::from_secs(u64::from(session.expires_in_seconds));
    provider::Session { state: session.state.into(), expires_in }
}

pub(crate) fn checked(checked: types::Checked) -> provider::Checked {
    let scope = match checked.scope {
        types::Scope::ServiceAccount => provider::Scope::ServiceAccount,
        types::Scope::Pod => provider::Scope::Pod,
    };
    provider::Checked { scope, session_key: checked.session_key, remarks: checked.remarks }
}

pub(crate) fn failure(failure: types::Failure) -> provider::Failure {
    use provider::FailureKind as Kind;
    let (kind, message) = match failure {
        types::Failure::InvalidRequest(e) => (Kind::InvalidRequest, e.message),
        types::Failure::Unauthenticated(e) => (Kind::Unauthenticated, e.message),
        types::Failure::PermissionDenied(e) => (Kind::PermissionDenied, e.message),
        types::Failure::NotFound(e) => (Kind::NotFound, e.message),
        types::Failure::Throttled(e) => {
            let retry_after = e.retry_after_seconds.map(|s| Duration::from_secs(u64::from(s)));
            (Kind::Throttled { retry_after }, e.message)
        }
        types::Failure::Unavailable(e) => (Kind::Unavailable, e.message),
        types::Failure::Internal(e) => (Kind::Internal, e.message),
    };
    provider::Failure { kind, message }
}
