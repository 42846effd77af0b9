//! When a request may be sent, as far as the host is concerned that it goes to.
//!
//! One [`Pace`] for all plugins of a process. Each host (scheme, name, port) has a `limiter`, which learns from "slow
//! down"; a `queue`, in which namespaces and classes take turns while there is a limit; and a `breaker` for each way to
//! it, which opens when nothing comes back. Every attempt passes here, a retry too: a [`Pass`] lets it go, and says
//! afterwards how it ended.
//!
//! Nobody waits in vain: what cannot be sent before its deadline is refused at once. Nothing here spawns: one of those who
//! wait, the keeper, wakes up for all. A dropped future gives its place back. `gate` is the caller, by `retry`.

mod breaker;
mod limiter;
mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use self::breaker::{Breaker, Outage};
use self::limiter::Limiter;
pub use self::queue::Lane;
use self::queue::Queue;
pub(crate) use self::queue::{Call, Place};
use super::{Error, Scheme};

/// Hosts that are remembered; beyond that the one that was quiet for the longest time is forgotten.
const MOST_HOSTS: usize = 1_024;

/// Requests that wait for one host.
const MOST_WAITING: usize = 1_024;

/// The longest time that a caller is told to stay away.
const LONGEST_ABSENCE: Duration = Duration::from_secs(60);

/// The pace of all hosts. Clones share it.
#[derive(Clone, Default)]
pub struct Pace(Arc<Hosts>);

#[derive(Default)]
struct Hosts {
    by_origin: Mutex<HashMap<Origin, Arc<Host>>>,
    /// How often a host that was given up came back.
    returned: Arc<watch::Sender<u64>>,
}

/// What is paced at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paced {
    /// Hosts that have a limit.
    pub throttled: usize,
    /// Hosts that are given up for now, by one way or another.
    pub unavailable: usize,
    /// Requests that wait.
    pub waiting: usize,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.look().fmt(f)
    }
}

/// Whom a request goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// How a host is reached: as its name says, or as one rule says, whose mistakes are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Way(u64);

impl Way {
    /// As its name says.
    pub(crate) const PLAIN: Self = Self(0);

    /// One of its own.
    pub(crate) fn own() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What somebody wants to send.
pub(crate) struct Ask {
    pub(crate) origin: Origin,
    /// The host and its port, for people.
    pub(crate) shown: String,
    pub(crate) way: Way,
    pub(crate) place: Place,
    pub(crate) deadline: Instant,
}

/// Why something is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The host has a limit, and the turn would come too late.
    Throttled {
        shown: Arc<str>,
        /// When it may be worth asking again.
        after: Duration,
    },
    /// The host is out of order.
    Unavailable {
        shown: Arc<str>,
        outage: Outage,
        /// When it is asked again.
        after: Duration,
    },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Throttled { shown, after } => {
                let seconds = after.as_secs_f64().ceil() as u64;
                let text = format!(
                    "{shown} asks for fewer requests, and the turn of this one would come too late; not sent, try again \
                     in {seconds} s"
                );
                Self::Throttled { text, retry_after: Duration::from_secs(seconds) }
            }
            Refusal::Unavailable { shown, outage: Outage { since, last }, after } => Self::Unavailable(format!(
                "{shown} has not answered since {}; not sent, it is tried again in {} s; the last failure was: {last}",
                httpdate::fmt_http_date(since),
                after.as_secs_f64().ceil()
            )),
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// With an answer, whatever it says.
    Answered,
    /// With "slow down", perhaps for so long.
    Throttled(Option<Duration>),
    /// Without an answer, or with one that shows that the host is out of order.
    Failed(String),
}

/// One host.
struct Host {
    shown: Arc<str>,
    state: Mutex<State>,
    returned: Arc<watch::Sender<u64>>,
}

struct State {
    limiter: Limiter,
    /// Of the ways by which the last request failed.
    breakers: HashMap<Way, Breaker>,
    queue: Queue<Waiter>,
    /// Who wakes up for all that wait.
    keeper: Option<u64>,
    /// When that is; none while an answer is waited for.
    wake: Option<Instant>,
    used: Instant,
}

/// Somebody who waits.
struct Waiter {
    answer: oneshot::Sender<Result<Pass, Refusal>>,
    bell: Arc<Notify>,
    way: Way,
    deadline: Instant,
}

/// An answer for somebody who waited, to be handed over when nothing is locked.
type Letter = (oneshot::Sender<Result<Pass, Refusal>>, Result<Pass, Refusal>);

impl Pace {
    /// What is paced now.
    #[must_use]
    pub fn look(&self) -> Paced {
        let hosts: Vec<_> = lock(&self.0.by_origin).values().cloned().collect();
        let now = Instant::now();
        hosts.iter().fold(Paced::default(), |paced, host| {
            let mut state = lock(&host.state);
            Paced {
                throttled: paced.throttled + usize::from(state.limiter.is_limited(now)),
                unavailable: paced.unavailable + usize::from(state.breakers.values().any(Breaker::is_open)),
                waiting: paced.waiting + state.queue.len(),
            }
        })
    }

    /// Changes whenever a host that was given up answers again.
    #[must_use]
    pub fn returned(&self) -> watch::Receiver<u64> {
        self.0.returned.subscribe()
    }

    /// Lets a request go, or waits until it may.
    pub(crate) async fn enter(&self, ask: &Ask) -> Result<Pass, Refusal> {
        let host = self.host(ask);
        let Some(mut seat) = host.ask(ask)? else { return host.pass(ask) };
        loop {
            let wake = host.wake(seat.number).map_or(ask.deadline, |wake| wake.min(ask.deadline));
            tokio::select! {
                biased;
                answer = &mut seat.answer => return answer.unwrap_or_else(|_| Err(host.late(1))),
                () = seat.bell.notified() => {}
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    host.turn(now);
                    if now >= ask.deadline {
                        return seat.answer.try_recv().unwrap_or_else(|_| Err(host.late(1)));
                    }
                }
            }
        }
    }

    /// Whether a request would be sent before its deadline, if it asked now.
    pub(crate) fn would_let(&self, ask: &Ask) -> bool {
        let (host, now) = (self.host(ask), Instant::now());
        let state = lock(&host.state);
        state.fits(ask, now) && state.breakers.get(&ask.way).is_none_or(|breaker| breaker.refusal(now).is_none())
    }

    fn host(&self, ask: &Ask) -> Arc<Host> {
        let mut hosts = lock(&self.0.by_origin);
        if let Some(host) = hosts.get(&ask.origin) {
            return host.clone();
        }
        if hosts.len() >= MOST_HOSTS {
            forget_one(&mut hosts);
        }
        let host = Arc::new(Host::new(&ask.shown, self.0.returned.clone()));
        hosts.insert(ask.origin.clone(), host.clone());
        host
    }
}

/// Forgets a host that nobody uses now: one without trouble if there is such a one, and of these the quietest.
fn forget_one(hosts: &mut HashMap<Origin, Arc<Host>>) {
    let now = Instant::now();
    let unused = hosts.iter().filter(|(_, host)| Arc::strong_count(host) == 1);
    let rank = |host: &Host| {
        let mut state = lock(&host.state);
        (state.limiter.is_limited(now) || !state.breakers.is_empty(), state.used)
    };
    let quietest = unused.min_by_key(|(_, host)| rank(host)).map(|(origin, _)| origin.clone());
    quietest.map(|origin| hosts.remove(&origin));
}

impl Host {
    fn new(shown: &str, returned: Arc<watch::Sender<u64>>) -> Self {
        let state = State {
            limiter: Limiter::new(),
            breakers: HashMap::new(),
            queue: Queue::default(),
            keeper: None,
            wake: None,
            used: Instant::now(),
        };
        Self { shown: shown.into(), state: Mutex::new(state), returned }
    }

    /// A seat in the queue, or none where there is nothing to wait for.
    fn ask(self: &Arc<Self>, ask: &Ask) -> Result<Option<Seat>, Refusal> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.used = now;
        if let Some(refusal) = self.out_of_order(&state, ask.way, now) {
            return Err(refusal);
        }
        let was_limited = state.limiter.rate(now).is_some();
        if !state.limiter.is_limited(now) && state.queue.is_empty() {
            if was_limited {
                tracing::info!(
                    host = &*self.shown,
                    "the host has not asked for fewer requests for a while; all are sent"
                );
            }
            return Ok(None);
        }
        if !state.fits(ask, now) || state.queue.len() >= MOST_WAITING {
            let queued = state.queue.len().max(1);
            return Err(self.throttled(&state, queued, now));
        }
        let (answer, bell) = (oneshot::channel(), Arc::new(Notify::new()));
        let waiter = Waiter { answer: answer.0, bell: bell.clone(), way: ask.way, deadline: ask.deadline };
        let number = state.queue.add(ask.place.clone(), waiter);
        let seat = Seat { host: self.clone(), number, answer: answer.1, bell };
        let letters = self.serve(&mut state, now);
        drop(state);
        deliver(letters);
        Ok(Some(seat))
    }

    /// A pass without a turn.
    fn pass(self: Arc<Self>, ask: &Ask) -> Result<Pass, Refusal> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let pass = self.try_pass(&mut state, ask.way, ask.deadline, false, now);
        drop(state);
        ask.place.call.begin();
        pass
    }

    fn try_pass(
        self: &Arc<Self>,
        state: &mut State,
        way: Way,
        deadline: Instant,
        ends_pause: bool,
        now: Instant,
    ) -> Result<Pass, Refusal> {
        let may = state.breakers.get_mut(&way).map(|breaker| breaker.take(now));
        let is_probe = match may {
            Some(breaker::May::Not(outage, after)) => {
                return Err(Refusal::Unavailable { shown: self.shown.clone(), outage, after });
            }
            Some(breaker::May::Now { is_probe }) => is_probe,
            None => false,
        };
        Ok(Pass { host: self.clone(), way, sent: now, deadline, ends_pause, is_probe, is_settled: false })
    }

    /// Gives turns to whoever may have one now, and refuses those for whom it will be too late.
    fn serve(self: &Arc<Self>, state: &mut State, now: Instant) -> Vec<Letter> {
        let mut letters = self.turn_away(state, now);
        state.wake = None;
        while let Some((number, place, waiter)) = state.queue.head() {
            let (way, deadline) = (waiter.way, waiter.deadline);
            // What cannot be finished is not begun.
            if place.call.begun().is_none() && now + state.limiter.wait(place.requests, now) >= deadline {
                let refusal = self.throttled(state, 1, now);
                letters.extend(state.queue.remove(number).map(|waiter| (waiter.answer, Err(refusal))));
                continue;
            }
            let ends_pause = match state.limiter.take(now) {
                limiter::May::Now { is_probe } => is_probe,
                limiter::May::NotBefore(at) => {
                    state.wake = Some(at);
                    break;
                }
                limiter::May::AfterProbe => break,
            };
            let pass = self.try_pass(state, way, deadline, ends_pause, now);
            if pass.is_err() && ends_pause {
                state.limiter.abandoned_probe();
            }
            letters.extend(state.queue.take(number).map(|waiter| (waiter.answer, pass)));
        }
        state.keep_watch();
        letters
    }

    /// Refuses those that wait in vain.
    fn turn_away(self: &Arc<Self>, state: &mut State, now: Instant) -> Vec<Letter> {
        let paused = state.limiter.paused_until().unwrap_or(now);
        let is_in_vain = |waiter: &Waiter, state: &State| {
            waiter.deadline <= paused || self.out_of_order(state, waiter.way, now).is_some()
        };
        let numbers: Vec<u64> =
            state.queue.all().filter(|(_, waiter)| is_in_vain(waiter, state)).map(|(number, _)| number).collect();
        let mut letters = Vec::new();
        for number in numbers {
            let Some(waiter) = state.queue.remove(number) else { continue };
            let refusal = self.out_of_order(state, waiter.way, now);
            let refusal = refusal.unwrap_or_else(|| self.throttled(state, 1, now));
            letters.push((waiter.answer, Err(refusal)));
        }
        letters
    }

    fn out_of_order(&self, state: &State, way: Way, now: Instant) -> Option<Refusal> {
        match state.breakers.get(&way)?.refusal(now)? {
            breaker::May::Not(outage, after) => Some(Refusal::Unavailable { shown: self.shown.clone(), outage, after }),
            breaker::May::Now { .. } => None,
        }
    }

    /// What is said to somebody for whom it would be too late, with so many requests before the next one that asks.
    fn throttled(&self, state: &State, queued: usize, now: Instant) -> Refusal {
        let wait = state.limiter.wait(queued, now);
        let after = wait.clamp(Duration::from_secs(1), LONGEST_ABSENCE);
        Refusal::Throttled { shown: self.shown.clone(), after }
    }

    fn late(&self, queued: usize) -> Refusal {
        self.throttled(&lock(&self.state), queued, Instant::now())
    }

    fn turn(self: &Arc<Self>, now: Instant) {
        let letters = self.serve(&mut lock(&self.state), now);
        deliver(letters);
    }

    /// When somebody who waits has to wake up for all, if it is this one.
    fn wake(&self, number: u64) -> Option<Instant> {
        let state = lock(&self.state);
        state.wake.filter(|_| state.keeper == Some(number))
    }

    fn leave(self: &Arc<Self>, number: u64) {
        let mut state = lock(&self.state);
        if state.queue.remove(number).is_some() {
            state.keep_watch();
        }
    }

    fn settle(self: &Arc<Self>, pass: &Pass, verdict: &Verdict) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.used = now;
        match verdict {
            Verdict::Answered => {
                state.limiter.answered(pass.ends_pause, now);
                self.revive(&mut state, pass.way);
            }
            Verdict::Throttled(asked) => {
                let turn = state.limiter.throttled(pass.sent, pass.ends_pause, *asked, rand::random(), now);
                if turn == limiter::Turn::Begun {
                    let pause = state.limiter.wait(1, now).as_secs_f64();
                    let host = &*self.shown;
                    tracing::warn!(host, pause_seconds = pause.ceil(), "the host asks for fewer requests; they wait");
                }
                self.revive(&mut state, pass.way);
            }
            Verdict::Failed(why) => {
                if pass.ends_pause {
                    state.limiter.failed_probe(now);
                }
                let breaker = state.breakers.entry(pass.way).or_default();
                let turn = breaker.failed(pass.is_probe, why, rand::random(), now, SystemTime::now());
                if turn == breaker::Turn::Opened {
                    let host = &*self.shown;
                    tracing::warn!(host, last = why, "the host does not answer; it is tried by one request at a time");
                }
            }
        }
        self.go_on(state, now);
    }

    fn abandon(self: &Arc<Self>, pass: &Pass) {
        let mut state = lock(&self.state);
        if pass.ends_pause {
            state.limiter.abandoned_probe();
        }
        if pass.is_probe
            && let Some(breaker) = state.breakers.get_mut(&pass.way)
        {
            breaker.abandoned();
        }
        self.go_on(state, Instant::now());
    }

    fn go_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Instant) {
        if state.queue.is_empty() {
            return;
        }
        let letters = self.serve(&mut state, now);
        drop(state);
        deliver(letters);
    }

    fn revive(&self, state: &mut State, way: Way) {
        let Some(mut breaker) = state.breakers.remove(&way) else { return };
        if let breaker::Turn::Closed(outage) = breaker.answered() {
            let since = httpdate::fmt_http_date(outage.since);
            tracing::info!(host = &*self.shown, since, "the host answers again");
            self.returned.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl State {
    /// Whether the last of the requests would be sent before the deadline.
    fn fits(&self, ask: &Ask, now: Instant) -> bool {
        let ahead = self.queue.ahead(&ask.place);
        now + self.limiter.wait(ahead, now) < ask.deadline
    }

    /// Makes sure that somebody wakes up for all, at the right time.
    fn keep_watch(&mut self) {
        let Some((head, _, _)) = self.queue.head() else {
            self.keeper = None;
            return;
        };
        let keeper = self.keeper.filter(|keeper| self.queue.get(*keeper).is_some()).unwrap_or(head);
        self.keeper = Some(keeper);
        if let Some(waiter) = self.queue.get(keeper) {
            waiter.bell.notify_one();
        }
    }
}

fn deliver(letters: Vec<Letter>) {
    for (answer, letter) in letters {
        // Whoever does not wait any more gives the pass back by dropping it.
        let _ = answer.send(letter);
    }
}

/// A place in a queue.
struct Seat {
    host: Arc<Host>,
    number: u64,
    answer: oneshot::Receiver<Result<Pass, Refusal>>,
    bell: Arc<Notify>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.host.leave(self.number);
    }
}

/// Lets one attempt go.
pub(crate) struct Pass {
    host: Arc<Host>,
    way: Way,
    sent: Instant,
    deadline: Instant,
    /// It is the one that shows whether a pause is over.
    ends_pause: bool,
    /// It is the one that shows whether the host is back.
    is_probe: bool,
    is_settled: bool,
}

impl Pass {
    /// Says how the attempt ended.
    pub(crate) fn settle(mut self, verdict: &Verdict) {
        self.is_settled = true;
        self.host.settle(&self, verdict);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        // Its call was given up: by somebody who does not want it any more, or because there was no answer in time.
        match Instant::now() < self.deadline {
            true => self.host.abandon(self),
            false => self.host.settle(self, &Verdict::Failed("no answer in time".to_owned())),
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("host", &self.host.shown).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
