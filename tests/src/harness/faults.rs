//! What can go wrong on demand, for which requests, and how often.
//!
//! A fault on a request replaces or damages its answer; a fault on TLS meets a connection before there is a request.
//! The first planned fault that matches wins and is used up, so a sequence of faults is planned by planning each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::watch;

use super::answer::Answer;
use super::log::Kind;

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// This answer instead of the service's own; the request has no effect.
    Answer(Answer),
    /// The request waits at the gate, then is served as if nothing had been.
    Hold(Gate),
    /// No answer, until the client gives up. The request has no effect.
    Stall,
    /// The head and half the body of the real answer, then nothing.
    StallInBody,
    /// The head and half the body of the real answer, then the connection (HTTP/2: the stream) is torn down.
    CutBody,
    /// The real answer with a `Content-Length` beyond its body.
    LengthTooLong,
    /// The real answer with a `Content-Length` short of its body.
    LengthTooShort,
    /// A body that never ends.
    EndlessBody,
    /// Bytes that are no HTTP, then the connection is closed.
    Garbage,
    /// The connection is closed without a byte of answer.
    Close,
}

/// When a throttled client may come back, in either form of `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Delay in seconds.
    Seconds(u64),
    /// An HTTP date (RFC 9110, section 5.6.7).
    At(SystemTime),
}

impl Fault {
    /// 429 as Key Vault sends it.
    pub fn throttled(retry_after: Option<RetryAfter>) -> Self {
        Self::failing(429, "Throttled", "too many requests reached this vault", retry_after)
    }

    /// 503 as Key Vault sends it.
    pub fn unavailable(retry_after: Option<RetryAfter>) -> Self {
        Self::failing(503, "ServiceUnavailable", "the vault cannot answer for now", retry_after)
    }

    /// 500 as Key Vault sends it.
    pub fn internal() -> Self {
        Self::failing(500, "InternalServerError", "the vault stumbled", None)
    }

    /// Any status with an error body as Key Vault sends it.
    pub fn failing(status: u16, code: &str, message: &str, retry_after: Option<RetryAfter>) -> Self {
        let answer = Answer::json(status, &json!({"error": {"code": code, "message": message}}));
        Self::Answer(match retry_after {
            None => answer,
            Some(RetryAfter::Seconds(seconds)) => answer.header("Retry-After", seconds.to_string()),
            Some(RetryAfter::At(time)) => answer.header("Retry-After", httpdate::fmt_http_date(time)),
        })
    }

    /// 401 with this `WWW-Authenticate`, well formed or not.
    pub fn challenge(www_authenticate: &str) -> Self {
        let body = json!({"error": {"code": "Unauthorized", "message": "AKV10000: the request has no token"}});
        Self::Answer(Answer::json(401, &body).header("WWW-Authenticate", www_authenticate))
    }

    /// A redirect to any URL.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::Answer(Answer::empty(status).header("Location", location))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::Hold(_) => "hold",
            Self::Stall => "stall",
            Self::StallInBody => "stall-in-body",
            Self::CutBody => "cut-body",
            Self::LengthTooLong => "length-too-long",
            Self::LengthTooShort => "length-too-short",
            Self::EndlessBody => "endless-body",
            Self::Garbage => "garbage",
            Self::Close => "close",
        }
    }
}

/// What happens to a connection when its client has named the server it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// A certificate of the emulator's authority for another name.
    WrongName,
    /// A certificate of the emulator's authority that has expired.
    Expired,
    /// A certificate of the emulator's authority that is not valid yet.
    NotYetValid,
    /// A certificate that signs itself.
    SelfSigned,
    /// Bytes that are no TLS.
    Garbage,
    /// Nothing, until the client gives up.
    Stall,
    /// The connection is closed.
    Close,
}

/// How many requests each vault answers in a window of time; the others get 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests in a window, those to keys and certificates included.
    pub requests: u64,
    /// Begins with the first request after the last window ended, by the emulator's clock.
    pub window: Duration,
    /// Whether the refusals have a `Retry-After`, the rest of the window in whole seconds.
    pub says_when: bool,
}

/// A window of one vault.
#[derive(Clone, Copy, Default)]
struct Window {
    /// When it began, in Unix milliseconds.
    begun: i64,
    requests: u64,
}

/// Which requests a fault is for; every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    kind: Option<Kind>,
    host: Option<String>,
    path: Option<String>,
}

impl Matcher {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of one kind.
    pub fn kind(kind: Kind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// Also: only to this host.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_ascii_lowercase());
        self
    }

    /// Also: only where the path contains this text.
    pub fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    fn matches(&self, kind: Kind, host: &str, path: &str) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.host.as_deref().is_none_or(|wanted| wanted == host)
            && self.path.as_deref().is_none_or(|wanted| path.contains(wanted))
    }
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next so many matching requests.
    Next(u64),
    /// Until the faults are cleared.
    Always,
}

impl Times {
    /// The next matching request only.
    pub const ONCE: Self = Self::Next(1);

    /// Whether one is left; takes it.
    pub(crate) fn take(&mut self) -> bool {
        match self {
            Self::Always => true,
            Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// Holds requests back until a test lets them go, so that "at the same time" needs no sleep.
#[derive(Clone, Default)]
pub struct Gate {
    doors: Arc<Doors>,
}

#[derive(Default)]
struct Doors {
    arrived: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until so many requests have come to the gate. Give it a deadline of your own.
    pub async fn arrived(&self, count: u64) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.doors.arrived.subscribe().wait_for(|arrived| *arrived >= count).await;
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.doors.open.send_replace(true);
    }

    pub(crate) async fn pass(&self) {
        self.doors.arrived.send_modify(|arrived| *arrived += 1);
        let _ = self.doors.open.subscribe().wait_for(|open| *open).await;
    }
}

/// The faults that are planned.
#[derive(Default)]
pub(crate) struct Faults {
    requests: Mutex<Vec<(Matcher, Fault, Times)>>,
    handshakes: Mutex<Vec<(String, TlsFault, Times)>>,
    latency: Mutex<Latency>,
    quota: Mutex<(Option<Quota>, HashMap<String, Window>)>,
}

/// How long the services take before they answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) vault: Duration,
    pub(crate) token: Duration,
}

impl Faults {
    pub(crate) fn plan(&self, matcher: Matcher, fault: Fault, times: Times) {
        locked(&self.requests).push((matcher, fault, times));
    }

    pub(crate) fn plan_tls(&self, host: &str, fault: TlsFault, times: Times) {
        locked(&self.handshakes).push((host.to_ascii_lowercase(), fault, times));
    }

    pub(crate) fn clear(&self) {
        locked(&self.requests).clear();
        locked(&self.handshakes).clear();
    }

    pub(crate) fn latency(&self) -> Latency {
        *locked(&self.latency)
    }

    pub(crate) fn change_latency(&self, change: impl FnOnce(&mut Latency)) {
        change(&mut locked(&self.latency));
    }

    pub(crate) fn limit(&self, quota: Option<Quota>) {
        *locked(&self.quota) = (quota, HashMap::new());
    }

    /// The answer for a request that is one too many.
    pub(crate) fn exceeds(&self, kind: Kind, host: &str, now_millis: i64) -> Option<Fault> {
        if !kind.is_vault() {
            return None;
        }
        let mut limited = locked(&self.quota);
        let (quota, windows) = &mut *limited;
        let quota = (*quota)?;
        let window = windows.entry(host.to_owned()).or_default();
        let length = i64::try_from(quota.window.as_millis()).unwrap_or(i64::MAX);
        if now_millis.saturating_sub(window.begun) >= length {
            *window = Window { begun: now_millis, requests: 0 };
        }
        window.requests += 1;
        let left = window.begun.saturating_add(length).saturating_sub(now_millis);
        let seconds = u64::try_from(left).unwrap_or_default().div_ceil(1_000);
        let retry_after = quota.says_when.then_some(RetryAfter::Seconds(seconds));
        (window.requests > quota.requests).then(|| Fault::throttled(retry_after))
    }

    pub(crate) fn strike(&self, kind: Kind, host: &str, path: &str) -> Option<Fault> {
        let mut planned = locked(&self.requests);
        let found = planned.iter_mut().find_map(|(matcher, fault, times)| {
            (matcher.matches(kind, host, path) && times.take()).then(|| fault.clone())
        });
        planned.retain(|(_, _, times)| *times != Times::Next(0));
        found
    }

    pub(crate) fn strike_tls(&self, host: &str) -> Option<TlsFault> {
        let mut planned = locked(&self.handshakes);
        let found =
            planned.iter_mut().find_map(|(wanted, fault, times)| (wanted == host && times.take()).then_some(*fault));
        planned.retain(|(_, _, times)| *times != Times::Next(0));
        found
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
