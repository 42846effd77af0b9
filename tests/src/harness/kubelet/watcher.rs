//! kubelet's plugin watcher: a socket in a folder becomes a registered driver, or is told why not.
//!
//! Tests decide when it looks, by [`Kubelet::register`]; what it does then is kubelet's.

use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use tonic::Status;

use super::proto::csi::NodeGetInfoRequest;
use super::proto::csi::node_client::NodeClient;
use super::proto::registration::registration_client::RegistrationClient;
use super::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use super::{Kubelet, PATIENCE, dial, within};

/// How long between two looks at the folder.
const INTERVAL: Duration = Duration::from_millis(5);

/// A driver as it introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// The registration socket.
    pub socket: PathBuf,
    /// What it says about itself.
    pub info: PluginInfo,
    /// The node's name as the driver has it.
    pub node: String,
}

/// What the driver is told at the end.
#[derive(Clone, Debug)]
pub enum Notice {
    /// It is registered.
    Registered,
    /// It is not, and why.
    Refused(String),
}

/// Why a driver is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The folder cannot be read.
    #[error("kubelet cannot read its plugin folder")]
    Folder(#[from] io::Error),
    /// The driver did not answer.
    #[error("no answer from the driver behind {}", socket.display())]
    Silent {
        /// The registration socket, or the CSI socket.
        socket: PathBuf,
        /// What gRPC says.
        source: Box<Status>,
    },
    /// What it says cannot be accepted; it has been told so.
    #[error("{0}")]
    Refused(String),
}

/// One socket, whatever its name. The number of its inode alone may be that of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    inode: u64,
    /// Where the file system keeps it.
    made: Option<SystemTime>,
}

/// What the watcher knows.
#[derive(Default)]
pub(super) struct Memory {
    /// Each socket that was dealt with.
    handled: HashMap<PathBuf, Identity>,
    /// By the driver's name.
    registered: HashMap<String, Plugin>,
}

impl Memory {
    /// The CSI socket of a driver. One whose registration socket is gone is no longer registered.
    pub(super) fn endpoint(&mut self, driver: &str) -> Option<PathBuf> {
        let Self { handled, registered } = self;
        registered.retain(|_, plugin| identify(&plugin.socket) == handled.get(&plugin.socket).copied());
        registered.get(driver).map(|plugin| PathBuf::from(&plugin.info.endpoint))
    }
}

impl Kubelet {
    /// Waits for a socket that it has not dealt with, and registers the driver behind it. Give it a deadline of your own.
    ///
    /// # Errors
    /// When the driver does not answer, or says what kubelet does not accept.
    pub async fn register(&self) -> Result<Plugin, RegisterError> {
        self.answer(&Notice::Registered).await
    }

    /// As [`Kubelet::register`], but tells the driver something else at the end.
    ///
    /// # Errors
    /// As [`Kubelet::register`].
    pub async fn answer(&self, notice: &Notice) -> Result<Plugin, RegisterError> {
        let (socket, identity) = self.find_socket().await?;
        self.memory().watcher.handled.insert(socket.clone(), identity);
        let silent = |source: Status| RegisterError::Silent { socket: socket.clone(), source: Box::new(source) };
        let channel = dial(&socket).await.map_err(silent)?;
        let mut door = RegistrationClient::new(channel);
        let info = door.get_info(within(InfoRequest {}, PATIENCE)).await.map_err(silent)?.into_inner();
        let (notice, result) = match (self.inspect(&socket, info).await, notice) {
            (Ok(plugin), Notice::Registered) => {
                self.memory().watcher.registered.insert(plugin.info.name.clone(), plugin.clone());
                (RegistrationStatus { plugin_registered: true, error: String::new() }, Ok(plugin))
            }
            (Ok(plugin), Notice::Refused(reason)) => {
                (RegistrationStatus { plugin_registered: false, error: reason.clone() }, Ok(plugin))
            }
            (Err(error), _) => (RegistrationStatus { plugin_registered: false, error: error.to_string() }, Err(error)),
        };
        door.notify_registration_status(within(notice, PATIENCE)).await.map_err(silent)?;
        result
    }

    /// Whether the driver is registered now.
    pub fn knows_driver(&self) -> bool {
        self.memory().watcher.endpoint(&self.driver.name).is_some()
    }

    /// Removes everything from the folder that it watches, as somebody who cleans a node up does.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn empty_plugins(&self) -> io::Result<()> {
        fs::read_dir(self.plugins())?.try_for_each(|entry| fs::remove_file(entry?.path()))
    }

    /// The checks of kubelet's CSI plugin, in their order, and its first call.
    async fn inspect(&self, socket: &Path, info: PluginInfo) -> Result<Plugin, RegisterError> {
        let refuse = |reason: String| Err(RegisterError::Refused(reason));
        if info.r#type != "CSIPlugin" {
            return refuse(format!("no handler registered for plugin type: {}", info.r#type));
        }
        if !info.supported_versions.iter().any(|version| is_supported(version)) {
            return refuse(format!("none of the versions {:?} are supported", info.supported_versions));
        }
        let endpoint = PathBuf::from(&info.endpoint);
        let silent = |source: Status| RegisterError::Silent { socket: endpoint.clone(), source: Box::new(source) };
        let mut node = NodeClient::new(dial(&endpoint).await.map_err(silent)?);
        let answer = node.node_get_info(within(NodeGetInfoRequest {}, PATIENCE)).await.map_err(silent)?;
        Ok(Plugin { socket: socket.to_owned(), info, node: answer.into_inner().node_id })
    }

    async fn find_socket(&self) -> io::Result<(PathBuf, Identity)> {
        loop {
            for entry in fs::read_dir(self.plugins())? {
                let entry = entry?;
                // As kubelet does: what begins with a dot is not ready yet.
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let path = entry.path();
                let known = self.memory().watcher.handled.get(&path).copied();
                match identify(&path) {
                    // A socket that nobody listens at yet, or any more, is looked at again later.
                    Some(found) if known != Some(found) && dial(&path).await.is_ok() => return Ok((path, found)),
                    _ => {}
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// `1.x.y`, with or without a `v`.
fn is_supported(version: &str) -> bool {
    let numbers: Vec<_> = version.trim_start_matches('v').split('.').map(str::parse::<u32>).collect();
    matches!(numbers.as_slice(), [Ok(1), Ok(_), Ok(_)])
}

/// Which socket it is; none if there is none.
fn identify(path: &Path) -> Option<Identity> {
    let found = fs::symlink_metadata(path).ok()?;
    let identity = Identity { inode: found.ino(), made: found.created().ok() };
    found.file_type().is_socket().then_some(identity)
}
