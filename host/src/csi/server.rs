//! The CSI services over a Unix socket.
//!
//! Every limit of the connection stands here. What the door says is in `identity` and `node`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tonic::transport::Server;

use super::call;
use super::identity::Identity;
use super::node::Node;
use super::proto::csi::identity_server::IdentityServer;
use super::proto::csi::node_server::NodeServer;
use super::volumes::Volumes;
use crate::socket::{Connection, Kept, Next, Socket, SocketError};
use crate::tasks::Tasks;

/// Bytes of a request; what gRPC takes as a rule. It bounds number and size of attributes and secrets.
const LARGEST_REQUEST: usize = 4 << 20;
/// Connections at a time, of which kubelet opens one for each call: twice the publishes that run, and half of the
/// descriptors that a process may have as a rule.
const CONNECTIONS: usize = 512;
/// Calls at a time on one connection.
const STREAMS: u32 = 64;
/// Bytes of the headers of one call.
const LARGEST_HEADERS: u32 = 16 << 10;
/// How often to look whether the socket is still in its place.
const LOOK: Duration = Duration::from_secs(10);

/// What the door says and where it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The socket.
    pub endpoint: PathBuf,
    /// The driver's name, `secrets-store.csi.k8s.io`.
    pub driver: String,
    /// The node's name.
    pub node: String,
}

/// Binds the socket and serves until `tasks` stops; calls that run then are finished. Returns as soon as it listens.
/// A socket that is removed or replaced meanwhile is bound anew. Runs inside a Tokio runtime.
///
/// # Errors
///
/// When the socket cannot be bound.
pub fn serve<V: Volumes>(settings: Settings, volumes: Arc<V>, tasks: &Tasks) -> Result<(), SocketError> {
    let Settings { endpoint, driver, node } = settings;
    let mut kept = Kept::new(endpoint, Socket::bind, CONNECTIONS, LOOK, "kubelet cannot reach the driver until then.");
    kept.renew()?;
    let identity = IdentityServer::new(Identity { driver }).max_decoding_message_size(LARGEST_REQUEST);
    let node = NodeServer::new(Node::new(node, volumes)).max_decoding_message_size(LARGEST_REQUEST);
    let stop = tasks.stopping();
    let served = http().add_service(identity).add_service(node);
    let served = served.serve_with_incoming_shutdown(connections(kept), stop.cancelled_owned());
    tasks.spawn("csi", async {
        if let Err(error) = served.await {
            tracing::error!(%error, "kubelet is not served any more; restart the driver");
        }
    });
    Ok(())
}

/// HTTP/2 with the limits of every door of kubelet's.
pub(super) fn http() -> Server {
    Server::builder().max_concurrent_streams(STREAMS).http2_max_header_list_size(LARGEST_HEADERS).timeout(call::LONGEST)
}

fn connections(kept: Kept) -> impl Stream<Item = Result<Connection, Infallible>> {
    unfold(kept, async |mut kept| {
        loop {
            if let Next::Connected(connection) = kept.next().await {
                return Some((Ok(connection), kept));
            }
        }
    })
}
