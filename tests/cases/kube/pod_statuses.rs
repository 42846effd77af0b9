//! Pod statuses: where tools expect them, written once, whoever wrote them before, and never at the price of anything else.

use std::sync::Arc;
use std::time::Duration;

use coffer::kube::pod_statuses::{PodStatus, PodStatuses};
use coffer_sandbox::provider::ObjectVersion;
use coffer_tests::harness::apiserver::{ApiServer, Fault, Matcher, Resource, Verb};
use coffer_tests::harness::{Gate, RetryAfter, Times};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{World, pass, pod, soon};

const NODE_LABEL: &str = "internal.secrets-store.csi.k8s.io/node-name";
/// Longer than any pause between attempts.
const LONG: Duration = Duration::from_secs(301);

/// Volume and digest, in order.
type Written = Arc<watch::Sender<Vec<(String, String)>>>;

fn status(volume: &str, name: &str, uid: &str) -> PodStatus {
    let object = |id: &str, version: &str| ObjectVersion { id: id.into(), version: version.into() };
    PodStatus {
        volume: volume.into(),
        pod: pod(name, uid),
        class: "kv".into(),
        target: format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/v/mount").into(),
        objects: vec![object("secret/b", "2"), object("secret/a", "1")],
        failure: None,
        offline: None,
    }
}

fn writes() -> Matcher {
    Matcher::of(Verb::Patch, Resource::PodStatuses)
}

impl World {
    fn pod_statuses(&self, node: &str) -> (PodStatuses, Written) {
        let written = Written::default();
        let told = Arc::clone(&written);
        let tell = move |volume: &str, digest: &str| told.send_modify(|told| told.push((volume.into(), digest.into())));
        (PodStatuses::start(self.client.clone(), node.into(), &self.tasks, tell), written)
    }

    fn status_writes(&self) -> u64 {
        self.asked(Verb::Patch, Resource::PodStatuses)
    }

    async fn written(&self, count: u64) {
        self.called("patch secretproviderclasspodstatuses", count).await;
    }
}

/// Waits until the object is there and right.
async fn object(server: &ApiServer, name: &str, right: impl Fn(&Value) -> bool) -> Value {
    soon(name, server.until(|server| server.pod_status("shop", name).is_some_and(|object| right(&object)))).await;
    server.pod_status("shop", name).unwrap()
}

fn any(_: &Value) -> bool {
    true
}

async fn told(written: &Written, count: usize) -> Vec<(String, String)> {
    let mut written = written.subscribe();
    soon("being told", written.wait_for(|told| told.len() >= count)).await.unwrap().clone()
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid})
}

#[tokio::test]
async fn a_pod_status_is_written_once_and_told() {
    let world = World::new().await;
    let (statuses, written) = world.pod_statuses("node-1");
    statuses.put(status("csi-1", "p", "u1"));
    statuses.put(status("csi-1", "p", "u1"));
    let object = object(&world.server, "p-shop-kv", any).await;
    assert_eq!(object["metadata"]["labels"], json!({NODE_LABEL: "node-1"}));
    assert_eq!(object["metadata"]["ownerReferences"], json!([owner("p", "u1")]));
    assert_eq!(object["metadata"]["annotations"], Value::Null);
    let target = "/var/lib/kubelet/pods/u1/volumes/kubernetes.io~csi/v/mount";
    let objects = json!([{"id": "secret/a", "version": "1"}, {"id": "secret/b", "version": "2"}]);
    let expected = json!({"podName": "p", "secretProviderClassName": "kv", "mounted": true, "targetPath": target,
        "objects": objects});
    assert_eq!(object["status"], expected);
    let digest = status("csi-1", "p", "u1").digest();
    assert_eq!(told(&written, 1).await, [("csi-1".to_owned(), digest)]);
    assert_eq!(world.server.counters().writes(), 1);
    assert_eq!(world.counted("patch secretproviderclasspodstatuses 201"), 1);
}

#[tokio::test]
async fn a_failed_refresh_shows_until_one_works() {
    let world = World::new().await;
    let (statuses, _) = world.pod_statuses("node-1");
    statuses.put(PodStatus { failure: Some("Unauthenticated"), ..status("csi-1", "p", "u1") });
    let failed = object(&world.server, "p-shop-kv", any).await;
    assert_eq!(failed["metadata"]["annotations"], json!({"coffer.dev/refresh-failure": "Unauthenticated"}));
    statuses.put(status("csi-1", "p", "u1"));
    let gone = |object: &Value| object["metadata"]["annotations"].is_null();
    assert_eq!(object(&world.server, "p-shop-kv", gone).await["status"], failed["status"]);
}

#[tokio::test]
async fn the_object_of_the_driver_before_is_taken_over() {
    let world = World::new().await;
    let theirs = json!({
        "metadata": {"ownerReferences": [owner("p", "u1")], "annotations": {"team": "payments"}},
        "status": {"podName": "p", "secretProviderClassName": "kv", "mounted": true, "targetPath": "/old",
            "objects": [{"id": "secret/old", "version": "0"}]},
    });
    world.server.set_as("secrets-store-csi", Resource::PodStatuses, "shop", "p-shop-kv", &theirs);
    let (statuses, _) = world.pod_statuses("node-1");
    statuses.put(status("csi-1", "p", "u1"));
    let object = object(&world.server, "p-shop-kv", |object| object["status"]["targetPath"] != "/old").await;
    assert_eq!(object["metadata"]["labels"], json!({NODE_LABEL: "node-1"}), "it had none at all");
    assert_eq!(object["metadata"]["ownerReferences"], json!([owner("p", "u1")]));
    assert_eq!(object["metadata"]["annotations"], json!({"team": "payments"}), "what others say stays");
    assert_eq!(object["status"]["objects"].as_array().unwrap().len(), 2);
    assert_eq!(world.status_writes(), 1);
}

#[tokio::test]
async fn a_pod_of_the_same_name_on_another_node_takes_the_object_along() {
    let world = World::new().await;
    let (first, _) = world.pod_statuses("node-1");
    let (second, _) = world.pod_statuses("node-2");
    first.put(status("csi-1", "web-0", "u1"));
    object(&world.server, "web-0-shop-kv", any).await;
    second.put(status("csi-2", "web-0", "u2"));
    let moved = |object: &Value| object["metadata"]["labels"][NODE_LABEL] == "node-2";
    let object = object(&world.server, "web-0-shop-kv", moved).await;
    assert_eq!(object["metadata"]["ownerReferences"], json!([owner("web-0", "u2")]));
    world.server.collect("u1");
    assert!(world.server.pod_status("shop", "web-0-shop-kv").is_some());
}

#[tokio::test]
async fn names_that_are_too_long_are_cut_the_same_way_each_time() {
    let world = World::new().await;
    let node = format!("{}.example.com", "n".repeat(80));
    let (statuses, _) = world.pod_statuses(&node);
    let long = |end: &str| PodStatus {
        volume: format!("csi-{end}"),
        class: format!("{}{end}", "c".repeat(252)),
        ..status("csi-1", "p", "u1")
    };
    for end in ["a", "b", "a"] {
        let before = world.status_writes();
        statuses.put(long(end));
        world.written(before + 1).await;
    }
    let entries = world.server.entries();
    assert!(entries.iter().all(|entry| matches!(entry.status, Some(200 | 201))), "{entries:?}");
    let objects = world.server.objects(Resource::PodStatuses);
    assert_eq!(objects.len(), 2);
    let labels: Vec<&str> =
        objects.iter().map(|object| object["metadata"]["labels"][NODE_LABEL].as_str().unwrap()).collect();
    assert!(labels[0].len() <= 63 && labels[0] == labels[1] && labels[0].starts_with("nnnn"), "{labels:?}");
}

#[tokio::test]
async fn a_write_that_fails_is_tried_until_it_works() {
    let world = World::new().await;
    let faults = [
        Fault::failing(500, None),
        Fault::throttled(Some(RetryAfter::Seconds(1))),
        Fault::failing(409, None),
        Fault::Forbidden,
        Fault::Close,
    ];
    for fault in faults {
        world.server.inject(writes(), fault, Times::ONCE);
    }
    let (statuses, written) = world.pod_statuses("node-1");
    statuses.put(status("csi-1", "p", "u1"));
    let mut attempts = 0;
    while world.server.pod_status("shop", "p-shop-kv").is_none() {
        attempts += 1;
        world.written(attempts).await;
        // Wanting it again, as each refresh does, does not bring the next attempt forward.
        statuses.put(status("csi-1", "p", "u1"));
        pass(LONG).await;
    }
    assert_eq!(told(&written, 1).await.len(), 1);
    assert!((6..=7).contains(&world.status_writes()), "{:?}", world.server.entries());
}

#[tokio::test]
async fn a_missing_definition_is_waited_for() {
    let world = World::new().await;
    world.server.define(Resource::PodStatuses, false);
    let (statuses, _) = world.pod_statuses("node-1");
    statuses.put(status("csi-1", "p", "u1"));
    world.written(1).await;
    world.server.define(Resource::PodStatuses, true);
    pass(LONG).await;
    object(&world.server, "p-shop-kv", any).await;
}

#[tokio::test]
async fn of_what_waits_only_the_latest_is_written() {
    let world = World::new().await;
    let gate = Gate::new();
    world.server.inject(writes(), Fault::Hold(gate.clone()), Times::ONCE);
    let (statuses, written) = world.pod_statuses("node-1");
    let version = |version: &str| PodStatus {
        objects: vec![ObjectVersion { id: "secret/a".into(), version: version.into() }],
        ..status("csi-1", "p", "u1")
    };
    statuses.put(version("1"));
    soon("the first write", gate.arrived(1)).await;
    statuses.put(version("2"));
    statuses.put(version("3"));
    gate.open();
    object(&world.server, "p-shop-kv", |object| object["status"]["objects"][0]["version"] == "3").await;
    let digests: Vec<String> = told(&written, 2).await.into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(digests, [version("1").digest(), version("3").digest()]);
    assert_eq!(world.status_writes(), 2);
}

#[tokio::test]
async fn what_is_forgotten_is_not_written_any_more() {
    let world = World::new().await;
    world.server.inject(writes(), Fault::failing(500, None), Times::Always);
    let (statuses, written) = world.pod_statuses("node-1");
    statuses.put(status("csi-1", "gone", "u1"));
    world.written(1).await;
    statuses.forget("csi-1");
    statuses.forget("csi-unknown");
    world.server.clear_faults();
    pass(LONG).await;
    statuses.put(status("csi-2", "here", "u2"));
    object(&world.server, "here-shop-kv", any).await;
    let volumes: Vec<String> = told(&written, 1).await.into_iter().map(|(volume, _)| volume).collect();
    assert_eq!(volumes, ["csi-2"]);
    assert!(world.server.pod_status("shop", "gone-shop-kv").is_none());
}

#[tokio::test]
async fn at_most_four_are_written_at_once_and_a_slow_one_holds_no_other_up() {
    let world = World::new().await;
    let gate = Gate::new();
    world.server.inject(writes().name("p-0-shop-kv"), Fault::Hold(gate.clone()), Times::ONCE);
    let (statuses, written) = world.pod_statuses("node-1");
    for number in 0..110 {
        statuses.put(status(&format!("csi-{number}"), &format!("p-{number}"), &format!("u-{number}")));
    }
    assert_eq!(told(&written, 109).await.len(), 109);
    gate.open();
    told(&written, 110).await;
    let peak = world.server.counters().peak(Verb::Patch, Resource::PodStatuses);
    assert!((2..=4).contains(&peak), "{peak}");
}

#[tokio::test]
async fn the_end_waits_for_no_write() {
    let world = World::new().await;
    world.server.inject(writes(), Fault::Stall, Times::Always);
    let (statuses, _) = world.pod_statuses("node-1");
    statuses.put(status("csi-1", "p", "u1"));
    soon("the write", world.server.log().arrived(Verb::Patch, Resource::PodStatuses, 1)).await;
    assert_eq!(soon("the end", world.tasks.drain(super::PATIENCE)).await, 0);
    statuses.put(status("csi-2", "q", "u2"));
}
