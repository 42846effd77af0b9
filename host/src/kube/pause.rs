//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt as _;

/// A growing pause, with jitter so that the nodes of a cluster do not come back at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// The first one, at most.
    pub(crate) first: Duration,
    /// Any, at most.
    pub(crate) longest: Duration,
}

impl Pauses {
    /// The pause after so many failures in a row: doubled with each, less up to half of it, and never shorter than what the
    /// server asks for, up to the longest.
    pub(crate) fn after(&self, failures: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let pause = doubled.min(self.longest).mul_f64(rand::rng().random_range(0.5..=1.0));
        pause.max(retry_after.unwrap_or_default().min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_honour_the_server() {
        let pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(300) };
        for _ in 0..100 {
            for (failures, most) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
                let pause = pauses.after(failures, None).as_secs_f64();
                assert!(pause >= f64::from(most) / 2.0 && pause <= f64::from(most), "{failures}: {pause}");
            }
            assert!(pauses.after(1, Some(Duration::from_secs(30))) == Duration::from_secs(30));
            assert!(pauses.after(1, Some(Duration::from_secs(9999))) == Duration::from_secs(300));
        }
    }
}
