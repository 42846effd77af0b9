//! Kubernetes Secrets of mounted files: written when somebody's files changed, owned as the pods are, never taken from
//! anybody, and with exactly as many requests as that needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer::api::class::{SecretData, SecretObject};
use coffer::config::SyncSettings;
use coffer::kube::events::Events;
use coffer::publish::fetch::Fetched;
use coffer::sync::{Look, Parts, Syncer};
use coffer::telemetry::metrics::Metrics;
use coffer::volume::{FileSet, Limits, NewFile};
use coffer_sandbox::provider::ObjectVersion;
use coffer_tests::harness::Times;
use coffer_tests::harness::apiserver::{Entry, Fault, Matcher, Resource, Verb};
use serde_json::{Value, json};

use super::{World, pass, pod, soon};

const MANAGED: &str = "secrets-store.csi.k8s.io/managed";
/// The field manager of the driver whose place Coffer takes.
const OTHER_DRIVER: &str = "csi-secrets-store";
/// Longer than a Secret is taken to be there.
const CHECK: Duration = Duration::from_secs(75);
/// Longer than a test may take.
const FOREVER: Duration = Duration::from_secs(60 * 60);

/// `Opaque`, with one key of one file.
fn wanted(keys: &[&str]) -> SecretObject {
    let data = |key: &&str| SecretData { object_name: "file".into(), key: (*key).into() };
    SecretObject {
        secret_name: "app".into(),
        kind: "Opaque".into(),
        data: keys.iter().map(data).collect(),
        ..SecretObject::default()
    }
}

fn replica_set(uid: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("rs-{uid}"), "uid": uid})
}

/// A pod status as Coffer writes it, so far as owners go.
fn pod_status_of(uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}]}})
}

fn of(value: &str) -> Value {
    json!(STANDARD.encode(value))
}

impl World {
    /// One node that makes Secrets.
    pub fn syncer(&self, types: &[&str]) -> Syncer {
        self.syncer_with(SyncSettings { enabled: true, types: types.iter().map(|name| (*name).to_owned()).collect() })
    }

    fn syncer_with(&self, settings: SyncSettings) -> Syncer {
        let parts = Parts {
            client: self.client.clone(),
            settings,
            events: Events::start(self.client.clone(), "node-1".into(), &self.tasks),
            metrics: Metrics::new(["azure".to_owned()]),
            tasks: self.tasks.clone(),
        };
        Syncer::start(parts, |_, _| {})
    }

    /// A volume that was just made for a pod, its one file in this version.
    pub fn look(&self, name: &str, uid: &str, version: &str) -> Look {
        let pod = pod(name, uid);
        let contents = format!("canary-{version}").into();
        let file = NewFile { path: "file".into(), mode: None, contents };
        let files = FileSet::new([file], 0o644, &Limits::default()).unwrap();
        let objects = vec![ObjectVersion { id: "secret/file".into(), version: version.into() }];
        let fetched = Fetched {
            files: Some(files),
            versions: BTreeMap::new(),
            objects: objects.clone(),
            session: None,
            pod: pod.clone(),
            mounted: vec![],
            records: vec![],
            usage: Default::default(),
        };
        Look {
            volume: format!("csi-{uid}"),
            target: format!("/nowhere/{uid}").into(),
            pod,
            class: "kv".into(),
            provider: "azure".into(),
            wanted: Arc::new([wanted(&["key"])]),
            objects,
            synced: None,
            fetched: Some(Arc::new(fetched)),
            changed: true,
            kept: false,
        }
    }

    /// The same at kubelet's next call: nothing is new, and no file is at hand.
    fn again(&self, name: &str, uid: &str, version: &str) -> Look {
        Look { fetched: None, changed: false, ..self.look(name, uid, version) }
    }

    /// A pod of a ReplicaSet.
    fn pod_of(&self, name: &str, uid: &str, owner: &str) {
        self.server.set_pod("shop", name, uid, &[replica_set(owner)]);
    }

    fn secret(&self) -> Option<Value> {
        self.server.object(Resource::Secrets, "shop", "app")
    }

    /// Waits for the Secret to be so.
    async fn secret_is(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        soon(what, self.until(|server| server.object(Resource::Secrets, "shop", "app").is_some_and(|it| is_so(&it))))
            .await;
        self.secret().unwrap()
    }

    /// Waits for an event with this in its message.
    async fn told(&self, part: &str) -> String {
        let said = || {
            let events = self.server.events();
            events.iter().filter_map(|event| event["message"].as_str()).find(|it| it.contains(part)).map(str::to_owned)
        };
        soon(part, self.until(|_| said().is_some())).await;
        let said = said().unwrap();
        assert!(!said.contains("canary"), "{said}");
        said
    }

    /// Waits until everything is done that was put.
    async fn settled(&self, syncer: &Syncer) {
        soon("the Secrets", self.until(|_| syncer.pending() == 0)).await;
    }

    /// Requests about the one Secret of these tests: reads, writes.
    fn requests(&self) -> (usize, usize) {
        let about = self.server.entries().into_iter().filter(|entry| entry.target.resource == Resource::Secrets);
        let about: Vec<_> = about.filter(|entry| entry.target.namespace == "shop").collect();
        assert!(about.iter().all(|entry| entry.metadata_only), "somebody asked for what a Secret holds");
        let (reads, writes): (Vec<_>, Vec<_>) = about.iter().partition(|entry| entry.target.verb == Verb::Get);
        (reads.len(), writes.len())
    }
}

fn is_owned(secret: &Value) -> bool {
    !secret["metadata"]["ownerReferences"].is_null()
}

#[tokio::test]
async fn a_secret_is_made_with_its_type_label_value_and_owner() {
    let world = World::new().await;
    world.pod_of("p", "u1", "rs1");
    let mut look = world.look("p", "u1", "1");
    let labelled = SecretObject {
        kind: "example.com/own".into(),
        labels: [("l".to_owned(), "1".to_owned())].into(),
        annotations: [("a".to_owned(), "2".to_owned())].into(),
        ..wanted(&["key"])
    };
    look.wanted = Arc::new([labelled]);
    world.syncer(&["example.com/own"]).put(look);
    let secret = world.secret_is("the Secret", is_owned).await;
    assert_eq!(secret["type"], "example.com/own");
    assert_eq!(secret["data"], json!({"key": of("canary-1")}));
    assert_eq!(secret["metadata"]["labels"], json!({"l": "1", MANAGED: "true"}));
    assert_eq!(secret["metadata"]["annotations"], json!({"a": "2"}));
    assert_eq!(secret["metadata"]["ownerReferences"], json!([replica_set("rs1")]));
}

#[tokio::test]
async fn whoever_waits_for_a_secret_goes_on_when_it_is_there_and_owned_or_cannot_be() {
    let world = World::new().await;
    let syncer = world.syncer(&[]);
    world.pod_of("p", "u1", "rs1");
    soon("the Secret", syncer.put_and_wait(world.look("p", "u1", "1"), FOREVER)).await;
    assert!(is_owned(&world.secret().unwrap()));
    world.server.remove(Resource::Secrets, "shop", "app");
    world.server.set(Resource::Secrets, "shop", "app", &json!({"data": {"a": "MQ=="}}));
    world.pod_of("q", "u2", "rs2");
    soon("the refusal", syncer.put_and_wait(world.look("q", "u2", "2"), FOREVER)).await;
    let is_off = world.syncer_with(SyncSettings { enabled: false, types: BTreeSet::new() });
    soon("nothing", is_off.put_and_wait(world.look("q", "u2", "2"), FOREVER)).await;
}

#[tokio::test]
async fn a_pod_without_owners_gets_its_secret_when_its_pod_status_is_written() {
    let world = World::new().await;
    world.server.set_pod("shop", "p", "u1", &[]);
    let syncer = world.syncer(&[]);
    let waiting = async { syncer.put_and_wait(world.look("p", "u1", "1"), FOREVER).await };
    let writing = async {
        world.server.log().answered(Verb::Get, Resource::PodStatuses, 1).await;
        world.server.set(Resource::PodStatuses, "shop", "p-shop-kv", &pod_status_of("u1"));
        syncer.pod_status_written("csi-u1");
    };
    soon("the Secret", async { tokio::join!(waiting, writing) }).await;
    assert_eq!(world.secret().unwrap()["metadata"]["ownerReferences"][0]["name"], "p-shop-kv");
}

#[tokio::test]
async fn twenty_volumes_of_one_owner_are_two_writes_then_none_then_one() {
    let world = World::new().await;
    let syncer = world.syncer(&[]);
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    for name in &names {
        world.pod_of(name, name, "rs1");
        syncer.put(world.look(name, name, "1"));
    }
    world.settled(&syncer).await;
    assert_eq!(world.requests(), (1, 2), "values, and the owner");
    world.server.log().clear();
    for name in &names {
        syncer.put(world.again(name, name, "1"));
    }
    world.settled(&syncer).await;
    assert_eq!(world.requests(), (0, 0));
    for name in &names {
        syncer.put(world.look(name, name, "2"));
    }
    world.settled(&syncer).await;
    assert_eq!(world.requests().1, 1, "one for all of them");
    assert_eq!(world.secret().unwrap()["data"], json!({"key": of("canary-2")}));
}

#[tokio::test]
async fn whether_it_is_there_is_asked_once_a_minute_from_the_cache() {
    let world = World::new().await;
    let syncer = world.syncer(&[]);
    for name in ["p", "q"] {
        world.pod_of(name, name, "rs1");
        syncer.put(world.look(name, name, "1"));
    }
    world.settled(&syncer).await;
    world.server.log().clear();
    for _ in 0..3 {
        pass(CHECK).await;
        for name in ["p", "q", "p"] {
            syncer.put(world.again(name, name, "1"));
        }
        world.settled(&syncer).await;
    }
    assert_eq!(world.requests(), (3, 0));
    let of_it = |entry: &&Entry| entry.target.name == "app";
    assert!(world.server.entries().iter().filter(of_it).all(|entry| entry.cached));
}

#[tokio::test]
async fn nodes_with_other_files_do_not_fight() {
    let world = World::new().await;
    let nodes = [world.syncer(&[]), world.syncer(&[]), world.syncer(&[])];
    for (number, node) in nodes.iter().enumerate() {
        let name = format!("p{number}");
        world.pod_of(&name, &name, "rs1");
        node.put(world.look(&name, &name, "1"));
        world.settled(node).await;
    }
    // Values by each node, the owner by the first: the others see it.
    assert_eq!(world.requests().1, 4);
    nodes[0].put(world.look("p0", "p0", "2"));
    world.settled(&nodes[0]).await;
    world.server.log().clear();
    for _ in 0..3 {
        pass(CHECK).await;
        for (number, node) in nodes.iter().enumerate() {
            let name = format!("p{number}");
            node.put(world.again(&name, &name, if number == 0 { "2" } else { "1" }));
            world.settled(node).await;
        }
    }
    assert_eq!(world.requests().1, 0, "older files are no reason to write");
    assert_eq!(world.secret().unwrap()["data"], json!({"key": of("canary-2")}));
}

#[tokio::test]
async fn files_of_an_offline_start_are_no_reason_to_write_but_for_a_secret_that_is_absent() {
    let world = World::new().await;
    let nodes = [world.syncer(&[]), world.syncer(&[])];
    for name in ["p", "q"] {
        world.pod_of(name, name, name);
    }
    let kept = |version| Look { kept: true, ..world.look("q", "q", version) };
    nodes[0].put(world.look("p", "p", "2"));
    world.settled(&nodes[0]).await;
    nodes[1].put(kept("1"));
    world.settled(&nodes[1]).await;
    let secret = world.secret().unwrap();
    assert_eq!(secret["data"], json!({"key": of("canary-2")}));
    assert_eq!(secret["metadata"]["ownerReferences"], json!([replica_set("p"), replica_set("q")]));
    assert!(world.server.remove(Resource::Secrets, "shop", "app"));
    pass(CHECK).await;
    nodes[1].put(kept("1"));
    let made = world.secret_is("made anew", |secret| secret["data"] == json!({"key": of("canary-1")})).await;
    assert_eq!(made["type"], "Opaque");
    world.settled(&nodes[1]).await;
    // Confirmed by the store, they are as good as any: nothing is to be written.
    world.server.log().clear();
    nodes[1].put(world.again("q", "q", "1"));
    world.settled(&nodes[1]).await;
    assert_eq!(world.requests().1, 0);
}

#[tokio::test]
async fn owners_of_several_nodes_stay_beside_each_other_and_the_secret_goes_with_the_last() {
    let world = World::new().await;
    for (name, owner) in [("p", "rs1"), ("q", "rs2")] {
        world.pod_of(name, name, owner);
        let node = world.syncer(&[]);
        node.put(world.look(name, name, "1"));
        world.settled(&node).await;
    }
    let owners = world.secret().unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners, json!([replica_set("rs1"), replica_set("rs2")]));
    world.server.collect("rs1");
    assert!(world.secret().is_some());
    world.server.collect("rs2");
    assert!(world.secret().is_none());
}

#[tokio::test]
async fn the_secret_of_a_pod_without_owners_belongs_to_its_pod_status_as_soon_as_that_is_there() {
    let world = World::new().await;
    world.server.set_pod("shop", "p", "u1", &[]);
    // One of an earlier pod of the same name, which is about to go, is not taken for it.
    world.server.set(Resource::PodStatuses, "shop", "p-shop-kv", &pod_status_of("u0"));
    let syncer = world.syncer(&[]);
    syncer.put(world.look("p", "u1", "1"));
    soon("a look for the pod status", world.server.log().answered(Verb::Get, Resource::PodStatuses, 2)).await;
    assert!(world.secret().is_none(), "nothing is made that nobody would own");
    world.server.set(Resource::PodStatuses, "shop", "p-shop-kv", &pod_status_of("u1"));
    pass(Duration::from_secs(2)).await;
    // It is tried again without its files at hand; kubelet's call brings newer ones.
    syncer.put(world.look("p", "u1", "2"));
    let secret = world.secret_is("the Secret", is_owned).await;
    let status = world.server.pod_status("shop", "p-shop-kv").unwrap();
    let owner = &secret["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("SecretProviderClassPodStatus"), &status["metadata"]["uid"]));
}

#[tokio::test]
async fn a_pod_that_is_gone_or_another_one_gets_no_secret() {
    let world = World::new().await;
    world.pod_of("q", "another-uid", "rs1");
    let syncer = world.syncer(&[]);
    for name in ["p", "q"] {
        syncer.put(world.look(name, name, "1"));
    }
    world.settled(&syncer).await;
    assert!(world.secret().is_none());
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_labelled_or_not() {
    for labels in [json!({}), json!({MANAGED: "true"})] {
        let world = World::new().await;
        let theirs = json!({"metadata": {"labels": labels}, "type": "Opaque", "data": {"theirs": "MQ=="}});
        world.server.set(Resource::Secrets, "shop", "app", &theirs);
        let before = world.secret();
        world.pod_of("p", "u1", "rs1");
        let syncer = world.syncer(&[]);
        syncer.put(world.look("p", "u1", "1"));
        let said = world.told("left as it is").await;
        assert!(said.contains("`app`") && said.contains("delete it"), "{said}");
        for _ in 0..3 {
            pass(CHECK).await;
            syncer.put(world.again("p", "u1", "1"));
            world.settled(&syncer).await;
        }
        assert_eq!(world.requests().1, 0);
        assert_eq!(world.secret(), before);
        let reads = world.requests().0;
        assert!(reads <= 4, "no storm: {reads}");
    }
}

#[tokio::test]
async fn a_secret_of_the_other_driver_is_adopted_with_its_owners_and_keys_that_are_not_wanted_go() {
    let world = World::new().await;
    let theirs = json!({
        "metadata": {"labels": {MANAGED: "true", "old": "1"}, "ownerReferences": [replica_set("rs0")]},
        "type": "Opaque", "data": {"key": "MQ==", "old": "MQ=="},
    });
    world.server.set_as(OTHER_DRIVER, Resource::Secrets, "shop", "app", &theirs);
    world.pod_of("p", "u1", "rs1");
    let syncer = world.syncer(&[]);
    syncer.put(world.look("p", "u1", "1"));
    world.settled(&syncer).await;
    let secret = world.secret().unwrap();
    assert_eq!(secret["data"], json!({"key": of("canary-1")}));
    assert_eq!(secret["metadata"]["labels"], json!({MANAGED: "true"}));
    assert_eq!(secret["metadata"]["ownerReferences"], json!([replica_set("rs0"), replica_set("rs1")]));
    assert_eq!(world.requests().1, 3, "taking over, values, the owner");
}

#[tokio::test]
async fn keys_that_the_class_no_longer_has_go_and_what_others_added_stays() {
    let world = World::new().await;
    world.pod_of("p", "u1", "rs1");
    let syncer = world.syncer(&[]);
    syncer.put(Look { wanted: Arc::new([wanted(&["key", "old"])]), ..world.look("p", "u1", "1") });
    let mut secret = world.secret_is("both keys", is_owned).await;
    secret["metadata"]["annotations"] = json!({"theirs": "1"});
    secret["data"]["added"] = json!("MQ==");
    world.server.set(Resource::Secrets, "shop", "app", &secret);
    let files = world.look("p", "u1", "1").fetched;
    syncer.put(Look { fetched: files, ..world.again("p", "u1", "1") });
    world.settled(&syncer).await;
    let secret = world.secret().unwrap();
    assert_eq!(secret["data"], json!({"key": of("canary-1"), "added": "MQ=="}));
    assert_eq!(secret["metadata"]["annotations"], json!({"theirs": "1"}));
}

#[tokio::test]
async fn an_immutable_secret_and_another_type_are_told_once_and_not_stormed() {
    let change_type = |look: &mut Look| {
        look.wanted = Arc::new([SecretObject { kind: "kubernetes.io/basic-auth".into(), ..wanted(&["username"]) }]);
    };
    for is_type in [true, false] {
        let world = World::new().await;
        world.pod_of("p", "u1", "rs1");
        let syncer = world.syncer(&[]);
        syncer.put(world.look("p", "u1", "1"));
        let mut secret = world.secret_is("the Secret", is_owned).await;
        let mut look = world.look("p", "u1", "2");
        if is_type {
            change_type(&mut look);
        } else {
            secret["immutable"] = json!(true);
            world.server.set(Resource::Secrets, "shop", "app", &secret);
        }
        let before = world.requests().1;
        let wanted = look.wanted.clone();
        syncer.put(look);
        let said = world.told("immutable").await;
        assert!(said.contains("delete the Secret"), "{said}");
        for _ in 0..3 {
            pass(CHECK).await;
            syncer.put(Look { wanted: wanted.clone(), ..world.again("p", "u1", "2") });
            world.settled(&syncer).await;
        }
        assert_eq!(world.requests().1 - before, 1);
    }
}

#[tokio::test]
async fn an_owner_never_makes_a_secret_that_is_gone() {
    let world = World::new().await;
    world.pod_of("p", "p", "rs1");
    world.pod_of("q", "q", "rs2");
    let syncer = world.syncer(&[]);
    syncer.put(world.look("p", "p", "1"));
    world.secret_is("the Secret", is_owned).await;
    world.settled(&syncer).await;
    world.server.remove(Resource::Secrets, "shop", "app");
    // The same content, just written as far as the node knows; only its owner is new.
    syncer.put(world.look("q", "q", "1"));
    soon("the owner's apply", world.server.log().answered(Verb::Patch, Resource::Secrets, 3)).await;
    assert!(world.secret().is_none(), "an empty one was made");
    // What was refused is tried again without its files at hand; kubelet's call brings them.
    syncer.put(world.look("q", "q", "1"));
    let secret = world.secret_is("the Secret", is_owned).await;
    assert_eq!(secret["data"], json!({"key": of("canary-1")}));
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_rule_and_the_setting() {
    let world = World::new().await;
    world.server.enforce(Some(super::rights::shipped()));
    world.pod_of("p", "u1", "rs1");
    world.syncer(&[]).put(world.look("p", "u1", "1"));
    let said = world.told("rbac-sync.yaml").await;
    assert!(said.contains("syncSecrets.enabled"), "{said}");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_a_mistake_in_one_secret_is_no_reason_to_leave_out_another() {
    let world = World::new().await;
    world.pod_of("p", "u1", "rs1");
    world.server.inject(Matcher::of(Verb::Get, Resource::Pods), Fault::failing(503, None), Times::ONCE);
    let syncer = world.syncer(&[]);
    let missing = SecretObject {
        secret_name: "none".into(),
        data: vec![SecretData { object_name: "none".into(), key: "k".into() }],
        ..wanted(&[])
    };
    let look = || Look { wanted: Arc::new([missing.clone(), wanted(&["key"])]), ..world.look("p", "u1", "1") };
    syncer.put(look());
    soon("the failure", world.server.log().answered(Verb::Get, Resource::Pods, 1)).await;
    syncer.put(look());
    world.secret_is("the good one", is_owned).await;
    let said = world.told("not found in the pod").await;
    assert!(said.contains("shop/kv") && said.contains("none"), "{said}");
}

#[tokio::test]
async fn where_it_is_off_nobody_is_asked_and_the_pod_is_told_once() {
    let world = World::new().await;
    world.pod_of("p", "u1", "rs1");
    let syncer = world.syncer_with(SyncSettings { enabled: false, types: BTreeSet::new() });
    syncer.put(world.look("p", "u1", "1"));
    let said = world.told("syncSecrets.enabled").await;
    assert!(said.contains("`kv`"), "{said}");
    syncer.put(world.again("p", "u1", "1"));
    syncer.put(world.look("p", "u1", "2"));
    assert_eq!(world.requests(), (0, 0));
    assert_eq!(world.server.events().len(), 1);
}
