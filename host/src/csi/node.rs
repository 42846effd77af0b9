//! The CSI node service: what kubelet wants done to volumes goes through to [`Volumes`], checked.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Code, Request, Response, Status};

use super::call::{Call, deadline};
use super::proto::csi::node_service_capability::{Rpc, Type, rpc};
use super::proto::csi::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse, node_server,
};
use super::request;
use super::status::Refusal;
use super::volumes::Volumes;

/// Publishes that run at the same time; more wait. A node has 110 pods, or 250 where it is large.
const PUBLISHES: usize = 256;
/// Unpublishes that run at the same time. They have places of their own, so that none waits for a store.
const UNPUBLISHES: usize = 256;

pub(super) struct Node<V> {
    name: String,
    volumes: Arc<V>,
    publishes: Semaphore,
    unpublishes: Semaphore,
}

impl<V> Node<V> {
    pub(super) fn new(name: String, volumes: Arc<V>) -> Self {
        Self { name, volumes, publishes: Semaphore::new(PUBLISHES), unpublishes: Semaphore::new(UNPUBLISHES) }
    }
}

#[tonic::async_trait]
impl<V: Volumes> node_server::Node for Node<V> {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let mut call = Call::begin("NodePublishVolume");
        let deadline = deadline(request.metadata());
        let request = request::publish(request.into_inner());
        if let Ok(request) = &request {
            call.is_about(&request.volume);
            call.is_for(&request.pod);
        }
        call.run(async {
            let request = request?;
            let _place = place(&self.publishes).await?;
            self.volumes.publish(request, Some(deadline)).await?;
            Ok(NodePublishVolumeResponse {})
        })
        .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let mut call = Call::begin("NodeUnpublishVolume");
        let deadline = deadline(request.metadata());
        let request = request::unpublish(request.into_inner());
        if let Ok((volume, _)) = &request {
            call.is_about(volume);
        }
        call.run(async {
            let (volume, target) = request?;
            let _place = place(&self.unpublishes).await?;
            self.volumes.unpublish(volume, target, Some(deadline)).await?;
            Ok(NodeUnpublishVolumeResponse {})
        })
        .await
    }

    /// There is nothing to stage, and kubelet never stages inline volumes; whoever calls this all the same may.
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let checked = request::stage(request.get_ref());
        Call::begin("NodeStageVolume").run(async { checked.map(|()| NodeStageVolumeResponse {}) }).await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let checked = request::unstage(request.get_ref());
        Call::begin("NodeUnstageVolume").run(async { checked.map(|()| NodeUnstageVolumeResponse {}) }).await
    }

    /// Only the fsGroup. Not STAGE_UNSTAGE, which the reference announces: it would cost kubelet a call per volume.
    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let group = Rpc { r#type: rpc::Type::VolumeMountGroup.into() };
        let capabilities = vec![NodeServiceCapability { r#type: Some(Type::Rpc(group)) }];
        Call::begin("NodeGetCapabilities").run(async { Ok(NodeGetCapabilitiesResponse { capabilities }) }).await
    }

    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let response = NodeGetInfoResponse { node_id: self.name.clone() };
        Call::begin("NodeGetInfo").run(async { Ok(response) }).await
    }
}

/// Waits for a place, at most until the caller stops waiting, which drops this.
async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    places.acquire().await.map_err(|_| Refusal::new(Code::Unavailable, "the driver is ending; kubelet will ask again"))
}
