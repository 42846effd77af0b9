//! What can go wrong with the API server on demand, for which requests, and how often.
//!
//! The first planned fault that matches wins and is used up, as for the other services of the harness.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::resource::{Resource, Target, Verb};
use super::status::failing;
use crate::harness::answer::Answer;
use crate::harness::faults::{Gate, RetryAfter, Times};

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// This answer instead of the server's own; the request has no effect.
    Answer(Answer),
    /// What RBAC says when a right is missing; the request has no effect.
    Forbidden,
    /// The request waits at the gate, then is served as if nothing had been.
    Hold(Gate),
    /// No answer, until the client gives up. The request has no effect.
    Stall,
    /// The connection is closed without a byte of answer. The request has no effect.
    Close,
    /// The request has its effect, and then the connection is closed without a byte of answer.
    CloseAfter,
}

impl Fault {
    /// 429 as priority and fairness sends it.
    pub fn throttled(retry_after: Option<RetryAfter>) -> Self {
        Self::Answer(failing(429, retry_after))
    }

    /// Any failure of the server, with a `Status` to match.
    pub fn failing(status: u16, retry_after: Option<RetryAfter>) -> Self {
        Self::Answer(failing(status, retry_after))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::Forbidden => "forbidden",
            Self::Hold(_) => "hold",
            Self::Stall => "stall",
            Self::Close => "close",
            Self::CloseAfter => "close-after",
        }
    }
}

/// Which requests a fault is for; every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    verb: Option<Verb>,
    resource: Option<Resource>,
    name: Option<String>,
}

impl Matcher {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of one verb on one resource.
    pub fn of(verb: Verb, resource: Resource) -> Self {
        Self { verb: Some(verb), resource: Some(resource), name: None }
    }

    /// Requests of any verb on one resource.
    pub fn on(resource: Resource) -> Self {
        Self { resource: Some(resource), ..Self::default() }
    }

    /// Also: only for the object of this name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    fn matches(&self, target: &Target) -> bool {
        self.verb.is_none_or(|wanted| wanted == target.verb)
            && self.resource.is_none_or(|wanted| wanted == target.resource)
            && self.name.as_deref().is_none_or(|wanted| wanted == target.name)
    }
}

/// The faults that are planned.
#[derive(Default)]
pub(crate) struct Faults {
    requests: Mutex<Vec<(Matcher, Fault, Times)>>,
    latency: Mutex<Duration>,
}

impl Faults {
    pub(crate) fn plan(&self, matcher: Matcher, fault: Fault, times: Times) {
        locked(&self.requests).push((matcher, fault, times));
    }

    pub(crate) fn clear(&self) {
        locked(&self.requests).clear();
        *locked(&self.latency) = Duration::ZERO;
    }

    pub(crate) fn latency(&self) -> Duration {
        *locked(&self.latency)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        *locked(&self.latency) = latency;
    }

    pub(crate) fn strike(&self, target: &Target) -> Option<Fault> {
        let mut planned = locked(&self.requests);
        let found = planned
            .iter_mut()
            .find_map(|(matcher, fault, times)| (matcher.matches(target) && times.take()).then(|| fault.clone()));
        planned.retain(|(_, _, times)| *times != Times::Next(0));
        found
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
