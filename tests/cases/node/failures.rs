//! A first publish that does not work: nothing is left of it, and the answer says which object is wrong and what to do.
//!
//! That nothing is left, that no part of a message comes twice and that no secret is in it, [`World::refused`] asserts.

use std::time::Duration;

use coffer_tests::harness::kubelet::{Pod, Volume, is_final};
use coffer_tests::harness::{Fault, Kind, Matcher, RetryAfter, Times};
use serde_json::json;
use tonic::Code;

use super::world::{
    CLASS, CLIENT_ID, CLIENT_SECRET, SECRET, Setup, TENANT, VALUE, VAULT, World, azure, objects, pod, said,
    status_name, url_of, volume,
};

/// With as many requests as it needs, a call has none for retries, and no wait for one.
async fn without_retries() -> World {
    World::with(Setup { limits: "requests: 2".to_owned(), ..Setup::default() }).await
}

/// Nothing is remembered or told of a volume that there never was, and kubelet's next call starts from nothing.
async fn assert_forgotten(world: &World, pod: &Pod, reason: &str) {
    world.remembers(0).await;
    assert!(world.metric("node_publish_error_total", &[&format!("error_type=\"{reason}\"")]) >= 1.0, "{reason}");
    world.api_caught_up().await;
    assert!(world.api.pod_status(pod.namespace_name(), &status_name(pod, CLASS)).is_none());
    world.kubelet.remove_pod(pod).unwrap();
}

#[tokio::test]
async fn a_class_that_does_not_exist_is_named() {
    let world = World::new().await;
    let pod = Pod::new("web").volume(volume("none"));
    world.refused(&pod, Code::NotFound, &["failed to get secretproviderclass default/none", "not found"]).await;
    assert_forgotten(&world, &pod, "SecretProviderClassNotFound").await;
}

#[tokio::test]
async fn a_class_of_another_namespace_is_none() {
    let world = World::new().await;
    let pod = pod("web").namespace("other");
    world.refused(&pod, Code::NotFound, &["failed to get secretproviderclass other/kv"]).await;
}

#[tokio::test]
async fn a_provider_that_nobody_granted_is_named_with_those_that_there_are() {
    let world = World::new().await;
    world.api.class("default", CLASS).put("azzure", &azure(&objects(&[SECRET])));
    world.refused(&pod("web"), Code::FailedPrecondition, &[CLASS, "azzure", "azure"]).await;
}

#[tokio::test]
async fn a_class_without_provider_or_parameters_is_named() {
    let world = World::new().await;
    for (spec, what) in [
        (json!({"parameters": {"keyvaultName": "x"}}), "provider"),
        (json!({"provider": "azure"}), "parameters"),
        (json!({"provider": "azure", "parameters": {}}), "parameters"),
    ] {
        world.api.class("default", CLASS).put_spec(&spec);
        world.refused(&pod("web"), Code::InvalidArgument, &[CLASS, what]).await;
        world.advance(10);
    }
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_refused_without_a_request() {
    let world = World::new().await;
    let parameters = [("keyVaultName", VAULT), ("tenantId", TENANT), ("objects", "array: []")];
    world.api.class("default", CLASS).put("azure", &parameters);
    world.refused(&pod("web"), Code::InvalidArgument, &[CLASS, "did you mean `keyvaultName`?"]).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn a_pod_without_credentials_is_told_to_name_a_secret() {
    let world = World::new().await;
    let pod = Pod::new("web").mounts(CLASS);
    world.refused(&pod, Code::InvalidArgument, &[CLASS, "nodePublishSecretRef"]).await;
}

#[tokio::test]
async fn a_wrong_client_secret_is_unauthenticated() {
    let world = World::new().await;
    let wrong = [("clientid", CLIENT_ID), ("clientsecret", "canary that is wrong")];
    let pod = Pod::new("web").volume(Volume::new("secrets", CLASS).secret(&wrong));
    world.refused(&pod, Code::Unauthenticated, &[CLASS, "the client secret is wrong", "AADSTS7000215"]).await;
    assert_forgotten(&world, &pod, "Unauthenticated").await;
}

#[tokio::test]
async fn a_vault_that_forbids_is_permission_denied_and_says_which_permission() {
    let world = World::new().await;
    world.vault.deny(CLIENT_ID);
    let parts = [CLASS, "secret/DemoSecret", "the permission Get for secrets"];
    world.refused(&pod("web"), Code::PermissionDenied, &parts).await;
    assert_forgotten(&world, &pod("web"), "PermissionDenied").await;
}

#[tokio::test]
async fn an_object_that_is_not_in_the_vault_is_named_and_keeps_all_others_out() {
    let world = World::new().await;
    world.put_class(CLASS, &objects(&[SECRET, "absent"]));
    world.refused(&pod("web"), Code::NotFound, &["secret/absent"]).await;
    assert_forgotten(&world, &pod("web"), "NotFound").await;
}

#[tokio::test]
async fn a_vault_that_asks_to_slow_down_is_resource_exhausted() {
    let world = World::new().await;
    let fault = Fault::throttled(Some(RetryAfter::Seconds(3600)));
    world.emulator.inject(Matcher::kind(Kind::GetSecret), fault, Times::Always);
    let pod = pod("web");
    world.refused(&pod, Code::ResourceExhausted, &[CLASS, "the vault asks to slow down"]).await;
    assert_eq!(world.gets(), 1, "an hour is not waited for");
    world.emulator.clear_faults();
    // A minute is the longest time for which a vault is left alone.
    world.advance(65);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE, "a failure is not reused");
}

#[tokio::test]
async fn a_vault_and_a_sign_in_with_problems_of_their_own_are_unavailable() {
    let world = without_retries().await;
    for kind in [Kind::GetSecret, Kind::Token] {
        world.emulator.inject(Matcher::kind(kind), Fault::unavailable(None), Times::Always);
        world.refused(&pod("web"), Code::Unavailable, &[CLASS, "503"]).await;
        world.emulator.clear_faults();
    }
    assert_forgotten(&world, &pod("web"), "Unavailable").await;
}

#[tokio::test]
async fn a_vault_that_is_silent_is_given_up_in_time_and_kubelet_may_ask_again() {
    let world = World::with(Setup { limits: "deadline: 1s".to_owned(), ..Setup::default() }).await;
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Stall, Times::Always);
    let pod = pod("web");
    let error = world.kubelet.publish(&pod, "secrets").await.unwrap_err();
    assert!(!is_final(said(&error).code()), "{error}");
    assert!(said(&error).message().contains(CLASS), "{error}");
    world.assert_gone(&pod);
    world.emulator.clear_faults();
    world.publish(&pod).await;
}

#[tokio::test]
async fn kubelets_deadline_is_kept() {
    let world = World::new().await;
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Stall, Times::Always);
    let pod = pod("web");
    let error = world.kubelet.publish_within(&pod, "secrets", Duration::from_secs(2)).await.unwrap_err();
    assert!(!is_final(said(&error).code()), "{error}");
    world.emulator.clear_faults();
    world.publish(&pod).await;
    assert_eq!(world.mounts(&pod).len(), 1);
}

#[tokio::test]
async fn a_request_that_no_rule_allows_is_permission_denied() {
    let world = World::new().await;
    let objects = objects(&[SECRET]);
    let parameters = [azure(&objects).as_slice(), &[("cloudName", "AzureChinaCloud")]].concat();
    world.api.class("default", CLASS).put("azure", &parameters);
    world.refused(&pod("web"), Code::PermissionDenied, &[CLASS, "login.chinacloudapi.cn"]).await;
    assert_eq!(world.emulator.counters().total(), 0);
    assert_forgotten(&world, &pod("web"), "EgressDenied").await;
}

#[tokio::test]
async fn every_failure_of_a_provider_has_its_code() {
    let world = World::new().await;
    for (failure, code) in [
        ("invalid-request", Code::InvalidArgument),
        ("unauthenticated", Code::Unauthenticated),
        ("permission-denied", Code::PermissionDenied),
        ("not-found", Code::NotFound),
        ("throttled", Code::ResourceExhausted),
        ("unavailable", Code::Unavailable),
        ("internal", Code::Internal),
    ] {
        world.put_guest(failure, "fails_as_told", &[("failure", failure), ("message", "it is as it is")]);
        let pod = Pod::new(failure).mounts(failure);
        world.refused(&pod, code, &[failure, "it is as it is"]).await;
    }
    world.remembers(0).await;
}

#[tokio::test]
async fn a_provider_that_misbehaves_is_internal_and_named() {
    let limits = "cpu: 500ms, memory: 16MiB".to_owned();
    let world = World::with(Setup { limits, ..Setup::default() }).await;
    for mode in [
        "answers_unchanged",
        "loops_for_ever",
        "hoards_memory",
        "recurses_without_end",
        "writes_to_an_absolute_path",
        "writes_a_file_twice",
        "sets_the_setuid_bit",
    ] {
        world.put_guest("hostile", mode, &[]);
        let pod = Pod::new("web").mounts("hostile");
        world.refused(&pod, Code::Internal, &["hostile", "guest"]).await;
        // A class is not read more often than once a second.
        world.advance(10);
    }
    world.put_guest("escapes", "escapes_the_volume", &[("path", "../../escaped")]);
    let pod = Pod::new("web").mounts("escapes");
    world.refused(&pod, Code::Internal, &["escapes", "guest"]).await;
    assert_eq!(world.all_mounts(), []);
    world.publish(&super::world::pod("honest")).await;
}

#[tokio::test]
async fn a_trap_in_the_middle_leaves_nothing() {
    let world = World::new().await;
    world.put_guest("traps", "traps_half_way", &[("url", &url_of(SECRET))]);
    let pod = Pod::new("web").mounts("traps");
    world.refused(&pod, Code::Internal, &["traps", "guest"]).await;
    assert_eq!(world.gets(), 1);
}

#[tokio::test]
async fn credentials_that_were_wrong_and_are_right_now_work_at_once() {
    let world = World::new().await;
    let tenant = world.emulator.tenant(TENANT);
    tenant.app(CLIENT_ID).forget_secrets();
    let pod = pod("web");
    world.refused(&pod, Code::Unauthenticated, &[CLASS]).await;
    tenant.app(CLIENT_ID).secret(CLIENT_SECRET);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
}
