//! How kubelet gets to know the driver, loses it, and finds it again; and what the driver says about itself.

use std::os::unix::fs::MetadataExt;

use coffer_tests::harness::apiserver::Resource;
use coffer_tests::harness::kubelet::proto::csi::identity_client::IdentityClient;
use coffer_tests::harness::kubelet::proto::csi::node_client::NodeClient;
use coffer_tests::harness::kubelet::proto::csi::node_service_capability::Type;
use coffer_tests::harness::kubelet::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeGetCapabilitiesRequest, NodeStageVolumeRequest,
    NodeUnstageVolumeRequest, ProbeRequest,
};
use coffer_tests::harness::kubelet::{Notice, RegisterError};
use serde_json::json;
use tonic::Code;

use super::patience::{eventually, in_time};
use super::world::{DRIVER, NODE, Setup, World, pod};

/// `VOLUME_MOUNT_GROUP`.
const VOLUME_MOUNT_GROUP: i32 = 6;

/// What `/readyz` says while it is not 200.
async fn not_ready(world: &World, parts: &[&str]) -> String {
    let says_so = |(status, text): &(u16, String)| *status == 503 && parts.iter().all(|part| text.contains(part));
    let (_, text) =
        eventually(&format!("not ready for {parts:?}"), || world.driver().get("/readyz").filter(says_so)).await;
    text
}

#[tokio::test]
async fn kubelet_registers_the_driver_and_then_it_is_ready() {
    let world = World::idle(Setup::default()).await;
    world.spawn();
    let plugin = in_time("registration", world.kubelet.register()).await.unwrap();
    assert_eq!((plugin.info.r#type.as_str(), plugin.info.name.as_str()), ("CSIPlugin", DRIVER));
    assert_eq!(plugin.info.endpoint, world.socket().display().to_string());
    assert_eq!((plugin.info.supported_versions, plugin.node.as_str()), (vec!["1.0.0".to_owned()], NODE));
    world.api.set_csi_node(NODE, &[DRIVER]);
    world.ready().await;
    assert_eq!(world.driver().get("/healthz").unwrap().0, 200);
}

#[tokio::test]
async fn a_kubelet_that_does_not_ask_is_told_of_in_the_log_and_to_whoever_looks_whether_it_is_ready() {
    let world = World::idle(Setup::default()).await;
    world.spawn();
    not_ready(&world, &["registered"]).await;
    world.advance(31);
    let parts = ["kubelet has not asked for the driver", "linux.kubeletRootDir", &format!("coffer@{DRIVER}-reg.sock")];
    not_ready(&world, &parts).await;
    world.log.wait("the warning", |line| line.text.contains("kubelet has not asked for the driver")).await;
    world.register().await;
    world.ready().await;
}

#[tokio::test]
async fn nobody_but_root_gets_at_its_sockets() {
    let world = World::new().await;
    let mode = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    let folder = world.socket().parent().unwrap().to_owned();
    assert_eq!((mode(&world.socket()), mode(&folder), mode(&world.state())), (0o600, 0o700, 0o700));
    let entries = std::fs::read_dir(world.kubelet.plugins()).unwrap().chain(std::fs::read_dir(folder).unwrap());
    let modes: Vec<_> = entries.map(|entry| entry.unwrap().path()).map(|path| (mode(&path) & 0o077, path)).collect();
    // The CSI socket, that of the registration and that of the administrator, and the folder with the state.
    assert!(modes.len() == 4 && modes.iter().all(|(open, _)| *open == 0), "{modes:?}");
}

#[tokio::test]
async fn it_says_what_it_is_and_what_it_can() {
    let world = World::new().await;
    let channel = world.kubelet.connect().await.unwrap();
    let (mut identity, mut node) = (IdentityClient::new(channel.clone()), NodeClient::new(channel));
    let info = identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, DRIVER);
    assert!(!info.vendor_version.is_empty());
    identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
    assert_eq!(identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    let capabilities = node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    let kinds: Vec<i32> =
        capabilities.capabilities.into_iter().map(|one| one.r#type.map(|Type::Rpc(rpc)| rpc.r#type).unwrap()).collect();
    assert!(kinds.contains(&VOLUME_MOUNT_GROUP), "{kinds:?}");
    for code in [
        node.node_stage_volume(NodeStageVolumeRequest::default()).await.unwrap_err().code(),
        node.node_unstage_volume(NodeUnstageVolumeRequest::default()).await.unwrap_err().code(),
    ] {
        assert!(matches!(code, Code::InvalidArgument | Code::Unimplemented), "{code:?}");
    }
}

#[tokio::test]
async fn a_kubelet_that_restarts_finds_it_again() {
    let world = World::new().await;
    world.publish(&pod("web")).await;
    world.kubelet.restart();
    world.register().await;
    world.publish(&pod("web-2")).await;
}

#[tokio::test]
async fn it_offers_itself_again_when_the_folder_of_sockets_was_emptied() {
    let world = World::new().await;
    world.kubelet.empty_plugins().unwrap();
    world.while_time_passes("the driver to offer itself again", world.kubelet.register()).await.unwrap();
    world.publish(&pod("web")).await;
}

#[tokio::test]
async fn it_offers_itself_again_when_the_node_has_lost_it() {
    let world = World::new().await;
    world.api.set_csi_node(NODE, &["another.driver"]);
    // It looks now and then.
    world.while_time_passes("the driver to offer itself again", world.kubelet.register()).await.unwrap();
    world.api.set_csi_node(NODE, &[DRIVER]);
    world.ready().await;
}

#[tokio::test]
async fn a_refusal_of_kubelet_is_told_and_does_not_end_it() {
    let world = World::idle(Setup::default()).await;
    world.spawn();
    let refusal = Notice::Refused("there is another driver of this name".into());
    in_time("registration", world.kubelet.answer(&refusal)).await.unwrap();
    not_ready(&world, &["there is another driver of this name"]).await;
    world.log.wait("the refusal", |line| line.text.contains("there is another driver of this name")).await;
    world.kubelet.restart();
    world.register().await;
    world.ready().await;
    world.publish(&pod("web")).await;
}

#[tokio::test]
async fn the_path_of_the_socket_is_told_as_kubelet_sees_it() {
    let flags = vec!["--kubelet-registration-path=/as/kubelet/sees/it.sock".to_owned()];
    let world = World::idle(Setup { flags, ..Setup::default() }).await;
    world.spawn();
    let error = in_time("registration", world.kubelet.register()).await.unwrap_err();
    let RegisterError::Silent { socket, .. } = error else { panic!("{error}") };
    assert_eq!(socket, std::path::Path::new("/as/kubelet/sees/it.sock"));
}

#[tokio::test]
async fn a_second_driver_leaves_the_first_ones_socket_alone() {
    let world = World::new().await;
    let first = world.take_driver();
    world.spawn();
    let status = world.ended().await;
    assert!(!status.success(), "{status:?}");
    world.log.wait("why", |line| line.text.contains("csi.sock") && line.text.contains("another process")).await;
    world.give_driver(first);
    world.publish(&pod("web")).await;
}

#[tokio::test]
async fn a_socket_that_nobody_serves_any_more_is_replaced() {
    let world = World::new().await;
    world.kill().await;
    assert!(world.socket().exists());
    world.start().await;
    world.publish(&pod("web")).await;
}

#[tokio::test]
async fn it_is_not_ready_while_anything_is_missing_and_says_what() {
    let world = World::idle(Setup::default()).await;
    world.api.define(Resource::PodStatuses, false);
    world.api.remove_csi_driver();
    world.spawn();
    not_ready(&world, &["CSIDriver", DRIVER]).await;
    not_ready(&world, &["CustomResourceDefinitions", "SecretProviderClassPodStatus"]).await;
    world.register().await;
    world.api.define(Resource::PodStatuses, true);
    world.api.set_csi_driver(&json!({"podInfoOnMount": false, "volumeLifecycleModes": ["Ephemeral"]}));
    world.advance(60);
    not_ready(&world, &["podInfoOnMount"]).await;
    world.api.set_csi_driver(&json!({"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]}));
    world.advance(60);
    world.ready().await;
}
