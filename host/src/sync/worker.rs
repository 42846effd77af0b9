//! Brings Secrets in step with volumes: reads what has to be read, asks what stands there, writes what has to be written.
//!
//! A few volumes at once, each Secret alone. Files are looked at only when values have to be written. Every call has its
//! deadline in `kube::call`; what may pass is tried again by `queue`'s rules, what will not is told on the pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::provider::Pod;
use coffer_sandbox::secret::SecretBytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::objects::{self, Desired};
use super::queue::{Ended, Key, Outcome, Owners, Seen, Waiting};
use super::{Look, REASON, Shared};
use crate::api::class::SecretObject;
use crate::kube::events::{Event, Events};
use crate::kube::secrets::{Secrets, Standing, Values};
use crate::kube::{Failure, Freshness, Kind};
use crate::publish::fetch::Fetched;
use crate::publish::fingerprint::{Fingerprint, Fingerprints};
use crate::telemetry::metrics::Metrics;
use crate::volume::mount;

/// The most volumes at once.
const MOST_RUNNING: usize = 4;
/// How often the log says the same thing about all Secrets.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// The shortest value that is looked for in what the API server says.
const SHORTEST_VALUE: usize = 4;
/// How much of a value's line is looked for.
const LONGEST_START: usize = 24;

/// Told the volume and the mark of what its Secrets are made of now.
type Synced = dyn Fn(&str, &str) + Send + Sync;

pub(super) struct Worker {
    shared: Arc<Shared>,
    secrets: Secrets,
    types: BTreeSet<String>,
    events: Events,
    metrics: Metrics,
    synced: Box<Synced>,
    fingerprints: Fingerprints,
    /// When the log was told last.
    complained: Mutex<Option<Instant>>,
}

/// The files of a volume.
enum Files {
    AtHand(Arc<Fetched>),
    /// Read back.
    Read(BTreeMap<String, SecretBytes>),
}

impl Files {
    fn find(&self, path: &str) -> Option<&[u8]> {
        match self {
            Self::AtHand(fetched) => fetched.files.as_ref()?.find(path).map(|file| file.expose()),
            Self::Read(files) => files.get(path).map(SecretBytes::expose),
        }
    }
}

/// One volume that is being worked on.
struct Job<'a> {
    look: &'a Look,
    is_dirty: bool,
    owners: Owners,
    files: Option<Files>,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        secrets: Secrets,
        types: BTreeSet<String>,
        events: Events,
        metrics: Metrics,
        synced: Box<Synced>,
    ) -> Self {
        Self {
            shared,
            secrets,
            types,
            events,
            metrics,
            synced,
            fingerprints: Fingerprints::default(),
            complained: Mutex::default(),
        }
    }

    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            let mut next = None;
            {
                let mut queue = self.shared.queue();
                while running.len() < MOST_RUNNING
                    && let Some(waiting) = queue.take(Instant::now())
                {
                    running.push(self.work(waiting));
                }
                if running.len() < MOST_RUNNING {
                    next = queue.next();
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = running.next() => {}
                () = self.shared.news.notified() => {}
                () = at(next) => {}
            }
        }
    }

    async fn work(&self, waiting: Waiting) {
        let result = self.sync(&waiting).await;
        let (volume, mark) = (waiting.look.volume.clone(), waiting.mark.clone());
        let (pod, namespace) = (waiting.look.pod.clone(), waiting.look.namespace().to_owned());
        let outcome = match &result {
            Ok(outcome) => *outcome,
            Err(trouble) => trouble.outcome(),
        };
        let ended = self.shared.queue().finish(waiting, outcome);
        match (ended, result) {
            (Ended::Synced, _) => (self.synced)(&volume, &mark),
            (Ended::GivenUp, Err(trouble)) => {
                self.metrics.secret_not_synced("unavailable");
                let message = format!("{}; it is tried again at kubelet's next call", trouble.message());
                self.tell(pod, message);
            }
            (Ended::GivenUp, Ok(_)) => {
                self.metrics.secret_not_synced("failed");
                self.tell(
                    pod,
                    "Kubernetes Secrets of the volume cannot be kept in step: its files cannot be read".into(),
                );
            }
            (_, Err(Trouble { name, failure, .. })) if failure.is_transient() => {
                tracing::debug!(target: "coffer::sync", %namespace, secret = name, "{}", failure.message);
            }
            _ => {}
        }
    }

    /// All Secrets of one volume. The first trouble with the API server ends it: the others would meet it, too.
    async fn sync(&self, waiting: &Waiting) -> Result<Outcome, Trouble> {
        let look = &waiting.look;
        let owners = match self.owners(look).await? {
            Some(owners) => owners,
            None => return Ok(Outcome::Gone),
        };
        let mut job = Job { look, is_dirty: waiting.is_dirty, owners, files: None };
        let mut outcome = Outcome::Done;
        for object in look.wanted.iter() {
            match self.sync_one(&mut job, object).await? {
                Outcome::Done => {}
                Outcome::Gone => return Ok(Outcome::Gone),
                // A file that cannot be read, or a mistake in one of them, is no reason to leave out the others.
                other => outcome = if outcome == Outcome::Broken { outcome } else { other },
            }
        }
        Ok(outcome)
    }

    /// Whom the Secrets of a volume shall belong to: the pod's own owners, so that they outlive it; for a pod without any,
    /// its pod status, as in the Secrets Store CSI Driver. None if the pod is gone.
    async fn owners(&self, look: &Look) -> Result<Option<Owners>, Trouble> {
        if let Some(owners) = self.shared.queue().owners(&look.volume) {
            return Ok(Some(owners));
        }
        let trouble = |failure| {
            self.explain(look, "", &failure);
            Trouble { name: String::new(), failure, needs_pod_status: false }
        };
        self.shared.queue().expect_pod_status(&look.volume);
        let owners = match self.secrets.owners_of(&look.pod).await {
            Ok(Some(owners)) if owners.is_empty() => {
                match self.secrets.pod_status(&look.pod, &look.class).await.map_err(trouble)? {
                    Some(status) => vec![status],
                    None => {
                        let failure = Failure::transient("its pod status is not written yet");
                        return Err(Trouble { name: String::new(), failure, needs_pod_status: true });
                    }
                }
            }
            Ok(Some(owners)) => owners,
            Ok(None) => return Ok(None),
            Err(failure) => return Err(trouble(failure)),
        };
        let owners: Owners = owners.into();
        self.shared.queue().set_owners(&look.volume, owners.clone());
        Ok(Some(owners))
    }

    async fn sync_one(&self, job: &mut Job<'_>, object: &SecretObject) -> Result<Outcome, Trouble> {
        let look = job.look;
        let Ok(name) = objects::name(object) else {
            // The mistake has no name, so all there is to do is tell it.
            let mistake = self.desire(job, object).await.map(drop);
            return Ok(mistake.err().unwrap_or(Outcome::Broken));
        };
        let key: Key = (look.namespace().to_owned(), name.to_owned());
        let Some(alone) = self.shared.queue().join(&key, &look.volume, &job.owners) else { return Ok(Outcome::Gone) };
        let _alone = alone.lock().await;
        let desired = match job.is_dirty {
            true => match self.desire(job, object).await {
                Ok(desired) => Some(desired),
                Err(outcome) => return Ok(outcome),
            },
            false => None,
        };
        let (mut seen, is_fresh) = self.shared.queue().seen(&key);
        let content = desired.as_ref().map(|desired| self.fingerprint(desired));
        let is_same = content.is_none_or(|content| seen.content == Some(content)) && !seen.uid.is_empty();
        let result = if is_fresh && is_same {
            self.own(&key, &job.owners, &mut seen).await
        } else {
            match self.bring(job, object, &key, &mut seen, desired).await {
                Ok(Outcome::Done) => self.own(&key, &job.owners, &mut seen).await,
                other => other,
            }
        };
        match result {
            Ok(outcome) => {
                // Nothing was learned where nobody was asked.
                if !(is_fresh && is_same) || outcome != Outcome::Done {
                    self.shared.queue().saw(&key, seen);
                }
                Ok(outcome)
            }
            Err(failure) => {
                self.explain(look, name, &failure);
                self.shared.queue().doubt(&key);
                Err(Trouble { name: name.to_owned(), failure, needs_pod_status: false })
            }
        }
    }

    /// Sees what stands there, and writes values if they are news or there is nothing.
    async fn bring(
        &self,
        job: &mut Job<'_>,
        object: &SecretObject,
        key: &Key,
        seen: &mut Seen,
        desired: Option<Desired>,
    ) -> Result<Outcome, Failure> {
        let (namespace, name) = key;
        let look = job.look;
        let is_news = desired.as_ref().is_some_and(|desired| seen.content != Some(self.fingerprint(desired)));
        // Before a write it has to be known, whatever the cache says.
        let freshness = if is_news { Freshness::Quorum } else { Freshness::Cached };
        let found = self.secrets.look(namespace, name, freshness).await?;
        if let Some(found) = &found {
            if found.standing != Standing::Ours {
                self.refuse(look, name, found.standing);
                *seen = Seen::default();
                return Ok(Outcome::Broken);
            }
            (seen.uid, seen.owners) = (found.uid.clone(), found.owners.clone());
            if !is_news {
                return Ok(Outcome::Done);
            }
        } else {
            // Should anything keep it from being written now, it is still known to be absent.
            *seen = Seen::default();
        }
        let desired = match desired {
            Some(desired) => desired,
            None => match self.desire(job, object).await {
                Ok(desired) => desired,
                Err(outcome) => return Ok(outcome),
            },
        };
        if !self.shared.queue().is_known(&look.volume) {
            return Ok(Outcome::Gone);
        }
        let started = Instant::now();
        if let Some(found) = &found {
            self.secrets.adopt(namespace, name, found).await?;
        }
        let Desired { kind, labels, annotations, data, .. } = &desired;
        let values = Values { name, kind, labels, annotations, data };
        let uid = found.as_ref().map(|found| found.uid.as_str());
        let written = self.secrets.write(namespace, &values, uid).await;
        seen.uid = match written {
            Ok(uid) => uid,
            Err(failure) if failure.kind == Kind::Refused => {
                self.metrics.secret_not_synced("invalid");
                self.tell(look.pod.clone(), refused(name, &failure, data));
                return Ok(Outcome::Broken);
            }
            Err(failure) => return Err(hide(failure, data)),
        };
        seen.content = Some(self.fingerprint(&desired));
        self.metrics.secret_synced(&look.provider, started.elapsed());
        tracing::info!(
            target: "coffer::sync", %namespace, secret = name, pod = look.pod.name, class = look.class,
            made = found.is_none(), "Secret written"
        );
        Ok(Outcome::Done)
    }

    /// Adds the owners that the Secret does not have. The uid keeps an apply from making an empty one. `own` are those of the
    /// volume that is worked on: it may be forgotten by now, and what was written for it must not be left without an owner.
    async fn own(&self, key: &Key, own: &Owners, seen: &mut Seen) -> Result<Outcome, Failure> {
        let (namespace, name) = key;
        let wanted = self.shared.queue().wanted(key);
        for owner in wanted.into_iter().chain(own.iter().cloned()) {
            if !seen.owners.contains(&owner.uid) {
                self.secrets.own(namespace, name, &seen.uid, &owner).await?;
                seen.owners.insert(owner.uid);
            }
        }
        self.shared.queue().owned(key, &seen.owners);
        Ok(Outcome::Done)
    }

    /// The Secret as it shall be; reads the files if they are not at hand. A mistake is told on the pod.
    async fn desire(&self, job: &mut Job<'_>, object: &SecretObject) -> Result<Desired, Outcome> {
        if job.files.is_none() {
            job.files = Some(read(job.look).await.map_err(|why| {
                tracing::debug!(target: "coffer::sync", volume = job.look.volume, "the volume cannot be read: {why}");
                Outcome::Retry(None)
            })?);
        }
        let files = job.files.as_ref();
        objects::desire(object, &self.types, |path| files.and_then(|files| files.find(path))).map_err(|mistake| {
            self.metrics.secret_not_synced("mistake");
            let (namespace, class, name) = (job.look.namespace(), &job.look.class, object.secret_name.trim());
            let message = format!("failed to get data in spc {namespace}/{class} for secret {name}, err: {mistake}");
            self.tell(job.look.pod.clone(), message);
            Outcome::Broken
        })
    }

    fn fingerprint(&self, desired: &Desired) -> Fingerprint {
        let Desired { name, kind, labels, annotations, data } = desired;
        let taking = self.fingerprints.begin("secret").with(name.as_bytes()).with(kind.as_bytes());
        let taking = taking.with_map(labels, String::as_bytes).with_map(annotations, String::as_bytes);
        taking.with_map(data, |value| value.expose()).end()
    }

    fn refuse(&self, look: &Look, name: &str, standing: Standing) {
        self.metrics.secret_not_synced("foreign");
        let whose = match standing {
            Standing::NotWritten => "says that it is managed, but was not written by this driver",
            Standing::NotManaged | Standing::Ours => "was made by somebody else",
        };
        let message = format!(
            "Secret `{name}` {whose}, and is left as it is: delete it, and it is made anew within a minute or two, or choose \
             another secretName in SecretProviderClass `{}`",
            look.class
        );
        self.tell(look.pod.clone(), message);
    }

    /// Says aloud what is not the API server's mood.
    fn explain(&self, look: &Look, name: &str, failure: &Failure) {
        match failure.kind {
            Kind::Forbidden => {
                self.metrics.secret_not_synced("forbidden");
                let message = format!(
                    "Kubernetes Secrets cannot be kept in step: {}; apply deploy/rbac-sync.yaml, or turn syncSecrets.enabled \
                     off in Coffer's configuration",
                    failure.message
                );
                self.complain(&message);
                self.tell(look.pod.clone(), message);
            }
            Kind::Transient => {}
            _ => {
                self.metrics.secret_not_synced("failed");
                let trouble = Trouble { name: name.to_owned(), failure: failure.clone(), needs_pod_status: false };
                self.tell(look.pod.clone(), trouble.message());
            }
        }
    }

    fn tell(&self, pod: Pod, message: String) {
        let (namespace, name) = (&pod.namespace, &pod.name);
        tracing::debug!(target: "coffer::sync", %namespace, pod = name, "{message}");
        self.events.send(Event { pod, warning: true, reason: REASON, message });
    }

    /// In the log now and then.
    fn complain(&self, message: &str) {
        let now = Instant::now();
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL) {
            *last = Some(now);
            tracing::warn!(target: "coffer::sync", "{message}");
        }
    }
}

/// A call that failed, and for which Secret; empty where it was for none yet.
struct Trouble {
    name: String,
    failure: Failure,
    needs_pod_status: bool,
}

impl Trouble {
    fn outcome(&self) -> Outcome {
        match self.failure.kind {
            Kind::Transient if self.needs_pod_status => Outcome::NeedsPodStatus,
            Kind::Transient => Outcome::Retry(self.failure.retry_after),
            _ => Outcome::Broken,
        }
    }

    fn message(&self) -> String {
        let message = &self.failure.message;
        match self.name.as_str() {
            "" => format!("Kubernetes Secrets of the volume cannot be kept in step: {message}"),
            name => format!("Secret `{name}` cannot be kept in step: {message}"),
        }
    }
}

const REPEATS: &str = "(it repeats a value and is not shown)";

/// Whether a message has a value in it, or the beginning of a line of one: messages are cut, and line ends escaped.
fn repeats(message: &str, data: &BTreeMap<String, SecretBytes>) -> bool {
    let has = |text: &str| {
        let start: String = text.chars().take(LONGEST_START).collect();
        start.len() >= SHORTEST_VALUE && message.contains(&start)
    };
    data.values().any(|value| {
        let text = std::str::from_utf8(value.expose());
        text.is_ok_and(|text| text.lines().any(|line| has(line.trim()))) || has(&STANDARD.encode(value.expose()))
    })
}

/// A failed write, without what its message repeats.
fn hide(failure: Failure, data: &BTreeMap<String, SecretBytes>) -> Failure {
    let message = if repeats(&failure.message, data) { REPEATS.to_owned() } else { failure.message };
    Failure { message, ..failure }
}

/// What the pod is told when the API server does not take a Secret. It hides values itself; something that stands in
/// between may not.
fn refused(name: &str, failure: &Failure, data: &BTreeMap<String, SecretBytes>) -> String {
    let said = if repeats(&failure.message, data) { REPEATS } else { &failure.message };
    let cure = match said.contains("immutable") {
        true => "delete the Secret, and it is made anew within a minute or two",
        false => "correct secretObjects of the class",
    };
    format!("Secret `{name}` is refused by the API server: {said}; {cure}")
}

/// The files of a volume.
async fn read(look: &Look) -> Result<Files, String> {
    if let Some(fetched) = look.fetched.as_ref().filter(|fetched| fetched.files.is_some()) {
        return Ok(Files::AtHand(fetched.clone()));
    }
    let (target, wanted) = (look.target.clone(), look.wanted.clone());
    let read = tokio::task::spawn_blocking(move || {
        let paths = wanted.iter().flat_map(objects::paths).collect();
        let volume = mount::open(&target, None).map_err(|error| error.to_string())?;
        let files = volume.contents(&paths).map_err(|error| error.to_string())?;
        files.ok_or_else(|| "it has no version in force".to_owned())
    });
    read.await.map_err(|error| error.to_string())?.map(Files::Read)
}

/// Never, when there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
