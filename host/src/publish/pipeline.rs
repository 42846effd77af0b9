//! Publishing and unpublishing on a node: what stands behind kubelet's door.
//!
//! **The mount is the truth.** A call is a refresh if and only if the target is a mount with a version in force, whoever
//! made it. Then the old files stay whatever happens, and kubelet is told OK: it tears volumes down after final errors.
//! The failure is an event, a metric, an annotation of the pod status and an audit line instead. Any other call is a
//! first publish: it ends with a whole volume, or with nothing left of what it made and an error.
//!
//! The work runs in a task of its own: a kubelet that gives up does not leave half of it. After the files are in place
//! nothing is waited for but, a second at most, the Kubernetes Secrets that a first mount makes. `csi` calls this; `timer` shares [`Pipeline::refresh`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use coffer_sandbox::provider::ObjectVersion;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::fetch::volume_limits;
use super::obtain::{Obtained, Source, Want};
use super::offline::{self, StandIn};
use super::record::{self, Ending};
use super::registry::{Inputs, Known, Looked, Registry, Slot};
use super::request::PublishRequest;
use super::status;
use crate::csi::status::Refusal;
use crate::csi::volumes::Volumes;
use crate::kube::classes::{Classes, ReadClass};
use crate::kube::driver::Facts;
use crate::kube::events::Events;
use crate::kube::pod_statuses::{PodStatus, PodStatuses};
use crate::refresh::{self, Mark, Reason, Rotation};
use crate::sync::{Look, Syncer};
use crate::tasks::Tasks;
use crate::telemetry::metrics::{Metrics, Stage};
use crate::volume::ledger::{Entry, Ledger};
use crate::volume::mount::{self, Mounting, Options, Standing};
use crate::volume::{Change, FileSet};

/// kubelet's own patience, for a call without a deadline.
const PATIENCE: Duration = Duration::from_secs(120);
/// A call ends this much before kubelet stops waiting, so that it gets an answer.
const MARGIN: Duration = Duration::from_secs(1);
/// How old a class may be that a first publish uses: whoever edits a class and then makes a pod means the new one.
const FRESH: Duration = Duration::from_secs(1);
/// How old a class may be that a refresh uses: edits are seen within this time, and a class is read once in it.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// How long a refresh waits for the class, before it knows whether anything is due at all.
const LONGEST_READ: Duration = Duration::from_secs(10);
/// The longest that a store can ask to be left alone, as for the pace of requests: a wrong `Retry-After` must not end a service.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a first publish waits for the Kubernetes Secrets of its class. kubelet asks for what an environment needs once,
/// and again only after 10 s or more; a few round trips to the API server are much less than this.
const LONGEST_WAIT_FOR_SECRETS: Duration = Duration::from_secs(1);
/// How long an unpublish waits for a call that it has cancelled, before it cancels what may have begun since.
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// Everything that publishing needs; made once, by `commands::node`.
pub struct Parts {
    /// Where content comes from.
    pub source: Source,
    /// The classes.
    pub classes: Classes,
    /// What the API server knows about the driver.
    pub facts: watch::Receiver<Facts>,
    /// The driver's name.
    pub driver: String,
    /// What is remembered beyond this process.
    pub ledger: Arc<Ledger>,
    /// What is known of each volume.
    pub registry: Arc<Registry>,
    /// Pod statuses.
    pub pod_statuses: PodStatuses,
    /// Events.
    pub events: Events,
    /// Kubernetes Secrets that are made of files.
    pub syncer: Syncer,
    /// Metrics.
    pub metrics: Metrics,
    /// When to look again.
    pub rotation: Rotation,
    /// Tasks.
    pub tasks: Tasks,
}

/// Carries out what kubelet asks.
pub struct Pipeline {
    parts: Parts,
    /// Something was learned that may change what the timer waits for.
    pub(super) learned: Notify,
    /// Counts looks that ended and volumes that went: `looks` waits for both.
    pub(super) ended: watch::Sender<u64>,
    /// How often somebody asked by command.
    pub(super) commands: AtomicU64,
}

impl Pipeline {
    /// Puts the parts together and remembers the volumes that the ledger knows.
    #[must_use]
    pub fn new(parts: Parts, entries: Vec<Entry>) -> Arc<Self> {
        let this = Self { parts, learned: Notify::new(), ended: watch::Sender::new(0), commands: AtomicU64::new(0) };
        let now = SystemTime::now();
        for entry in entries {
            let due = this.due_after(refresh::age(entry.checked, now));
            let slot = this.parts.registry.slot(&entry.volume);
            let mut known = slot.known();
            known.entry = Some(entry);
            known.due = due;
        }
        Arc::new(this)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.parts.registry
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    pub(super) fn rotation(&self) -> Rotation {
        self.parts.rotation
    }

    fn due_after(&self, age: Duration) -> Option<Instant> {
        self.parts.rotation.next(age, rand::random()).map(|wait| Instant::now() + wait)
    }

    fn due_first(&self) -> Option<Instant> {
        self.parts.rotation.first(rand::random()).map(|wait| Instant::now() + wait)
    }

    /// Publishes one volume, alone among the calls for it.
    async fn publish_alone(&self, request: PublishRequest, slot: &Slot, deadline: Instant) -> Result<Ended, Failed> {
        let cancelled = slot.token();
        let waited = Instant::now();
        let lock = tokio::select! {
            lock = timeout_at(deadline, slot.lock.lock()) => lock,
            () = cancelled.cancelled() => return Err(Failed::of(Error::Unpublished)),
        };
        let Ok(_alone) = lock else {
            let error = Error::Deadline { what: "another call for this volume" };
            // Whoever works on it makes it right; a published volume is no less published for that.
            return if slot.is_published() { Ok(Ended::masked("", &error)) } else { Err(Failed::of(error)) };
        };
        self.parts.metrics.stage(Stage::Lock, waited.elapsed());
        let target = request.target.clone();
        let looked = blocking("looking at the volume", move || mount::look(&target)).await;
        let inputs = Arc::new(Inputs::from(request));
        match looked.and_then(|standing| Ok(standing?)) {
            Ok(Standing::Published) => {
                self.keep_inputs(slot, &inputs);
                let ended = self.refresh(slot, &inputs, &cancelled, deadline).await;
                self.learned.notify_one();
                Ok(ended)
            }
            Ok(Standing::Nothing | Standing::Unfinished) => {
                // What was remembered is of a volume that is gone.
                *slot.known() = Known::default();
                self.first(slot, inputs, &cancelled, deadline).await
            }
            // It was published, and nobody can say that it is not any more.
            Err(error) if slot.is_published() => {
                self.note_failure(slot, &inputs, "", &error, Reason::Failed, waited.elapsed());
                Ok(Ended::masked("", &error))
            }
            Err(error) => {
                record::audit_failure(&inputs, &error, "first", waited.elapsed());
                Err(Failed::of(error))
            }
        }
    }

    /// Only the timer needs what kubelet said after the call is over.
    fn keep_inputs(&self, slot: &Slot, inputs: &Arc<Inputs>) {
        if self.parts.rotation.has_timer() {
            let mut known = slot.known();
            known.inputs = Some(inputs.clone());
            known.waits_for_kubelet = false;
        }
    }

    /// Makes a volume, or leaves nothing.
    async fn first(
        &self,
        slot: &Slot,
        inputs: Arc<Inputs>,
        cancelled: &CancellationToken,
        deadline: Instant,
    ) -> Result<Ended, Failed> {
        let started = Instant::now();
        let made = self.make(&inputs, cancelled, deadline).await;
        let took = started.elapsed();
        self.parts.metrics.stage(Stage::Total, took);
        let (class, obtained) =
            made.inspect_err(|failed| record::audit_failure(&inputs, &failed.error, "first", took))?;
        record::audit_success(&inputs, &obtained, "first", Ending::Mounted, took);
        let objects = obtained.fetched.objects.clone();
        let stand_in = obtained.stand_in.as_ref();
        if let Some(stand_in) = stand_in {
            self.tell_of_stand_in(&inputs, &class.class.provider, stand_in);
        }
        self.remember(slot, &inputs, &class, News { objects, changed: true, stand_in }).await;
        self.keep_inputs(slot, &inputs);
        self.learned.notify_one();
        if let Some(look) = self.look(slot, &inputs, &class, Some(&obtained), true) {
            let longest = LONGEST_WAIT_FOR_SECRETS.min(deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = self.parts.syncer.put_and_wait(look, longest) => {}
                () = cancelled.cancelled() => {}
            }
        }
        Ok(Ended::Done(class.class.provider.clone()))
    }

    async fn make(
        &self,
        inputs: &Arc<Inputs>,
        cancelled: &CancellationToken,
        deadline: Instant,
    ) -> Result<(Arc<ReadClass>, Obtained), Failed> {
        let class = tokio::select! {
            class = self.read_class_of_first(inputs, deadline) => class.map_err(Failed::of)?,
            () = cancelled.cancelled() => return Err(Failed::of(Error::Unpublished)),
        };
        let failed = |error: Arc<Error>| Failed { provider: class.class.provider.clone(), error };
        let longest = self.read_offline_start(inputs, &class);
        let want = Want { mounted: &[], asked: None, is_first: true, offline: longest };
        let obtained = tokio::select! {
            obtained = self.obtain(inputs, &class, want, deadline) => obtained.map_err(failed)?,
            () = cancelled.cancelled() => return Err(failed(Error::Unpublished.into())),
        };
        let written = self.write_first(inputs.clone(), &obtained, cancelled.clone()).await;
        written.map_err(|error| failed(error.into()))?;
        Ok((class, obtained))
    }

    /// How old a kept result may be. A value that makes no sense is told to the pod, and is as good as none.
    fn read_offline_start(&self, inputs: &Inputs, class: &ReadClass) -> Option<Duration> {
        offline::read(&class.class.name, class.offline_start.as_deref()).unwrap_or_else(|error| {
            tracing::warn!(namespace = inputs.pod.namespace, pod = inputs.pod.name, "{error}");
            self.parts.events.send(record::not_an_age(inputs, &error));
            None
        })
    }

    fn tell_of_stand_in(&self, inputs: &Inputs, provider: &str, stand_in: &StandIn) {
        self.parts.metrics.offline_started(provider);
        record::audit_offline(inputs, stand_in);
        self.parts.events.send(record::offline(inputs, stand_in));
    }

    /// Before a pod gets anything, somebody other than its author must vouch for who it is.
    async fn read_class_of_first(&self, inputs: &Inputs, deadline: Instant) -> Result<Arc<ReadClass>, Error> {
        let driver = || self.parts.driver.clone();
        let mut facts = self.parts.facts.clone();
        // Nothing of the guard that it answers with may live across the next await.
        let is_settled = |facts: &Facts| facts.driver.is_some() || !facts.wrong.is_empty();
        let _ = timeout_at(deadline, facts.wait_for(is_settled)).await.map(drop);
        let (object, why) = {
            let facts = facts.borrow();
            (facts.driver, facts.wrong.join("; "))
        };
        match object {
            Some(object) if object.pod_info => self.read_class(inputs, FRESH, deadline).await,
            Some(_) => Err(Error::PodInfo { driver: driver() }),
            None if why.is_empty() => {
                Err(Error::DriverUnknown { driver: driver(), why: "the API server does not answer".into() })
            }
            None => Err(Error::DriverUnknown { driver: driver(), why }),
        }
    }

    async fn read_class(&self, inputs: &Inputs, age: Duration, deadline: Instant) -> Result<Arc<ReadClass>, Error> {
        let started = Instant::now();
        let class = self.parts.classes.read(&inputs.pod.namespace, &inputs.class, age, deadline).await;
        self.parts.metrics.stage(Stage::Class, started.elapsed());
        Ok(class?)
    }

    async fn obtain(
        &self,
        inputs: &Inputs,
        class: &ReadClass,
        want: Want<'_>,
        deadline: Instant,
    ) -> Result<Obtained, Arc<Error>> {
        let started = Instant::now();
        let driver = self.parts.facts.borrow().driver;
        let obtained = self.parts.source.obtain(inputs, &class.class, driver, want, deadline).await;
        self.parts.metrics.stage(Stage::Fetch, started.elapsed());
        obtained
    }

    async fn write_first(
        &self,
        inputs: Arc<Inputs>,
        obtained: &Obtained,
        cancelled: CancellationToken,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let options = Options::for_limits(&volume_limits(&obtained.plugin), inputs.group);
        let fetched = obtained.fetched.clone();
        let written = blocking("mounting the volume", move || {
            // `unchanged` is refused on a first publish before it gets here.
            let files = fetched.files.as_ref().ok_or(Error::Lost { what: "the provider's answer" })?;
            // Dropped with everything that it made, should writing fail.
            let mut mounting = Mounting::begin(&inputs.target, &options)?;
            write(mounting.volume(), files, &inputs)?;
            if cancelled.is_cancelled() {
                return Err(Error::Unpublished);
            }
            mounting.keep();
            Ok(())
        });
        let written = written.await?;
        self.parts.metrics.stage(Stage::Write, started.elapsed());
        written
    }

    /// Makes a published volume right again if it is due. Nothing that happens here is an error for kubelet.
    pub(super) async fn refresh(
        &self,
        slot: &Slot,
        inputs: &Arc<Inputs>,
        cancelled: &CancellationToken,
        deadline: Instant,
    ) -> Ended {
        let started = Instant::now();
        // Whoever asks by command means the class as it is now.
        let age = if slot.known().asked.is_some() { FRESH } else { READ_AGAIN };
        let class = tokio::select! {
            class = self.read_class(inputs, age, deadline.min(started + LONGEST_READ)) => class,
            () = cancelled.cancelled() => return Ended::Gone,
        };
        let Some(reason) = reason_to_refresh(slot, class.as_deref().ok()) else {
            self.tell_again(slot, inputs);
            class.iter().for_each(|class| self.sync(slot, inputs, class, None, false));
            return Ended::NotDue;
        };
        let command = {
            let mut known = slot.known();
            known.begin_try(started).then(|| known.asked.take())
        };
        let Some(command) = command else {
            class.iter().for_each(|class| self.sync(slot, inputs, class, None, false));
            return Ended::NotDue;
        };
        let read = class.as_ref().ok().cloned();
        let result = match class {
            Ok(class) => self.renew(slot, inputs, class, (reason, command), cancelled, deadline).await,
            Err(error) => Err(Failed::of(error)),
        };
        let (ended, looked) = match result {
            Ok((provider, Ending::Changed)) => (Ended::Done(provider), Looked::Changed),
            Ok((provider, _)) => (Ended::Done(provider), Looked::Unchanged),
            // It goes, so nobody needs to know.
            Err(Failed { error, .. }) if matches!(*error, Error::Unpublished) => return Ended::Gone,
            Err(Failed { provider, error }) => {
                self.note_failure(slot, inputs, &provider, &error, reason, started.elapsed());
                // A Secret that somebody deleted comes back whatever the store does.
                read.iter().for_each(|class| self.sync(slot, inputs, class, None, false));
                let looked = Looked::Failed { reason: error.reason(), text: error.text() };
                (Ended::masked(&provider, &error), looked)
            }
        };
        if let Some(command) = command {
            slot.known().looked = Some((command, looked));
        }
        self.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
        ended
    }

    /// On success says the provider, and whether something changed.
    async fn renew(
        &self,
        slot: &Slot,
        inputs: &Arc<Inputs>,
        class: Arc<ReadClass>,
        (reason, command): (Reason, Option<u64>),
        cancelled: &CancellationToken,
        deadline: Instant,
    ) -> Result<(String, Ending), Failed> {
        let started = Instant::now();
        let provider = &class.class.provider;
        let failed = |error: Arc<Error>| Failed { provider: provider.clone(), error };
        self.check_pod(slot, inputs).map_err(|error| failed(error.into()))?;
        let mounted = slot.known().entry.as_ref().map(|entry| entry.objects.clone()).unwrap_or_default();
        let command = command.map(|number| format!("command {number}"));
        let annotation = if reason == Reason::Asked { class.refresh.as_deref() } else { None };
        let want = Want {
            // After an edit the same versions may have to become other files.
            mounted: if matches!(reason, Reason::Edited | Reason::Unknown) { &[] } else { &mounted },
            asked: command.as_deref().or(annotation),
            is_first: false,
            // What is wrong with the annotation was told when the volume was made.
            offline: offline::read(&class.class.name, class.offline_start.as_deref()).ok().flatten(),
        };
        let obtained = tokio::select! {
            obtained = self.obtain(inputs, &class, want, deadline) => obtained.map_err(failed)?,
            () = cancelled.cancelled() => return Err(failed(Error::Unpublished.into())),
        };
        let change = self.write_again(inputs.clone(), &obtained).await.map_err(|error| failed(error.into()))?;
        let (took, ending) = (started.elapsed(), Ending::of_refresh(change));
        self.parts.metrics.refreshed(provider, ending == Ending::Changed, took);
        record::audit_success(inputs, &obtained, reason.word(), ending, took);
        if ending == Ending::Changed {
            self.parts.events.send(record::changed(inputs));
        }
        let objects = if change.is_some() { obtained.fetched.objects.clone() } else { mounted };
        let changed = ending == Ending::Changed;
        self.remember(slot, inputs, &class, News { objects, changed, stand_in: None }).await;
        self.sync(slot, inputs, &class, Some(&obtained), changed);
        Ok((provider.clone(), ending))
    }

    /// A volume is refreshed for the pod that somebody vouched for, and for no other.
    fn check_pod(&self, slot: &Slot, inputs: &Inputs) -> Result<(), Error> {
        let driver = || self.parts.driver.clone();
        let facts = self.parts.facts.borrow();
        let known = slot.known();
        match (facts.driver, &known.entry) {
            (Some(object), _) if !object.pod_info => Err(Error::PodInfo { driver: driver() }),
            (None, None) => Err(Error::DriverUnknown { driver: driver(), why: facts.wrong.join("; ") }),
            (_, Some(entry)) if entry.pod != vouched(inputs) => Err(Error::OtherPod),
            _ => Ok(()),
        }
    }

    /// None where the store has nothing newer.
    async fn write_again(&self, inputs: Arc<Inputs>, obtained: &Obtained) -> Result<Option<Change>, Error> {
        let started = Instant::now();
        let fetched = obtained.fetched.clone();
        if fetched.files.is_none() {
            return Ok(None);
        }
        let written = blocking("writing the volume", move || {
            let Some(files) = fetched.files.as_ref() else { return Ok(None) };
            let mut volume = mount::open(&inputs.target, inputs.group)?;
            write(&mut volume, files, &inputs).map(Some)
        });
        let written = written.await?;
        self.parts.metrics.stage(Stage::Write, started.elapsed());
        written
    }

    /// Remembers that the volume is right, and wants the pod status to say so.
    /// One that has the files of a kept result is right as of then, and is looked at again as after a failure.
    async fn remember(&self, slot: &Slot, inputs: &Arc<Inputs>, class: &ReadClass, news: News<'_>) {
        let News { objects, changed, stand_in } = news;
        let (now, offline) = (SystemTime::now(), stand_in.map(|stand_in| stand_in.good_at));
        let failure = stand_in.map(|stand_in| stand_in.error.reason());
        let status = self.status(inputs, objects.clone(), failure, offline);
        let (entry, is_known) = {
            let mut known = slot.known();
            let before = known.entry.take();
            let is_new = before.is_none();
            let entry = Entry {
                volume: inputs.volume.clone(),
                target: inputs.target.clone(),
                pod: vouched(inputs),
                class: inputs.class.clone(),
                provider: class.class.provider.clone(),
                revision: class.revision.clone(),
                refresh: class.refresh.clone(),
                objects,
                status: before.as_ref().and_then(|before| before.status.clone()),
                // Files can change without a version, by an edit of the class: what was synced counts no more.
                synced: before.as_ref().filter(|_| !changed).and_then(|before| before.synced.clone()),
                changed: if changed { Some(now) } else { before.as_ref().and_then(|before| before.changed) },
                offline,
                checked: offline.unwrap_or(now),
            };
            // All but the time, which is not written.
            let is_known = before.is_some_and(|before| Entry { checked: entry.checked, ..before } == entry);
            known.entry = Some(entry.clone());
            known.failures = 0;
            known.wrong = None;
            known.not_before = None;
            known.due = if is_new { self.due_first() } else { self.due_after(Duration::ZERO) };
            if let Some(stand_in) = stand_in {
                self.note_in(&mut known, &stand_in.error);
            }
            (entry, is_known)
        };
        let ledger = self.parts.ledger.clone();
        let kept = blocking("remembering the volume", move || {
            // Where an earlier entry could not be kept there is no time stamp to set.
            if is_known && ledger.touch(&entry.volume, entry.checked).is_ok() {
                return Ok(());
            }
            ledger.put(&entry)
        });
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(
                volume = inputs.volume,
                %error,
                "the volume is right, but what is known of it cannot be kept; after a restart it is fetched once more"
            );
        }
        self.tell(slot, status);
    }

    fn note_failure(
        &self,
        slot: &Slot,
        inputs: &Arc<Inputs>,
        provider: &str,
        error: &Error,
        reason: Reason,
        took: Duration,
    ) {
        let entry = {
            let mut known = slot.known();
            self.note_in(&mut known, error);
            known.entry.as_ref().map(|entry| (entry.objects.clone(), entry.offline))
        };
        self.parts.metrics.refresh_failed(provider, error.reason(), took);
        record::audit_failure(inputs, error, reason.word(), took);
        self.parts.events.send(record::failed(inputs, error));
        // Of a volume that somebody else mounted the status is somebody else's until it worked once.
        if let Some((objects, offline)) = entry {
            self.tell(slot, self.status(inputs, objects, Some(error.reason()), offline));
        }
    }

    /// When to look again after a failure.
    fn note_in(&self, known: &mut Known, error: &Error) {
        known.failures = known.failures.saturating_add(1);
        known.note_wrong(error);
        let now = Instant::now();
        known.not_before = error.retry_after().map(|pause| now + pause.min(LONGEST_PAUSE));
        if known.due.is_some() {
            known.due = Some(now + refresh::retry_after(known.failures, self.parts.rotation.interval));
        }
    }

    /// Wants the pod status to say this, unless it does already or will.
    fn tell(&self, slot: &Slot, status: PodStatus) {
        let digest = status.digest();
        let mut known = slot.known();
        let told = known.told.as_ref().or_else(|| known.entry.as_ref().and_then(|entry| entry.status.as_ref()));
        if told != Some(&digest) {
            known.told = Some(digest);
            drop(known);
            self.parts.pod_statuses.put(status);
        }
    }

    /// Wants the Kubernetes Secrets of the class to be as the volume is; `obtained` where its files are at hand.
    fn sync(&self, slot: &Slot, inputs: &Inputs, class: &ReadClass, obtained: Option<&Obtained>, changed: bool) {
        if let Some(look) = self.look(slot, inputs, class, obtained, changed) {
            self.parts.syncer.put(look);
        }
    }

    /// None where the class asks for no Secrets.
    fn look(
        &self,
        slot: &Slot,
        inputs: &Inputs,
        class: &ReadClass,
        obtained: Option<&Obtained>,
        changed: bool,
    ) -> Option<Look> {
        if class.secret_objects.is_empty() {
            return None;
        }
        let (objects, synced, kept) = {
            let known = slot.known();
            let entry = known.entry.as_ref()?;
            (entry.objects.clone(), entry.synced.clone(), entry.offline.is_some() || known.failures > 0)
        };
        Some(Look {
            volume: inputs.volume.clone(),
            target: inputs.target.clone(),
            pod: inputs.pod.clone(),
            class: inputs.class.clone(),
            provider: class.class.provider.clone(),
            wanted: class.secret_objects.clone(),
            objects,
            synced,
            fetched: obtained.map(|obtained| obtained.fetched.clone()),
            changed,
            kept,
        })
    }

    /// A pod status that an earlier process could not write any more, or that says of a failure what is over.
    fn tell_again(&self, slot: &Slot, inputs: &Inputs) {
        let objects = {
            let known = slot.known();
            let entry = known.entry.as_ref().filter(|entry| known.failures == 0 && entry.offline.is_none());
            entry.map(|entry| entry.objects.clone())
        };
        if let Some(objects) = objects {
            self.tell(slot, self.status(inputs, objects, None, None));
        }
    }

    fn status(
        &self,
        inputs: &Inputs,
        objects: Vec<ObjectVersion>,
        failure: Option<&'static str>,
        offline: Option<SystemTime>,
    ) -> PodStatus {
        PodStatus {
            offline: offline.map(status::time),
            volume: inputs.volume.clone(),
            pod: inputs.pod.clone(),
            class: inputs.class.clone(),
            target: inputs.target.clone(),
            objects,
            failure,
        }
    }

    async fn unpublish_alone(
        &self,
        volume: &str,
        target: PathBuf,
        slot: &Slot,
        deadline: Instant,
    ) -> Result<(), Error> {
        // Again and again: a publish may have begun between two lines of this.
        let _alone = loop {
            slot.cancel();
            match timeout_at(deadline.min(Instant::now() + CANCEL_AGAIN), slot.lock.lock()).await {
                Ok(lock) => break lock,
                Err(_) if Instant::now() < deadline => {}
                Err(_) => return Err(Error::Deadline { what: "another call for this volume" }),
            }
        };
        // Wiped as soon as nobody uses them: first of all, whatever comes next.
        slot.known().inputs = None;
        self.parts.pod_statuses.forget(volume);
        self.parts.syncer.forget(volume);
        blocking("unmounting the volume", move || mount::remove(&target)).await??;
        *slot.known() = Known::default();
        self.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
        let (ledger, name) = (self.parts.ledger.clone(), volume.to_owned());
        if let Ok(Err(error)) = blocking("forgetting the volume", move || ledger.remove(&name)).await {
            tracing::warn!(volume, %error, "the volume is gone, but what was kept of it cannot be removed");
        }
        record::audit_unpublish(volume);
        Ok(())
    }

    /// Counts a call of kubelet, as the reference does. A volume that went meanwhile is no failure.
    fn count(&self, result: &Result<Ended, Failed>) {
        let metrics = &self.parts.metrics;
        match result {
            Ok(Ended::Done(provider)) => metrics.published(provider),
            Ok(Ended::NotDue) => metrics.published(""),
            Ok(Ended::Masked { provider, reason }) => metrics.publish_failed(provider, reason),
            Ok(Ended::Gone) => {}
            Err(Failed { error, .. }) if matches!(**error, Error::Unpublished) => {}
            Err(Failed { provider, error }) => metrics.publish_failed(provider, error.reason()),
        }
    }

    /// What a call is answered whose task panicked.
    fn lost(&self, volume: &str) -> Result<Ended, Failed> {
        let error = Error::Lost { what: "the publish" };
        tracing::error!(volume, "{error}");
        let slot = self.parts.registry.slot(volume);
        let is_published = slot.is_published();
        self.parts.registry.release(volume, slot);
        if is_published { Ok(Ended::masked("", &error)) } else { Err(Failed::of(error)) }
    }
}

impl Volumes for Arc<Pipeline> {
    async fn publish(&self, request: PublishRequest, deadline: Option<Instant>) -> Result<(), Refusal> {
        let (this, volume) = (self.clone(), request.volume.clone());
        let deadline = within(deadline);
        let task = self.parts.tasks.spawn("publish", async move {
            let volume = request.volume.clone();
            let slot = this.parts.registry.slot(&volume);
            let result = this.publish_alone(request, &slot, deadline).await;
            this.parts.registry.release(&volume, slot);
            result
        });
        let result = task.await.unwrap_or_else(|_| self.lost(&volume));
        self.count(&result);
        result.map(drop).map_err(|failed| failed.error.refusal())
    }

    async fn unpublish(&self, volume: String, target: PathBuf, deadline: Option<Instant>) -> Result<(), Refusal> {
        let this = self.clone();
        let deadline = within(deadline);
        let task = self.parts.tasks.spawn("unpublish", async move {
            let slot = this.parts.registry.slot(&volume);
            let result = this.unpublish_alone(&volume, target, &slot, deadline).await;
            this.parts.registry.release(&volume, slot);
            match &result {
                Ok(()) => this.parts.metrics.unpublished(),
                Err(_) => this.parts.metrics.unpublish_failed(),
            }
            result
        });
        let result = task.await.unwrap_or(Err(Error::Lost { what: "the unpublish" }));
        result.map_err(|error| error.refusal())
    }
}

/// How a call for a volume ended well, as far as kubelet is told.
pub(super) enum Ended {
    /// Nothing was to be done.
    NotDue,
    /// The provider was asked, this one.
    Done(String),
    /// A refresh failed; the files are as they were.
    Masked {
        /// The provider, as far as it is known.
        provider: String,
        /// [`Error::reason`].
        reason: &'static str,
    },
    /// The volume was taken away meanwhile.
    Gone,
}

impl Ended {
    fn masked(provider: &str, error: &Error) -> Self {
        Self::Masked { provider: provider.to_owned(), reason: error.reason() }
    }
}

/// What a publish or a refresh learned of a volume.
struct News<'a> {
    objects: Vec<ObjectVersion>,
    /// Whether its files were written.
    changed: bool,
    /// What they are, where they are not what the store has now.
    stand_in: Option<&'a StandIn>,
}

/// A call that failed, and the provider as far as it is known.
struct Failed {
    provider: String,
    error: Arc<Error>,
}

impl Failed {
    fn of(error: Error) -> Self {
        Self { provider: String::new(), error: Arc::new(error) }
    }
}

/// Who the volume is for, as kubelet says it.
fn vouched(inputs: &Inputs) -> String {
    let pod = &inputs.pod;
    format!("{}/{}/{}/{}", pod.namespace, pod.name, pod.uid, pod.service_account)
}

/// Why the volume has to be refreshed, if it has to. Without a class only time and earlier failures count.
fn reason_to_refresh(slot: &Slot, class: Option<&ReadClass>) -> Option<Reason> {
    let known = slot.known();
    let Some(entry) = &known.entry else { return Some(Reason::Unknown) };
    let then = Mark { revision: &entry.revision, refresh: entry.refresh.as_deref() };
    let edited = class.and_then(|class| {
        refresh::compare(then, Mark { revision: &class.revision, refresh: class.refresh.as_deref() })
    });
    let is_due = known.due.is_some_and(|due| due <= Instant::now());
    let is_asked = known.asked.is_some().then_some(Reason::Asked);
    let is_offline = entry.offline.is_some().then_some(Reason::Offline);
    let has_failed = (known.failures > 0).then_some(Reason::Failed);
    edited.or(is_asked).or(is_offline).or(has_failed).or(is_due.then_some(Reason::Interval))
}

fn write(volume: &mut crate::volume::Volume, files: &FileSet, inputs: &Inputs) -> Result<Change, Error> {
    let now = Timestamp::now();
    volume.replace(files, now).map_err(|source| Error::Write { target: inputs.target.clone(), source })
}

/// The time until which a call has to be answered.
fn within(deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let deadline = deadline.unwrap_or(now + PATIENCE);
    let left = deadline.duration_since(now);
    now + left.saturating_sub(MARGIN.min(left / 10))
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Lost { what })
}
