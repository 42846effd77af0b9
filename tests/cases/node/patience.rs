//! Waiting for something to become true, with a deadline and without a sleep that a test depends on.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Longer than anything takes on a machine that does much else. No test passes because it is over.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long between two looks.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// What comes of `future`, which must not take for ever.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// Looks again and again until there is something to see, and gives that.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting: {what}");
        sleep(INTERVAL).await;
    }
}
