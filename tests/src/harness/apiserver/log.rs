//! What the API server saw: every request in order, counts by verb and resource, and how many were there at once.
//!
//! Never holds a body or a credential. Tests read it to say what Coffer asked, and wait on it instead of sleeping.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::resource::{Resource, Target, Verb};

/// One request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts from 0 in order of arrival.
    pub sequence: u64,
    /// The HTTP method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// The names of the query parameters, in order.
    pub query: Vec<String>,
    /// What it asked for.
    pub target: Target,
    /// Whether an answer from the API server's cache would do: `resourceVersion=0`.
    pub cached: bool,
    /// Whether it asked for an answer of metadata alone.
    pub metadata_only: bool,
    /// Whether it carried the credential of the kubeconfig.
    pub authorized: bool,
    /// `User-Agent`.
    pub user_agent: String,
    /// The status of the answer; `None` while there is none, and for ever if the client or a fault ended it.
    pub status: Option<u16>,
    /// The fault that met it.
    pub fault: Option<&'static str>,
}

type Key = (Verb, Resource);

/// Counts since the start or the last [`Log::clear`].
#[derive(Clone, Debug, Default)]
pub struct Counters {
    requests: BTreeMap<Key, u64>,
    answered: BTreeMap<Key, u64>,
    peaks: BTreeMap<Key, u64>,
    in_flight: BTreeMap<Key, u64>,
    /// TCP connections accepted.
    pub connections: u64,
}

impl Counters {
    /// Requests that arrived.
    pub fn of(&self, verb: Verb, resource: Resource) -> u64 {
        self.requests.get(&(verb, resource)).copied().unwrap_or_default()
    }

    /// Requests that are done with: answered, or given up by the client or a fault.
    pub fn answered(&self, verb: Verb, resource: Resource) -> u64 {
        self.answered.get(&(verb, resource)).copied().unwrap_or_default()
    }

    /// The most requests that were waiting for their answer at the same time.
    pub fn peak(&self, verb: Verb, resource: Resource) -> u64 {
        self.peaks.get(&(verb, resource)).copied().unwrap_or_default()
    }

    /// Requests that wait for their answer now.
    pub fn in_flight(&self, verb: Verb, resource: Resource) -> u64 {
        self.in_flight.get(&(verb, resource)).copied().unwrap_or_default()
    }

    /// All requests that change something.
    pub fn writes(&self) -> u64 {
        let writes = |(verb, _): &&Key| matches!(verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete);
        self.requests.iter().filter(|(key, _)| writes(key)).map(|(_, count)| count).sum()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }
}

/// A bounded request log; the oldest entries go first.
pub struct Log {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Entry>,
    next: u64,
    counters: Counters,
}

/// How many requests are kept.
const CAPACITY: usize = 100_000;

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// The requests, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.kept().entries.iter().cloned().collect()
    }

    /// The counts now.
    pub fn counters(&self) -> Counters {
        self.kept().counters.clone()
    }

    /// Forgets entries and counts; requests still waiting keep counting as in flight.
    pub fn clear(&self) {
        let mut kept = self.kept();
        kept.entries.clear();
        let in_flight = kept.counters.in_flight.clone();
        kept.counters = Counters { peaks: in_flight.clone(), in_flight, ..Counters::default() };
    }

    /// Waits until at least so many of these requests have arrived. Give it a deadline of your own.
    pub async fn arrived(&self, verb: Verb, resource: Resource, count: u64) {
        self.until(|counters| counters.of(verb, resource) >= count).await;
    }

    /// Waits until at least so many of these requests are done with. Give it a deadline of your own.
    pub async fn answered(&self, verb: Verb, resource: Resource, count: u64) {
        self.until(|counters| counters.answered(verb, resource) >= count).await;
    }

    /// Waits until the counts satisfy the condition. Give it a deadline of your own.
    pub async fn until(&self, mut condition: impl FnMut(&Counters) -> bool) {
        let mut changes = self.changed.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = changes.wait_for(|()| condition(&self.kept().counters)).await;
    }

    pub(crate) fn connected(&self) {
        self.kept().counters.connections += 1;
        self.changed.send_replace(());
    }

    /// Notes a request; its end is noted when the ticket is answered or dropped.
    pub(crate) fn begin(self: &Arc<Self>, mut entry: Entry) -> Ticket {
        let key = (entry.target.verb, entry.target.resource);
        let sequence = {
            let mut kept = self.kept();
            let sequence = kept.next;
            kept.next += 1;
            entry.sequence = sequence;
            kept.entries.push_back(entry);
            if kept.entries.len() > CAPACITY {
                kept.entries.pop_front();
            }
            *kept.counters.requests.entry(key).or_default() += 1;
            let waiting = kept.counters.in_flight.entry(key).or_default();
            *waiting += 1;
            let waiting = *waiting;
            let peak = kept.counters.peaks.entry(key).or_default();
            *peak = waiting.max(*peak);
            sequence
        };
        self.changed.send_replace(());
        Ticket { log: Arc::clone(self), sequence, key }
    }

    fn amend(&self, sequence: u64, change: impl FnOnce(&mut Entry)) {
        let mut kept = self.kept();
        if let Ok(index) = kept.entries.binary_search_by_key(&sequence, |entry| entry.sequence)
            && let Some(entry) = kept.entries.get_mut(index)
        {
            change(entry);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has not been answered yet.
pub(crate) struct Ticket {
    log: Arc<Log>,
    sequence: u64,
    key: Key,
}

impl Ticket {
    pub(crate) fn met(&self, fault: &'static str) {
        self.log.amend(self.sequence, |entry| entry.fault = Some(fault));
    }

    pub(crate) fn answered(self, status: u16) {
        self.log.amend(self.sequence, |entry| entry.status = Some(status));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        {
            let mut kept = self.log.kept();
            let waiting = kept.counters.in_flight.entry(self.key).or_default();
            *waiting = waiting.saturating_sub(1);
            *kept.counters.answered.entry(self.key).or_default() += 1;
        }
        self.log.changed.send_replace(());
    }
}
