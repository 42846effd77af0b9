//! When to send again, and how much a call may send at all.
//!
//! [`Policy`] says what is worth a retry (`wit/provider.wit` holds the defaults), [`run`] does it inside the deadline: with
//! exponential delays, or, where the host said "slow down", when `pace` lets it. [`Budget`] counts what a call uses up.
//! `gate` runs every request through both.
//!
//! It must never send an attempt that `pace` does not let go, nor wait for something that the deadline makes pointless:
//! then it returns what it has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::pace::Verdict;
use super::{Error, Options, Response};
use crate::limits::EgressLimits;

/// Retries after the first attempt.
const MOST_RETRIES: usize = 3;

/// Attempts that the host may answer with "slow down". Such an attempt is let go by `pace`, and seldom meets another one.
const MOST_THROTTLED: u32 = 10;

/// The first delay; each further one is twice as long, and up to as much again is added by chance.
const FIRST_DELAY: Duration = Duration::from_millis(800);

/// A server that asks for a longer wait gets none: its response is the answer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is retried unless the request says otherwise: the answers of a server or gateway that has a bad moment.
const IDEMPOTENT_STATUSES: &[u16] = &[408, 429, 500, 502, 503, 504];

/// The same for requests that must not be done twice: 429 promises that nothing was done.
const OTHER_STATUSES: &[u16] = &[429];

/// An attempt without a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether the server may have seen the request.
    pub(crate) sent: bool,
    /// Whether another attempt may end otherwise.
    pub(crate) transient: bool,
}

/// What is worth a retry.
pub(crate) struct Policy {
    statuses: Vec<u16>,
    idempotent: bool,
}

impl Policy {
    pub(crate) fn new(method: &Method, options: &Options) -> Self {
        let idempotent = options.idempotent.unwrap_or(*method == Method::GET || *method == Method::HEAD);
        let default = if idempotent { IDEMPOTENT_STATUSES } else { OTHER_STATUSES };
        Self { statuses: options.retry_statuses.clone().unwrap_or_else(|| default.to_vec()), idempotent }
    }

    fn retries_status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    fn retries_failure(&self, failure: &Failure) -> bool {
        failure.transient && (self.idempotent || !failure.sent)
    }
}

/// One request as [`run`] sees it: something that can be tried, and tried again.
pub(crate) trait Exchange {
    /// A response whose body is still to come.
    type Head: Send;

    /// Waits until an attempt may be sent, as far as the host is concerned.
    fn enter(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether it would be let go in time once more, if it asked now.
    fn may_enter_again(&self) -> bool;

    /// Says how the attempt ended that was let go last.
    fn settle(&mut self, verdict: Verdict);

    /// Sends the request and waits for the head of the response.
    fn send(&mut self) -> impl Future<Output = Result<Self::Head, Failure>> + Send;

    /// The status of a response.
    fn status(head: &Self::Head) -> u16;

    /// The headers of a response.
    fn headers(head: &Self::Head) -> &HeaderMap;

    /// Reads the rest of a response.
    fn finish(&mut self, head: Self::Head) -> impl Future<Output = Result<Response, Failure>> + Send;

    /// Gives a response up, in a way that lets its connection be used again if that is cheap.
    fn discard(&mut self, head: Self::Head) -> impl Future<Output = ()> + Send;

    /// Takes one more attempt out of the budget, if it has one.
    fn take_retry(&mut self) -> bool;
}

/// Tries until there is an answer, or until trying again is not allowed or not worth it.
pub(crate) async fn run<E: Exchange + Send>(
    exchange: &mut E,
    policy: &Policy,
    deadline: Instant,
) -> Result<Response, Error> {
    let mut delays = delays();
    let mut throttled = 0;
    loop {
        exchange.enter().await?;
        let failure = match exchange.send().await {
            Ok(head) => {
                let (status, asked) = (E::status(&head), retry_after(E::headers(&head), SystemTime::now()));
                let verdict = judge(status, asked);
                let is_throttled = matches!(verdict, Some(Verdict::Throttled(_)));
                verdict.into_iter().for_each(|verdict| exchange.settle(verdict));
                let delay = match policy.retries_status(status) {
                    // `pace` knows how long to wait.
                    true if is_throttled => {
                        throttled += 1;
                        (throttled < MOST_THROTTLED && exchange.may_enter_again()).then_some(Duration::ZERO)
                    }
                    true => next_delay(&mut delays, asked, deadline),
                    false => None,
                };
                match delay {
                    Some(delay) if exchange.take_retry() => {
                        exchange.settle(Verdict::Answered);
                        exchange.discard(head).await;
                        tokio::time::sleep(delay).await;
                        continue;
                    }
                    _ => match exchange.finish(head).await {
                        Ok(response) => {
                            exchange.settle(Verdict::Answered);
                            return Ok(response);
                        }
                        Err(failure) => failure,
                    },
                }
            }
            Err(failure) => failure,
        };
        exchange.settle(judge_failure(&failure));
        let retry = policy.retries_failure(&failure);
        match retry.then(|| next_delay(&mut delays, None, deadline)).flatten() {
            Some(delay) if exchange.take_retry() => tokio::time::sleep(delay).await,
            _ => return Err(failure.error),
        }
    }
}

/// What a status says about its host, if it says anything before the body is there. A server error is that of the host;
/// 501 and 505 are answers to a strange request.
fn judge(status: u16, asked: Option<Duration>) -> Option<Verdict> {
    match status {
        429 => Some(Verdict::Throttled(asked)),
        503 if asked.is_some() => Some(Verdict::Throttled(asked)),
        501 | 505 => None,
        500..=599 => Some(Verdict::Failed(format!("status {status}"))),
        _ => None,
    }
}

/// What an attempt without a whole response says about its host.
fn judge_failure(failure: &Failure) -> Verdict {
    match &failure.error {
        Error::Dns(_) | Error::Connect(_) | Error::Tls(_) | Error::Timeout | Error::Protocol(_) => {
            Verdict::Failed(failure.error.to_string())
        }
        // The host did its part, or was not asked.
        Error::Denied(_)
        | Error::TooLarge(_)
        | Error::Exhausted(_)
        | Error::Throttled { .. }
        | Error::Unavailable(_) => Verdict::Answered,
    }
}

fn delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_factor(2.0)
        .with_max_delay(LONGEST_WAIT)
        .with_max_times(MOST_RETRIES)
        .with_jitter()
        .build()
}

/// The next delay; none after the last retry, when the server asks for too long a wait, or when it does not fit.
fn next_delay(
    delays: &mut impl Iterator<Item = Duration>,
    asked: Option<Duration>,
    deadline: Instant,
) -> Option<Duration> {
    let own = delays.next()?;
    let delay = asked.unwrap_or(own);
    let fits = Instant::now().checked_add(delay).is_some_and(|end| end < deadline);
    (delay <= LONGEST_WAIT && fits).then_some(delay)
}

/// How long the server asks to wait: in milliseconds (as Azure's services do), or in seconds or until a date (RFC 9110
/// section 10.2.3). A date in the past means not at all; what cannot be read is not there.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        if let Some(milliseconds) = text(name).and_then(number) {
            return Some(Duration::from_millis(milliseconds));
        }
    }
    let value = text("retry-after")?;
    match number(value) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// What is left of the limits of a call. Shared by its requests.
pub(crate) struct Budget {
    requests: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: &EgressLimits) -> Self {
        Self {
            requests: AtomicU64::new(u64::from(limits.requests)),
            bytes_out: AtomicU64::new(limits.bytes_out),
            bytes_in: AtomicU64::new(limits.bytes_in),
        }
    }

    pub(crate) fn take_request(&self) -> bool {
        take(&self.requests, 1)
    }

    pub(crate) fn take_bytes_out(&self, bytes: u64) -> bool {
        take(&self.bytes_out, bytes)
    }

    /// Takes what is there even if it is too little: those bytes were received.
    pub(crate) fn take_bytes_in(&self, bytes: u64) -> bool {
        let enough = take(&self.bytes_in, bytes);
        if !enough {
            self.bytes_in.store(0, Ordering::Relaxed);
        }
        enough
    }
}

fn take(left: &AtomicU64, amount: u64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_ok()
}

#[cfg(test)]
mod tests;
