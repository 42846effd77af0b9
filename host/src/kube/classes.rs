//! Reads of SecretProviderClasses, shared.
//!
//! A class is read when a publish needs it, one read per class at a time, answered from the API server's cache. Nothing is
//! listed or watched: a node knows the classes that it uses and no others. While the API server cannot be asked, the last
//! good copy serves for an hour; a class that is gone or forbidden is never served from it. `publish` is the caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::call::{Failure, Freshness, Kind, Resource};
use super::client::Client;
use super::names;
use super::pause::Pauses;
use crate::api::class::{Object, SecretObject, SecretProviderClass};
use crate::tasks::Tasks;

/// The annotation of a class that makes its volumes due whenever its value changes.
pub const REFRESH_ANNOTATION: &str = "coffer.dev/refresh";
/// The annotation of a class whose pods may start with a kept result of this age at most.
pub const OFFLINE_ANNOTATION: &str = "coffer.dev/offline-start";

/// How long a copy serves while the API server cannot be asked, since it was read.
const COPY_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Entries that nobody asked for so long are dropped.
const UNUSED: Duration = Duration::from_secs(60 * 60);
/// The most classes that are remembered; a node has 110 pods, or some hundreds.
const MOST_CLASSES: usize = 4096;
/// How often a read is tried in all.
const ATTEMPTS: u32 = 4;
const PAUSES: Pauses = Pauses { first: Duration::from_millis(200), longest: Duration::from_secs(5) };
/// How long the API server may think when there is a copy.
const PATIENCE_WITH_COPY: Duration = Duration::from_secs(3);
/// How long a copy serves without asking again after the API server could not be asked.
const QUIET: Duration = Duration::from_secs(10);

/// A class as it was read.
#[derive(Clone, Debug)]
pub struct ReadClass {
    /// The class.
    pub class: SecretProviderClass,
    /// Changes when the class is edited, or deleted and made anew: `<uid>/<generation>`.
    pub revision: String,
    /// The value of the annotation `coffer.dev/refresh`.
    pub refresh: Option<String>,
    /// The Kubernetes Secrets that it asks for.
    pub secret_objects: Arc<[SecretObject]>,
    /// The value of the annotation `coffer.dev/offline-start`, right or wrong.
    pub offline_start: Option<String>,
}

/// Why there is no class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// It does not exist; confirmed by the store behind the API server.
    #[error(
        "failed to get secretproviderclass {namespace}/{name}, error: not found; a class has to be in the namespace of \
         the pod: create it there"
    )]
    NotFound {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Nothing can be called so.
    #[error(
        "failed to get secretproviderclass {namespace}/{name}, error: not found: no object can have this name; correct \
         `secretProviderClass` in the volumeAttributes of the pod"
    )]
    NoName {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The cluster has no such kind.
    #[error(
        "failed to get secretproviderclass {namespace}/{name}, error: not found: the cluster does not know the kind \
         SecretProviderClass; install it: coffer crds | kubectl apply -f -"
    )]
    Undefined {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Coffer may not read it.
    #[error(
        "failed to get secretproviderclass {namespace}/{name}, error: forbidden: {message}; grant `get` on \
         secretproviderclasses to Coffer's service account, as deploy/rbac.yaml does"
    )]
    Forbidden {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What the API server said.
        message: String,
    },
    /// The API server cannot be asked, and nothing is known from before.
    #[error("failed to get secretproviderclass {namespace}/{name}, error: {message}")]
    Unavailable {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Why, and what to check.
        message: String,
    },
}

/// The classes that this node uses.
#[derive(Clone)]
pub struct Classes(Arc<Shared>);

struct Shared {
    client: Client,
    tasks: Tasks,
    entries: Mutex<HashMap<Key, Entry>>,
}

/// Namespace and name.
type Key = (String, String);
type Read = Result<Arc<ReadClass>, ClassError>;

/// What is known of one class.
struct Entry {
    /// When somebody asked last.
    used: Instant,
    copy: Option<Kept>,
    /// The read that is on its way.
    flight: Option<Flight>,
}

/// The last good read.
#[derive(Clone)]
struct Kept {
    class: Arc<ReadClass>,
    /// `metadata.uid` and `metadata.generation`.
    edition: (Option<String>, Option<i64>),
    read: Instant,
    /// Until when it serves without asking.
    quiet: Instant,
}

/// A read on its way. It belongs to nobody who waits for it, and ends with the last deadline of theirs.
#[derive(Clone)]
struct Flight {
    landed: watch::Receiver<Option<Read>>,
    deadline: Arc<watch::Sender<Instant>>,
}

impl Classes {
    /// Knows none yet. Reads run as tasks of `tasks`.
    #[must_use]
    pub fn new(client: Client, tasks: &Tasks) -> Self {
        Self(Arc::new(Shared { client, tasks: tasks.clone(), entries: Mutex::default() }))
    }

    /// The class, from a read that is at most `age` old; reads of the same class at the same time are one.
    ///
    /// # Errors
    ///
    /// There is no such class, Coffer may not read it, or nobody can say in time.
    pub async fn read(&self, namespace: &str, name: &str, age: Duration, deadline: Instant) -> Read {
        if !names::is_name(namespace) || !names::is_name(name) {
            return Err(ClassError::NoName { namespace: namespace.into(), name: name.into() });
        }
        let key = (namespace.to_owned(), name.to_owned());
        let mut flight = match self.0.join(&key, age, deadline) {
            Joined::Known(class) => return Ok(class),
            Joined::Flight(flight) => flight,
        };
        let landed = timeout_at(deadline, flight.landed.wait_for(Option::is_some)).await;
        match landed {
            Ok(Ok(read)) => read.clone().unwrap_or_else(|| Err(unavailable(&key, "the read ended without an answer"))),
            Ok(Err(_)) => Err(unavailable(&key, "the read was given up because Coffer stops")),
            Err(_) => self.0.copy(&key).map(|copy| copy.class).ok_or_else(|| {
                unavailable(&key, "the API server did not answer in time; check that it is up and reachable")
            }),
        }
    }
}

enum Joined {
    Known(Arc<ReadClass>),
    Flight(Flight),
}

impl Shared {
    /// What is known, or the read that will tell; starts it when there is none.
    fn join(self: &Arc<Self>, key: &Key, age: Duration, deadline: Instant) -> Joined {
        let now = Instant::now();
        let mut entries = self.entries();
        if !entries.contains_key(key) {
            make_room(&mut entries, now);
        }
        let entry = entries.entry(key.clone()).or_insert_with(|| Entry { used: now, copy: None, flight: None });
        entry.used = now;
        if let Some(copy) = &entry.copy
            && (now < copy.quiet || now.duration_since(copy.read) < age)
            && now.duration_since(copy.read) < COPY_LIFETIME
        {
            return Joined::Known(Arc::clone(&copy.class));
        }
        // A flight whose task is gone will never land.
        if let Some(flight) = entry.flight.as_ref().filter(|flight| flight.landed.has_changed().is_ok()) {
            flight.deadline.send_if_modified(|latest| replace_if_later(latest, deadline));
            return Joined::Flight(flight.clone());
        }
        let (landing, landed) = watch::channel(None);
        let flight = Flight { landed, deadline: Arc::new(watch::Sender::new(deadline)) };
        entry.flight = Some(flight.clone());
        drop(entries);
        let (shared, key, until) = (Arc::clone(self), key.clone(), Arc::clone(&flight.deadline));
        self.tasks.spawn("class read", async move {
            let read = shared.fly(&key, &until).await;
            // Nobody may be waiting any more.
            let _ = landing.send(Some(read));
        });
        Joined::Flight(flight)
    }

    /// Reads, and keeps or drops the copy.
    async fn fly(&self, key: &Key, deadline: &watch::Sender<Instant>) -> Read {
        let result = match self.copy(key) {
            Some(_) => match timeout(PATIENCE_WITH_COPY, self.ask(key)).await {
                Ok(result) => result,
                Err(_) => Err(Failure {
                    kind: Kind::Transient,
                    message: format!("no answer from the API server within {} s", PATIENCE_WITH_COPY.as_secs()),
                    retry_after: None,
                }),
            },
            None => self.insist(key, deadline).await,
        };
        self.land(key, result)
    }

    /// Asks until somebody answers, or the last who waits has no time left.
    async fn insist(&self, key: &Key, deadline: &watch::Sender<Instant>) -> Result<Object, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match self.ask(key).await {
                Err(failure) if failure.is_transient() => failure,
                result => return result,
            };
            let pause = PAUSES.after(attempt, failure.retry_after);
            if attempt == ATTEMPTS || Instant::now() + pause >= *deadline.borrow() {
                return Err(failure);
            }
            let (namespace, name) = key;
            tracing::debug!(target: "coffer::kube", %namespace, class = %name, attempt, "{}", failure.message);
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// One read; what the API server's cache does not have, the store behind it is asked for.
    async fn ask(&self, (namespace, name): &Key) -> Result<Object, Failure> {
        match self.client.get(Resource::Classes, namespace, name, Freshness::Cached).await {
            Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Undefined) => {
                self.client.get(Resource::Classes, namespace, name, Freshness::Quorum).await
            }
            result => result,
        }
    }

    /// Ends a flight: what everybody gets who waits for it, and what stays.
    fn land(&self, key: &Key, result: Result<Object, Failure>) -> Read {
        let mut entries = self.entries();
        let now = Instant::now();
        let mut nobody = Entry { used: now, copy: None, flight: None };
        // The entry may have had to make room by now.
        let entry = entries.get_mut(key).unwrap_or(&mut nobody);
        entry.flight = None;
        match result {
            Ok(object) => {
                let edition = (object.metadata.uid.clone(), object.metadata.generation);
                let read = || Arc::new(read_class(key, &object));
                // Another API server may have the older one in its cache.
                let newer =
                    entry.copy.as_ref().filter(|copy| copy.edition.0 == edition.0 && copy.edition.1 > edition.1);
                let (class, edition) = match newer {
                    Some(copy) => (Arc::clone(&copy.class), copy.edition.clone()),
                    None => (read(), edition),
                };
                entry.copy = Some(Kept { class: Arc::clone(&class), edition, read: now, quiet: now });
                Ok(class)
            }
            Err(failure) if failure.is_transient() => match entry.copy.as_mut().filter(|copy| copy.serves(now)) {
                Some(copy) => {
                    let wait = failure.retry_after.map_or(QUIET, |wait| wait.clamp(QUIET, 6 * QUIET));
                    copy.quiet = now + wait;
                    let (namespace, name) = key;
                    let age = now.duration_since(copy.read).as_secs();
                    tracing::warn!(
                        target: "coffer::kube", %namespace, class = %name,
                        "the class is used as it was {age} s ago: {}", failure.message
                    );
                    Ok(Arc::clone(&copy.class))
                }
                None => Err(error(key, failure)),
            },
            Err(failure) => {
                if matches!(failure.kind, Kind::NotFound | Kind::Undefined | Kind::Forbidden) {
                    entry.copy = None;
                }
                Err(error(key, failure))
            }
        }
    }

    /// The copy, while it may serve.
    fn copy(&self, key: &Key) -> Option<Kept> {
        let now = Instant::now();
        self.entries().get(key).and_then(|entry| entry.copy.clone()).filter(|copy| copy.serves(now))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn serves(&self, now: Instant) -> bool {
        now.duration_since(self.read) < COPY_LIFETIME
    }
}

/// Drops what nobody asks for any more, and if that is not enough, what was asked for the longest ago.
fn make_room(entries: &mut HashMap<Key, Entry>, now: Instant) {
    entries.retain(|_, entry| now.duration_since(entry.used) < UNUSED);
    if entries.len() >= MOST_CLASSES {
        let oldest = entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
        oldest.and_then(|key| entries.remove(&key));
    }
}

fn replace_if_later(latest: &mut Instant, deadline: Instant) -> bool {
    let later = deadline > *latest;
    *latest = deadline.max(*latest);
    later
}

fn read_class(key: &Key, object: &Object) -> ReadClass {
    // Whatever the object says, it was asked for by this namespace and name.
    let (namespace, name) = key.clone();
    let class = SecretProviderClass { namespace: Some(namespace), name, ..object.class() };
    let annotations = object.metadata.annotations.as_ref();
    let annotation = |name| annotations.and_then(|annotations| annotations.get(name)).cloned();
    let (refresh, offline_start) = (annotation(REFRESH_ANNOTATION), annotation(OFFLINE_ANNOTATION));
    let secret_objects = object.spec.secret_objects.as_slice().into();
    ReadClass { class, revision: revision(&object.metadata), refresh, secret_objects, offline_start }
}

/// Custom resources have a generation; the version of the object stands in where one has none, at the price of a refresh
/// for every change of metadata.
fn revision(metadata: &ObjectMeta) -> String {
    let uid = metadata.uid.as_deref().unwrap_or_default();
    match metadata.generation.filter(|generation| *generation > 0) {
        Some(generation) => format!("{uid}/{generation}"),
        None => format!("{uid}/{}", metadata.resource_version.as_deref().unwrap_or_default()),
    }
}

fn error(key: &Key, failure: Failure) -> ClassError {
    let (namespace, name) = key.clone();
    let message = failure.message;
    match failure.kind {
        Kind::NotFound => ClassError::NotFound { namespace, name },
        Kind::Undefined => ClassError::Undefined { namespace, name },
        Kind::Forbidden => ClassError::Forbidden { namespace, name, message },
        Kind::Transient => unavailable(key, &format!("{message}; check that the API server is up and reachable")),
        Kind::Unauthorized => {
            unavailable(key, &format!("{message}; check the service account or the kubeconfig of Coffer"))
        }
        Kind::AlreadyExists | Kind::Refused => unavailable(key, &message),
    }
}

fn unavailable(key: &Key, message: &str) -> ClassError {
    let (namespace, name) = key.clone();
    ClassError::Unavailable { namespace, name, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_the_uid_with_the_generation_or_with_the_version() {
        let metadata = |generation| ObjectMeta {
            uid: Some("u".into()),
            generation,
            resource_version: Some("77".into()),
            ..ObjectMeta::default()
        };
        assert_eq!(revision(&metadata(Some(3))), "u/3");
        assert_eq!(revision(&metadata(Some(0))), "u/77");
        assert_eq!(revision(&metadata(None)), "u/77");
    }

    #[tokio::test(start_paused = true)]
    async fn classes_that_nobody_asks_for_make_room() {
        let mut entries = HashMap::new();
        let key = |number: usize| ("shop".to_owned(), format!("kv-{number}"));
        for number in 0..MOST_CLASSES + 10 {
            make_room(&mut entries, Instant::now());
            entries.insert(key(number), Entry { used: Instant::now(), copy: None, flight: None });
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(entries.len(), MOST_CLASSES);
        assert!(!entries.contains_key(&key(9)) && entries.contains_key(&key(10)));
        tokio::time::advance(UNUSED).await;
        make_room(&mut entries, Instant::now());
        assert!(entries.is_empty());
    }
}
