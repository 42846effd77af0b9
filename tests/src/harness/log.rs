//! What the emulator saw: every request in order, counts by kind, and how many were in the house at once.
//!
//! Never holds a header but `User-Agent`, a body or the value of a query parameter. Tests read it to say what a client did, and wait on
//! it instead of sleeping.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{broadcast, watch};

/// What a request asked for, told from its host, method and path alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `POST /{tenant}/oauth2/v2.0/token`, or `POST /adfs/oauth2/token` of AD FS.
    Token,
    /// `GET /metadata/identity/oauth2/token` of a node's metadata service.
    NodeToken,
    /// `GET /host/token/` of a node's NMI.
    PodToken,
    /// `GET /common/discovery/instance`.
    InstanceDiscovery,
    /// `GET /{tenant}/v2.0/.well-known/openid-configuration`.
    OpenIdConfiguration,
    /// `GET /secrets/{name}` with or without a version.
    GetSecret,
    /// `PUT /secrets/{name}`.
    SetSecret,
    /// `GET /secrets`.
    ListSecrets,
    /// `GET /secrets/{name}/versions`.
    ListSecretVersions,
    /// `GET /keys/{name}` with or without a version.
    GetKey,
    /// `GET /keys`.
    ListKeys,
    /// `GET /keys/{name}/versions`.
    ListKeyVersions,
    /// `GET /certificates/{name}` with or without a version.
    GetCertificate,
    /// `GET /certificates`.
    ListCertificates,
    /// `GET /certificates/{name}/versions`.
    ListCertificateVersions,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether a vault answers it.
    pub fn is_vault(self) -> bool {
        !matches!(
            self,
            Self::Token
                | Self::NodeToken
                | Self::PodToken
                | Self::InstanceDiscovery
                | Self::OpenIdConfiguration
                | Self::Other
        )
    }
}

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counts from 0 in order of arrival.
    pub sequence: u64,
    /// When its head had been read, in Unix milliseconds of the emulator's clock.
    pub at: i64,
    /// Which connection brought it; counts from 1.
    pub connection: u64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// What it asked for.
    pub kind: Kind,
    /// The HTTP method.
    pub method: String,
    /// The host it named, in lower case, without a port.
    pub host: String,
    /// The path as sent.
    pub path: String,
    /// The names of the query parameters, in order.
    pub query: Vec<String>,
    /// Whether it carried an `Authorization` header.
    pub authorized: bool,
    /// `User-Agent`, the one header that no secret belongs into.
    pub user_agent: String,
    /// The status of the answer; `None` while there is none, and for ever if the client or a fault ended it.
    pub status: Option<u16>,
    /// The fault that met it.
    pub fault: Option<&'static str>,
}

/// Counts since the start or the last [`Log::clear`].
#[derive(Clone, Debug, Default)]
pub struct Counters {
    requests: BTreeMap<Kind, u64>,
    peaks: BTreeMap<Kind, u64>,
    in_flight: BTreeMap<Kind, u64>,
    /// TCP connections accepted.
    pub connections: u64,
    /// TLS handshakes that succeeded.
    pub handshakes: u64,
}

impl Counters {
    /// Requests of a kind that arrived.
    pub fn of(&self, kind: Kind) -> u64 {
        self.requests.get(&kind).copied().unwrap_or_default()
    }

    /// The most requests of a kind that were waiting for their answer at the same time.
    pub fn peak(&self, kind: Kind) -> u64 {
        self.peaks.get(&kind).copied().unwrap_or_default()
    }

    /// Requests of a kind that wait for their answer now.
    pub fn in_flight(&self, kind: Kind) -> u64 {
        self.in_flight.get(&kind).copied().unwrap_or_default()
    }

    /// Requests of every kind that arrived.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }
}

/// A bounded request log; the oldest entries go first.
pub struct Log {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
    finished: broadcast::Sender<Entry>,
    capacity: usize,
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Entry>,
    next: u64,
    counters: Counters,
}

/// How many finished requests a slow [`Log::subscribe`]r may lag behind.
const SUBSCRIBER_BACKLOG: usize = 1024;

impl Log {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            kept: Mutex::default(),
            changed: watch::Sender::new(()),
            finished: broadcast::Sender::new(SUBSCRIBER_BACKLOG),
            capacity,
        }
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

    /// Waits until at least `count` requests of the kind have arrived. Give it a deadline of your own.
    pub async fn arrived(&self, kind: Kind, count: u64) {
        self.until(|counters| counters.of(kind) >= count).await;
    }

    /// Waits until the counts satisfy the condition. Give it a deadline of your own.
    pub async fn until(&self, mut condition: impl FnMut(&Counters) -> bool) {
        let mut changes = self.changed.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = changes.wait_for(|()| condition(&self.kept().counters)).await;
    }

    /// Every request from now on, when it is finished or given up.
    pub fn subscribe(&self) -> broadcast::Receiver<Entry> {
        self.finished.subscribe()
    }

    pub(crate) fn connected(&self) {
        self.kept().counters.connections += 1;
        self.changed.send_replace(());
    }

    pub(crate) fn shook_hands(&self) {
        self.kept().counters.handshakes += 1;
        self.changed.send_replace(());
    }

    /// Notes a request; its end is noted when the ticket is finished or dropped.
    pub(crate) fn begin(self: &Arc<Self>, mut entry: Entry) -> Ticket {
        let kind = entry.kind;
        let sequence = {
            let mut kept = self.kept();
            let sequence = kept.next;
            kept.next += 1;
            entry.sequence = sequence;
            kept.entries.push_back(entry);
            if kept.entries.len() > self.capacity {
                kept.entries.pop_front();
            }
            *kept.counters.requests.entry(kind).or_default() += 1;
            let waiting = kept.counters.in_flight.entry(kind).or_default();
            *waiting += 1;
            let waiting = *waiting;
            let peak = kept.counters.peaks.entry(kind).or_default();
            *peak = waiting.max(*peak);
            sequence
        };
        self.changed.send_replace(());
        Ticket { log: Arc::clone(self), sequence, kind }
    }

    fn amend(&self, sequence: u64, change: impl FnOnce(&mut Entry)) {
        let mut kept = self.kept();
        if let Ok(index) = kept.entries.binary_search_by_key(&sequence, |entry| entry.sequence)
            && let Some(entry) = kept.entries.get_mut(index)
        {
            change(entry);
        }
    }

    fn end(&self, sequence: u64, kind: Kind) {
        let entry = {
            let mut kept = self.kept();
            let waiting = kept.counters.in_flight.entry(kind).or_default();
            *waiting = waiting.saturating_sub(1);
            let index = kept.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok();
            index.and_then(|index| kept.entries.get(index).cloned())
        };
        if let Some(entry) = entry {
            // No subscriber is no error.
            let _ = self.finished.send(entry);
        }
        self.changed.send_replace(());
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has not been answered yet.
pub(crate) struct Ticket {
    log: Arc<Log>,
    sequence: u64,
    kind: Kind,
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
        self.log.end(self.sequence, self.kind);
    }
}
