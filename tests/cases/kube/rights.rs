//! `deploy/rbac.yaml` is enough for everything that Coffer asks of the API server, with `deploy/rbac-sync.yaml` where it
//! makes Secrets, and each verb in them is needed.

use std::time::Duration;

use coffer::kube::classes::Classes;
use coffer::kube::driver;
use coffer::kube::events::{Event, Events};
use coffer::kube::pod_statuses::{PodStatus, PodStatuses};
use coffer::yaml::{self, Node, Value};
use coffer_tests::harness::apiserver::{ApiServer, Resource, Right, Verb};

use super::{World, deadline, pod, soon};

const RBAC: &str = include_str!("../../../deploy/rbac.yaml");
const RBAC_SYNC: &str = include_str!("../../../deploy/rbac-sync.yaml");

/// The value of a key.
fn at<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Mapping(entries) => entries.iter().find(|entry| entry.key.as_str() == key).map(|entry| &entry.value),
        _ => None,
    }
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::Sequence(items)) => items,
        _ => &[],
    }
}

fn text(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.as_str().to_owned(),
        _ => panic!("not a text"),
    }
}

/// The rules of the ClusterRole.
pub fn shipped() -> Vec<Right> {
    rules(RBAC)
}

/// The same, and what making Secrets needs besides.
pub fn with_sync() -> Vec<Right> {
    [shipped(), rules(RBAC_SYNC)].concat()
}

fn rules(manifest: &str) -> Vec<Right> {
    let (documents, mistakes) = yaml::read("rbac.yaml", manifest.as_bytes());
    assert!(mistakes.is_empty());
    let is_role = |document: &&Node| at(document, "kind").map(text).as_deref() == Some("ClusterRole");
    let role = documents.iter().find(is_role).unwrap();
    let list = |rule: &Node, key: &str| items(at(rule, key)).iter().map(text).collect::<Vec<String>>();
    let right = |rule: &Node| Right {
        groups: list(rule, "apiGroups"),
        resources: list(rule, "resources"),
        verbs: list(rule, "verbs"),
        names: list(rule, "resourceNames"),
    };
    items(at(role, "rules")).iter().map(right).collect()
}

/// The same rules, each without one of its verbs.
fn with_one_less() -> Vec<(String, Vec<Right>)> {
    let rights = with_sync();
    let mut all = Vec::new();
    for (rule, right) in rights.iter().enumerate() {
        for (number, verb) in right.verbs.iter().enumerate() {
            let mut fewer = rights.clone();
            fewer[rule].verbs.remove(number);
            all.push((format!("{verb} {:?}", right.resources), fewer));
        }
    }
    all
}

/// Does everything once that Coffer does with the API server.
async fn everything(rights: Vec<Right>) -> World {
    let world = World::new().await;
    world.server.class("shop", "kv").put("azure", &[]);
    world.server.set_csi_node("node-1", &["secrets-store.csi.k8s.io"]);
    world.server.enforce(Some(rights));
    let _facts = driver::watch(world.client.clone(), "secrets-store.csi.k8s.io".into(), "node-1".into(), &world.tasks);
    let classes = Classes::new(world.client.clone(), &world.tasks);
    let _ = classes.read("shop", "kv", Duration::ZERO, deadline()).await;
    let _ = classes.read("shop", "none", Duration::ZERO, deadline()).await;
    let statuses = PodStatuses::start(world.client.clone(), "node-1".into(), &world.tasks, |_, _| {});
    statuses.put(PodStatus {
        volume: "csi-1".into(),
        pod: pod("p", "u1"),
        class: "kv".into(),
        target: "/target".into(),
        objects: vec![],
        failure: None,
        offline: None,
    });
    let events = Events::start(world.client.clone(), "node-1".into(), &world.tasks);
    events.send(Event { pod: pod("p", "u1"), warning: false, reason: "Reason", message: "message".into() });
    world.server.set_pod("shop", "p", "u1", &[]);
    let syncer = world.syncer(&[]);
    syncer.put(world.look("p", "u1", "1"));
    let log = world.server.log();
    soon("a pod status", log.answered(Verb::Patch, Resource::PodStatuses, 1)).await;
    soon("an event", log.answered(Verb::Create, Resource::Events, 1)).await;
    soon("a look", log.answered(Verb::Get, Resource::CsiNodes, 1)).await;
    // Either the Secret has its owner, or somebody misses a right.
    let is_owned = |server: &ApiServer| {
        let secret = server.object(Resource::Secrets, "shop", "app");
        let refused = server.entries().iter().any(|entry| entry.status == Some(403));
        refused || secret.is_some_and(|secret| !secret["metadata"]["ownerReferences"].is_null())
    };
    soon("a Secret", world.until(is_owned)).await;
    world
}

fn forbidden(world: &World) -> Vec<String> {
    let entries = world.server.entries().into_iter().filter(|entry| entry.status == Some(403));
    entries.map(|entry| format!("{} {}", entry.method, entry.path)).collect()
}

#[tokio::test]
async fn the_shipped_rights_are_enough() {
    let world = everything(with_sync()).await;
    assert_eq!(forbidden(&world), Vec::<String>::new());
    assert!(world.server.pod_status("shop", "p-shop-kv").is_some());
    let verbs: Vec<Verb> = world.server.entries().iter().map(|entry| entry.target.verb).collect();
    assert!(verbs.iter().all(|verb| matches!(verb, Verb::Get | Verb::Patch | Verb::Create)), "{verbs:?}");
}

#[tokio::test]
async fn each_of_the_shipped_rights_is_needed() {
    for (missing, rights) in with_one_less() {
        let world = everything(rights).await;
        assert!(!forbidden(&world).is_empty(), "nobody misses {missing}");
    }
}
