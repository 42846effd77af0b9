//! The only way out of the sandbox.
//!
//! [`Egress`] holds the rules of one plugin and the connections made under them; [`Gate`] is one call's view of it,
//! with the call's parameters filled in, its budgets and its deadline. In the order in which a request meets them:
//! `rules` (is it allowed by name), `resolver` and `address` (is every address it resolves to allowed), `client`
//! (connections, TLS, proxies), `throttle` (retries, concurrency, budgets).
//!
//! It must never look a name up twice for one connection, follow a redirect, send a request that no rule allows, or
//! put a header, body or query value into a log, an error or a record. `instance` is its caller.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::EgressLimits;
use crate::provider::{Parameters, Pod};
use crate::redact::Redactor;

/// One request of a provider, not checked yet.
#[derive(Debug)]
pub struct Request {
    /// The method in upper case.
    pub method: String,
    /// The absolute URL.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// How to retry.
    pub options: Options,
}

/// How one request is retried; see `wit/provider.wit`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Statuses to retry on instead of the default ones.
    pub retry_statuses: Option<Vec<u16>>,
    /// Whether the request may be sent twice.
    pub idempotent: Option<bool>,
    /// Time for one attempt.
    pub timeout: Option<Duration>,
}

/// One whole response.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no response. The texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No rule allows it, or a resolved address is forbidden.
    #[error("denied: {0}")]
    Denied(String),
    /// The name does not resolve.
    #[error("name resolution failed: {0}")]
    Dns(String),
    /// No connection to host or proxy.
    #[error("connection failed: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// No whole answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The response exceeds the limit.
    #[error("response too large: {0}")]
    TooLarge(String),
    /// A budget of the call is used up.
    #[error("budget used up: {0}")]
    Exhausted(String),
    /// Not valid HTTP, on one side or the other.
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// How a request ended, for audit and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A response with this status.
    Status(u16),
    /// No response.
    Failed(Error),
}

/// One request as audit and reports show it: what was asked, what was answered; never a header, body or query value.
#[derive(Clone, Debug)]
pub struct Record {
    /// The text of the rule that allowed it; none when it was denied by name.
    pub rule: Option<Arc<str>>,
    /// The method as asked.
    pub method: String,
    /// Host and, if not the scheme's own, port.
    pub host: String,
    /// The path, known secrets replaced.
    pub path: String,
    /// How it ended.
    pub ending: Ending,
    /// How often it was sent; 0 when it was denied.
    pub attempts: u32,
    /// Bytes sent, retries included.
    pub bytes_out: u64,
    /// Bytes received, retries included.
    pub bytes_in: u64,
    /// From the request of the guest to its answer.
    pub duration: Duration,
}

/// Who asks, and with what limits: everything about one call that egress needs.
#[derive(Clone)]
pub struct Caller {
    /// The plugin's name, as in `spec.provider`.
    pub plugin: Arc<str>,
    /// The plugin's digest, `sha256:<hex>`.
    pub digest: Arc<str>,
    /// The pod that is served.
    pub pod: Pod,
    /// What rules may refer to.
    pub parameters: Arc<Parameters>,
    /// Budgets.
    pub limits: EgressLimits,
    /// No request outlives this moment.
    pub deadline: tokio::time::Instant,
    /// The secrets of the call; learns the values of `Authorization` headers.
    pub redactor: Redactor,
}

/// The answers to a batch, on their way; in the order of the requests, one each.
pub type Answers<'a> = Pin<Box<dyn Future<Output = Vec<Result<Response, Error>>> + Send + 'a>>;

/// What an instance sends through: the gate of a call, or, in `check`, a closed door.
pub trait Outbound: Send + Sync {
    /// Sends all requests and waits for all answers.
    fn send(&self, requests: Vec<Request>) -> Answers<'_>;
}

/// Nothing passes: `check` has no HTTP.
pub struct ClosedDoor;

impl Outbound for ClosedDoor {
    fn send(&self, requests: Vec<Request>) -> Answers<'_> {
        let refuse = |_| Err(Error::Denied("`check` is without HTTP; send requests in `mount`".into()));
        Box::pin(std::future::ready(requests.into_iter().map(refuse).collect()))
    }
}
