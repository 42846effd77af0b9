//! The CSI identity service: who the driver is. Answers at once, whatever the rest of the program does.

use tonic::{Request, Response, Status};

use super::call::Call;
use super::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    ProbeRequest, ProbeResponse, identity_server,
};

/// Our version as the reference writes its own, with a `v`.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

pub(super) struct Identity {
    pub(super) driver: String,
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn get_plugin_info(
        &self,
        _request: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let response = GetPluginInfoResponse { name: self.driver.clone(), vendor_version: VERSION.to_owned() };
        Call::begin("GetPluginInfo").run(async { Ok(response) }).await
    }

    async fn get_plugin_capabilities(
        &self,
        _request: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Call::begin("GetPluginCapabilities").run(async { Ok(GetPluginCapabilitiesResponse {}) }).await
    }

    /// The door is open, so it is ready: a driver that waits for a plugin or the API server answers all the same, or
    /// kubelet would restart it for what a restart does not mend.
    async fn probe(&self, _request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Call::begin("Probe").run(async { Ok(ProbeResponse { ready: Some(true) }) }).await
    }
}
