//! The door itself: who the driver is, limits, panics, callers that go away, a socket that is taken away, the end.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use coffer::csi::server::{Settings, serve};
use coffer::socket::SocketError;
use coffer::tasks::Tasks;
use http::uri::PathAndQuery;
use tonic::Code;

use super::kubelet::{self, publish, unpublish, within};
use super::pipeline::{DRIVER, Door, Pipeline};
use super::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest,
    NodeStageVolumeRequest, NodeUnstageVolumeRequest, ProbeRequest, VolumeCapability, node_service_capability,
};
use super::{PATIENCE, soon, until};

#[tokio::test]
async fn the_driver_says_who_it_is_and_that_it_is_ready() {
    let door = Door::open();
    let mut identity = kubelet::identity(&door.socket).await;
    assert_eq!(identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    let info = identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((&*info.name, &*info.vendor_version), (DRIVER, concat!("v", env!("CARGO_PKG_VERSION"))));
    identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
}

#[tokio::test]
async fn the_node_offers_the_mount_group_and_nothing_else() {
    use node_service_capability::{Rpc, Type, rpc};
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let answer = node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    let types = answer.capabilities.iter().map(|capability| match &capability.r#type {
        Some(Type::Rpc(Rpc { r#type })) => *r#type,
        None => -1,
    });
    assert_eq!(types.collect::<Vec<_>>(), [i32::from(rpc::Type::VolumeMountGroup)]);
    assert_eq!(node.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner().node_id, "node-1");
}

#[tokio::test]
async fn staging_does_nothing_when_it_is_asked_rightly() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let (volume_id, staging_target_path) = ("v".to_owned(), "/s".to_owned());
    let volume_capability = Some(VolumeCapability::default());
    let stage = NodeStageVolumeRequest { volume_id, staging_target_path, volume_capability };
    let unstage = NodeUnstageVolumeRequest { volume_id: "v".into(), staging_target_path: "/s".into() };
    assert!(node.node_stage_volume(stage.clone()).await.is_ok());
    assert!(node.node_unstage_volume(unstage.clone()).await.is_ok());
    let refused =
        node.node_stage_volume(NodeStageVolumeRequest { volume_capability: None, ..stage }).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "Volume capability missing in request"));
    let wrong = NodeUnstageVolumeRequest { staging_target_path: String::new(), ..unstage };
    let refused = node.node_unstage_volume(wrong).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "Target path missing in request"));
}

#[tokio::test]
async fn what_the_driver_does_not_do_is_unimplemented() {
    let door = Door::open();
    let mut client = tonic::client::Grpc::new(kubelet::connect(&door.socket).await.unwrap());
    for method in ["Node/NodeGetVolumeStats", "Node/NodeExpandVolume", "Controller/ControllerGetCapabilities"] {
        client.ready().await.unwrap();
        let path = PathAndQuery::try_from(format!("/csi.v1.{method}")).unwrap();
        let codec = tonic_prost::ProstCodec::<ProbeRequest, ProbeRequest>::default();
        let status = client.unary(tonic::Request::new(ProbeRequest {}), path, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{method}");
    }
}

#[tokio::test]
async fn a_request_larger_than_four_mebibytes_is_refused() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let filled = |bytes: usize| {
        let mut request = publish("csi-1");
        request.volume_context.insert("objects".into(), "x".repeat(bytes));
        request
    };
    node.node_publish_volume(filled((4 << 20) - 4096)).await.unwrap();
    let status = node.node_publish_volume(filled(4 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert_eq!(door.pipeline.published().len(), 1);
}

#[tokio::test]
async fn a_panic_ends_one_call_with_an_answer_and_nothing_else() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let mut other = node.clone();
    let waiting = tokio::spawn(async move { other.node_publish_volume(publish("waits")).await });
    door.pipeline.until(|counts| counts.begun == 1).await;
    for status in [
        node.node_publish_volume(publish("panics")).await.unwrap_err(),
        node.node_unpublish_volume(unpublish("panics")).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("a fault in Coffer"), "{status}");
        assert!(!status.message().contains("as asked"), "what a panic says is for the log: {status}");
    }
    door.pipeline.release(1);
    soon(waiting).await.unwrap().unwrap();
    node.node_publish_volume(publish("csi-1")).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_call_and_no_other() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let mut other = kubelet::node(&door.socket).await;
    let stays = tokio::spawn(async move { other.node_publish_volume(publish("waits-1")).await });
    let goes = tokio::spawn(async move { node.node_publish_volume(publish("waits-2")).await });
    door.pipeline.until(|counts| counts.begun == 2).await;
    goes.abort();
    door.pipeline.until(|counts| counts.dropped == 1).await;
    door.pipeline.release(1);
    soon(stays).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_up_is_ended_and_kubelet_learns_that_the_volume_may_exist() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let status = node.node_publish_volume(within(Duration::from_secs(2), publish("waits"))).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    door.pipeline.until(|counts| counts.dropped == 1).await;
}

#[tokio::test]
async fn calls_beyond_the_limit_wait_while_unpublish_and_probe_do_not() {
    const LIMIT: usize = 256;
    let door = Door::open();
    let mut nodes = Vec::new();
    for _ in 0..6 {
        nodes.push(kubelet::node(&door.socket).await);
    }
    let calls = (0..LIMIT + 32).map(|number| {
        let mut node = nodes[number % nodes.len()].clone();
        tokio::spawn(async move { node.node_publish_volume(publish(&format!("waits-{number}"))).await })
    });
    let calls: Vec<_> = calls.collect();
    door.pipeline.until(|counts| counts.begun == LIMIT).await;
    kubelet::node(&door.socket).await.node_unpublish_volume(unpublish("csi-1")).await.unwrap();
    kubelet::identity(&door.socket).await.probe(ProbeRequest {}).await.unwrap();
    assert_eq!(door.pipeline.counts().begun, LIMIT + 1, "the unpublish came on top, and nothing else");
    door.pipeline.release(calls.len());
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_end_waits_for_the_call_that_runs_and_lets_no_other_in() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let _idle = kubelet::identity(&door.socket).await;
    let call = tokio::spawn(async move { node.node_publish_volume(publish("waits")).await });
    door.pipeline.until(|counts| counts.begun == 1).await;
    let tasks = door.tasks.clone();
    let end = tokio::spawn(async move { tasks.drain(PATIENCE).await });
    until("the socket is gone", || !door.socket.exists()).await;
    assert!(kubelet::connect(&door.socket).await.is_err());
    assert!(!end.is_finished());
    door.pipeline.release(1);
    soon(call).await.unwrap().unwrap();
    assert_eq!(soon(end).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_folder_is_emptied_is_made_anew_and_connections_live_on() {
    let door = Door::open();
    let mut before = kubelet::node(&door.socket).await;
    before.node_publish_volume(publish("csi-1")).await.unwrap();
    fs::remove_dir_all(door.socket.parent().unwrap()).unwrap();
    until("the socket is back", || door.socket.exists()).await;
    kubelet::node(&door.socket).await.node_publish_volume(publish("csi-2")).await.unwrap();
    before.node_publish_volume(publish("csi-3")).await.unwrap();
    assert_eq!(door.pipeline.published().len(), 3);
}

#[tokio::test]
async fn a_second_driver_does_not_start_while_the_first_one_lives() {
    let door = Door::open();
    let settings = || Settings { endpoint: door.socket.clone(), driver: DRIVER.into(), node: "node-1".into() };
    let second = Tasks::default();
    let error = serve(settings(), Arc::<Pipeline>::default(), &second).unwrap_err();
    assert!(matches!(&error, SocketError::Alive(path) if *path == door.socket), "{error:?}");
    kubelet::node(&door.socket).await.node_publish_volume(publish("csi-1")).await.unwrap();
    assert_eq!(door.tasks.drain(PATIENCE).await, 0);
    serve(settings(), Arc::<Pipeline>::default(), &second).unwrap();
    assert_eq!(second.drain(PATIENCE).await, 0);
    assert!(!door.socket.exists());
}
