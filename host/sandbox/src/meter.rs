//! How much processor time a call used, as the processor's own clock tells it.
//!
//! Wall time would punish a guest for a busy machine or a slow vault. A call is a future; it computes only while it is
//! polled, on one thread, so the thread's processor clock before and after each poll is exact.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The account of one call.
pub(crate) struct Meter {
    limit: u64,
    /// Nanoseconds of the polls that ended.
    used: AtomicU64,
    /// The thread's processor clock when the current poll began.
    began: AtomicU64,
}

impl Meter {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit: nanos(limit), used: AtomicU64::new(0), began: AtomicU64::new(0) }
    }

    /// Whether the limit is passed; meant for the inside of a poll.
    pub(crate) fn exceeded(&self) -> bool {
        let current = thread_clock().saturating_sub(self.began.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(current) >= self.limit
    }

    /// The time of all polls that ended.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }
}

/// Drives `future` and accounts its polls.
pub(crate) async fn metered<F: Future>(future: F, meter: &Meter) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let began = thread_clock();
        meter.began.store(began, Ordering::Relaxed);
        let answer = future.as_mut().poll(context);
        meter.used.fetch_add(thread_clock().saturating_sub(began), Ordering::Relaxed);
        answer
    })
    .await
}

/// The processor time of this thread in nanoseconds.
fn thread_clock() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or_default().saturating_mul(1_000_000_000).saturating_add(nanoseconds.unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_spent_waiting_is_not_counted_and_time_spent_computing_is() {
        tokio::time::pause();
        let meter = Meter::new(Duration::from_millis(5));
        let work = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!meter.exceeded(), "a minute of waiting is no processor time");
            while !meter.exceeded() {
                std::hint::spin_loop();
            }
        };
        metered(work, &meter).await;
        assert!(meter.used() >= Duration::from_millis(5));
    }
}
