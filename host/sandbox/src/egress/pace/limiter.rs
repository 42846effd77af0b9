//! How fast one host may be asked. Pure: times and answers go in, a moment comes out.
//!
//! Until a host says "slow down" there is no limit. From then on nothing is sent until the host's `Retry-After` is over,
//! then one request, and when that is answered as many as the host took before: what it took is known from the answers
//! that were counted. From there the rate grows slowly around the rate at which the host said it last, and faster the
//! longer it says nothing (the curve of CUBIC, RFC 9438). A host that says nothing for five minutes has no limit again.
//!
//! It must never wait for a host longer than [`LONGEST_PAUSE`] at a time: a wrong `Retry-After` must not end a service.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A host that asks for a longer pause is asked again after this, by one request.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a "slow down" that does not say for how long, and the shortest one after a second in a row.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Each further pause is at least this part of all pauses in a row so far: long windows cost few probes, and at most
/// that part of them is slept over.
const PAUSE_GROWTH: f64 = 0.2;

/// Nodes that were told the same `Retry-After` come back spread over so much more of it.
const PAUSE_JITTER: f64 = 0.05;

/// After so long without a "slow down" all is forgotten.
const MEMORY: Duration = Duration::from_secs(5 * 60);

/// What is left of the rate after a "slow down", and after one that comes soon after the last: the rate is far off then.
const REDUCED: f64 = 0.95;
const REDUCED_AGAIN: f64 = 0.8;
const SOON: Duration = Duration::from_secs(8);

/// The rate grows by `GROWTH · t³`, as a part of the last known limit, `t` seconds after that was reached again.
const GROWTH: f64 = 0.05 / (20.0 * 20.0 * 20.0);

/// The least rate that is believed of a host when it says "slow down" first: somebody else may have used it up.
const LEAST_AT_FIRST: f64 = 5.0;

/// The least rate at all, in requests per second.
const LEAST: f64 = 0.2;

/// What may be sent at once after a moment without a request, as time: timers are not exact.
const SLACK: Duration = Duration::from_millis(20);

/// How finely answers are counted, and how far back.
const TICK: Duration = Duration::from_millis(50);
const COUNTED: Duration = Duration::from_secs(20);

/// How much of the time before a pause the answers are looked at for, in milliseconds: the best of all is the rate.
const LOOKS: [u64; 8] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000];

/// How fast one host may be asked.
#[derive(Debug)]
pub(crate) struct Limiter {
    answers: Answers,
    limit: Option<Limit>,
}

/// What is known of a host that said "slow down".
#[derive(Debug)]
struct Limit {
    /// When it said so last.
    last: Instant,
    pause: Option<Pause>,
    /// None until the first pause is over.
    rate: Option<Rate>,
    /// When the next request may be sent, apart from pauses.
    next: Instant,
}

/// Nothing is sent until it is over, and then one request that shows whether it is.
#[derive(Debug)]
struct Pause {
    since: Instant,
    until: Instant,
    is_probing: bool,
}

/// Requests per second, as a curve.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// The limit as it was known last.
    known: f64,
    /// When the curve reaches it.
    at: Instant,
    /// When the curve began.
    since: Instant,
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Now. Where it ends a pause, whoever sends it says how it ended.
    Now {
        /// Whether it is the one request after a pause.
        is_probe: bool,
    },
    /// Not before.
    NotBefore(Instant),
    /// When the request that was sent after the pause is answered.
    AfterProbe,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The host said "slow down" for the first time.
    Begun,
    /// It has a limit as before, and pauses.
    Paused,
    /// As before.
    Nothing,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self { answers: Answers::default(), limit: None }
    }

    /// Whether there is a limit. Forgets one that is old.
    pub(crate) fn is_limited(&mut self, now: Instant) -> bool {
        if self.limit.as_ref().is_some_and(|limit| limit.pause.is_none() && now.duration_since(limit.last) >= MEMORY) {
            self.limit = None;
        }
        self.limit.is_some()
    }

    /// Takes the next place, if one is free now.
    pub(crate) fn take(&mut self, now: Instant) -> May {
        if !self.is_limited(now) {
            return May::Now { is_probe: false };
        }
        let Some(limit) = &mut self.limit else { return May::Now { is_probe: false } };
        if let Some(pause) = &mut limit.pause {
            if pause.is_probing {
                return May::AfterProbe;
            }
            if pause.until > now {
                return May::NotBefore(pause.until);
            }
            pause.is_probing = true;
            return May::Now { is_probe: true };
        }
        if limit.next > now {
            return May::NotBefore(limit.next);
        }
        let rate = limit.rate.map_or(LEAST_AT_FIRST, |rate| rate.at(now));
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        limit.next = limit.next.max(earliest) + Duration::from_secs_f64(1.0 / rate);
        May::Now { is_probe: false }
    }

    /// How long it takes until so many more requests were sent, as far as is known.
    pub(crate) fn wait(&self, requests: usize, now: Instant) -> Duration {
        let Some(limit) = &self.limit else { return Duration::ZERO };
        let pause = limit.pause.as_ref().map_or(Duration::ZERO, |pause| pause.until.saturating_duration_since(now));
        let rate = match (&limit.rate, &limit.pause) {
            (Some(rate), _) => rate.at(now),
            (None, Some(pause)) => self.answers.rate(pause.since, pause.until.max(now)),
            (None, None) => LEAST_AT_FIRST,
        };
        // The first of them is sent when the pause is over.
        let turns = f64::from(u32::try_from(requests.saturating_sub(1)).unwrap_or(u32::MAX));
        pause + Duration::try_from_secs_f64(turns / rate).unwrap_or(LONGEST_PAUSE)
    }

    /// The pause is over then, if there is one.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.limit.as_ref()?.pause.as_ref().map(|pause| pause.until)
    }

    /// Requests per second now; none without a limit, and in the first pause.
    pub(crate) fn rate(&self, now: Instant) -> Option<f64> {
        self.limit.as_ref()?.rate.map(|rate| rate.at(now))
    }

    /// The host answered a request.
    pub(crate) fn answered(&mut self, is_probe: bool, now: Instant) {
        self.answers.add(now);
        let Some(limit) = &mut self.limit else { return };
        if !is_probe {
            return;
        }
        let Some(pause) = limit.pause.take() else { return };
        let rate = match limit.rate {
            None => Rate { known: self.answers.rate(pause.since, now), at: now, since: now },
            // Time in which nothing was sent is not time in which nothing was said.
            Some(rate) => rate.later(now.duration_since(pause.since)),
        };
        limit.rate = Some(rate);
        limit.next = now + Duration::from_secs_f64(1.0 / rate.at(now));
    }

    /// The host said "slow down" to a request that was sent at `sent`. `dice` is a random number from 0 to 1.
    pub(crate) fn throttled(
        &mut self,
        sent: Instant,
        is_probe: bool,
        asked: Option<Duration>,
        dice: f64,
        now: Instant,
    ) -> Turn {
        let Some(limit) = &mut self.limit else {
            let pause = Pause { since: now, until: now + pause(asked, None, dice), is_probing: false };
            self.limit = Some(Limit { last: now, pause: Some(pause), rate: None, next: now });
            return Turn::Begun;
        };
        if let Some(before) = &mut limit.pause {
            let wait = if is_probe {
                before.is_probing = false;
                pause(asked, Some(now.duration_since(before.since)), dice)
            } else {
                // On its way before the pause began: it says only how long that is.
                asked.unwrap_or_default().min(LONGEST_PAUSE)
            };
            limit.last = now;
            before.until = before.until.max(now + wait);
            return if is_probe { Turn::Paused } else { Turn::Nothing };
        }
        // On its way before the last pause ended.
        if limit.rate.is_some_and(|rate| sent < rate.since) {
            return Turn::Nothing;
        }
        limit.last = now;
        limit.rate = limit.rate.map(|rate| rate.reduced(now));
        limit.pause = Some(Pause { since: now, until: now + pause(asked, None, dice), is_probing: false });
        Turn::Paused
    }

    /// The request after the pause did not get an answer, for a reason that says nothing about the limit.
    pub(crate) fn failed_probe(&mut self, now: Instant) {
        if let Some(pause) = self.limit.as_mut().and_then(|limit| limit.pause.as_mut()) {
            pause.is_probing = false;
            pause.until = pause.until.max(now + SHORTEST_PAUSE);
        }
    }

    /// The request after the pause was given up.
    pub(crate) fn abandoned_probe(&mut self) {
        if let Some(pause) = self.limit.as_mut().and_then(|limit| limit.pause.as_mut()) {
            pause.is_probing = false;
        }
    }
}

impl Rate {
    fn at(self, now: Instant) -> f64 {
        let seconds = match now.checked_duration_since(self.at) {
            Some(after) => after.as_secs_f64(),
            None => -self.at.duration_since(now).as_secs_f64(),
        };
        (self.known * (1.0 + GROWTH * seconds.powi(3))).max(LEAST)
    }

    fn later(self, by: Duration) -> Self {
        Self { at: self.at + by, since: self.since + by, ..self }
    }

    /// The curve begins anew below what the rate was, and reaches that again after a while.
    fn reduced(self, now: Instant) -> Self {
        let part = if now.duration_since(self.since) < SOON { REDUCED_AGAIN } else { REDUCED };
        let until_then = Duration::from_secs_f64(((1.0 - part) / GROWTH).cbrt());
        Self { known: self.at(now), at: now + until_then, since: now }
    }
}

/// How long nothing is sent. `before` is how long nothing could be sent until now, if this is not the first time in a row.
fn pause(asked: Option<Duration>, before: Option<Duration>, dice: f64) -> Duration {
    let own = match (asked, before) {
        (Some(asked), None) if !asked.is_zero() => asked,
        (_, None) => SHORTEST_PAUSE,
        (asked, Some(before)) => asked.unwrap_or_default().max(SHORTEST_PAUSE).max(before.mul_f64(PAUSE_GROWTH)),
    };
    own.min(LONGEST_PAUSE).mul_f64(1.0 + PAUSE_JITTER * dice.clamp(0.0, 1.0))
}

/// How many requests were answered lately, by ticks.
#[derive(Debug, Default)]
struct Answers(VecDeque<(Instant, u32)>);

impl Answers {
    fn add(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > COUNTED) {
            self.0.pop_front();
        }
        match self.0.back_mut() {
            Some((at, count)) if now.duration_since(*at) < TICK => *count = count.saturating_add(1),
            _ => self.0.push_back((now, 1)),
        }
    }

    /// Answers per second over a pause and some time before it, whichever time gives most.
    fn rate(&self, since: Instant, until: Instant) -> f64 {
        let paused = until.duration_since(since).min(LONGEST_PAUSE);
        let best = LOOKS.iter().map(|look| {
            let look = Duration::from_millis(*look);
            let from = since.checked_sub(look + TICK).unwrap_or(since);
            let count: u32 = self.0.iter().filter(|(at, _)| *at >= from).map(|(_, count)| count).sum();
            f64::from(count) / (look + paused).as_secs_f64()
        });
        best.fold(LEAST_AT_FIRST, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A limiter that got so many answers at once, and then was told to slow down.
    fn told(answers: usize, asked: Option<u64>) -> (Limiter, Instant) {
        let (mut limiter, now) = (Limiter::new(), Instant::now());
        (0..answers).for_each(|_| limiter.answered(false, now));
        assert_eq!(limiter.throttled(now, false, asked.map(Duration::from_secs), 0.0, now), Turn::Begun);
        (limiter, now)
    }

    fn probe(limiter: &mut Limiter, now: Instant) {
        assert_eq!(limiter.take(now), May::Now { is_probe: true });
    }

    #[tokio::test(start_paused = true)]
    async fn without_trouble_there_is_no_limit() {
        let (mut limiter, now) = (Limiter::new(), Instant::now());
        for _ in 0..10_000 {
            assert_eq!(limiter.take(now), May::Now { is_probe: false });
            limiter.answered(false, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_until_retry_after_is_over_and_then_one_request() {
        let (mut limiter, now) = told(100, Some(10));
        assert_eq!(limiter.take(now + 9 * SECOND), May::NotBefore(now + 10 * SECOND));
        probe(&mut limiter, now + 10 * SECOND);
        assert_eq!(limiter.take(now + 11 * SECOND), May::AfterProbe);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_what_was_answered_in_the_time_with_its_pause() {
        let (mut limiter, now) = told(200, Some(10));
        let later = now + 10 * SECOND;
        probe(&mut limiter, later);
        limiter.answered(true, later);
        let rate = limiter.rate(later).unwrap();
        assert!((19.0..=20.1).contains(&rate), "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_is_not_named_is_short_and_grows_with_the_time_that_it_takes() {
        let (mut limiter, begun) = told(1, None);
        let mut now = begun;
        let mut probes = 0;
        while now < begun + 60 * SECOND {
            now = limiter.paused_until().unwrap();
            probe(&mut limiter, now);
            limiter.throttled(now, true, None, 0.0, now);
            probes += 1;
        }
        assert!((10..=20).contains(&probes), "{probes}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_asks_for_a_day_is_asked_again_after_a_minute() {
        let (limiter, now) = told(1, Some(86_400));
        assert_eq!(limiter.paused_until(), Some(now + LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_were_told_the_same_do_not_come_back_at_the_same_moment() {
        let at = |dice| pause(Some(10 * SECOND), None, dice);
        assert_eq!((at(0.0), at(1.0)), (10 * SECOND, Duration::from_millis(10_500)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_counts_once() {
        let (mut limiter, now) = told(200, Some(5));
        for _ in 0..50 {
            assert_eq!(limiter.throttled(now, false, Some(7 * SECOND), 0.0, now + SECOND), Turn::Nothing);
        }
        assert_eq!(limiter.paused_until(), Some(now + 8 * SECOND));
        let later = now + 8 * SECOND;
        probe(&mut limiter, later);
        limiter.answered(true, later);
        let before = limiter.rate(later);
        assert_eq!(limiter.throttled(now, false, None, 0.0, later + SECOND), Turn::Nothing);
        assert_eq!(limiter.rate(later), before);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_falls_a_little_and_more_when_that_was_not_enough() {
        let (mut limiter, now) = told(200, Some(10));
        let mut later = now + 10 * SECOND;
        probe(&mut limiter, later);
        limiter.answered(true, later);
        let mut rates = Vec::new();
        for soon in [30, 1] {
            let at = later + soon * SECOND;
            let before = limiter.rate(at).unwrap();
            limiter.throttled(at, false, Some(SECOND), 0.0, at);
            later = at + SECOND;
            probe(&mut limiter, later);
            limiter.answered(true, later);
            rates.push(limiter.rate(later).unwrap() / before);
        }
        assert!((rates[0] - 0.95).abs() < 0.01 && (rates[1] - 0.8).abs() < 0.01, "{rates:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_probed_upward_slowly_at_the_limit_and_faster_later() {
        let (mut limiter, now) = told(200, Some(10));
        let later = now + 10 * SECOND;
        probe(&mut limiter, later);
        limiter.answered(true, later);
        let first = limiter.rate(later).unwrap();
        let grown = |seconds: u32| limiter.rate(later + seconds * SECOND).unwrap() / first;
        assert!(grown(10) < 1.01 && grown(20) > 1.04 && grown(60) > 2.0, "{:?}", [10, 20, 60].map(grown));
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_quiet_minutes_there_is_no_limit() {
        let (mut limiter, now) = told(200, Some(10));
        probe(&mut limiter, now + 10 * SECOND);
        limiter.answered(true, now + 10 * SECOND);
        assert!(limiter.is_limited(now + 299 * SECOND));
        assert!(!limiter.is_limited(now + 300 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_its_place_to_another() {
        let (mut limiter, now) = told(1, Some(1));
        probe(&mut limiter, now + SECOND);
        limiter.abandoned_probe();
        probe(&mut limiter, now + SECOND);
        limiter.failed_probe(now + SECOND);
        assert_eq!(limiter.take(now + SECOND), May::NotBefore(now + 2 * SECOND));
    }
}
