//! What is known of each volume while the process lives: who works on it, what kubelet said last, when it is due.
//!
//! One lock per volume. Whoever takes a volume away does not queue behind a slow fetch: it cancels what runs
//! ([`Slot::cancel`]) and then takes the lock. Inputs hold tokens and Secrets, and are wiped when they are dropped.
//! `pipeline` and `timer` are the callers.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use coffer_sandbox::provider::Pod;
use coffer_sandbox::secret::SecretBytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::request::{PublishRequest, Tokens};
use crate::refresh::FLOOR;
use crate::volume::ledger::Entry;

/// What kubelet said about a volume in its last call.
pub struct Inputs {
    /// `volume_id`.
    pub volume: String,
    /// `target_path`.
    pub target: PathBuf,
    /// The class's name.
    pub class: String,
    /// The pod.
    pub pod: Pod,
    /// The pod's volume attributes as kubelet sent them, its own keys included, the tokens not: a provider behind the
    /// older gRPC protocol would want them all.
    pub attributes: BTreeMap<String, String>,
    /// The Secret that `nodePublishSecretRef` names.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// The tokens.
    pub tokens: Option<Tokens>,
    /// The pod's fsGroup.
    pub group: Option<u32>,
}

impl From<PublishRequest> for Inputs {
    fn from(request: PublishRequest) -> Self {
        let PublishRequest { volume, target, class, pod, attributes, secrets, tokens, group } = request;
        Self { volume, target, class, pod, attributes, secrets, tokens, group }
    }
}

/// What is known of one volume.
#[derive(Default)]
pub struct Known {
    /// What the ledger says of it; none for a volume that was never right as far as this process knows.
    pub entry: Option<Entry>,
    /// The digest of the pod status that was asked for last; none until this process asked for one.
    pub told: Option<String>,
    /// kubelet's last words; none after a restart until it calls, and where no timer needs them.
    pub inputs: Option<Arc<Inputs>>,
    /// When it is due by time; none where it never is.
    pub due: Option<Instant>,
    /// When a refresh was tried last.
    pub tried: Option<Instant>,
    /// The store asked to be left alone until then.
    pub not_before: Option<Instant>,
    /// Refreshes that failed since the last one that worked.
    pub failures: u32,
    /// What went wrong, until a look works.
    pub wrong: Option<Wrong>,
    /// Somebody asked for a look by command, with this number; none once it has begun.
    pub asked: Option<u64>,
    /// What came of the look that answered a command last, and the command's number.
    pub looked: Option<(u64, Looked)>,
    /// The timer has taken it up and not begun yet.
    pub is_queued: bool,
    /// The timer waits for kubelet: the tokens it has do not last.
    pub waits_for_kubelet: bool,
}

/// Why the files are not known to be right.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// [`super::Error::reason`].
    pub reason: &'static str,
    /// [`super::Error::text`].
    pub text: String,
    /// When it was seen first, whatever it was then.
    pub since: SystemTime,
    /// When it was seen last.
    pub last: SystemTime,
}

/// What came of a look that somebody asked for by command.
#[derive(Clone, Debug)]
pub enum Looked {
    /// The files were replaced by newer ones.
    Changed,
    /// They are right as they are.
    Unchanged,
    /// It failed; the files are as they were.
    Failed {
        /// [`super::Error::reason`].
        reason: &'static str,
        /// [`super::Error::text`].
        text: String,
    },
}

impl Known {
    /// Takes note of what is wrong.
    pub fn note_wrong(&mut self, error: &super::Error) {
        let last = SystemTime::now();
        let since = self.wrong.as_ref().map_or(last, |wrong| wrong.since);
        self.wrong = Some(Wrong { reason: error.reason(), text: error.text(), since, last });
    }

    /// Whether a refresh may begin now, and if so, notes that it does. If not, it is due when it may.
    pub fn begin_try(&mut self, now: Instant) -> bool {
        let after_floor = self.tried.map(|tried| tried + FLOOR);
        if let Some(again) = after_floor.max(self.not_before).filter(|again| *again > now) {
            self.due = self.due.map(|due| due.max(again));
            return false;
        }
        self.tried = Some(now);
        true
    }
}

/// One volume.
#[derive(Default)]
pub struct Slot {
    /// Held by whoever works on the volume.
    pub lock: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
    running: Mutex<CancellationToken>,
}

impl Slot {
    /// What is known; never held across an await.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is published as far as is known.
    pub fn is_published(&self) -> bool {
        self.known().entry.is_some()
    }

    /// What a publish watches: cancelled when the volume is taken away.
    pub fn token(&self) -> CancellationToken {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cancels whatever publishes the volume now; what comes later is not concerned.
    pub fn cancel(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *running).cancel();
    }
}

/// All volumes of the node.
#[derive(Default)]
pub struct Registry(Mutex<HashMap<String, Arc<Slot>>>);

impl Registry {
    /// The slot of a volume, made where there is none.
    #[must_use]
    pub fn slot(&self, volume: &str) -> Arc<Slot> {
        let mut slots = self.lock();
        match slots.get(volume) {
            Some(slot) => slot.clone(),
            None => slots.entry(volume.to_owned()).or_default().clone(),
        }
    }

    /// Drops a slot of which nothing is known and which nobody else holds.
    pub fn release(&self, volume: &str, slot: Arc<Slot>) {
        let mut slots = self.lock();
        let is_same = slots.get(volume).is_some_and(|other| Arc::ptr_eq(other, &slot));
        // The map and this caller; nobody can get another one while the map is locked.
        if is_same && Arc::strong_count(&slot) == 2 && slot.known().entry.is_none() && slot.known().inputs.is_none() {
            slots.remove(volume);
        }
    }

    /// Every slot, by volume.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Arc<Slot>)> {
        self.lock().iter().map(|(volume, slot)| (volume.clone(), slot.clone())).collect()
    }

    /// How many volumes are published, and when the one was found right that was not looked at for longest.
    #[must_use]
    pub fn oldest_check(&self) -> (usize, Option<SystemTime>) {
        let slots = self.lock();
        let checks = slots.values().filter_map(|slot| slot.known().entry.as_ref().map(|entry| entry.checked));
        checks.fold((0, None), |(count, oldest), checked| {
            (count + 1, Some(oldest.map_or(checked, |oldest: SystemTime| oldest.min(checked))))
        })
    }

    /// How many have the files of a kept result.
    #[must_use]
    pub fn offline(&self) -> usize {
        let is_offline = |slot: &&Arc<Slot>| slot.known().entry.as_ref().is_some_and(|entry| entry.offline.is_some());
        self.lock().values().filter(is_offline).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_goes_only_when_nobody_holds_it_and_nothing_is_known_of_it() {
        let registry = Registry::default();
        let (first, second) = (registry.slot("v"), registry.slot("v"));
        assert!(Arc::ptr_eq(&first, &second));
        registry.release("v", first);
        assert!(Arc::ptr_eq(&second, &registry.slot("v")), "it was released while somebody held it");
        registry.release("v", second);
        assert!(registry.all().is_empty());

        let slot = registry.slot("v");
        slot.known().inputs = Some(Arc::new(PublishRequest::default().into()));
        registry.release("v", slot);
        assert_eq!(registry.all().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_tries_is_the_floor_and_whatever_the_store_asked_for() {
        let now = Instant::now();
        let mut known = Known { due: Some(now), ..Known::default() };
        assert!(known.begin_try(now));
        assert!(!known.begin_try(now + FLOOR / 2));
        assert_eq!(known.due, Some(now + FLOOR));
        known.not_before = Some(now + 3 * FLOOR);
        assert!(!known.begin_try(now + 2 * FLOOR));
        assert!(known.begin_try(now + 3 * FLOOR));
    }

    #[test]
    fn cancelling_ends_what_runs_and_not_what_comes_later() {
        let slot = Slot::default();
        let before = slot.token();
        slot.cancel();
        assert!(before.is_cancelled() && !slot.token().is_cancelled());
    }
}
