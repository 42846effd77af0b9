//! Twenty volumes of one node that make one Kubernetes Secret: what the API server is asked for at first, when nothing
//! changed, and for one change.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use coffer_tests::harness::apiserver::{Resource, Verb};
use coffer_tests::harness::kubelet::Pod;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::world::{World, pods};
use crate::Built;
use crate::network::{TENANT, VAULT};
use crate::table::Table;

const VOLUMES: usize = 20;
const ON: &str = "syncSecrets: {enabled: true}\n";
/// The shortest interval that there is, a tenth more, and a little more.
const DUE: Duration = Duration::from_secs(12);
const FLAGS: [&str; 3] = ["--enable-secret-rotation", "--rotation-poll-interval", "10s"];
/// From the last answer to kubelet until everything is in step, generously.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) async fn measure(built: &Built) -> Result<Table> {
    let world = Arc::new(World::new(built, ON).await?);
    world.put_class("sync", 1, "0");
    let api = &world.surroundings.api;
    api.class("default", "sync").edit(|class| {
        let data = json!([{"objectName": "f0", "key": "key"}]);
        let wanted = json!([{"secretName": "app", "type": "Opaque", "data": data}]);
        class.get_mut("spec").and_then(Value::as_object_mut).map(|spec| spec.insert("secretObjects".into(), wanted));
    });
    let pods = pods(VOLUMES, "sync", 1);
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs1"});
    for pod in &pods {
        api.set_pod("default", pod.name(), pod.uid(), std::slice::from_ref(&owner));
    }
    let node = world.start(&FLAGS).await?;

    let mut table = Table::new(
        "20 volumes, one Kubernetes Secret: requests to the API server about Secrets",
        ["", "reads", "writes"],
    );
    let first = requests(&world, &pods).await?;
    ensure!(api.object(Resource::Secrets, "default", "app").is_some(), "there is no Secret");
    sleep(DUE).await;
    let unchanged = requests(&world, &pods).await?;
    world.emulator.tenant(TENANT).vault(VAULT).secret("secret-0").set("another value");
    sleep(DUE).await;
    let changed = requests(&world, &pods).await?;
    for (name, [reads, writes]) in [("at first", first), ("unchanged", unchanged), ("one change", changed)] {
        table.row([name.to_owned(), reads.to_string(), writes.to_string()]);
    }
    ensure!(node.stop().await?.success(), "the driver did not end well");
    Ok(table)
}

/// Reads and writes from kubelet's calls for all volumes until all is in step.
async fn requests(world: &Arc<World>, pods: &[Pod]) -> Result<[u64; 2]> {
    // The driver's own timer may have been quicker; its requests count, too.
    world.publish_all(pods).await?;
    sleep(SETTLED).await;
    let counters = world.surroundings.api.counters();
    world.surroundings.api.log().clear();
    let writes = [Verb::Patch, Verb::Create].map(|verb| counters.of(verb, Resource::Secrets));
    Ok([counters.of(Verb::Get, Resource::Secrets), writes.iter().sum()])
}
