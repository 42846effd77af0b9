//! kubelet's plugin registration: how kubelet gets to know the driver, without a sidecar.
//!
//! kubelet watches a folder. It asks every new socket in it who it is, and tells it whether it was registered. So to be
//! registered anew means to make the socket anew. `commands::node` starts this, once the CSI socket listens: kubelet calls
//! that one before it answers here. A refusal never ends the driver; volumes that are published already go on being
//! refreshed and taken away.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use super::proto::registration::registration_server::{self, RegistrationServer};
use super::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use super::server;
use crate::socket::{Connection, Kept, Next, Socket, SocketError};
use crate::tasks::Tasks;

/// Versions of the CSI protocol, as kubelet compares them.
const VERSIONS: &[&str] = &["1.0.0"];
/// Bytes of a message.
const LARGEST_MESSAGE: usize = 64 << 10;
/// Connections at a time; kubelet has one.
const CONNECTIONS: usize = 16;
/// How often to look whether the socket is still in its place, and whether the folder is there at last.
const LOOK: Duration = Duration::from_secs(5);
/// How long after a refusal, or after the socket was made, it is made anew at the earliest.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The wait doubles up to this with every further refusal.
const LAST_RETRY: Duration = Duration::from_secs(300);

const ADVICE: &str = "kubelet does not know the driver until then. The folder is `plugins_registry` in kubelet's root \
    folder, where kubelet makes it when it starts: check --registration-dir, and in a pod that the volume mounted there \
    is that folder. One that was removed and made anew on the node is not seen by a container that runs: delete the pod.";

/// How to register.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that kubelet watches, `/var/lib/kubelet/plugins_registry`.
    pub folder: PathBuf,
    /// The driver's name.
    pub driver: String,
    /// The CSI socket's path as kubelet sees it.
    pub endpoint: PathBuf,
}

/// Whether kubelet has registered the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Registered {
    /// kubelet did not say anything yet, or nothing since the driver was lost.
    #[default]
    Waiting,
    /// It has.
    Yes,
    /// It refused, and why.
    Refused(String),
}

/// Serves registration until `tasks` stops. Whoever holds the sender of `again` can ask to be registered anew. A folder
/// that does not exist yet is waited for. Runs inside a Tokio runtime.
///
/// # Errors
///
/// When the folder exists and the socket cannot be bound in it.
pub fn serve(
    settings: Settings,
    again: watch::Receiver<u64>,
    tasks: &Tasks,
) -> Result<watch::Receiver<Registered>, SocketError> {
    let Settings { folder, driver, endpoint } = settings;
    let path = folder.join(socket_name(&driver));
    let mut kept = Kept::new(path, Socket::bind_in_existing_folder, CONNECTIONS, LOOK, ADVICE);
    match kept.renew() {
        Err(error) if !folder.exists() => kept.complain(&error),
        bound => bound?,
    }
    let (status, registered) = watch::channel(Registered::default());
    let registrar = Registrar {
        kept,
        again,
        status: status.clone(),
        heard: registered.clone(),
        bound: Instant::now(),
        retry: None,
        patience: FIRST_RETRY,
    };
    let info = PluginInfo {
        r#type: "CSIPlugin".to_owned(),
        name: driver,
        endpoint: endpoint.to_string_lossy().into_owned(),
        supported_versions: VERSIONS.iter().map(ToString::to_string).collect(),
    };
    let service = RegistrationServer::new(Registration { info, status }).max_decoding_message_size(LARGEST_MESSAGE);
    let stop = tasks.stopping();
    let served = server::http().add_service(service);
    let served = served.serve_with_incoming_shutdown(registrar.connections(), stop.cancelled_owned());
    tasks.spawn("registration", async {
        if let Err(error) = served.await {
            tracing::error!(%error, "kubelet cannot register the driver any more; restart it");
        }
    });
    Ok(registered)
}

/// The socket's name in the folder. The `@` makes an authority of its path, percent-encoded as kubelet sends it (gRPC for Go,
/// `encodeAuthority`): what stands before it is user information (RFC 3986, section 3.2.1).
#[must_use]
pub fn socket_name(driver: &str) -> String {
    format!("coffer@{driver}-reg.sock")
}

/// What kubelet asks and says.
struct Registration {
    info: PluginInfo,
    status: watch::Sender<Registered>,
}

#[tonic::async_trait]
impl registration_server::Registration for Registration {
    async fn get_info(&self, _request: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        tracing::debug!("kubelet asks who the driver is");
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        let now = if plugin_registered { Registered::Yes } else { Registered::Refused(error) };
        let before = self.status.send_replace(now.clone());
        if before != now {
            tell(&now, &self.info.name);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

fn tell(now: &Registered, driver: &str) {
    match now {
        Registered::Refused(why) => tracing::warn!(
            driver,
            why,
            "kubelet refused to register the driver. Most often another driver of the same name is on the node: uninstall \
             that one. Volumes that are published are still served; registration is tried again"
        ),
        Registered::Yes => tracing::info!(driver, "kubelet has registered the driver"),
        Registered::Waiting => {}
    }
}

/// Decides when the socket is made anew.
struct Registrar {
    kept: Kept,
    again: watch::Receiver<u64>,
    /// Also written by [`Registration`], with what kubelet says.
    status: watch::Sender<Registered>,
    heard: watch::Receiver<Registered>,
    /// When the socket was made.
    bound: Instant,
    /// When it will be made anew.
    retry: Option<Instant>,
    /// How long to wait after the next refusal.
    patience: Duration,
}

impl Registrar {
    fn connections(self) -> impl Stream<Item = Result<Connection, Infallible>> {
        unfold(self, async |mut registrar| Some((Ok(registrar.next().await), registrar)))
    }

    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                next = self.kept.next() => match next {
                    Next::Connected(connection) => return connection,
                    Next::Bound => self.was_bound(),
                },
                () = changed(&mut self.heard) => self.hear(),
                () = changed(&mut self.again) => self.was_lost(),
                () = reached(self.retry) => self.renew(),
            }
        }
    }

    /// kubelet said something. One that keeps refusing does not put the next try off.
    fn hear(&mut self) {
        match &*self.heard.borrow_and_update() {
            Registered::Yes => (self.retry, self.patience) = (None, FIRST_RETRY),
            Registered::Refused(_) if self.retry.is_none() => {
                self.retry = Some(Instant::now() + self.patience);
                self.patience = (self.patience * 2).min(LAST_RETRY);
            }
            Registered::Refused(_) | Registered::Waiting => {}
        }
    }

    /// CSINode lacks the driver. After a refusal that is no news; after a socket that is new, kubelet needs time.
    fn was_lost(&mut self) {
        if !matches!(*self.status.borrow(), Registered::Refused(_)) {
            self.status.send_replace(Registered::Waiting);
            self.retry = Some(Instant::now().max(self.bound + FIRST_RETRY));
        }
    }

    fn renew(&mut self) {
        tracing::info!("asking kubelet once more to register the driver");
        match self.kept.renew() {
            Ok(()) => self.was_bound(),
            Err(error) => self.kept.complain(&error),
        }
        self.retry = None;
    }

    /// kubelet sees the old socket go and a new one come, and drops what it knew.
    fn was_bound(&mut self) {
        (self.bound, self.retry) = (Instant::now(), None);
        self.status.send_if_modified(|status| {
            let was_registered = *status == Registered::Yes;
            if was_registered {
                *status = Registered::Waiting;
            }
            was_registered
        });
    }
}

/// Waits for a change; for ever where there can be none any more.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
