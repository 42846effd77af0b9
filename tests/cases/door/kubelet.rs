//! kubelet's side of both doors, as far as these tests need it.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::proto::csi::identity_client::IdentityClient;
use super::proto::csi::node_client::NodeClient;
use super::proto::csi::volume_capability::{AccessType, MountVolume};
use super::proto::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest, VolumeCapability};
use super::proto::registration::registration_client::RegistrationClient;
use super::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus};

pub const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// A connection to a socket.
pub async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await
}

/// The node service behind a socket, over a connection of its own.
pub async fn node(socket: &Path) -> NodeClient<Channel> {
    NodeClient::new(connect(socket).await.unwrap())
}

/// The identity service behind a socket.
pub async fn identity(socket: &Path) -> IdentityClient<Channel> {
    IdentityClient::new(connect(socket).await.unwrap())
}

/// A publish as kubelet asks for it.
pub fn publish(volume: &str) -> NodePublishVolumeRequest {
    let attributes = [
        ("secretProviderClass", "demo"),
        ("csi.storage.k8s.io/pod.name", "web-0"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/pod.uid", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
        ("csi.storage.k8s.io/serviceAccount.name", "web"),
        ("csi.storage.k8s.io/ephemeral", "true"),
    ];
    NodePublishVolumeRequest {
        volume_id: volume.into(),
        target_path: format!("/var/lib/kubelet/pods/p/volumes/kubernetes.io~csi/{volume}/mount"),
        volume_capability: Some(VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: None,
        }),
        readonly: true,
        volume_context: attributes.map(|(key, value)| (key.into(), value.into())).into(),
        ..NodePublishVolumeRequest::default()
    }
}

/// An unpublish as kubelet asks for it.
pub fn unpublish(volume: &str) -> NodeUnpublishVolumeRequest {
    NodeUnpublishVolumeRequest { volume_id: volume.into(), target_path: publish(volume).target_path }
}

/// A request for which kubelet waits this long.
pub fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

/// kubelet's plugin watcher: what it sees in its folder.
pub struct Watcher(OwnedFd);

impl Watcher {
    pub fn of(folder: &Path) -> Self {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        add_watch(&inotify, folder, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
        Self(inotify)
    }

    /// The names that appeared since the last call and that kubelet looks at; it passes over those with a dot.
    pub fn appeared(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = events.next() {
            let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
            names.extend(name.and_then(|name| name.into_string().ok()));
        }
        names.retain(|name| !name.starts_with('.'));
        names
    }
}

/// What kubelet does with a socket that it finds: asks, and says how that ended, over one connection.
pub async fn register(socket: &Path, refusal: Option<&str>) -> Result<PluginInfo, Status> {
    let mut client = RegistrationClient::new(connect(socket).await.map_err(|error| Status::from_error(error.into()))?);
    let info = client.get_info(InfoRequest {}).await?.into_inner();
    let error = refusal.unwrap_or_default().to_owned();
    let status = RegistrationStatus { plugin_registered: refusal.is_none(), error };
    client.notify_registration_status(status).await?;
    Ok(info)
}
