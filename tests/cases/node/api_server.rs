//! The API server is away, slow, busy or says no. Pods get their volumes wherever that can be right, and nothing waits for
//! what may come later.

use std::time::Duration;

use coffer_tests::harness::apiserver::{Fault, Matcher, Resource, Verb};
use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{RetryAfter, Times};
use tonic::Code;

use super::patience::in_time;
use super::world::{CLASS, SECRET, Setup, VALUE, World, objects, pod, said, volume};

/// How long kubelet waits where it will not get anything.
const SHORT: Duration = Duration::from_secs(3);

fn reads() -> Matcher {
    Matcher::of(Verb::Get, Resource::Classes)
}

fn statuses() -> Matcher {
    Matcher::on(Resource::PodStatuses)
}

#[tokio::test]
async fn without_an_api_server_a_class_that_is_not_known_cannot_be_mounted_and_kubelet_asks_again() {
    let world = World::new().await;
    world.api.go_away().await;
    let pod = pod("web");
    let error = world.kubelet.publish_within(&pod, "secrets", SHORT).await.unwrap_err();
    assert!(matches!(said(&error).code(), Code::Unavailable | Code::DeadlineExceeded), "{error}");
    assert!(said(&error).message().contains("secretproviderclass default/kv"), "{error}");
    world.assert_gone(&pod);
    world.api.come_back().unwrap();
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
}

#[tokio::test]
async fn without_an_api_server_a_class_that_is_known_is_good_for_an_hour() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    world.api.go_away().await;
    world.advance(600);
    let second = pod("second");
    world.publish(&second).await;
    assert_eq!(world.file(&second, SECRET), VALUE);
    world.publish(&pod("first")).await;
    world.advance(3600);
    let third = pod("third");
    let error = world.kubelet.publish_within(&third, "secrets", SHORT).await.unwrap_err();
    assert!(matches!(said(&error).code(), Code::Unavailable | Code::DeadlineExceeded), "{error}");
    world.assert_gone(&third);
    world.api.come_back().unwrap();
    world.publish(&third).await;
    // What could not be told then is told now.
    world.status(&second).await;
}

#[tokio::test]
async fn a_class_that_may_not_be_read_any_more_is_not_mounted_though_it_is_known() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    world.advance(61);
    world.api.inject(reads(), Fault::Forbidden, Times::Always);
    let parts = ["failed to get secretproviderclass default/kv", "forbidden"];
    world.refused(&pod("second"), Code::PermissionDenied, &parts).await;
    world.api.clear_faults();
    world.publish(&pod("second")).await;
}

#[tokio::test]
async fn a_class_that_is_gone_is_not_mounted_though_it_was_known() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    world.api.class("default", CLASS).delete();
    world.advance(61);
    world.refused(&pod("second"), Code::NotFound, &["secretproviderclass default/kv", "not found"]).await;
}

#[tokio::test]
async fn a_server_that_stumbles_once_is_asked_again() {
    let world = World::new().await;
    let faults = [
        Fault::throttled(Some(RetryAfter::Seconds(1))),
        Fault::failing(500, None),
        Fault::failing(503, None),
        Fault::Close,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        world.advance(61);
        world.api.inject(reads(), fault, Times::ONCE);
        world.publish(&pod(&format!("web-{number}"))).await;
    }
}

#[tokio::test]
async fn a_server_that_stumbles_always_is_done_without_where_the_class_is_known() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    for (number, fault) in
        [Fault::throttled(None), Fault::failing(500, None), Fault::failing(504, None), Fault::Close, Fault::Stall]
            .into_iter()
            .enumerate()
    {
        world.advance(61);
        world.api.inject(reads(), fault, Times::Always);
        let pod = pod(&format!("web-{number}"));
        world.publish(&pod).await;
        assert_eq!(world.file(&pod, SECRET), VALUE);
        world.api.clear_faults();
    }
}

#[tokio::test]
async fn a_class_that_the_cache_of_the_server_does_not_have_yet_is_found() {
    let world = World::new().await;
    world.api.freeze_cache();
    world.put_class("new", &objects(&[SECRET]));
    let pod = Pod::new("web").volume(volume("new"));
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    let none = Pod::new("none").volume(volume("none"));
    world.refused(&none, Code::NotFound, &["default/none"]).await;
}

#[tokio::test]
async fn many_pods_of_one_class_read_it_once() {
    let world = World::new().await;
    let pods: Vec<Pod> = (0..50).map(|n| pod(&format!("web-{n}"))).collect();
    futures_util::future::join_all(pods.iter().map(|pod| world.publish(pod))).await;
    let reads = world.api.counters().of(Verb::Get, Resource::Classes);
    // One a second at most, and they take no longer than that.
    assert!(reads <= 5, "{reads}");
}

#[tokio::test]
async fn a_mount_does_not_wait_for_the_pod_status_and_the_status_comes_when_it_can() {
    let world = World::new().await;
    let faults = [
        Fault::Stall,
        Fault::Close,
        Fault::CloseAfter,
        Fault::Forbidden,
        Fault::failing(409, None),
        Fault::throttled(None),
        Fault::failing(500, None),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        world.api.inject(statuses(), fault, Times::Always);
        let pod = pod(&format!("web-{number}"));
        world.publish(&pod).await;
        assert_eq!(world.file(&pod, SECRET), VALUE);
        let tried = || world.api.counters().of(Verb::Patch, Resource::PodStatuses) > 0;
        super::patience::eventually("a try", || tried().then_some(())).await;
        world.api.clear_faults();
        world.api.log().clear();
        world.while_time_passes("the pod status", world.status(&pod)).await;
    }
}

#[tokio::test]
async fn a_pod_status_of_another_driver_is_taken_over() {
    let world = World::new().await;
    let pod = pod("web");
    let before = serde_json::json!({
        "metadata": {
            "labels": {"internal.secrets-store.csi.k8s.io/node-name": "another-node"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "a-uid-of-before"}],
        },
        "status": {
            "podName": "web", "secretProviderClassName": CLASS, "mounted": true, "targetPath": "/elsewhere",
            "objects": [{"id": "secret/Gone", "version": "1"}],
        },
    });
    world.api.set_as("secrets-store-csi", Resource::PodStatuses, "default", "web-default-kv", &before);
    world.publish(&pod).await;
    let target = world.target(&pod).display().to_string();
    let status = world.status_of(&pod, CLASS, |status| status["status"]["targetPath"] == target.as_str()).await;
    let objects = status["status"]["objects"].as_array().unwrap();
    assert_eq!((objects.len(), objects[0]["id"].as_str()), (1, Some("secret/DemoSecret")));
    assert!(status["metadata"]["ownerReferences"].as_array().unwrap().iter().any(|owner| owner["uid"] == pod.uid()));
}

#[tokio::test]
async fn a_pod_status_that_somebody_deleted_comes_back_with_the_next_change() {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.status(&pod).await;
    world.api.remove(Resource::PodStatuses, "default", "web-default-kv");
    world.vault.secret(SECRET).set("canary of the second value");
    world.advance(70);
    world.status(&pod).await;
}

#[tokio::test]
async fn events_that_cannot_be_sent_are_dropped() {
    let world = World::with(Setup::rotating("1m")).await;
    let pod = pod("web");
    world.publish(&pod).await;
    world.api.inject(Matcher::on(Resource::Events), Fault::Forbidden, Times::Always);
    world.vault.secret(SECRET).set("canary of the second value");
    world.advance(70);
    let newer = || (world.file(&pod, SECRET) == "canary of the second value").then_some(());
    super::patience::eventually("the newer secret", newer).await;
    world.publish(&pod).await;
    world.unpublish(&pod).await;
}

#[tokio::test]
async fn a_slow_server_delays_a_first_mount_by_one_read_and_nothing_else() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    world.api.log().clear();
    world.api.inject(statuses(), Fault::Stall, Times::Always);
    world.api.inject(Matcher::on(Resource::Events), Fault::Stall, Times::Always);
    world.advance(61);
    in_time("the second pod", world.publish(&pod("second"))).await;
    assert_eq!(world.api.counters().of(Verb::Get, Resource::Classes), 1);
    in_time("the second pod to go", world.unpublish(&pod("second"))).await;
}
