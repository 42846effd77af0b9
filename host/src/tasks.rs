//! Everything of `coffer node` that runs on its own: named, counted, and waited for at the end.
//!
//! A task that nobody can wait for outlives the shutdown, so `tokio::spawn` is for this file alone (`.ci/architecture`). The
//! callers are `commands::node` and whoever it hands a [`Tasks`] to.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Starts tasks and waits for them. Clones share what they started.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task. Dropping the handle does not end it: what runs without end watches [`Tasks::stopping`].
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        // Without the one that starts it: a line of the log names one task, once.
        let span = tracing::debug_span!(target: "coffer::tasks", parent: None, "task", name);
        self.tracker.spawn(task.instrument(span))
    }

    /// Cancelled when the program ends.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task to stop and waits for them. Says how many are left after `patience`.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.stop.cancel();
        self.tracker.close();
        let _ = tokio::time::timeout(patience, self.tracker.wait()).await;
        self.tracker.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_stops_the_tasks_that_listen_and_counts_those_that_do_not() {
        let tasks = Tasks::default();
        let stop = tasks.stopping();
        let listening = tasks.spawn("listens", async move { stop.cancelled().await });
        let deaf = tasks.spawn("is deaf", std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_secs(1)).await, 1);
        assert!(listening.await.is_ok());
        deaf.abort();
    }
}
