//! Kubernetes Secrets that are made of mounted files: what a class asks for in `secretObjects`.
//!
//! In the background: nothing here undoes a mount, and a first one waits for it a moment, so that kubelet finds the Secret
//! when it makes the pod's environment. Values are written when *this* volume's
//! files or the class's wishes changed, or the Secret is absent; never because the Secret differs, so nodes do not fight. A
//! Secret that somebody else made is never taken over. Whether a Secret is still there is asked about once a minute, at
//! kubelet's calls: metadata, from the API server's cache, once for each Secret and node. `objects` and `tls` say what shall
//! be, `queue` what is to be done, `worker` does it. `publish::pipeline` is the caller.

mod objects;
mod queue;
mod tls;
mod worker;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_sandbox::provider::{ObjectVersion, Pod};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::api::class::SecretObject;
use crate::config::SyncSettings;
use crate::kube::client::Client;
use crate::kube::events::{Event, Events};
use crate::kube::hex;
use crate::kube::secrets::Secrets;
use crate::publish::fetch::Fetched;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use queue::Queue;
use worker::Worker;

/// The one reason of all events, that of the Secrets Store CSI Driver.
const REASON: &str = "FailedToCreateSecret";
/// Changes when the same wishes are written in another form, so that they are written again.
const FORM: &str = "1";

/// A volume that is right, as far as its Secrets are concerned.
pub struct Look {
    /// `volume_id`.
    pub volume: String,
    /// `target_path`.
    pub target: PathBuf,
    /// The pod.
    pub pod: Pod,
    /// The class.
    pub class: String,
    /// The provider of the class.
    pub provider: String,
    /// The Secrets that the class asks for.
    pub wanted: Arc<[SecretObject]>,
    /// What is in the volume.
    pub objects: Vec<ObjectVersion>,
    /// What the ledger says was synced; none for a volume that was just made.
    pub synced: Option<String>,
    /// The files, where they are at hand. Else they are read from the volume, if they are needed.
    pub fetched: Option<Arc<Fetched>>,
    /// Whether the files just became what they are.
    pub changed: bool,
    /// Whether the files are those of an earlier answer, as the last look failed: somebody may have newer ones, so
    /// only a Secret that is absent is made of them.
    pub kept: bool,
}

impl Look {
    /// Equal when nothing is to be written; fit for a file, as it holds names and versions and no value.
    fn mark(&self) -> String {
        let mut digest = Sha256::new();
        let mut add = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        add(FORM);
        for object in self.wanted.iter() {
            let SecretObject { secret_name, kind, labels, annotations, data } = object;
            [secret_name, kind].into_iter().for_each(|text| add(text));
            for map in [labels, annotations] {
                add(&map.len().to_string());
                map.iter().flat_map(|(key, value)| [key, value]).for_each(|text| add(text));
            }
            add(&data.len().to_string());
            data.iter().flat_map(|data| [&data.object_name, &data.key]).for_each(|text| add(text));
        }
        let mut objects: Vec<_> = self.objects.iter().map(|object| [&object.id, &object.version]).collect();
        objects.sort_unstable();
        objects.into_iter().flatten().for_each(|text| add(text));
        hex(&digest.finalize(), 64)
    }

    fn namespace(&self) -> &str {
        &self.pod.namespace
    }
}

/// What syncing needs.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// Whether, and which types.
    pub settings: SyncSettings,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Metrics,
    /// Tasks.
    pub tasks: Tasks,
}

/// The Secrets that this node keeps in step with its volumes. Clones share them.
#[derive(Clone)]
pub struct Syncer(Arc<Shared>);

struct Shared {
    enabled: bool,
    events: Events,
    queue: Mutex<Queue>,
    /// Wakes the worker.
    news: Notify,
}

impl Syncer {
    /// Syncs until `tasks` stops. `synced` is told the volume and the mark of what now stands in its Secrets, and has to
    /// ignore a volume that it does not know.
    #[must_use]
    pub fn start(parts: Parts, synced: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        let Parts { client, settings, events, metrics, tasks } = parts;
        let enabled = settings.enabled;
        let (queue, news) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { enabled, events: events.clone(), queue, news });
        if enabled {
            let secrets = Secrets::new(client);
            let worker = Worker::new(shared.clone(), secrets, settings.types, events, metrics, Box::new(synced));
            let stop = tasks.stopping();
            tasks.spawn("secrets", async move { worker.run(&stop).await });
        }
        Self(shared)
    }

    /// Wants the Secrets of a volume to be as its files and its class are now; never waits.
    pub fn put(&self, look: Look) {
        self.want(look, None);
    }

    /// As [`Syncer::put`], and waits until all is done or cannot be done now, at most so long.
    pub async fn put_and_wait(&self, look: Look, longest: Duration) {
        let (settled, over) = oneshot::channel();
        self.want(look, Some(settled));
        // That nobody holds the other end any more says the same as a word from it; being late is no failure.
        let _ = timeout(longest, over).await;
    }

    fn want(&self, look: Look, settled: Option<oneshot::Sender<()>>) {
        if look.wanted.is_empty() {
            return;
        }
        if !self.0.enabled {
            return self.0.explain(&look);
        }
        if self.0.queue().put(look, settled) {
            self.0.news.notify_one();
        }
    }

    /// The pod status of a volume stands in the cluster now: what waits for an owner can go on.
    pub fn pod_status_written(&self, volume: &str) {
        if self.0.queue().pod_status_written(volume) {
            self.0.news.notify_one();
        }
    }

    /// How many volumes wait for their Secrets, or are being worked on.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.queue().pending()
    }

    /// Forgets a volume. What it needs of a Secret stays: that is for the owners to decide.
    pub fn forget(&self, volume: &str) {
        self.0.queue().forget(volume);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once for each volume that nothing becomes of what the class asks for.
    fn explain(&self, look: &Look) {
        // A call of kubelet that changes nothing is not the time for it.
        if !look.changed || !self.queue().is_first(&look.volume) {
            return;
        }
        let message = format!(
            "SecretProviderClass `{}` has secretObjects, but Kubernetes Secrets are not made: to turn it on, set \
             syncSecrets.enabled in Coffer's configuration and apply deploy/rbac-sync.yaml",
            look.class
        );
        let (namespace, pod) = (&look.pod.namespace, &look.pod.name);
        tracing::warn!(target: "coffer::sync", %namespace, %pod, "{message}");
        self.events.send(Event { pod: look.pod.clone(), warning: true, reason: REASON, message });
    }
}

#[cfg(test)]
mod tests;
