//! A node with one driver: the emulator for Microsoft Entra and Key Vault, an API server, a kubelet, a mount namespace,
//! and the real `coffer node` between them.
//!
//! What every test must keep to is asserted here when a world ends: no secret in a log, an event, a pod status or a
//! metric, nobody who asked for a list or a watch, no panic of the driver.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use coffer_tests::harness::apiserver::{ApiServer, Resource, Verb};
use coffer_tests::harness::kubelet::{CallError, Driver, Kubelet, Pod, Tokens, Volume};
use coffer_tests::harness::vault::Vault;
use coffer_tests::harness::{Cloud, Emulator, Kind, Settings};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;
use tonic::{Code, Status};

use super::clock::Clock;
use super::namespace::{Inside as _, Mount, Namespace};
use super::patience::{eventually, in_time};
use super::process::{Line, Log, Process};
use crate::kube::rights;
use crate::program::{self, Program, Run};
use crate::tree::Tree;

pub const DRIVER: &str = "secrets-store.csi.k8s.io";
pub const NODE: &str = "node-1";
pub const VAULT: &str = "contoso-kv";
pub const TENANT: &str = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be001";
pub const CLIENT_ID: &str = "5c1b6f0e-88a4-4f0b-a9a1-3f6f7d1f4b02";
pub const CLIENT_SECRET: &str = "canary~client~secret";
/// The class that is there from the beginning: the secret [`SECRET`] of the vault.
pub const CLASS: &str = "kv";
/// The secret that is in the vault from the beginning.
pub const SECRET: &str = "DemoSecret";
pub const VALUE: &str = "canary of the first value";
/// For whom tokens are made.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A part of every secret, and the beginning of every JSON web token.
const CANARIES: [&str; 2] = ["canary", "eyJ"];
/// The shortest part of a message that counts as a repetition when it comes twice.
const SENTENCE: usize = 24;

/// Between two steps of a clock that a test moves.
const STEP: Duration = Duration::from_millis(20);

/// More would only wait for each other.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(4));

/// How the driver is started.
pub struct Setup {
    /// `--rotation-poll-interval`; none leaves rotation off.
    pub rotation: Option<&'static str>,
    pub level: &'static str,
    pub flags: Vec<String>,
    /// Lines of the configuration.
    pub config: String,
    /// Lines of the egress rules of the guest.
    pub rules: String,
    /// Entries of the limits of both providers.
    pub limits: String,
    /// What kubelet knows, beside the tokens.
    pub tokens_in_secrets: bool,
    /// A file to run instead of the Azure provider.
    pub component: Option<PathBuf>,
    /// A folder for compiled plugins instead of the one that holds them already.
    pub cache: Option<PathBuf>,
    /// What stands in front of the program on its command line.
    pub wrapper: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rotation: None,
            level: "debug",
            flags: Vec::new(),
            config: String::new(),
            rules: String::new(),
            limits: String::new(),
            tokens_in_secrets: false,
            component: None,
            cache: None,
            wrapper: Vec::new(),
        }
    }
}

impl Setup {
    /// Looks for changed secrets after this time.
    pub fn rotating(interval: &'static str) -> Self {
        Self { rotation: Some(interval), ..Self::default() }
    }
}

pub struct World {
    pub emulator: Emulator,
    pub vault: Vault,
    pub api: ApiServer,
    pub kubelet: Kubelet,
    pub namespace: Namespace,
    pub clock: Clock,
    pub setup: Setup,
    /// The log of every driver of this world.
    pub log: Arc<Log>,
    program: &'static Program,
    driver: Mutex<Option<Arc<Process>>>,
    folder: tempfile::TempDir,
    _turn: SemaphorePermit<'static>,
}

impl World {
    /// A driver that is registered and ready, as it ships: rotation off.
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// A driver that is registered and ready.
    pub async fn with(setup: Setup) -> Self {
        let world = Self::idle(setup).await;
        world.start().await;
        world
    }

    /// Everything but the driver.
    pub async fn idle(setup: Setup) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let program = tokio::task::spawn_blocking(Program::with_guest).await.unwrap();
        let emulator = Emulator::start(Settings::default()).await.unwrap();
        let vault = furnish(&emulator);
        let api = ApiServer::start().await.unwrap();
        api.set_csi_node(NODE, &[]);
        // What ships is enough for every test.
        api.enforce(Some(rights::shipped()));
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("root");
        fs::create_dir(&scratch).unwrap();
        let namespace = Namespace::with_root(&scratch, &program.cache).unwrap();
        let tokens = Tokens {
            issuer: emulator.issuer("https://cluster.example"),
            audiences: vec![AUDIENCE.to_owned()],
            lifetime: Duration::from_secs(3600),
        };
        let (tokens, tokens_in_secrets) = (Some(tokens), setup.tokens_in_secrets);
        let driver = Driver { name: DRIVER.to_owned(), tokens, tokens_in_secrets, pod_info: true };
        let kubelet = Kubelet::start(&folder.path().join("kubelet"), &namespace.root(), driver).unwrap();
        let clock = Clock::new(folder.path().join("clock"));
        let log = Arc::default();
        let driver = Mutex::default();
        let world =
            Self { emulator, vault, api, kubelet, namespace, clock, setup, log, program, driver, folder, _turn: turn };
        world.write("ca.pem", &world.emulator.ca_pem());
        world.write("kubeconfig", &world.api.kubeconfig());
        world.write_config();
        world.put_class(CLASS, &objects(&[SECRET]));
        world.set_csi_driver(true, world.setup.tokens_in_secrets);
        world
    }

    // The driver.

    /// Starts it, registers it, and waits until it is ready.
    pub async fn start(&self) {
        self.spawn();
        self.register().await;
        self.ready().await;
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) {
        assert!(!self.is_started(), "one driver at a time");
        let mut command = match self.setup.wrapper.split_first() {
            None => self.namespace.command(&self.program.coffer),
            Some((first, rest)) => {
                let mut command = self.namespace.command(Path::new(first));
                command.args(rest).arg(&self.program.coffer);
                command
            }
        };
        let path = |name: &str| self.path(name).display().to_string();
        let registry = self.kubelet.plugins().display().to_string();
        command.args(["node", "--nodeid", NODE, "--drivername", DRIVER]);
        command.args(["--endpoint", &format!("unix://{}", self.socket().display())]);
        command.args(["--registration-dir", &registry, "--kubeconfig", &path("kubeconfig")]);
        command.args(["--config", &path("config.yaml"), "--log-level", self.setup.level, "--log-format-json"]);
        command.args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"]);
        if let Some(interval) = self.setup.rotation {
            command.args(["--enable-secret-rotation", "--rotation-poll-interval", interval]);
        }
        command.args(&self.setup.flags).envs(self.clock.environment());
        self.give_driver(Arc::new(Process::start(&mut command, self.log.clone())));
    }

    /// Lets kubelet register it, and kubelet write its name into CSINode.
    pub async fn register(&self) {
        // kubelet does this between its two calls.
        self.api.set_csi_node(NODE, &[DRIVER]);
        self.unless_it_ends("the driver to offer itself to kubelet", self.kubelet.register()).await.unwrap();
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&self) {
        let ready = || self.driver().get("/readyz").filter(|(status, _)| *status == 200);
        self.unless_it_ends("the driver to be ready", eventually("the driver to be ready", ready)).await;
    }

    /// Waits for something that a driver does which has not ended.
    async fn unless_it_ends<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let driver = self.driver();
        tokio::select! {
            found = in_time(what, future) => found,
            status = driver.outlived() => panic!("the driver ended, {status:?}: {}", self.log.text()),
        }
    }

    pub fn driver(&self) -> Arc<Process> {
        self.driver.lock().unwrap().clone().expect("there is no driver")
    }

    fn is_started(&self) -> bool {
        self.driver.lock().unwrap().is_some()
    }

    /// Whether the driver has not ended by itself.
    pub fn is_alive(&self) -> bool {
        self.driver().ended().is_none()
    }

    /// Ends it well and starts the next one, which is not expected to be ready.
    pub async fn restart_unready(&self) {
        let status = self.stop().await;
        assert!(status.success(), "{status:?}: {}", self.log.text());
        self.spawn();
        self.register().await;
    }

    /// Takes the driver out of the world, running or not; another one may be started.
    pub fn take_driver(&self) -> Arc<Process> {
        self.driver.lock().unwrap().take().expect("there is no driver")
    }

    /// Puts it back.
    pub fn give_driver(&self, driver: Arc<Process>) {
        *self.driver.lock().unwrap() = Some(driver);
    }

    /// Stops it as a node does, and says how it ended.
    pub async fn stop(&self) -> ExitStatus {
        self.driver().terminate();
        self.ended().await
    }

    /// Waits for it to end.
    pub async fn ended(&self) -> ExitStatus {
        self.take_driver().end().await
    }

    /// Ends it where it stands.
    pub async fn kill(&self) {
        self.take_driver().kill().await;
    }

    /// Ends it well and starts the next one.
    pub async fn restart(&self) {
        let status = self.stop().await;
        assert!(status.success(), "{status:?}: {}", self.log.text());
        self.start().await;
    }

    /// Lets time pass for the driver, and wakes it.
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.driver().get("/healthz");
    }

    /// Waits for something for which time has to pass.
    pub async fn while_time_passes<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let time = async {
            loop {
                self.advance(20);
                sleep(STEP).await;
            }
        };
        tokio::select! {
            found = in_time(what, future) => found,
            never = time => never,
        }
    }

    // Its surroundings.

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The CSI socket.
    pub fn socket(&self) -> PathBuf {
        self.path("kubelet/plugins/csi-secrets-store/csi.sock")
    }

    /// The folder with what survives a restart.
    pub fn state(&self) -> PathBuf {
        self.path("kubelet/plugins/csi-secrets-store/state")
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program.coffer
    }

    /// The Azure provider.
    pub fn component(&self) -> &Path {
        &self.program.component
    }

    /// The configuration that the setup asks for; read when the driver starts.
    pub fn write_config(&self) {
        let emulator = self.emulator.address();
        let cache = self.setup.cache.clone().unwrap_or_else(|| Namespace::cache(&self.program.cache));
        let cache = cache.display();
        let azure = program::plugin(self.setup.component.as_deref().unwrap_or(&self.program.component));
        let guest = program::plugin(&self.program.guest);
        let Setup { config, rules, limits, .. } = &self.setup;
        let Cloud { login_host, vault_suffix, .. } = Cloud::public();
        let text = format!(
            "\
cache: {cache}
egress: {{proxy: none}}
{config}
providers:
  azure:
    {azure}
    limits: {{compileTime: 300s, {limits}}}
    egress:
      - {{rule: 'GET https://{{keyvaultName}}.{vault_suffix}/', connect: '{emulator}', ca: [ca.pem]}}
      - {{rule: 'POST https://{login_host}/{{tenantID|tenantId}}/oauth2/v2.0/token', connect: '{emulator}', ca: [ca.pem]}}
  guest:
    {guest}
    limits: {{compileTime: 300s, {limits}}}
    egress:
      - {{rule: 'GET https://{{keyvaultName}}.{vault_suffix}/', connect: '{emulator}', ca: [ca.pem]}}
{rules}
"
        );
        self.write("config.yaml", &text);
    }

    /// A class of the Azure provider in the namespace `default`, with these objects of the vault.
    pub fn put_class(&self, name: &str, objects: &str) {
        self.put_class_in("default", name, objects);
    }

    pub fn put_class_in(&self, namespace: &str, name: &str, objects: &str) {
        self.api.class(namespace, name).put("azure", &azure(objects));
    }

    /// A class of the guest of many modes in the namespace `default`. Where the parameters hold a `url`, it asks the vault.
    pub fn put_guest(&self, name: &str, mode: &str, parameters: &[(&str, &str)]) {
        self.put_guest_in("default", name, mode, parameters);
    }

    pub fn put_guest_in(&self, namespace: &str, name: &str, mode: &str, parameters: &[(&str, &str)]) {
        let own = [("mode", mode), ("keyvaultName", VAULT)];
        self.api.class(namespace, name).put("guest", &[&own, parameters].concat());
    }

    /// The CSIDriver object: whether there are tokens, and whether they stand among the secrets.
    pub fn set_csi_driver(&self, tokens: bool, in_secrets: bool) {
        let tokens = if tokens { json!([{"audience": AUDIENCE}]) } else { json!([]) };
        self.api.set_csi_driver(&json!({
            "podInfoOnMount": true, "attachRequired": false, "volumeLifecycleModes": ["Ephemeral"],
            "requiresRepublish": true, "tokenRequests": tokens, "serviceAccountTokenInSecrets": in_secrets,
        }));
    }

    // What kubelet does.

    /// Publishes the volume `secrets` of a pod, which must work: for the first time or again.
    pub async fn publish(&self, pod: &Pod) {
        if let Err(error) = self.kubelet.publish(pod, "secrets").await {
            panic!("{error}\n{}", self.log.text());
        }
    }

    /// Unpublishes it, which must work.
    pub async fn unpublish(&self, pod: &Pod) {
        if let Err(error) = self.kubelet.unpublish(pod, "secrets").await {
            panic!("{error}\n{}", self.log.text());
        }
    }

    /// Publishes it, which must be refused with this code and one message with all these parts; nothing may be left.
    pub async fn refused(&self, pod: &Pod, code: Code, parts: &[&str]) -> String {
        let message = self.refused_with_rests(pod, code, parts).await;
        self.assert_gone(pod);
        message
    }

    /// As [`World::refused`], whatever is left.
    pub async fn refused_with_rests(&self, pod: &Pod, code: Code, parts: &[&str]) -> String {
        let error = self.kubelet.publish(pod, "secrets").await.unwrap_err();
        let status = said(&error);
        assert_eq!(status.code(), code, "{status:?}\n{}", self.log.text());
        for part in parts {
            assert!(status.message().contains(part), "{part:?} is not in {status:?}");
        }
        assert_no_repetition(status.message());
        assert_no_canary("a gRPC message", status.message());
        status.message().to_owned()
    }

    // What an administrator on the node does.

    /// A command of the program that asks the running driver; the clock that it sees is that of the machine.
    pub fn coffer_command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = self.namespace.command(self.program());
        command.args(arguments).arg("--admin-socket").arg(self.socket().with_file_name("admin.sock"));
        command.into()
    }

    /// What such a command says, in which there is no secret.
    pub async fn coffer(&self, arguments: &[&str]) -> Run {
        let mut command = self.coffer_command(arguments);
        let output = in_time(&format!("coffer {arguments:?}"), command.kill_on_drop(true).output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let run = Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert_no_canary("what a command prints", &run.stdout);
        assert_no_canary("what a command prints", &run.stderr);
        run
    }

    // What is there.

    /// The volume as the pod sees it; none if there is no folder.
    pub fn tree(&self, pod: &Pod) -> Option<Tree> {
        Tree::read(&self.seen(pod))
    }

    /// A file of the volume, through its links.
    pub fn file(&self, pod: &Pod, name: &str) -> String {
        fs::read_to_string(self.seen(pod).join(name)).unwrap()
    }

    /// Whether the volume has such a file.
    pub fn has_file(&self, pod: &Pod, name: &str) -> bool {
        self.seen(pod).join(name).exists()
    }

    /// The target as this process can see it.
    pub fn seen(&self, pod: &Pod) -> PathBuf {
        self.kubelet.seen(&self.target(pod))
    }

    pub fn target(&self, pod: &Pod) -> PathBuf {
        self.kubelet.target(pod, "secrets")
    }

    /// The mounts at the target.
    pub fn mounts(&self, pod: &Pod) -> Vec<Mount> {
        self.namespace.mounted(&self.target(pod))
    }

    /// All mounts of all pods.
    pub fn all_mounts(&self) -> Vec<Mount> {
        self.namespace.mounted(&self.path("kubelet/pods"))
    }

    /// Waits until the ledger knows so many volumes: it is written beside the answers.
    pub async fn remembers(&self, volumes: usize) {
        let count = || fs::read_dir(self.state()).map_or(0, |entries| entries.count());
        eventually(&format!("{volumes} volumes in the ledger"), || (count() == volumes).then_some(())).await;
    }

    /// Neither a mount nor a folder of the volume is there.
    pub fn assert_gone(&self, pod: &Pod) {
        assert_eq!(self.mounts(pod), [], "a mount was left behind");
        assert!(!self.seen(pod).exists(), "the target was left behind");
    }

    /// Waits until the pod status of a pod and a class is there and as it is wanted.
    pub async fn status_of(&self, pod: &Pod, class: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let name = status_name(pod, class);
        let namespace = pod.namespace_name();
        let find = || self.api.pod_status(namespace, &name).filter(|status| is_it(status));
        eventually("the pod status", find).await
    }

    /// Waits until the pod status of a pod is there.
    pub async fn status(&self, pod: &Pod) -> Value {
        self.status_of(pod, CLASS, |_| true).await
    }

    /// Waits for an event on a pod.
    pub async fn event(&self, pod: &Pod, reason: &str) -> Value {
        let is_it = |event: &Value| {
            let about = if event["regarding"].is_null() { &event["involvedObject"] } else { &event["regarding"] };
            about["uid"] == pod.uid() && event["reason"] == reason
        };
        eventually(reason, || self.api.events().into_iter().find(is_it)).await
    }

    /// The sum of all series of a metric whose text contains all these parts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.driver().get("/metrics").expect("no metrics");
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        let series = series.filter(|(series, _)| series.split('{').next() == Some(name));
        let series = series.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        series.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    /// The lines of the audit for a pod, when so many volumes of it were published.
    pub async fn audit(&self, pod: &Pod, published: usize) -> Vec<Line> {
        let is_audit = |line: &Line| line.field("target") == "coffer::audit" && line.field("pod.uid") == pod.uid();
        // What was written is on its way here for a while.
        let lines = || {
            let lines: Vec<Line> = self.log.lines().into_iter().filter(is_audit).collect();
            let told = lines.iter().filter(|line| line.message().contains("published")).count();
            (told >= published).then_some(lines)
        };
        eventually("the audit", lines).await
    }

    /// Requests to the vault for secrets so far.
    pub fn gets(&self) -> u64 {
        self.emulator.counters().of(Kind::GetSecret)
    }

    /// Requests for tokens so far.
    pub fn sign_ins(&self) -> u64 {
        self.emulator.counters().of(Kind::Token)
    }

    /// Waits until everything that was queued for the API server before now has got there: what a pod that is published
    /// now causes comes after it.
    pub async fn api_caught_up(&self) {
        let last = guest_pod("last").mounts("last");
        self.put_guest("last", "behaves", &[]);
        self.publish(&last).await;
        self.status_of(&last, "last", |_| true).await;
    }

    fn assert_clean(&self) {
        let text = self.log.text();
        assert_no_canary("the log", &text);
        assert!(!text.contains("panicked at"), "the driver panicked:\n{text}");
        for resource in [Resource::Events, Resource::PodStatuses] {
            for object in self.api.objects(resource) {
                assert_no_canary(resource.plural(), &object.to_string());
            }
        }
        for entry in self.api.entries() {
            let verb = entry.target.verb;
            assert!(
                !matches!(verb, Verb::List | Verb::Watch) || entry.target.resource == Resource::Discovery,
                "{entry:?}"
            );
        }
        if self.is_started()
            && let Some((_, metrics)) = self.driver().get("/metrics")
        {
            assert_no_canary("the metrics", &metrics);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the log of the driver:\n{}", self.log.text());
        } else {
            self.assert_clean();
        }
        // Before the folder it works in.
        drop(self.driver.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A pod whose volume `secrets` is of the class that is there from the beginning.
pub fn pod(name: &str) -> Pod {
    Pod::new(name).volume(volume(CLASS))
}

/// The volume `secrets` of a class of the Azure provider, with the credentials that it needs.
pub fn volume(class: &str) -> Volume {
    Volume::new("secrets", class).secret(&[("clientid", CLIENT_ID), ("clientsecret", CLIENT_SECRET)])
}

/// A pod without volumes; `mounts` gives it one of the guest.
pub fn guest_pod(name: &str) -> Pod {
    Pod::new(name)
}

/// The URL of a secret of the vault, for the guest.
pub fn url_of(secret: &str) -> String {
    format!("https://{VAULT}.vault.azure.net/secrets/{secret}")
}

/// The parameter `objects` with these secrets.
pub fn objects(names: &[&str]) -> String {
    let object = |name: &&str| format!("  - |\n    objectName: {name}\n    objectType: secret\n");
    format!("array:\n{}", names.iter().map(object).collect::<String>())
}

/// The parameters of the Azure provider.
pub fn azure(objects: &str) -> [(&str, &str); 4] {
    [("usePodIdentity", "false"), ("keyvaultName", VAULT), ("tenantId", TENANT), ("objects", objects)]
}

pub fn status_name(pod: &Pod, class: &str) -> String {
    format!("{}-{}-{class}", pod.name(), pod.namespace_name())
}

/// What the driver said, which must have been asked.
pub fn said(error: &CallError) -> &Status {
    error.status().unwrap_or_else(|| panic!("the driver was not asked: {error}"))
}

/// Whether a process was ended by this signal.
pub fn was_ended_by(status: ExitStatus, signal: i32) -> bool {
    status.signal() == Some(signal)
}

fn furnish(emulator: &Emulator) -> Vault {
    let tenant = emulator.tenant(TENANT);
    tenant.app(CLIENT_ID).secret(CLIENT_SECRET);
    let vault = tenant.vault(VAULT);
    vault.allow_all(CLIENT_ID).secret(SECRET).set(VALUE);
    vault
}

pub fn assert_no_canary(place: &str, text: &str) {
    for canary in CANARIES {
        if let Some((before, _)) = text.split_once(canary) {
            panic!("{canary} is in {place}: {}…", before.lines().next_back().unwrap_or_default());
        }
    }
}

/// One clear message: no part of it comes twice.
fn assert_no_repetition(message: &str) {
    let mut parts: Vec<&str> = message.split([';', ':']).map(str::trim).filter(|part| part.len() >= SENTENCE).collect();
    parts.sort_unstable();
    if let Some(twice) = parts.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("{:?} stands twice in {message}", twice[0]);
    }
}
