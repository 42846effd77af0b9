//! The wall clock of the emulated services: the machine's, shifted by what a test asks for.
//!
//! Token and secret lifetimes are judged by it. It never touches tokio's clock, which measures waits.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A shiftable wall clock. Unix time throughout.
#[derive(Debug, Default)]
pub struct Clock {
    shift_millis: AtomicI64,
}

impl Clock {
    /// Moves the clock forward; it stays moved.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.shift_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Now, in Unix seconds.
    pub fn now(&self) -> i64 {
        self.now_millis().div_euclid(1000)
    }

    /// Now, in Unix milliseconds.
    pub fn now_millis(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        i64::try_from(real).unwrap_or(i64::MAX).saturating_add(self.shift_millis.load(Ordering::SeqCst))
    }
}
