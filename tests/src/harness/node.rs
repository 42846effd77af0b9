//! `coffer node` as a process on a node: in a mount namespace of its own, between an API server and a kubelet.
//!
//! For the programs that show and measure it. [`Surroundings`] is the node without the driver, [`Node`] the driver's
//! process; neither says anything about vaults, classes or configuration, which are the caller's.

mod namespace;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::apiserver::ApiServer;
use super::emulator::Emulator;
use super::kubelet::{Driver, Kubelet, RegisterError, Tokens};

pub use namespace::{Namespace, is_root};

/// The driver's name.
pub const DRIVER: &str = "secrets-store.csi.k8s.io";
/// The node's name.
pub const NODE: &str = "node-1";

/// For whom kubelet asks tokens, as `deploy/csidriver.yaml` wants it.
const AUDIENCE: &str = "api://AzureADTokenExchange";
/// How long anything is waited for; the longest is a plugin that is compiled without optimisation.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(2);

/// A node without a driver, in a folder of its own.
pub struct Surroundings {
    /// The API server. It has the CSIDriver object that ships, and no class.
    pub api: ApiServer,
    /// kubelet, with service account tokens that the emulator's Entra can verify.
    pub kubelet: Kubelet,
    /// Where the driver mounts.
    pub namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Surroundings {
    /// Starts everything. The folder is a short one, because paths of sockets are.
    ///
    /// # Errors
    /// `PermissionDenied` where this user can make no mount namespace; whatever else keeps it from starting.
    pub async fn start(emulator: &Emulator) -> io::Result<Self> {
        let namespace = Namespace::new()?;
        let folder = tempfile::Builder::new().prefix("coffer-node-").tempdir()?;
        let api = ApiServer::start().await?;
        api.set_csi_node(NODE, &[]);
        let issuer = emulator.issuer("https://cluster.example");
        let tokens = Tokens { issuer, audiences: vec![AUDIENCE.to_owned()], lifetime: Duration::from_secs(3600) };
        let driver = Driver { name: DRIVER.to_owned(), tokens: Some(tokens), ..Driver::default() };
        let kubelet = Kubelet::start(&folder.path().join("kubelet"), &namespace.root(), driver)?;
        fs::write(folder.path().join("kubeconfig"), api.kubeconfig())?;
        Ok(Self { api, kubelet, namespace, folder })
    }

    /// The folder of kubelet and of the driver's sockets.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The CSI socket of the driver that runs here.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("kubelet/plugins/csi-secrets-store/csi.sock")
    }

    /// What the driver keeps over a restart.
    pub fn state(&self) -> PathBuf {
        self.folder().join("kubelet/plugins/csi-secrets-store/state")
    }

    /// Starts `coffer node`, with a configuration and further flags, and waits for nothing. It logs JSON into `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, program: &Path, config: &Path, log: &Path, flags: &[&str]) -> io::Result<Node> {
        let mut command = self.namespace.command(program);
        command.args(["node", "--nodeid", NODE, "--log-format-json"]);
        command.arg("--endpoint").arg(format!("unix://{}", self.socket().display()));
        command.arg("--registration-dir").arg(self.kubelet.plugins());
        command.arg("--kubeconfig").arg(self.folder().join("kubeconfig")).arg("--config").arg(config);
        command.args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"]).args(flags);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?).spawn()?;
        Ok(Node { child, log: log.to_owned() })
    }

    /// Has it registered, and waits until it is ready.
    ///
    /// # Errors
    /// kubelet does not accept it, or it is not ready in time.
    pub async fn introduce(&self, node: &mut Node) -> io::Result<()> {
        // kubelet does this between its two calls.
        self.api.set_csi_node(NODE, &[DRIVER]);
        let registered = tokio::time::timeout(PATIENCE, self.kubelet.register()).await;
        let refused = |error: RegisterError| node.told(&format!("kubelet does not accept it: {error}"));
        registered.map_err(|_| node.told("it does not offer itself to kubelet"))?.map_err(refused)?;
        node.ready().await
    }

    /// As [`Surroundings::spawn`] and [`Surroundings::introduce`].
    ///
    /// # Errors
    /// As theirs.
    pub async fn start_node(&self, program: &Path, config: &Path, log: &Path, flags: &[&str]) -> io::Result<Node> {
        let mut node = self.spawn(program, config, log, flags)?;
        self.introduce(&mut node).await?;
        Ok(node)
    }
}

/// A running driver; dropping it kills it.
pub struct Node {
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// It has ended, or is not ready in time; the error has what it said.
    pub async fn ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.get("/readyz");
            if matches!(said, Some((200, _))) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(self.told(&format!("it is not ready: {}", said.unwrap_or_default().1)));
            }
            sleep(INTERVAL).await;
        }
    }

    /// Status and body of a GET of one of its ports: `/metrics`, `/readyz` or `/healthz`; none while nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let wanted = if path == "/metrics" { "metrics" } else { "health" };
        let log = fs::read_to_string(&self.log).ok()?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |line: &Value, key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut ports = lines.filter(|line| text(line, "message") == "listening" && text(line, "what") == wanted);
        get(text(&ports.next()?, "address").parse().ok()?, path).ok()
    }

    /// The sum of all series of a metric whose labels contain these texts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.get("/metrics").unwrap_or_default();
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        let series = series.filter(|(series, _)| series.split('{').next() == Some(name));
        let series = series.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        series.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    /// Ends it as a node does, and waits for that.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.ok_or(io::ErrorKind::NotFound)?, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.told("it does not end"));
            }
            sleep(INTERVAL).await;
        }
    }

    /// What is wrong, and the last lines of its log.
    fn told(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.split_at(lines.len().saturating_sub(5)).1.join("\n");
        io::Error::other(format!("`coffer node`: {what}; its log ends with\n{last}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let parts = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    parts.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
