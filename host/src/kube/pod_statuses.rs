//! Writes of SecretProviderClassPodStatuses, in the background.
//!
//! A mount never waits for them. Each is one forced server-side apply of the whole object, whoever wrote it before: the fields
//! of the Secrets Store CSI Driver are taken over. Owner references that it set stay beside Coffer's; those that Coffer set for an
//! earlier pod of the same name, on any node, go. What fails is tried again until it is forgotten; what is unwritten when the
//! program stops is written after the restart, because the ledger does not have its digest. `publish` is the caller.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_sandbox::provider::{ObjectVersion, Pod};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::call::{Failure, Kind, Resource};
use super::client::Client;
use super::names;
use super::pause::Pauses;
use crate::api::pod_status::{FAILURE_ANNOTATION, KIND, Mounted, NODE_LABEL, OFFLINE_ANNOTATION, Object, Status};
use crate::api::{GROUP, VERSION};
use crate::tasks::Tasks;

/// The most volumes that wait at once; the kubelet of a large node has some hundreds.
const MOST_WAITING: usize = 4096;
/// The most writes at once.
const MOST_RUNNING: usize = 4;
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(300) };
/// How often the log says the same thing about failing writes.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Changes when the same [`PodStatus`] is written in another form, so that it is written again.
const FORM: &str = "1";

/// What the pod status of one volume says.
#[derive(Clone, Debug)]
pub struct PodStatus {
    /// `volume_id`.
    pub volume: String,
    /// The pod.
    pub pod: Pod,
    /// The class.
    pub class: String,
    /// `target_path`.
    pub target: PathBuf,
    /// Objects and versions, in any order.
    pub objects: Vec<ObjectVersion>,
    /// Why the last refresh failed, CamelCase; none when it did not.
    pub failure: Option<&'static str>,
    /// Of when what is mounted is, RFC 3339, where it is a kept result; none when the store was reached.
    pub offline: Option<String>,
}

impl PodStatus {
    /// Equal when there is nothing to write; hexadecimal, fit for a file. Holds all that is written but the node's name,
    /// which is the same for as long as the ledger lives.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        let object = self.object("");
        // An object of texts can always be written.
        let text = serde_json::to_vec(&(FORM, object)).unwrap_or_default();
        digest.update(text);
        names::hex(&digest.finalize(), 64)
    }

    /// The object as tools look for it. A name that is too long is cut, and so is a node's name that no label can have.
    fn object(&self, node: &str) -> Object {
        let Pod { name, namespace, uid, .. } = &self.pod;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: name.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        };
        let failure = self.failure.map(|reason| (FAILURE_ANNOTATION.to_owned(), reason.to_owned()));
        let offline = self.offline.clone().map(|time| (OFFLINE_ANNOTATION.to_owned(), time));
        let annotations: BTreeMap<_, _> = failure.into_iter().chain(offline).collect();
        let mounted = |object: &ObjectVersion| Mounted { id: object.id.clone(), version: object.version.clone() };
        let mut objects: Vec<Mounted> = self.objects.iter().map(mounted).collect();
        objects.sort();
        Object {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND,
            metadata: ObjectMeta {
                name: Some(self.name()),
                namespace: Some(namespace.clone()),
                labels: Some([(NODE_LABEL.to_owned(), names::label(node))].into()),
                annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            status: Status {
                pod_name: name.clone(),
                secret_provider_class_name: self.class.clone(),
                mounted: true,
                target_path: self.target.to_string_lossy().into_owned(),
                objects,
            },
        }
    }

    fn name(&self) -> String {
        names::name(&format!("{}-{}-{}", self.pod.name, self.pod.namespace, self.class))
    }
}

/// The pod statuses of this node.
#[derive(Clone)]
pub struct PodStatuses(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the worker.
    news: Notify,
}

impl PodStatuses {
    /// Writes until `tasks` stops. `written` is told the volume and the digest of what now stands in the cluster. It may be
    /// told of a volume that is forgotten at this moment, and has to ignore what it does not know.
    #[must_use]
    pub fn start(
        client: Client,
        node: String,
        tasks: &Tasks,
        written: impl Fn(&str, &str) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), news: Notify::new() });
        let worker = Worker { shared: Arc::clone(&shared), client, node, written: Box::new(written) };
        let stop = tasks.stopping();
        tasks.spawn("pod statuses", async move { worker.run(&stop).await });
        Self(shared)
    }

    /// Wants this to be written, instead of whatever of the same volume is still waiting; never waits.
    pub fn put(&self, status: PodStatus) {
        if self.0.queue().put(status) {
            self.0.news.notify_one();
        }
    }

    /// Gives up what is not written yet of a volume.
    pub fn forget(&self, volume: &str) {
        self.0.queue().forget(volume);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be written. A volume is at most once in each of the two maps, and is not taken while it is written.
#[derive(Default)]
struct Queue {
    waiting: HashMap<String, Waiting>,
    running: HashMap<String, Running>,
    complaints: HashMap<&'static str, Instant>,
}

#[derive(Clone)]
struct Waiting {
    status: PodStatus,
    digest: String,
    due: Instant,
    /// Failures in a row.
    failures: u32,
}

struct Running {
    digest: String,
    forgotten: bool,
}

impl Queue {
    /// Says whether there is something new to write.
    fn put(&mut self, status: PodStatus) -> bool {
        let (volume, digest) = (status.volume.clone(), status.digest());
        let running = self.running.get(&volume).filter(|running| !running.forgotten);
        let is_running = running.is_some_and(|running| running.digest == digest);
        let is_full = self.waiting.len() >= MOST_WAITING;
        match self.waiting.get_mut(&volume) {
            // What just failed is not tried sooner because it is wanted once more.
            Some(waiting) => {
                waiting.status = status;
                waiting.digest = digest;
                false
            }
            None if is_running => false,
            None if is_full => {
                // Refreshes will want it again: its digest is in no ledger.
                self.complain("full", "too many pod statuses wait to be written; the newest are left out for now");
                false
            }
            None => {
                self.waiting.insert(volume, Waiting { status, digest, due: Instant::now(), failures: 0 });
                true
            }
        }
    }

    fn forget(&mut self, volume: &str) {
        self.waiting.remove(volume);
        if let Some(running) = self.running.get_mut(volume) {
            running.forgotten = true;
        }
    }

    /// What is to be written now, the longest due first.
    fn take(&mut self, now: Instant) -> Option<Waiting> {
        let free = |(volume, waiting): &(&String, &Waiting)| waiting.due <= now && !self.running.contains_key(*volume);
        let volume = self.waiting.iter().filter(free).min_by_key(|(_, waiting)| waiting.due)?.0.clone();
        let waiting = self.waiting.remove(&volume)?;
        self.running.insert(volume, Running { digest: waiting.digest.clone(), forgotten: false });
        Some(waiting)
    }

    /// When the next write is due that nothing stands in the way of.
    fn next(&self) -> Option<Instant> {
        let free = |(volume, _): &(&String, &Waiting)| !self.running.contains_key(*volume);
        self.waiting.iter().filter(free).map(|(_, waiting)| waiting.due).min()
    }

    /// Takes note of how a write ended; says whether to tell of it.
    fn finish(&mut self, mut done: Waiting, result: &Result<(), Failure>) -> bool {
        let volume = done.status.volume.clone();
        let forgotten = self.running.remove(&volume).is_none_or(|running| running.forgotten);
        let Err(failure) = result else { return !forgotten };
        done.failures += 1;
        done.due = Instant::now() + PAUSES.after(done.failures, failure.retry_after);
        self.explain(&done, failure);
        match self.waiting.get_mut(&volume) {
            // What is wanted by now will fail for the same reason.
            Some(newer) if !forgotten => (newer.due, newer.failures) = (done.due, done.failures),
            None if !forgotten => drop(self.waiting.insert(volume, done)),
            _ => {}
        }
        false
    }

    fn explain(&mut self, done: &Waiting, failure: &Failure) {
        let (message, name) = (&failure.message, done.status.name());
        let namespace = &done.status.pod.namespace;
        tracing::debug!(target: "coffer::kube", %namespace, name, failures = done.failures, "pod status: {message}");
        match failure.kind {
            Kind::Forbidden => self.complain(
                "forbidden",
                &format!(
                    "pod statuses cannot be written: {message}; grant `create` and `patch` on \
                     secretproviderclasspodstatuses to Coffer's service account, as deploy/rbac.yaml does"
                ),
            ),
            Kind::Undefined => self.complain(
                "undefined",
                "pod statuses cannot be written: the cluster does not know the kind SecretProviderClassPodStatus; install \
                 it: coffer crds | kubectl apply -f -",
            ),
            // A pod that is gone with its namespace, or an API server that is busy for a moment, is nobody's concern.
            Kind::NotFound => {}
            Kind::Transient if done.failures < 3 => {}
            _ => self.complain("failed", &format!("pod status {namespace}/{name} cannot be written: {message}")),
        }
    }

    /// Says it aloud now and then.
    fn complain(&mut self, subject: &'static str, what: &str) {
        let now = Instant::now();
        if self.complaints.get(subject).is_none_or(|last| now.duration_since(*last) >= COMPLAINT_INTERVAL) {
            self.complaints.insert(subject, now);
            tracing::warn!(target: "coffer::kube", "{what}");
        }
    }
}

/// Told the volume and the digest of what was written.
type Written = dyn Fn(&str, &str) + Send + Sync;

struct Worker {
    shared: Arc<Shared>,
    client: Client,
    node: String,
    written: Box<Written>,
}

impl Worker {
    async fn run(&self, stop: &CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            let mut next = None;
            {
                let mut queue = self.shared.queue();
                while running.len() < MOST_RUNNING
                    && let Some(waiting) = queue.take(Instant::now())
                {
                    running.push(self.write(waiting));
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

    async fn write(&self, waiting: Waiting) {
        let object = waiting.status.object(&self.node);
        let (namespace, name) = (&waiting.status.pod.namespace, waiting.status.name());
        let result = self.client.apply(Resource::PodStatuses, namespace, &name, &object).await;
        let (volume, digest) = (waiting.status.volume.clone(), waiting.digest.clone());
        if self.shared.queue().finish(waiting, &result) {
            (self.written)(&volume, &digest);
        }
    }
}

/// Never, when there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> PodStatus {
        let object = |id: &str| ObjectVersion { id: id.into(), version: "1".into() };
        PodStatus {
            volume: "csi-1".into(),
            pod: Pod { name: "p".into(), namespace: "shop".into(), uid: "u".into(), service_account: "sa".into() },
            class: "kv".into(),
            target: "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount".into(),
            objects: vec![object("secret/b"), object("secret/B"), object("secret/a")],
            failure: None,
            offline: None,
        }
    }

    #[test]
    fn the_object_is_the_one_that_tools_look_for() {
        let object = serde_json::to_value(status().object("node-1")).unwrap();
        let objects = |ids: [&str; 3]| ids.map(|id| json!({"id": id, "version": "1"}));
        assert_eq!(
            object,
            json!({
                "apiVersion": "secrets-store.csi.x-k8s.io/v1",
                "kind": "SecretProviderClassPodStatus",
                "metadata": {
                    "name": "p-shop-kv",
                    "namespace": "shop",
                    "labels": {"internal.secrets-store.csi.k8s.io/node-name": "node-1"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
                },
                "status": {
                    "podName": "p",
                    "secretProviderClassName": "kv",
                    "mounted": true,
                    "targetPath": "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount",
                    "objects": objects(["secret/B", "secret/a", "secret/b"]),
                },
            })
        );
    }

    #[test]
    fn the_digest_changes_with_everything_that_is_written() {
        let changes: [fn(&mut PodStatus); 9] = [
            |status| status.pod.name.push('x'),
            |status| status.pod.namespace.push('x'),
            |status| status.pod.uid.push('x'),
            |status| status.class.push('x'),
            |status| status.target.push("x"),
            |status| status.objects[0].version.push('x'),
            |status| drop(status.objects.pop()),
            |status| status.failure = Some("Unavailable"),
            |status| status.offline = Some("2026-11-25T05:00:00Z".into()),
        ];
        let digest = status().digest();
        for (number, change) in changes.iter().enumerate() {
            let mut status = status();
            change(&mut status);
            assert_ne!(status.digest(), digest, "change {number}");
        }
        let mut same = status();
        same.objects.reverse();
        same.pod.service_account.push('x');
        assert_eq!(same.digest(), digest);
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_waits_once_with_the_latest_and_keeps_its_turn() {
        let mut queue = Queue::default();
        assert!(queue.put(status()));
        let newer = PodStatus { failure: Some("Throttled"), ..status() };
        assert!(!queue.put(newer.clone()));
        let taken = queue.take(Instant::now()).unwrap();
        assert_eq!(taken.digest, newer.digest());
        assert!(queue.take(Instant::now()).is_none());
        assert!(!queue.put(newer), "it is being written");
        assert!(queue.put(status()));
        assert!(queue.take(Instant::now()).is_none(), "one volume is written one at a time");
        let failure = Failure { kind: Kind::Transient, message: String::new(), retry_after: None };
        assert!(!queue.finish(taken, &Err(failure)));
        assert_eq!((queue.waiting.len(), queue.running.len()), (1, 0));
        assert!(queue.take(Instant::now()).is_none(), "it has to wait");
        let taken = queue.take(Instant::now() + PAUSES.longest).unwrap();
        assert_eq!((taken.digest.clone(), taken.failures), (status().digest(), 1));
        assert!(queue.finish(taken, &Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_is_neither_tried_again_nor_told() {
        let failure = || Failure { kind: Kind::Transient, message: String::new(), retry_after: None };
        for result in [Ok(()), Err(failure())] {
            let mut queue = Queue::default();
            queue.put(status());
            let taken = queue.take(Instant::now()).unwrap();
            queue.forget("csi-1");
            assert!(!queue.finish(taken, &result));
            assert!(queue.waiting.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_volumes_wait_than_there_is_room_for() {
        let mut queue = Queue::default();
        for number in 0..=MOST_WAITING {
            let news = queue.put(PodStatus { volume: format!("csi-{number}"), ..status() });
            assert_eq!(news, number < MOST_WAITING);
        }
        assert_eq!(queue.waiting.len(), MOST_WAITING);
    }
}
