//! The only way out of the sandbox.
//!
//! [`Egress`] holds the rules of one plugin and the connections made under them; [`Gate`] is one call's view of it,
//! with the call's parameters filled in, its budgets and its deadline. In the order in which a request meets them:
//! `request` and `target` (is it one request, and one URL), [`rules`] (is it allowed by name), `retry` (budgets,
//! retries), [`pace`] (does its host want it now), `client` (one attempt over a pooled connection), `connector` with [`resolver`] and [`address`] (a new
//! connection: is every address allowed that the name resolves to), `proxy` and `tls`, and `audit`.
//!
//! It must never look a name up twice for one connection, follow a redirect, send a request that no rule allows, or
//! put a header, body or query value into a log, an error or a record. `instance` is its caller.

pub mod address;
pub mod audit;
mod client;
mod connect;
mod connector;
mod gate;
pub mod pace;
mod proxy;
mod request;
pub mod resolver;
mod retry;
pub mod rules;
mod target;
mod tls;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use rustls_pki_types::{CertificateDer, ServerName};

pub use self::connect::{Connect, ConnectError};
pub use self::gate::{Egress, Gate};
pub use self::pace::{Lane, Pace};
pub use self::proxy::ProxySettings;
pub use self::request::{UserAgentError, UserAgentSuffix};
pub use self::resolver::{Resolver, SystemResolver};
pub use self::rules::{Rule, RuleError};
pub use self::target::Scheme;

use crate::limits::EgressLimits;
use crate::provider::{Parameters, Pod};
use crate::redact::Redactor;

/// What an instance sends through: the gate of a call, or a closed door while it checks parameters.
pub trait Outbound: Send + Sync {
    /// Sends all requests at once, as far as the limits allow, and answers in their order, one each. Dropping the future
    /// cancels what is still on its way.
    fn send(&self, requests: Vec<Request>) -> Answers<'_>;
}

/// The answers of [`Outbound::send`], later.
pub type Answers<'a> = Pin<Box<dyn Future<Output = Vec<Result<Response, Error>>> + Send + 'a>>;

/// Refuses every request: `check` has no network.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClosedDoor;

impl Outbound for ClosedDoor {
    fn send(&self, requests: Vec<Request>) -> Answers<'_> {
        let refuse = |_| Err(Error::Denied("`check` is without HTTP; send requests in `mount`".to_owned()));
        Box::pin(std::future::ready(requests.into_iter().map(refuse).collect()))
    }
}

/// One rule with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    /// What it allows.
    pub rule: Rule,
    /// The parameter that a class must set to true for the rule to hold; none for a rule that holds for every class. Two
    /// rules for one URL differ in this: what is sent to the token proxy of a cluster looks like what is sent to Entra.
    pub when: Option<String>,
    /// Where to dial instead of the URL's host and port. Such a rule goes through a proxy only if `proxy` says so.
    pub connect: Option<Connect>,
    /// The name that the server's certificate must prove, and that is asked for by SNI, instead of the URL's host.
    pub server_name: Option<ServerName<'static>>,
    /// Authorities to trust for this rule, besides those of [`Settings`].
    pub ca: Vec<CertificateDer<'static>>,
    /// The proxies of this rule instead of those of [`Settings`].
    pub proxy: Option<ProxySettings>,
}

impl From<Rule> for RuleSettings {
    fn from(rule: Rule) -> Self {
        Self { rule, when: None, connect: None, server_name: None, ca: Vec::new(), proxy: None }
    }
}

/// What all rules share.
#[derive(Clone)]
pub struct Settings {
    /// Authorities to trust besides those of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    pub ca: Vec<CertificateDer<'static>>,
    /// The proxies.
    pub proxy: ProxySettings,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolver>,
    /// What is appended to the `User-Agent` of every request.
    pub user_agent_suffix: Option<UserAgentSuffix>,
    /// What is known of the hosts; one for all plugins.
    pub pace: Pace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ca: Vec::new(),
            proxy: ProxySettings::Environment,
            resolver: Arc::new(SystemResolver),
            user_agent_suffix: None,
            pace: Pace::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("ca", &self.ca.len()).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

/// Why an [`Egress`] cannot be made of its settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate of an authority is not usable.
    #[error("certificate {position} of `ca` of {place} is not usable as an authority")]
    Certificate {
        /// The egress settings or a rule.
        place: String,
        /// Which one, the first being 1.
        position: usize,
        /// Why not.
        source: rustls::Error,
    },
    /// A proxy's URL is not usable. The URL is not shown, as it may hold a password.
    #[error(
        "the {scheme} proxy of {place} is not usable: expected `http://[user:password@]host:port` or the same with https"
    )]
    Proxy {
        /// The egress settings or a rule.
        place: String,
        /// For which requests.
        scheme: Scheme,
    },
    /// An `http` proxy is told the URL's host and dials it, so `connect` would have no effect.
    #[error("rule `{0}` has both `connect` and a proxy for http; only https can have both")]
    ConnectBehindProxy(Arc<str>),
    /// Without TLS there is no name to prove.
    #[error("rule `{0}` has `serverName` or `ca`, but allows http, which has no TLS")]
    TlsOfHttp(Arc<str>),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// One request of a provider, not checked yet.
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

/// URL, headers and body hold secrets, so they are counted only.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
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
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Headers and body hold secrets, so they are counted only.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .finish()
    }
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
    /// The host asked for fewer requests, and this one was not sent, as its turn would come too late.
    #[error("throttled: {text}")]
    Throttled {
        /// Which host, and when it goes on.
        text: String,
        /// When it may be worth asking again.
        retry_after: Duration,
    },
    /// The host does not answer since a while, and this request was not sent.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Error {
    /// The case, as `wit/provider.wit` writes it where it has it: stable, for logs and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too-large",
            Self::Exhausted(_) => "exhausted",
            Self::Protocol(_) => "protocol",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) => "unavailable",
        }
    }

    fn map_text(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Denied(text) => Self::Denied(change(text)),
            Self::Dns(text) => Self::Dns(change(text)),
            Self::Connect(text) => Self::Connect(change(text)),
            Self::Tls(text) => Self::Tls(change(text)),
            Self::Timeout => Self::Timeout,
            Self::TooLarge(text) => Self::TooLarge(change(text)),
            Self::Exhausted(text) => Self::Exhausted(change(text)),
            Self::Protocol(text) => Self::Protocol(change(text)),
            Self::Throttled { text, retry_after } => Self::Throttled { text: change(text), retry_after },
            Self::Unavailable(text) => Self::Unavailable(change(text)),
        }
    }
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
    /// How often it was sent; 0 when it was denied, or its host wanted no request.
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
    /// Whether rules that name a metadata service, or another address of the node's platform, hold for this pod.
    pub node_identity: bool,
    /// The class that is served: in a namespace, classes take turns where a host wants fewer requests.
    pub class: Arc<str>,
    /// Whether a pod waits for the call.
    pub lane: Lane,
    /// Budgets.
    pub limits: EgressLimits,
    /// No request outlives this moment.
    pub deadline: tokio::time::Instant,
    /// The secrets of the call; learns the values of `Authorization` headers.
    pub redactor: Redactor,
}
