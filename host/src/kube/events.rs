//! Events on pods.
//!
//! They are core events with the component name of the Secrets Store CSI Driver, because that is what `kubectl describe pod`
//! and the tools that collect events show best. They are a courtesy: a full queue drops them, and so does an API server that
//! does not take them. `publish` is the caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_sandbox::provider::Pod;
use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::call::{Kind, Resource};
use super::client::Client;
use super::names;
use super::pause::Pauses;
use crate::tasks::Tasks;

/// Who reports, as in the Secrets Store CSI Driver.
const COMPONENT: &str = "csi-secrets-store-controller";
/// How many wait to be sent.
const MOST_WAITING: usize = 256;
/// The same event is not sent again for so long.
const SAME: Duration = Duration::from_secs(5 * 60);
/// The most events that are remembered for that.
const MOST_REMEMBERED: usize = 4096;
/// The most bytes of a message that the API server takes.
const LONGEST_MESSAGE: usize = 1024;
/// The most bytes of the pod's name in the event's.
const LONGEST_POD: usize = 200;
/// How often one is sent in all.
const ATTEMPTS: u32 = 3;
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

/// An event to be.
#[derive(Clone, Debug)]
pub struct Event {
    /// The pod that it is about.
    pub pod: Pod,
    /// Whether it is a `Warning`; else `Normal`.
    pub warning: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// For people; without secrets.
    pub message: String,
}

/// Sends events in the background; a full queue drops them.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    sent: Arc<Mutex<Sent>>,
}

/// When each was sent, by digest.
type Sent = HashMap<[u8; 32], Instant>;

impl Events {
    /// Sends until `tasks` stops.
    #[must_use]
    pub fn start(client: Client, node: String, tasks: &Tasks) -> Self {
        let (queue, mut waiting) = mpsc::channel(MOST_WAITING);
        let stop = tasks.stopping();
        tasks.spawn("events", async move {
            loop {
                let event = tokio::select! {
                    event = waiting.recv() => event,
                    () = stop.cancelled() => return,
                };
                let Some(event) = event else { return };
                deliver(&client, &node, &event, &stop).await;
            }
        });
        Self { queue, sent: Arc::default() }
    }

    /// Queues an event, unless the same was queued in the last five minutes; never waits.
    pub fn send(&self, mut event: Event) {
        event.message = names::cut(&event.message, LONGEST_MESSAGE);
        let same = same(&event);
        let now = Instant::now();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.get(&same).is_some_and(|at| now.duration_since(*at) < SAME) {
            return;
        }
        let reason = event.reason;
        if self.queue.try_send(event).is_err() {
            tracing::debug!(target: "coffer::kube", reason, "event dropped: too many wait, or Coffer stops");
            return;
        }
        if sent.len() >= MOST_REMEMBERED {
            sent.retain(|_, at| now.duration_since(*at) < SAME);
        }
        if sent.len() < MOST_REMEMBERED {
            sent.insert(same, now);
        }
    }
}

/// Equal for what is one event to a reader: pod, reason, message.
fn same(event: &Event) -> [u8; 32] {
    let parts = [event.pod.uid.as_str(), event.reason, event.message.as_str()];
    Sha256::digest(parts.join("\0")).into()
}

async fn deliver(client: &Client, node: &str, event: &Event, stop: &CancellationToken) {
    // The same name each time: an event whose answer got lost is not made twice.
    let object = object(node, event, rand::random());
    let mut attempt = 1;
    loop {
        let sending = client.create(Resource::Events, &event.pod.namespace, &object);
        let failure = tokio::select! {
            result = sending => match result {
                Ok(()) => return,
                Err(failure) if failure.kind == Kind::AlreadyExists => return,
                Err(failure) => failure,
            },
            () = stop.cancelled() => return,
        };
        if !failure.is_transient() || attempt == ATTEMPTS {
            let (namespace, pod) = (&event.pod.namespace, &event.pod.name);
            tracing::debug!(target: "coffer::kube", %namespace, %pod, reason = event.reason, "event: {}", failure.message);
            return;
        }
        tokio::select! {
            () = sleep(PAUSES.after(attempt, failure.retry_after)) => {}
            () = stop.cancelled() => return,
        }
        attempt += 1;
    }
}

fn object(node: &str, event: &Event, id: u64) -> CoreEvent {
    let Pod { name, namespace, uid, .. } = &event.pod;
    let start = name.get(..name.len().min(LONGEST_POD)).unwrap_or("pod").trim_end_matches(['.', '-']);
    let now = Time(k8s_openapi::jiff::Timestamp::now());
    CoreEvent {
        metadata: ObjectMeta {
            name: Some(format!("{start}.{id:016x}")),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(event.reason.to_owned()),
        message: Some(event.message.clone()),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..CoreEvent::default()
    }
}
