//! A pod's author writes what only kubelet should: names of pods, tokens, paths. Nothing comes of it.

use coffer_tests::harness::apiserver::Resource;
use coffer_tests::harness::kubelet::{Pod, Volume};
use serde_json::json;
use tonic::Code;

use super::world::{CLASS, SECRET, Setup, VALUE, World, objects, pod, volume};

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// Tokens that nobody made.
fn forged_tokens() -> String {
    let token = json!({"token": "eyJ.canary-forged", "expirationTimestamp": "2999-01-01T00:00:00Z"});
    json!({super::world::AUDIENCE: token}).to_string()
}

#[tokio::test]
async fn what_the_author_says_about_the_pod_is_overwritten_by_kubelet() {
    let world = World::new().await;
    world.put_class_in("kube-system", "theirs", &objects(&[SECRET]));
    let forged = volume("theirs")
        .attribute("csi.storage.k8s.io/pod.namespace", "kube-system")
        .attribute("csi.storage.k8s.io/pod.name", "somebody")
        .attribute("csi.storage.k8s.io/pod.uid", "0000")
        .attribute("csi.storage.k8s.io/serviceAccount.name", "admin");
    let pod = Pod::new("web").volume(forged);
    world.refused(&pod, Code::NotFound, &["default/theirs"]).await;
}

#[tokio::test]
async fn where_kubelet_says_nothing_about_the_pod_nothing_is_published() {
    let mut world = World::new().await;
    let tokens = json!([{"audience": super::world::AUDIENCE}]);
    world.api.set_csi_driver(&json!({
        "podInfoOnMount": false, "volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": true, "tokenRequests": tokens,
    }));
    world.kubelet.driver().pod_info = false;
    world.restart_unready().await;
    let forged =
        [("pod.namespace", "default"), ("pod.name", "web"), ("pod.uid", "0000"), ("serviceAccount.name", "admin")];
    let attribute =
        |volume: Volume, (key, value): (&str, &str)| volume.attribute(&format!("csi.storage.k8s.io/{key}"), value);
    let pod = Pod::new("web").volume(forged.into_iter().fold(volume(CLASS), attribute));
    world.refused(&pod, Code::FailedPrecondition, &["podInfoOnMount"]).await;
    world.refused(&super::world::pod("other"), Code::InvalidArgument, &["podInfoOnMount"]).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn tokens_of_the_author_are_ignored_where_kubelets_stand_among_the_secrets() {
    let world = World::with(Setup { tokens_in_secrets: true, ..Setup::default() }).await;
    world.put_guest("says", "fails_with_its_token", &[]);
    let forged = Pod::new("web").volume(Volume::new("secrets", "says").attribute(TOKENS, &forged_tokens()));
    // That of kubelet is known to be a secret, and so it is replaced.
    let message = world.refused(&forged, Code::Unauthenticated, &["is not good"]).await;
    assert!(!message.contains("no token"), "{message}");
}

#[tokio::test]
async fn tokens_of_the_author_are_ignored_where_kubelet_sends_none() {
    let mut world = World::idle(Setup::default()).await;
    world.set_csi_driver(false, false);
    world.kubelet.driver().tokens = None;
    world.start().await;
    world.put_guest("says", "fails_with_its_token", &[]);
    for tokens in [forged_tokens(), "no tokens at all".to_owned()] {
        let forged = Pod::new("web").volume(Volume::new("secrets", "says").attribute(TOKENS, &tokens));
        world.refused(&forged, Code::Unauthenticated, &["no token is not good"]).await;
    }
}

#[tokio::test]
async fn tokens_of_the_author_are_overwritten_where_kubelets_stand_beside_them() {
    let world = World::new().await;
    world.put_guest("says", "fails_with_its_token", &[]);
    let forged = Pod::new("web").volume(Volume::new("secrets", "says").attribute(TOKENS, "forged"));
    let message = world.refused(&forged, Code::Unauthenticated, &["is not good"]).await;
    assert!(!message.contains("forged") && !message.contains("no token"), "{message}");
}

#[tokio::test]
async fn the_name_of_a_class_is_a_name_and_no_path() {
    let world = World::new().await;
    for name in
        ["../../../api/v1/namespaces/default/secrets/x", "a/b", "..", "kv?watch=true", "kv#", "%2e%2e", "KV", " kv"]
    {
        let pod = Pod::new("web").volume(volume(name));
        let error = world.kubelet.publish(&pod, "secrets").await.unwrap_err();
        let code = super::world::said(&error).code();
        assert!(matches!(code, Code::InvalidArgument | Code::NotFound), "{name}: {error}");
        world.assert_gone(&pod);
    }
    for entry in world.api.entries() {
        assert!(!matches!(entry.target.resource, Resource::Other), "{entry:?}");
    }
}

#[tokio::test]
async fn what_the_reference_does_for_its_own_tests_is_not_done() {
    let world = World::new().await;
    let pod = Pod::new("web").volume(volume(CLASS).attribute("providerName", "mock_provider"));
    // A parameter that the provider does not know, or nothing at all; but no empty volume.
    if world.kubelet.publish(&pod, "secrets").await.is_ok() {
        assert_eq!(world.file(&pod, SECRET), VALUE);
    } else {
        world.assert_gone(&pod);
    }
}

#[tokio::test]
async fn a_provider_that_puts_its_token_anywhere_is_found_out() {
    let world = World::new().await;
    for (mode, code) in
        [("names_a_file_after_its_token", Code::Internal), ("fails_with_its_token", Code::Unauthenticated)]
    {
        world.put_guest(&mode.replace('_', "-"), mode, &[]);
        let pod = Pod::new("web").mounts(&mode.replace('_', "-"));
        world.refused(&pod, code, &["guest"]).await;
    }
    world.put_guest("logs", "logs_its_token", &[]);
    world.publish(&Pod::new("logs").mounts("logs")).await;
    world.log.wait("the guest's line", |line| line.text.contains("the token is")).await;
    world.put_guest("version", "names_a_version_after_its_token", &[]);
    let pod = Pod::new("version").mounts("version");
    // Whether it is refused or its version shown without the token: nobody sees it, which is asserted when the world ends.
    if world.kubelet.publish(&pod, "secrets").await.is_ok() {
        world.status_of(&pod, "version", |_| true).await;
    }
}

#[tokio::test]
async fn nothing_of_one_pod_is_left_for_the_next() {
    let world = World::new().await;
    world.publish(&pod("rich")).await;
    let poor = Pod::new("poor").mounts(CLASS);
    world.refused(&poor, Code::InvalidArgument, &["nodePublishSecretRef"]).await;
}
