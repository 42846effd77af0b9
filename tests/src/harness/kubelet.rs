//! kubelet as a CSI driver sees it: it finds the driver's socket, asks for volumes with the words and in the order of
//! kubelet, and tidies up behind it as kubelet does, helpful or not.
//!
//! It calls over real Unix sockets and looks at mounts the way kubelet does, so it has to be told where the mounts of
//! the driver can be seen. It must never do what kubelet leaves to the driver: it makes the parent of a target, not the
//! target, and it removes a folder only when nothing is mounted on it and nothing is in it.
//!
//! ```no_run
//! # use std::path::Path;
//! # use coffer_tests::harness::kubelet::{Driver, Kubelet, Pod};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let kubelet = Kubelet::start(Path::new("/tmp/kubelet"), Path::new("/"), Driver::default())?;
//! kubelet.register().await?;
//! let pod = Pod::new("web").mounts("a-class");
//! kubelet.publish(&pod, "secrets").await?;
//! kubelet.unpublish(&pod, "secrets").await?;
//! # Ok(())
//! # }
//! ```

mod folders;
mod pod;
mod request;
mod tokens;
mod watcher;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::csi::node_client::NodeClient;
use proto::csi::node_service_capability::Type as CapabilityType;
use proto::csi::node_service_capability::rpc::Type as Rpc;
use proto::csi::{NodeGetCapabilitiesRequest, NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub use pod::{Pod, Volume};
pub use request::volume_id;
pub use tokens::Tokens;
pub use watcher::{Notice, Plugin, RegisterError};

/// The client's half of kubelet's services.
pub mod proto {
    #![allow(missing_docs, reason = "generated; the specification documents it")]
    #![allow(unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated")]

    /// The Container Storage Interface.
    pub mod csi {
        tonic::include_proto!("csi.v1");
    }

    /// kubelet's plugin registration.
    pub mod registration {
        tonic::include_proto!("pluginregistration");
    }
}

/// How long kubelet waits for any answer of a driver.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the CSIDriver object tells kubelet about the driver.
#[derive(Clone)]
pub struct Driver {
    /// The driver's name.
    pub name: String,
    /// `podInfoOnMount`.
    pub pod_info: bool,
    /// `tokenRequests`.
    pub tokens: Option<Tokens>,
    /// `serviceAccountTokenInSecrets`.
    pub tokens_in_secrets: bool,
}

impl Default for Driver {
    fn default() -> Self {
        let name = "secrets-store.csi.k8s.io".to_owned();
        Self { name, pod_info: true, tokens: None, tokens_in_secrets: false }
    }
}

/// One node's kubelet.
pub struct Kubelet {
    root: PathBuf,
    view: PathBuf,
    driver: Driver,
    memory: Mutex<Memory>,
}

/// What a restart forgets.
#[derive(Default)]
struct Memory {
    watcher: watcher::Memory,
    tokens: tokens::Memory,
}

/// Why a volume is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No driver of this name is registered, so nobody was asked.
    #[error("driver name {0} not found in the list of registered CSI drivers")]
    NotRegistered(String),
    /// The pod has no such volume.
    #[error("pod {pod} has no volume {volume}")]
    NoVolume {
        /// The pod.
        pod: String,
        /// What it does not have.
        volume: String,
    },
    /// What kubelet does itself did not work.
    #[error("kubelet cannot {operation} {}", path.display())]
    Folder {
        /// What it wanted.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The driver said no, or did not say anything in time.
    #[error(transparent)]
    Driver(Box<Status>),
}

impl CallError {
    /// What the driver said, if it was asked.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Driver(status) => Some(status),
            _ => None,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Driver(Box::new(as_go_says_it(status)))
    }
}

/// What did not come from the driver has another code in Go's gRPC, and kubelet goes by codes.
fn as_go_says_it(status: Status) -> Status {
    let mut cause = status.source();
    let Some(source) = cause else { return status };
    let what = source.to_string();
    while let Some(inner) = cause {
        if inner.is::<tonic::TimeoutExpired>() {
            return Status::deadline_exceeded("context deadline exceeded");
        }
        cause = inner.source();
    }
    Status::unavailable(format!("error reading from server: {what}"))
}

/// Whether kubelet takes a failure to mean that nothing of the volume is left. Any other one leaves it uncertain.
pub fn is_final(code: Code) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable};
    !matches!(code, Cancelled | DeadlineExceeded | Unavailable | ResourceExhausted | Aborted)
}

impl Kubelet {
    /// Makes the folders that are kubelet's below `root`. Mounts are looked at below `view`, which is where the driver's
    /// idea of `/` can be seen: `/` itself, or `/proc/<pid>/root` of a process in its mount namespace.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn start(root: &Path, view: &Path, driver: Driver) -> io::Result<Self> {
        for folder in ["pods", "plugins", "plugins_registry"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root: root.to_owned(), view: view.to_owned(), driver, memory: Mutex::default() })
    }

    /// Forgets what a restart of kubelet forgets: who is registered, and tokens. Sockets and folders stay.
    pub fn restart(&self) {
        *self.memory() = Memory::default();
    }

    /// Lets it ask for new tokens, as when those that it has are worn.
    pub fn forget_tokens(&self) {
        self.memory().tokens = tokens::Memory::default();
    }

    /// What it knows about the driver, to be changed.
    pub fn driver(&mut self) -> &mut Driver {
        &mut self.driver
    }

    /// The folder that it watches for plugins.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// Where a volume of a pod is mounted.
    pub fn target(&self, pod: &Pod, volume: &str) -> PathBuf {
        self.pods().join(pod.uid()).join("volumes/kubernetes.io~csi").join(volume).join("mount")
    }

    /// The same as this process can see it.
    pub fn seen(&self, target: &Path) -> PathBuf {
        self.view.join(target.strip_prefix("/").unwrap_or(target))
    }

    /// Mounts a volume, or asks again for one that is mounted: to kubelet it is the same. Waits [`PATIENCE`] at most.
    ///
    /// # Errors
    /// When the driver refuses; after a final refusal the folders of the volume are gone unless something is mounted.
    pub async fn publish(&self, pod: &Pod, volume: &str) -> Result<(), CallError> {
        self.publish_within(pod, volume, PATIENCE).await
    }

    /// As [`Kubelet::publish`], with another patience.
    ///
    /// # Errors
    /// As [`Kubelet::publish`].
    pub async fn publish_within(&self, pod: &Pod, volume: &str, patience: Duration) -> Result<(), CallError> {
        let group = self.offers_groups(patience).await?;
        let request = self.request(pod, volume, group)?;
        let target = PathBuf::from(&request.target_path);
        folders::make_parent(&target, &request.volume_id, &self.driver.name)?;
        match self.send(request, patience).await {
            Err(CallError::Driver(status)) if is_final(status.code()) => {
                // kubelet logs what stands in the way here, and reports what the driver said.
                let _ = folders::remove(&self.seen(&target));
                Err(CallError::Driver(status))
            }
            other => other,
        }
    }

    /// Sends a request as it is, and tidies nothing up.
    ///
    /// # Errors
    /// When no driver is registered, or it refuses.
    pub async fn send(&self, request: NodePublishVolumeRequest, patience: Duration) -> Result<(), CallError> {
        self.node().await?.node_publish_volume(within(request, patience)).await?;
        Ok(())
    }

    /// Has a volume taken away, and removes its folders. The pod need not exist any more; its UID and the volume's name
    /// say everything.
    ///
    /// # Errors
    /// When the driver refuses, or leaves something that kubelet cannot remove.
    pub async fn unpublish(&self, pod: &Pod, volume: &str) -> Result<(), CallError> {
        let target = self.target(pod, volume);
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume_id(pod.uid(), volume),
            target_path: target.display().to_string(),
        };
        self.node().await?.node_unpublish_volume(within(request, PATIENCE)).await?;
        folders::remove(&self.seen(&target))
    }

    /// Removes the folders of a pod all of whose volumes are gone.
    ///
    /// # Errors
    /// When something is left in them.
    pub fn remove_pod(&self, pod: &Pod) -> Result<(), CallError> {
        folders::remove_empty(&self.seen(&self.pods().join(pod.uid())), &["volumes/kubernetes.io~csi", "volumes", ""])
    }

    /// A channel to the CSI socket of the registered driver; a new connection for every call, as kubelet has it.
    ///
    /// # Errors
    /// When no driver is registered, or its socket is dead (`Unavailable`, as gRPC says it).
    pub async fn connect(&self) -> Result<Channel, CallError> {
        let endpoint = self.memory().watcher.endpoint(&self.driver.name);
        let endpoint = endpoint.ok_or_else(|| CallError::NotRegistered(self.driver.name.clone()))?;
        Ok(dial(&endpoint).await?)
    }

    async fn node(&self) -> Result<NodeClient<Channel>, CallError> {
        Ok(NodeClient::new(self.connect().await?))
    }

    /// kubelet asks before each publish.
    async fn offers_groups(&self, patience: Duration) -> Result<bool, CallError> {
        let answer = self.node().await?.node_get_capabilities(within(NodeGetCapabilitiesRequest {}, patience)).await?;
        let wanted = i32::from(Rpc::VolumeMountGroup);
        Ok(answer
            .into_inner()
            .capabilities
            .into_iter()
            .any(|capability| matches!(capability.r#type, Some(CapabilityType::Rpc(rpc)) if rpc.r#type == wanted)))
    }

    fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says in the request how long the answer is waited for, and waits no longer.
fn within<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// Connects as Go's gRPC does: one socket, and `localhost` as authority.
async fn dial(socket: &Path) -> Result<Channel, Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(format!("connection error: {error}"));
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(unavailable)?;
    let endpoint = endpoint.origin(http::Uri::from_static("http://localhost"));
    endpoint.connect().await.map_err(unavailable)
}
