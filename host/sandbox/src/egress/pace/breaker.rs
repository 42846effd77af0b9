//! Whether a host is worth asking at all. Pure: times and outcomes go in, a verdict comes out.
//!
//! Failures in a row open the circuit: then nothing is sent, but for one request at a time after a pause that doubles.
//! The first answer closes it. Any answer will do, a refusal too: who refuses, lives. One circuit for each way to a host,
//! so that the wrong settings of one rule are not the failure of another's.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// So many failures in a row, and nothing but failures for [`LEAST_TIME`], open the circuit.
const FAILURES: u32 = 5;

/// Retries of a moment's disturbance are not yet an outage.
const LEAST_TIME: Duration = Duration::from_millis(500);

/// From the opening to the first probe, and from one probe to the next at most. Each pause is twice the one before, and
/// up to a quarter shorter, by chance: nodes do not probe in step.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const JITTER: f64 = 0.25;

/// The circuit of one way to a host.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// The first failure of the row.
    since: Option<Instant>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    outage: Outage,
    pause: Duration,
    next: Instant,
    is_probing: bool,
}

/// What is wrong with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Since when.
    pub(crate) since: SystemTime,
    /// What the last failure was.
    pub(crate) last: String,
}

/// Whether a request may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// It may.
    Now {
        /// Whether it is the one that shows whether the host is back.
        is_probe: bool,
    },
    /// It may not, as the host is out of order; another one may be sent after this time.
    Not(Outage, Duration),
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The circuit is open from now on.
    Opened,
    /// It is closed again.
    Closed(Outage),
    /// As before.
    Nothing,
}

impl Breaker {
    /// Whether a request may be sent now. A probe must be told about: `answered`, `failed` or `abandoned`.
    pub(crate) fn take(&mut self, now: Instant) -> May {
        let refusal = self.refusal(now);
        match (&mut self.open, refusal) {
            (_, Some(refusal)) => refusal,
            (None, None) => May::Now { is_probe: false },
            (Some(open), None) => {
                open.is_probing = true;
                May::Now { is_probe: true }
            }
        }
    }

    /// The same without taking the place of the probe: why no request may be sent now.
    pub(crate) fn refusal(&self, now: Instant) -> Option<May> {
        let open = self.open.as_ref()?;
        let wait = open.next.saturating_duration_since(now);
        (open.is_probing || !wait.is_zero()).then(|| May::Not(open.outage.clone(), wait.max(FIRST_PAUSE)))
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The host answered.
    pub(crate) fn answered(&mut self) -> Turn {
        let before = std::mem::take(self);
        before.open.map_or(Turn::Nothing, |open| Turn::Closed(open.outage))
    }

    /// A request had no answer, or one that shows that the host is out of order. `dice` is a random number from 0 to 1.
    pub(crate) fn failed(&mut self, is_probe: bool, why: &str, dice: f64, now: Instant, clock: SystemTime) -> Turn {
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        match &mut self.open {
            Some(open) if is_probe => {
                open.is_probing = false;
                open.pause = open.pause.saturating_mul(2).min(LONGEST_PAUSE);
                open.next = now + open.pause.mul_f64(1.0 - JITTER * dice.clamp(0.0, 1.0));
                why.clone_into(&mut open.outage.last);
                Turn::Nothing
            }
            // It was on its way when the circuit opened.
            Some(_) => Turn::Nothing,
            None if self.failures >= FAILURES && now.duration_since(since) >= LEAST_TIME => {
                let since = clock.checked_sub(now.duration_since(since)).unwrap_or(clock);
                let next = now + FIRST_PAUSE.mul_f64(1.0 - JITTER * dice.clamp(0.0, 1.0));
                let outage = Outage { since, last: why.to_owned() };
                self.open = Some(Open { outage, pause: FIRST_PAUSE, next, is_probing: false });
                Turn::Opened
            }
            None => Turn::Nothing,
        }
    }

    /// The probe was given up.
    pub(crate) fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, is_probe: bool, now: Instant) -> Turn {
        breaker.failed(is_probe, "refused", 0.0, now, SystemTime::UNIX_EPOCH + SECOND)
    }

    /// A breaker that opened now.
    fn open() -> (Breaker, Instant) {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for failure in 1..5 {
            assert_eq!(fail(&mut breaker, false, now), Turn::Nothing, "{failure}");
        }
        let now = now + SECOND;
        assert_eq!(fail(&mut breaker, false, now), Turn::Opened);
        (breaker, now)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_an_answer_between_them_does_not_let_them() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for failure in 0..40 {
            assert_eq!(fail(&mut breaker, false, now + failure * SECOND), Turn::Nothing);
            if failure % 4 == 3 {
                assert_eq!(breaker.answered(), Turn::Nothing);
            }
        }
        let (breaker, now) = open();
        let outage = Outage { since: SystemTime::UNIX_EPOCH, last: "refused".to_owned() };
        assert_eq!(breaker.refusal(now), Some(May::Not(outage, SECOND)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_failures_in_one_moment_is_not_an_outage() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(fail(&mut breaker, false, now), Turn::Nothing);
        }
        assert_eq!(breaker.take(now), May::Now { is_probe: false });
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_is_open_one_request_at_a_time_is_sent_less_and_less_often() {
        let (mut breaker, mut now) = open();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let begun = now;
            while matches!(breaker.take(now), May::Not(..)) {
                now += Duration::from_millis(100);
            }
            assert!(matches!(breaker.take(now), May::Not(..)), "a second one beside the probe");
            waits.push((now - begun).as_secs());
            assert_eq!(fail(&mut breaker, true, now), Turn::Nothing);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_closes_it() {
        let (mut breaker, now) = open();
        assert_eq!(breaker.take(now + SECOND), May::Now { is_probe: true });
        assert!(matches!(breaker.answered(), Turn::Closed(outage) if outage.last == "refused"));
        assert_eq!(breaker.take(now + SECOND), May::Now { is_probe: false });
        assert_eq!(fail(&mut breaker, false, now + SECOND), Turn::Nothing, "the row begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_its_place_to_another() {
        let (mut breaker, now) = open();
        for _ in 0..3 {
            assert_eq!(breaker.take(now + SECOND), May::Now { is_probe: true });
            breaker.abandoned();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_differ_from_node_to_node() {
        let next = |dice| {
            let (mut breaker, now) = (Breaker::default(), Instant::now());
            (0..5).for_each(|n| drop(breaker.failed(false, "", dice, now + n * SECOND, SystemTime::UNIX_EPOCH)));
            breaker.open.unwrap().next - (now + 4 * SECOND)
        };
        assert_eq!((next(0.0), next(1.0)), (SECOND, Duration::from_millis(750)));
    }
}
