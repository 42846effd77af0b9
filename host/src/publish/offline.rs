//! What pods may start with while their store cannot be reached: the last good result that the same identity had on this
//! node for the same class and parameters.
//!
//! Off unless the class asks for it by annotation, and never older than it and the configuration allow. Only a first publish
//! uses it, and only when nobody said no: a refusal drops what is kept, whoever was refused. In memory alone (ADR 18), in
//! the types that are wiped, bounded in number and bytes; what is too old is dropped whether somebody asks or not. `obtain`
//! is the caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use coffer_sandbox::provider::ObjectVersion;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Error;
use super::fetch::Fetched;
use super::fingerprint::Fingerprint;
use crate::config::OfflineStart;
use crate::refresh;
use crate::tasks::Tasks;
use crate::units::Span;
use crate::volume::FileSet;

/// How many results are kept at most.
const MOST: usize = 1_024;
/// How often is looked for results that are too old.
const SWEEP: Duration = Duration::from_secs(60);
/// What a file or an object takes besides its texts and contents.
const OVERHEAD: usize = 128;

/// The kept results.
pub struct Offline {
    limits: OfflineStart,
    kept: Mutex<Kept>,
    /// Something is kept that has to be swept one day.
    news: Notify,
}

#[derive(Default)]
struct Kept {
    results: HashMap<Fingerprint, Good>,
    bytes: u64,
}

/// A kept result.
struct Good {
    fetched: Arc<Fetched>,
    bytes: u64,
    /// The greatest age.
    longest: Duration,
    /// When it was good, by the clock that nobody sets and by the one that people read.
    good: Instant,
    good_at: SystemTime,
}

/// What a class asks for, and of which result.
#[derive(Clone, Copy)]
pub struct Asked {
    /// Who asks for what.
    pub key: Fingerprint,
    /// The greatest age.
    pub longest: Duration,
}

/// A result that stands in for one that could not be had.
#[derive(Clone)]
pub struct StandIn {
    /// The result.
    pub fetched: Arc<Fetched>,
    /// When the store gave or confirmed it.
    pub good_at: SystemTime,
    /// How long ago that is.
    pub age: Duration,
    /// Why there is no other.
    pub error: Arc<Error>,
}

/// The value of the annotation is no age.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the annotation `coffer.dev/offline-start` of SecretProviderClass `{class}` is not a duration, so its pods do not start \
     with kept results; write a number with a unit, such as 24h or 30m"
)]
pub struct NotAnAge {
    class: String,
}

/// The greatest age that a class asks for by annotation; none where it does not ask.
///
/// # Errors
///
/// When the value is no duration.
pub fn read(class: &str, annotation: Option<&str>) -> Result<Option<Duration>, NotAnAge> {
    match annotation.map(str::trim) {
        None | Some("0" | "0s") => Ok(None),
        Some(text) => text.parse().map(|Span(age)| Some(age)).map_err(|_| NotAnAge { class: class.to_owned() }),
    }
}

impl Offline {
    /// Keeps nothing yet. What gets too old is dropped until `tasks` stops, then all of it.
    #[must_use]
    pub fn start(limits: OfflineStart, tasks: &Tasks) -> Arc<Self> {
        let this = Arc::new(Self { limits, kept: Mutex::default(), news: Notify::new() });
        if this.is_allowed() {
            let (offline, stopping) = (this.clone(), tasks.stopping());
            tasks.spawn("kept results", async move {
                tokio::select! {
                    () = offline.sweep_again_and_again() => {}
                    () = stopping.cancelled() => *offline.lock() = Kept::default(),
                }
            });
        }
        this
    }

    /// Whether the configuration allows any.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !self.limits.max_age.is_zero()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().results.is_empty()
    }

    /// Whether a result with exactly these objects is kept, so that one more with other words for the same is of no use.
    #[must_use]
    pub fn has(&self, key: Fingerprint, objects: &[ObjectVersion]) -> bool {
        self.lock().results.get(&key).is_some_and(|result| result.fetched.objects == objects)
    }

    /// Takes note of a good result: keeps it, or that what is kept is still good.
    pub fn keep(&self, asked: Asked, fetched: &Arc<Fetched>) {
        let mut kept = self.lock();
        let now = Instant::now();
        match (&fetched.files, kept.results.get_mut(&asked.key)) {
            // The same that was kept before: it is not younger because it was shared once more.
            (Some(_), Some(result)) if Arc::ptr_eq(&result.fetched, fetched) => result.longest = asked.longest,
            (None, Some(result)) if result.fetched.objects == fetched.mounted => {
                (result.good, result.good_at, result.longest) = (now, SystemTime::now(), asked.longest);
            }
            // What is kept is not what the store calls unchanged.
            (None, _) => kept.remove(asked.key),
            (Some(files), _) => {
                kept.remove(asked.key);
                kept.retain_young(self.limits.max_age);
                let bytes = size(files, &fetched.objects);
                if bytes <= self.limits.memory {
                    kept.make_room(bytes, self.limits.memory);
                    kept.bytes += bytes;
                    let (fetched, longest) = (fetched.clone(), asked.longest);
                    let result = Good { fetched, bytes, longest, good: now, good_at: SystemTime::now() };
                    kept.results.insert(asked.key, result);
                    drop(kept);
                    self.news.notify_one();
                }
            }
        }
    }

    /// Drops what is kept, because somebody said no.
    pub fn forget(&self, key: Fingerprint) {
        self.lock().remove(key);
    }

    /// What may stand in where `error` is all that came; none where nothing is kept, or it is too old.
    #[must_use]
    pub fn find(&self, asked: Asked, error: &Arc<Error>) -> Option<StandIn> {
        let mut kept = self.lock();
        kept.retain_young(self.limits.max_age);
        let result = kept.results.get(&asked.key)?;
        let age = result.age();
        let is_young = age <= asked.longest.min(self.limits.max_age);
        is_young.then(|| StandIn {
            fetched: result.fetched.clone(),
            good_at: result.good_at,
            age,
            error: error.clone(),
        })
    }

    async fn sweep_again_and_again(&self) {
        loop {
            if self.lock().results.is_empty() {
                self.news.notified().await;
            }
            sleep(SWEEP).await;
            self.lock().retain_young(self.limits.max_age);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, key: Fingerprint) {
        if let Some(result) = self.results.remove(&key) {
            self.bytes = self.bytes.saturating_sub(result.bytes);
        }
    }

    fn retain_young(&mut self, ceiling: Duration) {
        self.results.retain(|_, result| result.age() <= result.longest.min(ceiling));
        self.bytes = self.results.values().map(|result| result.bytes).sum();
    }

    /// The oldest go first.
    fn make_room(&mut self, bytes: u64, memory: u64) {
        while self.results.len() >= MOST || self.bytes + bytes > memory {
            let oldest = self.results.iter().min_by_key(|(_, result)| result.good).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            self.remove(oldest);
        }
    }
}

impl Good {
    /// By the clock that says more: one does not go on while the machine sleeps, the other can be set back.
    fn age(&self) -> Duration {
        self.good.elapsed().max(refresh::age(self.good_at, SystemTime::now()))
    }
}

/// The memory that a result takes, a little more rather than less.
fn size(files: &FileSet, objects: &[ObjectVersion]) -> u64 {
    let files = files.iter().map(|file| file.len() + 2 * file.path().len() + OVERHEAD);
    let objects = objects.iter().map(|object| 2 * (object.id.len() + object.version.len()) + OVERHEAD);
    files.chain(objects).fold(0, |sum: u64, bytes| sum.saturating_add(bytes as u64))
}

#[cfg(test)]
mod tests {
    use coffer_sandbox::instance::Usage;
    use coffer_sandbox::provider::Pod;

    use super::super::fingerprint::Fingerprints;
    use super::*;
    use crate::volume::{Limits, NewFile};

    const HOUR: Duration = Duration::from_secs(3600);
    const LIMITS: OfflineStart = OfflineStart { max_age: Duration::from_secs(24 * 3600), memory: 10_000 };

    struct World {
        offline: Arc<Offline>,
        made: Fingerprints,
        _tasks: Tasks,
    }

    impl World {
        fn new(limits: OfflineStart) -> Self {
            let tasks = Tasks::default();
            Self { offline: Offline::start(limits, &tasks), made: Fingerprints::default(), _tasks: tasks }
        }

        fn asked(&self, name: &str) -> Asked {
            Asked { key: self.made.begin("test").with(name.as_bytes()).end(), longest: HOUR }
        }

        fn keep(&self, name: &str, fetched: &Arc<Fetched>) {
            self.offline.keep(self.asked(name), fetched);
        }

        fn version(&self, name: &str) -> Option<String> {
            let found = self.offline.find(self.asked(name), &Arc::new(Error::Unpublished))?;
            found.fetched.objects.first().map(|object| object.version.clone())
        }
    }

    fn object(version: &str) -> Vec<ObjectVersion> {
        vec![ObjectVersion { id: "o".into(), version: version.into() }]
    }

    fn fetched(files: Option<usize>, objects: Vec<ObjectVersion>, mounted: Vec<ObjectVersion>) -> Arc<Fetched> {
        let file = |bytes| NewFile { path: "f".into(), mode: None, contents: vec![b'x'; bytes].into() };
        let files = files.map(|bytes| FileSet::new([file(bytes)], 0o644, &Limits::default()).unwrap());
        Arc::new(Fetched {
            files,
            versions: Default::default(),
            objects,
            session: None,
            pod: Pod::default(),
            mounted,
            records: Vec::new(),
            usage: Usage::default(),
        })
    }

    fn new(bytes: usize, version: &str) -> Arc<Fetched> {
        fetched(Some(bytes), object(version), Vec::new())
    }

    fn unchanged(version: &str) -> Arc<Fetched> {
        fetched(None, Vec::new(), object(version))
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_stands_in_until_it_is_too_old_for_the_class_or_for_the_configuration() {
        for (max_age, longest) in [(LIMITS.max_age, HOUR), (HOUR, LIMITS.max_age)] {
            let world = World::new(OfflineStart { max_age, ..LIMITS });
            let asked = Asked { longest, ..world.asked("a") };
            let error = Arc::new(Error::Unpublished);
            world.offline.keep(asked, &new(1, "1"));
            tokio::time::advance(HOUR).await;
            assert_eq!(world.offline.find(asked, &error).unwrap().age, HOUR);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(world.offline.find(asked, &error).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_result_takes_its_place_and_an_unchanged_one_makes_it_young_again() {
        let world = World::new(LIMITS);
        world.keep("a", &new(1, "1"));
        world.keep("a", &new(1, "2"));
        tokio::time::advance(HOUR).await;
        world.keep("a", &unchanged("2"));
        tokio::time::advance(HOUR).await;
        assert_eq!(world.version("a").as_deref(), Some("2"));
        assert_eq!(world.version("b"), None);
        world.keep("a", &unchanged("3"));
        assert_eq!(world.version("a"), None, "the store holds another one unchanged");
    }

    #[tokio::test(start_paused = true)]
    async fn sharing_a_result_once_more_does_not_make_it_young() {
        let world = World::new(LIMITS);
        let result = new(1, "1");
        world.keep("a", &result);
        tokio::time::advance(HOUR).await;
        world.keep("a", &result);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(world.version("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_when_there_is_no_room_and_what_is_too_large_is_not_kept() {
        let world = World::new(LIMITS);
        for name in ["a", "b", "c"] {
            world.keep(name, &new(3_000, name));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        world.keep("a", &unchanged("a"));
        world.keep("d", &new(3_000, "d"));
        let kept = ["a", "b", "c", "d"].map(|name| world.version(name).is_some());
        assert_eq!(kept, [true, false, true, true]);
        world.keep("a", &new(10_001, "large"));
        assert_eq!(world.version("a"), None, "what was kept before is stale");
        let bytes = world.offline.lock().bytes;
        assert_eq!(bytes, world.offline.lock().results.values().map(|result| result.bytes).sum::<u64>());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_results_are_kept_than_there_is_room_for() {
        let world = World::new(OfflineStart { memory: u64::MAX, ..LIMITS });
        for number in 0..=MOST {
            world.keep(&number.to_string(), &new(1, "1"));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(world.offline.lock().results.len(), MOST);
        assert!(world.version("0").is_none() && world.version("1").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_goes_without_anybody_asking_and_everything_at_the_end() {
        let world = World::new(LIMITS);
        world.keep("a", &new(1, "1"));
        let weak = Arc::downgrade(&world.offline.lock().results.values().next().unwrap().fetched);
        sleep(HOUR + 2 * SWEEP).await;
        assert!(weak.upgrade().is_none());
        world.keep("b", &new(1, "1"));
        assert_eq!(world._tasks.drain(HOUR).await, 0);
        assert!(world.offline.lock().results.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_gets_nothing_afterwards() {
        let world = World::new(LIMITS);
        world.keep("a", &new(1, "1"));
        world.offline.forget(world.asked("a").key);
        assert_eq!(world.version("a"), None);
        assert_eq!(world.offline.lock().bytes, 0);
    }

    #[test]
    fn the_annotation_is_a_duration_and_nothing_else_turns_it_on() {
        assert_eq!(read("kv", None), Ok(None));
        assert_eq!(read("kv", Some(" 24h ")), Ok(Some(24 * HOUR)));
        assert_eq!((read("kv", Some("0")), read("kv", Some("0s"))), (Ok(None), Ok(None)));
        for wrong in ["", "yes", "24", "-1h", "true"] {
            assert!(read("kv", Some(wrong)).unwrap_err().to_string().contains("`kv`"), "{wrong}");
        }
    }
}
