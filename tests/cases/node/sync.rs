//! Kubernetes Secrets under the real program: made with the mount, kept in step, and brought back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_tests::harness::apiserver::{Resource, Verb};
use coffer_tests::harness::kubelet::Pod;
use serde_json::{Value, json};

use super::patience::eventually;
use super::world::{CLASS, SECRET, Setup, VALUE, World, azure, objects, pod};
use crate::kube::rights;

const NEWER: &str = "canary of the second value";
/// More than an interval of a minute, and more than a Secret is taken to be there.
const DUE: u64 = 80;

fn setup() -> Setup {
    Setup { config: "syncSecrets: {enabled: true}".into(), ..Setup::rotating("1m") }
}

/// A node that makes Secrets, and a class that wants one.
async fn syncing() -> World {
    syncing_with(setup()).await
}

async fn syncing_with(setup: Setup) -> World {
    let world = World::idle(setup).await;
    world.api.enforce(Some(rights::with_sync()));
    want(&world, &["password"]);
    world.start().await;
    world
}

/// Lets the class ask for the Secret `app` with these keys, all of the one file.
fn want(world: &World, keys: &[&str]) {
    let data: Vec<Value> = keys.iter().map(|key| json!({"objectName": SECRET, "key": key})).collect();
    let parameters: serde_json::Map<String, Value> =
        azure(&objects(&[SECRET])).into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    world.api.class("default", CLASS).put_spec(&json!({
        "provider": "azure", "parameters": parameters,
        "secretObjects": [{"secretName": "app", "type": "Opaque", "data": data}],
    }));
}

/// A pod of a ReplicaSet, which the API server knows.
fn pod_of_set(world: &World, name: &str) -> Pod {
    let pod = pod(name);
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs1"});
    world.api.set_pod("default", name, pod.uid(), &[owner]);
    pod
}

fn secret(world: &World) -> Option<Value> {
    world.api.object(Resource::Secrets, "default", "app")
}

fn of(value: &str) -> Value {
    json!(STANDARD.encode(value))
}

async fn holds(world: &World, data: Value) -> Value {
    let find =
        || secret(world).filter(|secret| secret["data"] == data && !secret["metadata"]["ownerReferences"].is_null());
    eventually("the Secret", find).await
}

/// Waits until the ledger of a volume says that its Secrets are in step.
async fn remembered(world: &World, volumes: usize) {
    let count = || {
        let entries = std::fs::read_dir(world.state()).unwrap();
        let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
        texts.filter(|text| text.contains("\"synced\":\"")).count()
    };
    eventually("the ledger", || (count() == volumes).then_some(())).await;
}

fn writes(world: &World) -> u64 {
    world.api.counters().of(Verb::Patch, Resource::Secrets)
}

#[tokio::test]
async fn a_secret_is_made_with_the_mount_and_follows_the_files() {
    let world = syncing().await;
    let pod = pod_of_set(&world, "web");
    world.publish(&pod).await;
    let made = holds(&world, json!({"password": of(VALUE)})).await;
    assert_eq!(made["metadata"]["labels"], json!({"secrets-store.csi.k8s.io/managed": "true"}));
    assert_eq!(world.metric("sync_k8s_secret_total", &["provider=\"azure\""]), 1.0);
    assert_eq!(world.metric("k8s_secret_duration_sec_count", &[]), 1.0);
    world.vault.secret(SECRET).set(NEWER);
    world.advance(DUE);
    holds(&world, json!({"password": of(NEWER)})).await;
    assert_eq!(writes(&world), 3, "values, the owner, values");
    world.unpublish(&pod).await;
    assert!(secret(&world).is_some(), "its owner is still there");
}

#[tokio::test]
async fn a_secret_that_somebody_deletes_comes_back_from_the_files_of_the_volume_without_the_vault() {
    let world = syncing_with(Setup { rotation: None, ..setup() }).await;
    let pod = pod_of_set(&world, "web");
    world.publish(&pod).await;
    holds(&world, json!({"password": of(VALUE)})).await;
    remembered(&world, 1).await;
    world.emulator.log().clear();
    assert!(world.api.remove(Resource::Secrets, "default", "app"));
    world.advance(DUE);
    world.publish(&pod).await;
    holds(&world, json!({"password": of(VALUE)})).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn an_edit_of_what_the_class_wants_is_followed_though_no_file_changed() {
    let world = syncing().await;
    let pod = pod_of_set(&world, "web");
    world.publish(&pod).await;
    holds(&world, json!({"password": of(VALUE)})).await;
    want(&world, &["other", "password"]);
    world.advance(DUE);
    world.publish(&pod).await;
    holds(&world, json!({"other": of(VALUE), "password": of(VALUE)})).await;
    want(&world, &["other"]);
    world.advance(DUE);
    world.publish(&pod).await;
    holds(&world, json!({"other": of(VALUE)})).await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_written_that_is_there_already() {
    let world = syncing().await;
    let pods = [pod_of_set(&world, "web-1"), pod_of_set(&world, "web-2")];
    for pod in &pods {
        world.publish(pod).await;
    }
    holds(&world, json!({"password": of(VALUE)})).await;
    remembered(&world, 2).await;
    assert_eq!(writes(&world), 2);
    world.restart().await;
    for pod in &pods {
        world.publish(pod).await;
    }
    // It looks once whether the Secret is there.
    world.api.log().answered(Verb::Get, Resource::Secrets, 2).await;
    world.api_caught_up().await;
    assert_eq!(writes(&world), 2);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_and_the_pod_runs_all_the_same() {
    let world = syncing().await;
    let theirs = json!({"metadata": {"labels": {"secrets-store.csi.k8s.io/managed": "true"}}, "data": {"a": "MQ=="}});
    world.api.set(Resource::Secrets, "default", "app", &theirs);
    let pod = pod_of_set(&world, "web");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    let event = world.event(&pod, "FailedToCreateSecret").await;
    assert!(event["message"].as_str().unwrap().contains("`app`"), "{event}");
    assert_eq!(writes(&world), 0);
    eventually("the metric", || {
        (world.metric("coffer_synced_secrets_total", &["outcome=\"foreign\""]) == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_it_is_off_the_pod_runs_and_is_told_how_to_turn_it_on() {
    let world = World::new().await;
    want(&world, &["password"]);
    let pod = pod("web");
    world.publish(&pod).await;
    let event = world.event(&pod, "FailedToCreateSecret").await;
    assert!(event["message"].as_str().unwrap().contains("syncSecrets.enabled"), "{event}");
    assert!(secret(&world).is_none());
}

#[tokio::test]
async fn an_api_server_that_does_not_take_secrets_keeps_no_pod_from_its_files() {
    let world = syncing().await;
    let stall = coffer_tests::harness::apiserver::Fault::Stall;
    let secrets = coffer_tests::harness::apiserver::Matcher::on(Resource::Secrets);
    world.api.inject(secrets, stall, coffer_tests::harness::Times::Always);
    let pod = pod_of_set(&world, "web");
    world.publish(&pod).await;
    world.api.log().arrived(Verb::Get, Resource::Secrets, 1).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}
