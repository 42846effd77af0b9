//! When a volume is due. Pure: times go in, a verdict comes out.
//!
//! `publish::pipeline` asks at each call of kubelet, `publish::timer` between them. A volume is due by time only where
//! rotation is on; an edited class, a new value of the annotation `coffer.dev/refresh`, `coffer refresh`, and a refresh that
//! failed make it due whatever the setting.

use std::time::{Duration, SystemTime};

/// The least time between two tries for one volume, whoever asks: holds against storms of annotations and edits.
pub const FLOOR: Duration = Duration::from_secs(10);

/// How much earlier or later than the interval a volume may be due, as a part of it: volumes that were mounted together
/// drift apart.
const JITTER: f64 = 0.1;

/// The least part of the interval after which a volume is looked at for the first time; see [`Rotation::first`].
const FIRST: f64 = 0.1;

/// When to look for changed secrets by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Whether to look at all.
    pub enabled: bool,
    /// From one successful look to the next.
    pub interval: Duration,
}

/// Why a volume is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is mounted, and nothing is known about it: the Go driver's, or the ledger lost it.
    Unknown,
    /// It was mounted from a kept result, while its store could not be reached.
    Offline,
    /// The last try failed.
    Failed,
    /// The class was edited, or deleted and made anew.
    Edited,
    /// Somebody asked, by the annotation or by `coffer refresh`.
    Asked,
    /// The interval is over.
    Interval,
}

impl Reason {
    /// For logs and audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Offline => "offline",
            Self::Failed => "failed",
            Self::Edited => "edited",
            Self::Asked => "asked",
            Self::Interval => "interval",
        }
    }
}

/// What a class looked like when a volume was last right, or looks like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// Uid and generation.
    pub revision: &'a str,
    /// The annotation.
    pub refresh: Option<&'a str>,
}

/// Whether the class makes a volume due. An annotation that was taken away asks for nothing.
#[must_use]
pub fn compare(then: Mark<'_>, now: Mark<'_>) -> Option<Reason> {
    if then.revision != now.revision {
        return Some(Reason::Edited);
    }
    (now.refresh.is_some() && then.refresh != now.refresh).then_some(Reason::Asked)
}

impl Rotation {
    /// Whether volumes are looked at between kubelet's calls. An interval of nothing means at each call.
    #[must_use]
    pub fn has_timer(&self) -> bool {
        self.enabled && !self.interval.is_zero()
    }

    /// How long until a volume is due for the first time after it was mounted: any part of the interval, so that volumes that
    /// were mounted together, on one node or on many, are not looked at together. None where rotation is off.
    #[must_use]
    pub fn first(&self, dice: f64) -> Option<Duration> {
        let part = FIRST + (1.0 + JITTER - FIRST) * dice.clamp(0.0, 1.0);
        self.enabled.then(|| self.interval.mul_f64(part).max(FLOOR))
    }

    /// How long until a volume is due by time that was last found right `age` ago. `dice` is a random number from 0 to 1.
    /// None where rotation is off.
    #[must_use]
    pub fn next(&self, age: Duration, dice: f64) -> Option<Duration> {
        let factor = 1.0 - JITTER + 2.0 * JITTER * dice.clamp(0.0, 1.0);
        self.enabled.then(|| self.interval.mul_f64(factor).saturating_sub(age).max(FLOOR.saturating_sub(age)))
    }
}

/// How long ago `checked` was. A clock that was set back makes it now: nothing is due later than after one interval.
#[must_use]
pub fn age(checked: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(checked).unwrap_or_default()
}

/// How long the timer waits after so many failures in a row, kubelet's calls aside.
#[must_use]
pub fn retry_after(failures: u32, interval: Duration) -> Duration {
    FLOOR.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(interval.max(FLOOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const ON: Rotation = Rotation { enabled: true, interval: Duration::from_secs(120) };

    #[test]
    fn a_volume_is_due_an_interval_after_it_was_found_right_give_or_take_a_tenth() {
        let next = |age: u64, dice| ON.next(Duration::from_secs(age), dice).unwrap().as_secs_f64();
        assert_eq!((next(0, 0.0), next(0, 0.5), next(0, 1.0)), (108.0, 120.0, 132.0));
        assert_eq!((next(20, 0.5), next(120, 0.5), next(5_000, 0.5)), (100.0, 0.0, 0.0));
        assert_eq!(Rotation { enabled: false, ..ON }.next(MINUTE, 0.5), None);
    }

    #[test]
    fn the_first_look_comes_after_any_part_of_the_interval() {
        let first = |dice| ON.first(dice).unwrap().as_secs_f64();
        assert_eq!((first(0.0), first(0.5), first(1.0)), (12.0, 72.0, 132.0));
        let eager = Rotation { enabled: true, interval: Duration::from_secs(1) };
        assert_eq!(eager.first(0.5), Some(FLOOR));
        assert_eq!(Rotation { enabled: false, ..ON }.first(0.5), None);
    }

    #[test]
    fn no_interval_is_shorter_than_the_floor() {
        let eager = Rotation { enabled: true, interval: Duration::from_millis(1) };
        assert_eq!(eager.next(Duration::ZERO, 0.5), Some(FLOOR));
        assert_eq!(eager.next(Duration::from_secs(4), 0.5), Some(Duration::from_secs(6)));
    }

    #[test]
    fn an_edit_or_a_new_value_of_the_annotation_makes_due() {
        let mark = |revision, refresh| Mark { revision, refresh };
        assert_eq!(compare(mark("u/1", None), mark("u/1", None)), None);
        assert_eq!(compare(mark("u/1", None), mark("u/2", None)), Some(Reason::Edited));
        assert_eq!(compare(mark("u/1", Some("a")), mark("v/1", Some("b"))), Some(Reason::Edited));
        assert_eq!(compare(mark("u/1", None), mark("u/1", Some("a"))), Some(Reason::Asked));
        assert_eq!(compare(mark("u/1", Some("a")), mark("u/1", Some("b"))), Some(Reason::Asked));
        assert_eq!(compare(mark("u/1", Some("a")), mark("u/1", None)), None);
    }

    #[test]
    fn a_clock_that_jumps_makes_due_at_once_or_after_one_interval() {
        let now = SystemTime::UNIX_EPOCH + 1_000 * MINUTE;
        assert_eq!(age(now - MINUTE, now), MINUTE);
        assert_eq!(age(now + 100 * MINUTE, now), Duration::ZERO);
        assert_eq!(ON.next(age(SystemTime::UNIX_EPOCH, now), 0.5), Some(Duration::ZERO));
    }

    #[test]
    fn failures_are_tried_again_less_and_less_often_but_no_less_than_once_an_interval() {
        let after = |failures| retry_after(failures, ON.interval).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 40].map(after), [10, 20, 40, 80, 120, 120]);
        assert_eq!(retry_after(9, Duration::from_secs(1)), FLOOR);
    }
}
