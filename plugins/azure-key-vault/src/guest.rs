//! The component: exports of `wit/provider.wit` over the functions of this crate.
//!
//! Translation and nothing else; no decision is taken here. The only file that knows the generated code.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::failure::{Failure, FailureKind};
use crate::http;
use crate::provider::{self, Checked, Outcome, Request, Scope};

use bindings::coffer::provider::http as wire;
use bindings::coffer::provider::log;
use bindings::coffer::provider::types;

#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated: the canonical ABI passes values by raw pointers"
)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "provider" });

    export!(Exports with_types_in self);

    use super::Exports;
}

struct Exports;

impl bindings::Guest for Exports {
    fn check(parameters: Vec<(String, String)>) -> Result<types::Checked, types::Failure> {
        let Checked { scope, session_key, remarks } =
            crate::check(&parameters.into_iter().collect()).map_err(failure)?;
        let scope = match scope {
            Scope::ServiceAccount => types::Scope::ServiceAccount,
            Scope::Pod => types::Scope::Pod,
        };
        Ok(types::Checked { scope, session_key, remarks })
    }

    fn mount(request: types::Request) -> Result<types::Outcome, types::Failure> {
        let outcome = crate::mount(&request_of(request), &Wire).map_err(failure)?;
        warn(&outcome.remarks);
        Ok(types::Outcome::Files(mounted(outcome)))
    }
}

/// HTTP through the host.
struct Wire;

impl http::Http for Wire {
    fn send(&self, requests: Vec<http::Request>) -> Vec<Result<http::Response, http::Error>> {
        send(requests, None)
    }

    fn send_impatiently(
        &self,
        requests: Vec<http::Request>,
        attempt_ms: u32,
    ) -> Vec<Result<http::Response, http::Error>> {
        send(requests, Some(attempt_ms))
    }
}

fn send(requests: Vec<http::Request>, timeout_ms: Option<u32>) -> Vec<Result<http::Response, http::Error>> {
    let requests: Vec<wire::Request> = requests.into_iter().map(|r| wire_request(r, timeout_ms)).collect();
    let answer = |answer: Result<wire::Response, wire::Error>| match answer {
        Ok(wire::Response { status, headers, body }) => Ok(http::Response { status, headers, body }),
        Err(error) => Err(wire_error(error)),
    };
    wire::send(&requests).into_iter().map(answer).collect()
}

fn wire_request(request: http::Request, timeout_ms: Option<u32>) -> wire::Request {
    wire::Request {
        method: request.method.to_owned(),
        url: request.url,
        headers: request.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        body: request.body,
        options: Some(wire::Options {
            retry_statuses: request.retry_statuses.map(<[u16]>::to_vec),
            idempotent: Some(request.idempotent),
            timeout_ms,
        }),
    }
}

fn wire_error(error: wire::Error) -> http::Error {
    match error {
        wire::Error::Denied(text) => http::Error::Denied(text),
        wire::Error::Dns(text) => http::Error::Dns(text),
        wire::Error::Connect(text) => http::Error::Connect(text),
        wire::Error::Tls(text) => http::Error::Tls(text),
        wire::Error::Timeout => http::Error::Timeout,
        wire::Error::TooLarge(text) => http::Error::TooLarge(text),
        wire::Error::Exhausted(text) => http::Error::Exhausted(text),
        wire::Error::Protocol(text) => http::Error::Protocol(text),
    }
}

fn request_of(request: types::Request) -> Request {
    let mut entropy = [0; 32];
    for (place, byte) in entropy.iter_mut().zip(request.entropy) {
        *place = byte;
    }
    let secrets: BTreeMap<String, provider::Secret> =
        request.secrets.into_iter().map(|(key, value)| (key, Zeroizing::new(value))).collect();
    let token = |token: types::ServiceAccountToken| provider::ServiceAccountToken {
        audience: token.audience,
        token: Zeroizing::new(token.token),
        expires: token.expires,
    };
    let types::Pod { name, namespace, service_account, .. } = request.pod;
    Request {
        parameters: request.parameters.into_iter().collect(),
        secrets,
        pod: provider::Pod { name, namespace, service_account },
        tokens: request.tokens.into_iter().map(token).collect(),
        config: request.config.into_iter().collect(),
        session: request.session.map(Zeroizing::new),
        now: request.now,
        entropy,
    }
}

fn mounted(outcome: Outcome) -> types::Mounted {
    let take = |mut bytes: provider::Secret| std::mem::take(&mut *bytes);
    let file = |file: provider::File| types::File { path: file.path, mode: file.mode, contents: take(file.contents) };
    let object = |object: provider::ObjectVersion| types::ObjectVersion { id: object.id, version: object.version };
    let session = |session: provider::Session| types::Session {
        state: take(session.state),
        expires_in_seconds: session.expires_in_seconds,
    };
    types::Mounted {
        files: outcome.files.into_iter().map(file).collect(),
        objects: outcome.objects.into_iter().map(object).collect(),
        session: outcome.session.map(session),
    }
}

fn failure(failure: Failure) -> types::Failure {
    let explanation = types::Explanation { message: failure.message };
    match failure.kind {
        FailureKind::InvalidRequest => types::Failure::InvalidRequest(explanation),
        FailureKind::Unauthenticated => types::Failure::Unauthenticated(explanation),
        FailureKind::PermissionDenied => types::Failure::PermissionDenied(explanation),
        FailureKind::NotFound => types::Failure::NotFound(explanation),
        FailureKind::Throttled { retry_after_seconds } => {
            types::Failure::Throttled(types::Throttling { message: explanation.message, retry_after_seconds })
        }
        FailureKind::Unavailable => types::Failure::Unavailable(explanation),
        FailureKind::Internal => types::Failure::Internal(explanation),
    }
}

fn warn(remarks: &[String]) {
    for remark in remarks {
        log::write(log::Level::Warn, remark);
    }
}
