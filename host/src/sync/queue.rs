//! What is known of volumes and Secrets, and what is to be done next.
//!
//! A volume waits at most once, with the latest; it is not taken while it is being worked on. The same Secret is worked on
//! by one at a time: whoever comes second finds it done. Nothing here is a value: a Secret's content is remembered as a
//! fingerprint under a key of this process. `worker` takes from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rand::RngExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Look, objects};
use crate::kube::Pauses;
use crate::publish::fingerprint::Fingerprint;

/// The most volumes that wait; the kubelet of a large node has some hundreds.
const MOST_WAITING: usize = 4096;
/// How long a Secret is taken to be there after it was seen, give or take a fifth.
const CHECK: Duration = Duration::from_secs(60);
/// How long what cannot work is left alone, give or take a fifth. What changes is tried at once.
const LEAVE: Duration = Duration::from_secs(5 * 60);
/// How often something is tried in a row that may pass; then kubelet's next call begins anew.
const ATTEMPTS: u32 = 6;
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// Namespace and name of a Secret.
pub(super) type Key = (String, String);
pub(super) type Owners = Arc<[OwnerReference]>;

#[derive(Default)]
pub(super) struct Queue {
    volumes: HashMap<String, Volume>,
    secrets: HashMap<Key, Secret>,
    waiting: HashMap<String, Waiting>,
    running: HashSet<String>,
}

#[derive(Default)]
struct Volume {
    /// The mark of what its Secrets were made of.
    synced: Option<String>,
    /// What did not work, and until when it is not tried again.
    failed: Option<(String, Instant)>,
    owners: Option<Owners>,
    /// Whether its pod status was written since the API server was asked for it.
    has_pod_status: bool,
}

struct Secret {
    alone: Arc<tokio::sync::Mutex<()>>,
    /// Who of this node needs it to belong to whom.
    wanted: HashMap<String, Owners>,
    seen: Seen,
    /// When to look whether it is still there.
    next: Instant,
}

/// What was last seen or made of a Secret.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// What this node wrote last.
    pub(super) content: Option<Fingerprint>,
    /// Empty where none stood there.
    pub(super) uid: String,
    /// The uids of its owners.
    pub(super) owners: HashSet<String>,
}

/// Something to do.
pub(super) struct Waiting {
    pub(super) look: Look,
    pub(super) mark: String,
    /// Whether values may have to be written; else it is only a matter of looking whether all is there.
    pub(super) is_dirty: bool,
    due: Instant,
    failures: u32,
    /// Whether it only waits for the pod status.
    needs_pod_status: bool,
    /// Dropped when it is over, which is what somebody waits for.
    settled: Option<oneshot::Sender<()>>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It may pass.
    Retry(Option<Duration>),
    /// The pod status is to be its owner, and is not written yet.
    NeedsPodStatus,
    /// It will not pass by itself.
    Broken,
    /// Nobody needs it any more.
    Gone,
}

impl Queue {
    /// Whether there is something new to do. `settled` is dropped when it is done or cannot be done now.
    pub(super) fn put(&mut self, look: Look, settled: Option<oneshot::Sender<()>>) -> bool {
        let now = Instant::now();
        let mark = look.mark();
        let volume = self
            .volumes
            .entry(look.volume.clone())
            .or_insert_with(|| Volume { synced: look.synced.clone(), ..Volume::default() });
        let failed = volume.failed.as_ref().is_some_and(|(failed, until)| *failed == mark && now < *until);
        // Of files that may be older than another node's nothing is made but what is absent.
        let is_news = look.changed || (volume.synced.as_deref() != Some(&mark) && !failed);
        let is_dirty = is_news && !look.kept;
        if !is_dirty && !self.is_due(&look, now) {
            return false;
        }
        if let Some(waiting) = self.waiting.get_mut(&look.volume) {
            // What just failed is not tried sooner because it is wanted once more; news is.
            waiting.due = if look.changed { now } else { waiting.due };
            let fetched = look.fetched.clone().or_else(|| waiting.look.fetched.take());
            waiting.look = Look { fetched, ..look };
            waiting.mark = mark;
            waiting.settled = settled.or(waiting.settled.take());
            waiting.is_dirty |= is_dirty;
            return is_dirty;
        }
        if self.waiting.len() >= MOST_WAITING {
            // kubelet's next call brings it again: it is marked nowhere.
            tracing::warn!(target: "coffer::sync", "too many volumes wait for their Secrets; the newest are left out for now");
            return false;
        }
        let volume = look.volume.clone();
        let waiting = Waiting { look, mark, is_dirty, due: now, failures: 0, needs_pod_status: false, settled };
        self.waiting.insert(volume, waiting);
        true
    }

    /// Whether a Secret of the volume has to be looked at.
    fn is_due(&self, look: &Look, now: Instant) -> bool {
        let mut names = look.wanted.iter().filter_map(|object| objects::name(object).ok());
        names.any(|name| {
            let secret = self.secrets.get(&(look.namespace().to_owned(), name.to_owned()));
            secret.is_none_or(|secret| secret.next <= now || !secret.wanted.contains_key(&look.volume))
        })
    }

    pub(super) fn forget(&mut self, volume: &str) {
        self.volumes.remove(volume);
        self.waiting.remove(volume);
        self.secrets.retain(|_, secret| {
            secret.wanted.remove(volume);
            !secret.wanted.is_empty()
        });
    }

    /// Whether nothing was known of a volume until now.
    pub(super) fn is_first(&mut self, volume: &str) -> bool {
        self.volumes.insert(volume.to_owned(), Volume::default()).is_none()
    }

    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    pub(super) fn is_known(&self, volume: &str) -> bool {
        self.volumes.contains_key(volume)
    }

    /// What is to be done now, the longest due first.
    pub(super) fn take(&mut self, now: Instant) -> Option<Waiting> {
        let free = |(volume, waiting): &(&String, &Waiting)| waiting.due <= now && !self.running.contains(*volume);
        let volume = self.waiting.iter().filter(free).min_by_key(|(_, waiting)| waiting.due)?.0.clone();
        let waiting = self.waiting.remove(&volume)?;
        self.running.insert(volume);
        Some(waiting)
    }

    /// When the next is due that nothing stands in the way of.
    pub(super) fn next(&self) -> Option<Instant> {
        let free = |(volume, _): &(&String, &Waiting)| !self.running.contains(*volume);
        self.waiting.iter().filter(free).map(|(_, waiting)| waiting.due).min()
    }

    /// Takes note of how it ended; says the mark that now is synced, if there is news, or that it was tried often enough.
    pub(super) fn finish(&mut self, mut done: Waiting, outcome: Outcome) -> Ended {
        let now = Instant::now();
        self.running.remove(&done.look.volume);
        let Some(volume) = self.volumes.get_mut(&done.look.volume) else { return Ended::Quiet };
        match outcome {
            Outcome::Gone => Ended::Quiet,
            Outcome::Done => {
                let is_news = done.is_dirty && volume.synced.as_ref() != Some(&done.mark);
                // That all is there says nothing about what could not be written.
                if done.is_dirty {
                    volume.failed = None;
                    volume.synced = Some(done.mark);
                }
                if is_news { Ended::Synced } else { Ended::Quiet }
            }
            Outcome::Retry(_) | Outcome::NeedsPodStatus if done.failures + 1 < ATTEMPTS => {
                let after = if let Outcome::Retry(after) = outcome { after } else { None };
                done.failures += 1;
                done.needs_pod_status = outcome == Outcome::NeedsPodStatus;
                let is_there = done.needs_pod_status && volume.has_pod_status;
                done.due = if is_there { now } else { now + PAUSES.after(done.failures, after) };
                // Read back from the volume then: secrets do not wait in memory.
                done.look.fetched = None;
                match self.waiting.get_mut(&done.look.volume) {
                    Some(newer) => {
                        newer.is_dirty |= done.is_dirty;
                        (newer.due, newer.failures) = (done.due, done.failures);
                        newer.needs_pod_status = done.needs_pod_status;
                        newer.settled = newer.settled.take().or(done.settled);
                    }
                    None => drop(self.waiting.insert(done.look.volume.clone(), done)),
                }
                Ended::Quiet
            }
            Outcome::Retry(_) | Outcome::NeedsPodStatus | Outcome::Broken => {
                let pause = if outcome == Outcome::Broken { LEAVE } else { CHECK };
                if done.is_dirty {
                    // What was written of it before counts no more.
                    volume.synced = None;
                    volume.failed = Some((done.mark, now + jittered(pause)));
                }
                if outcome == Outcome::Broken { Ended::Quiet } else { Ended::GivenUp }
            }
        }
    }

    pub(super) fn owners(&self, volume: &str) -> Option<Owners> {
        self.volumes.get(volume).and_then(|volume| volume.owners.clone())
    }

    pub(super) fn set_owners(&mut self, volume: &str, owners: Owners) {
        if let Some(volume) = self.volumes.get_mut(volume) {
            volume.owners = Some(owners);
        }
    }

    /// The API server is about to be asked for the pod status.
    pub(super) fn expect_pod_status(&mut self, volume: &str) {
        if let Some(volume) = self.volumes.get_mut(volume) {
            volume.has_pod_status = false;
        }
    }

    /// Whether somebody waited for it.
    pub(super) fn pod_status_written(&mut self, volume: &str) -> bool {
        if let Some(volume) = self.volumes.get_mut(volume) {
            volume.has_pod_status = true;
        }
        match self.waiting.get_mut(volume) {
            Some(waiting) if waiting.needs_pod_status => {
                waiting.due = Instant::now();
                true
            }
            _ => false,
        }
    }

    /// Notes that a volume needs a Secret. Who holds the lock works on it alone; none for a volume that is forgotten.
    pub(super) fn join(&mut self, key: &Key, volume: &str, owners: &Owners) -> Option<Arc<tokio::sync::Mutex<()>>> {
        if !self.is_known(volume) {
            return None;
        }
        let secret = self.secrets.entry(key.clone()).or_insert_with(|| Secret {
            alone: Arc::default(),
            wanted: HashMap::new(),
            seen: Seen::default(),
            next: Instant::now(),
        });
        secret.wanted.insert(volume.to_owned(), owners.clone());
        Some(secret.alone.clone())
    }

    /// What is known of a Secret, and whether it need not be looked at again yet.
    pub(super) fn seen(&self, key: &Key) -> (Seen, bool) {
        self.secrets
            .get(key)
            .map_or_else(Default::default, |secret| (secret.seen.clone(), Instant::now() < secret.next))
    }

    /// Notes what was seen or made.
    pub(super) fn saw(&mut self, key: &Key, seen: Seen) {
        if let Some(secret) = self.secrets.get_mut(key) {
            secret.seen = seen;
            secret.next = Instant::now() + jittered(CHECK);
        }
    }

    /// Notes to whom a Secret belongs by now.
    pub(super) fn owned(&mut self, key: &Key, owners: &HashSet<String>) {
        if let Some(secret) = self.secrets.get_mut(key) {
            secret.seen.owners.clone_from(owners);
        }
    }

    /// Lets the next one look again.
    pub(super) fn doubt(&mut self, key: &Key) {
        if let Some(secret) = self.secrets.get_mut(key) {
            secret.next = Instant::now();
        }
    }

    /// Everybody whom a Secret shall belong to, as far as this node knows, each once.
    pub(super) fn wanted(&self, key: &Key) -> Vec<OwnerReference> {
        let mut seen = HashSet::new();
        let wanted = self.secrets.get(key).into_iter().flat_map(|secret| secret.wanted.values());
        let wanted = wanted.flat_map(|owners| owners.iter());
        wanted.filter(|owner| seen.insert(owner.uid.clone())).cloned().collect()
    }
}

/// What to tell of something that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Quiet,
    /// The mark is that of the Secrets now.
    Synced,
    /// It was tried often enough for now.
    GivenUp,
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.8..=1.2))
}

#[cfg(test)]
mod tests {
    use super::super::tests::look;
    use super::*;

    fn taken() -> (Queue, Waiting) {
        let mut queue = Queue::default();
        assert!(queue.put(look(), None));
        let taken = queue.take(Instant::now()).unwrap();
        (queue, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_may_be_old_are_only_looked_for_whatever_the_class_wishes_by_now() {
        let (mut queue, taken) = taken();
        queue.finish(taken, Outcome::Done);
        let mut edited = Look { kept: true, ..look() };
        edited.class.push('x');
        edited.objects.clear();
        assert!(queue.put(edited, None));
        assert!(!queue.take(Instant::now()).unwrap().is_dirty);
    }

    #[tokio::test(start_paused = true)]
    async fn what_needs_its_pod_status_is_tried_as_soon_as_that_is_written() {
        let (mut queue, taken) = taken();
        queue.expect_pod_status("csi-1");
        assert_eq!(queue.finish(taken, Outcome::NeedsPodStatus), Ended::Quiet);
        assert!(queue.take(Instant::now()).is_none());
        assert!(queue.pod_status_written("csi-1"));
        assert!(queue.take(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_status_that_is_written_while_it_is_asked_for_counts() {
        let (mut queue, taken) = taken();
        queue.expect_pod_status("csi-1");
        assert!(!queue.pod_status_written("csi-1"), "nobody waits yet");
        queue.finish(taken, Outcome::NeedsPodStatus);
        assert!(queue.take(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_status_makes_nothing_else_be_tried_sooner() {
        let (mut queue, taken) = taken();
        queue.finish(taken, Outcome::Retry(None));
        assert!(!queue.pod_status_written("csi-1"));
        assert!(queue.take(Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_let_go_when_it_ends_well_or_ill_or_is_forgotten_and_not_between_two_attempts() {
        for end in [Outcome::Done, Outcome::Broken, Outcome::Gone] {
            let mut queue = Queue::default();
            let (settled, mut over) = oneshot::channel();
            queue.put(look(), Some(settled));
            let taken = queue.take(Instant::now()).unwrap();
            queue.finish(taken, Outcome::Retry(None));
            queue.put(look(), None);
            assert_eq!(over.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            let taken = queue.take(Instant::now() + PAUSES.longest).unwrap();
            queue.finish(taken, end);
            assert_eq!(over.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
        let mut queue = Queue::default();
        let (settled, mut over) = oneshot::channel();
        queue.put(look(), Some(settled));
        queue.forget("csi-1");
        assert_eq!(over.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
