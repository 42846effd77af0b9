//! Refreshes volumes when they are due, between kubelet's calls.
//!
//! It works with what kubelet said last and never with a token that is about to expire: then it waits for kubelet. It
//! sleeps until something is due; a host that was out of order and answers again makes due what failed meanwhile. Started by `commands::node` where rotation is on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::pipeline::Pipeline;
use super::registry::{Inputs, Registry, Slot};
use super::tokens;

/// Refreshes at the same time.
const AT_ONCE: usize = 8;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a token must last to begin with it.
const SPARE: Duration = Duration::from_secs(60);
/// How long it sleeps when nothing is due; whatever it learns wakes it earlier.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Runs until the tasks stop. `returned` changes whenever a host that was given up answers again.
pub fn start(pipeline: Arc<Pipeline>, mut returned: watch::Receiver<u64>) {
    let stopping = pipeline.tasks().stopping();
    let tasks = pipeline.tasks().clone();
    tasks.clone().spawn("refresh timer", async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let (due, next) = look(pipeline.registry());
            for volume in due {
                let place = tokio::select! {
                    place = places.clone().acquire_owned() => place,
                    () = stopping.cancelled() => return,
                };
                let Ok(place) = place else { return };
                let pipeline = pipeline.clone();
                tasks.spawn("refresh", async move {
                    refresh(&pipeline, &volume).await;
                    drop(place);
                });
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = pipeline.learned.notified() => {}
                Ok(()) = returned.changed() => hurry(pipeline.registry()),
                () = stopping.cancelled() => return,
            }
        }
    });
}

/// The volumes that are due now, and when to look again. No inputs: they would outlive an unpublish while they wait.
fn look(registry: &Registry) -> (Vec<String>, Instant) {
    let now = Instant::now();
    let mut next = now + LONGEST;
    let mut due = Vec::new();
    for (volume, slot) in registry.all() {
        let mut known = slot.known();
        let (Some(at), false, Some(inputs)) = (known.due, known.waits_for_kubelet, known.inputs.clone()) else {
            continue;
        };
        if at > now {
            next = next.min(at);
        } else if !last(&inputs) {
            known.waits_for_kubelet = true;
        } else if !known.is_queued {
            known.is_queued = true;
            due.push(volume);
        }
    }
    (due, next)
}

/// What failed may work now; the floor between two tries holds.
fn hurry(registry: &Registry) {
    let now = Instant::now();
    for (_, slot) in registry.all() {
        let mut known = slot.known();
        if known.failures > 0 {
            known.due = known.due.map(|due| due.min(now));
        }
    }
}

async fn refresh(pipeline: &Pipeline, volume: &str) {
    let slot = pipeline.registry().slot(volume);
    let queued = Queued { slot: &slot, pipeline };
    let cancelled = slot.token();
    let deadline = Instant::now() + PATIENCE;
    let lock = tokio::select! {
        lock = timeout_at(deadline, slot.lock.lock()) => lock.ok(),
        () = cancelled.cancelled() => None,
    };
    // Whoever worked on it until now may have made it right: the pipeline looks whether it still is due.
    let inputs = lock.as_ref().and_then(|_| slot.known().inputs.clone());
    if let Some(inputs) = inputs {
        pipeline.refresh(&slot, &inputs, &cancelled, deadline).await;
    }
    drop(lock);
    drop(queued);
    pipeline.registry().release(volume, slot);
}

/// A volume that the timer has taken up; at the end, whatever it is, the timer looks again.
struct Queued<'a> {
    slot: &'a Slot,
    pipeline: &'a Pipeline,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.slot.known().is_queued = false;
        self.pipeline.learned.notify_one();
    }
}

/// Whether the tokens are worth beginning with. Those that cannot be read are for the refresh to complain about.
fn last(inputs: &Inputs) -> bool {
    match inputs.tokens.as_ref().map(|tokens| tokens::read(&tokens.json)) {
        Some(Ok(tokens)) => tokens::last(&tokens, SystemTime::now(), SPARE),
        Some(Err(_)) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::request::{PublishRequest, TokenOrigin, Tokens};

    /// A volume that is due in so many seconds, with a token that lasts so many seconds more.
    fn volume(registry: &Registry, name: &str, due: Option<u64>, token: Option<u64>) -> Arc<Slot> {
        let slot = registry.slot(name);
        let tokens = token.map(|seconds| {
            let ends = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
            let json = format!(r#"{{"a": {{"token": "t", "expirationTimestamp": "{ends}"}}}}"#);
            Tokens { json: json.into(), origin: TokenOrigin::Secrets }
        });
        let request = PublishRequest { volume: name.to_owned(), tokens, ..PublishRequest::default() };
        slot.known().inputs = Some(Arc::new(request.into()));
        slot.known().due = due.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        slot
    }

    fn due(registry: &Registry) -> Vec<String> {
        let mut due = look(registry).0;
        due.sort();
        due
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_taken_once_and_the_next_is_waited_for() {
        let registry = Registry::default();
        for (name, seconds) in [("now", Some(0)), ("soon", Some(20)), ("later", Some(50)), ("never", None)] {
            volume(&registry, name, seconds, None);
        }
        let (taken, next) = look(&registry);
        assert_eq!(taken.len(), 1);
        assert_eq!(next - Instant::now(), Duration::from_secs(20));
        assert!(due(&registry).is_empty(), "it was taken twice");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(due(&registry), ["later", "soon"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_whose_token_ends_soon_waits_for_kubelet() {
        let registry = Registry::default();
        let ending = volume(&registry, "ending", Some(0), Some(50));
        volume(&registry, "lasting", Some(0), Some(600));
        assert_eq!(due(&registry), ["lasting"]);
        assert!(ending.known().waits_for_kubelet);
        let (_, next) = look(&registry);
        assert_eq!(next - Instant::now(), LONGEST, "it must not be asked for again and again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_due_when_a_host_answers_again_and_nothing_else_is() {
        let registry = Registry::default();
        volume(&registry, "failed", Some(100), None).known().failures = 1;
        volume(&registry, "right", Some(100), None);
        volume(&registry, "never", None, None).known().failures = 1;
        hurry(&registry);
        assert_eq!(due(&registry), ["failed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_a_volume_waits_for_kubelet() {
        let registry = Registry::default();
        let slot = volume(&registry, "restarted", Some(0), None);
        slot.known().inputs = None;
        assert!(due(&registry).is_empty());
    }
}
