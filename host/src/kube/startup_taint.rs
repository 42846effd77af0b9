//! Takes a taint off the node once kubelet has registered the driver.
//!
//! A node that is made with the taint gets no pods before their volumes can be mounted. Off unless `--startup-taint` names a
//! key; it takes the right to read and patch nodes. Other taints are never touched. `commands::node` is the caller.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::call::{Failure, Freshness, Kind, Resource};
use super::client::Client;
use super::pause::Pauses;
use crate::tasks::Tasks;

const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<Value>,
}

/// Does it now, and again until it worked or it is clear that it never will.
pub fn remove(client: Client, node: String, key: String, tasks: &Tasks) {
    let stopping = tasks.stopping();
    tasks.spawn("startup taint", async move {
        let mut failures = 0;
        loop {
            let failure = match try_once(&client, &node, &key).await {
                Ok(true) => return tracing::info!(node, key, "the startup taint is taken off the node"),
                Ok(false) => return tracing::debug!(node, key, "the node does not have the startup taint"),
                Err(failure) => failure,
            };
            failures += 1;
            let cause = &failure.message;
            if failure.kind == Kind::Forbidden {
                return tracing::warn!(
                    node,
                    key,
                    cause,
                    "the startup taint cannot be taken off the node, so pods stay away from it: give Coffer's service account \
                     the verbs get and patch for nodes"
                );
            }
            tracing::warn!(node, key, cause, "the startup taint cannot be taken off the node yet; it is tried again");
            tokio::select! {
                () = sleep(PAUSES.after(failures, failure.retry_after)) => {}
                () = stopping.cancelled() => return,
            }
        }
    });
}

/// Says whether the taint was there. Whoever changes the node meanwhile is not overwritten: the patch fails then.
async fn try_once(client: &Client, name: &str, key: &str) -> Result<bool, Failure> {
    let node: Node = client.get(Resource::Nodes, "", name, Freshness::Quorum).await?;
    let (gone, left): (Vec<Value>, Vec<Value>) =
        node.spec.taints.into_iter().partition(|taint| taint.get("key").and_then(Value::as_str) == Some(key));
    if gone.is_empty() {
        return Ok(false);
    }
    let patch = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": node.metadata.resource_version},
        {"op": "replace", "path": "/spec/taints", "value": left},
    ]);
    client.json_patch(Resource::Nodes, "", name, &patch).await.map(|()| true)
}
