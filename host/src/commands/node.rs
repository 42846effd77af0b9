//! `coffer node`: the CSI driver of a node.
//!
//! Wires everything and waits for the end: privileges → configuration → kubelet's door → plugins in the background →
//! registration. The door opens before anything that can be slow, so Probe is answered whatever the plugins do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coffer_sandbox::egress::RuleSettings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::App;
use crate::args::Node;
use crate::config::Config;
use crate::csi::registration::{self, Registered};
use crate::csi::server;
use crate::error::Error;
use crate::exit::Exit;
use crate::kube::classes::Classes;
use crate::kube::client::{self, Client};
use crate::kube::driver::{self, Facts};
use crate::kube::events::Events;
use crate::kube::pod_statuses::PodStatuses;
use crate::kube::startup_taint;
use crate::privilege;
use crate::publish::obtain::Source;
use crate::publish::offline::Offline;
use crate::publish::pipeline::{Parts, Pipeline};
use crate::publish::plugins::{Plugins, State};
use crate::publish::registry::Registry;
use crate::publish::share::Share;
use crate::publish::timer;
use crate::refresh::{self, Rotation};
use crate::sync::{self, Syncer};
use crate::tasks::Tasks;
use crate::telemetry::health::{self, Readiness};
use crate::telemetry::metrics::{Metrics, Volumes};
use crate::telemetry::{Log, admin};
use crate::volume::ledger::{Entry, Ledger};
use crate::volume::mount::{self, Standing};

/// Calls of providers at the same time; further ones wait.
const CALLS: u32 = 32;
/// Threads that wait for the disk, the kernel and the compiler.
const BLOCKING_THREADS: usize = 32;
/// How long threads that wait for the kernel may take after that.
const LAST_THREADS: Duration = Duration::from_secs(1);
/// How long to wait for a socket that somebody else serves.
const REGISTER_AGAIN: Duration = Duration::from_secs(5);
/// How long kubelet may take to ask for a driver whose socket it sees; it does at once as a rule.
const SILENCE: Duration = Duration::from_secs(30);
/// How long calls that run may take at the end; kubelet kills a pod 30 s after it told it to stop.
const LAST_CALLS: Duration = Duration::from_secs(25);

/// Runs until SIGTERM.
///
/// # Errors
///
/// Whatever keeps the driver from starting. Once it serves, nothing ends it but a signal.
pub fn run(arguments: &Node, log: Log) -> Result<Exit, Error> {
    // Capabilities belong to threads, so they go before there is a second one.
    privilege::drop_for_node().map_err(Error::Privilege)?;
    raise_open_files();
    let node = arguments.nodeid.clone().or_else(|| std::env::var("KUBE_NODE_NAME").ok());
    let node = node.filter(|node| !node.is_empty()).ok_or(Error::NoNodeName)?;
    let config = Config::load(arguments.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(serve(arguments, node, config, log));
    // A lookup or a file system that hangs must not keep the program from ending.
    runtime.shutdown_timeout(LAST_THREADS);
    result
}

/// 110 volumes at once have more sockets and folders open than the usual soft limit allows.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What it has may do as well.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

async fn serve(arguments: &Node, node: String, config: Config, log: Log) -> Result<Exit, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let tasks = Tasks::default();
    let started = start(arguments, node, config, log, &tasks).await;
    if let Err(error) = started {
        tasks.drain(LAST_CALLS).await;
        return Err(error);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: calls that run are finished, no new ones are taken");
    tokio::select! {
        left = tasks.drain(LAST_CALLS) => match left {
            0 => tracing::info!("stopped"),
            left => tracing::warn!(left, "stopped before every task had ended; volumes are as they were or as they should be"),
        },
        _ = terminate.recv() => tracing::warn!("stopped at once by a second signal"),
        _ = interrupt.recv() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(Exit::Ok)
}

async fn start(arguments: &Node, node: String, config: Config, log: Log, tasks: &Tasks) -> Result<(), Error> {
    let rotation = Rotation { enabled: arguments.enable_secret_rotation, interval: arguments.rotation_poll_interval.0 };
    let metrics = Metrics::with_rules(rules(&config));
    let readiness = Readiness::default();
    expect(&readiness, &config, arguments);

    let (ledger, entries) = open_ledger(state_folder(arguments)).await?;
    let registry = Arc::new(Registry::default());
    metrics.set_source(volumes(registry.clone()));
    let client = client::connect(arguments.kubeconfig.as_deref(), count(metrics.clone())).await?;
    let facts = driver::watch(client.clone(), arguments.drivername.clone(), node.clone(), tasks);
    let app = Arc::new(App::new(config, CALLS)?);
    let pace = app.pace().clone();
    metrics.set_pace(pace.clone());
    let config = Arc::new(app.config().clone());
    let plugins = Plugins::start(app, tasks.clone());
    let share = Share::new(config.reuse, tasks.clone());
    let offline = Offline::start(config.offline_start, tasks);
    let events = Events::start(client.clone(), node.clone(), tasks);
    let syncer = {
        let (ledger, registry, after) = (ledger.clone(), registry.clone(), tasks.clone());
        let synced = move |volume: &str, mark: &str| {
            let (volume, mark) = (volume.to_owned(), mark.to_owned());
            let remember = move |entry: &mut Entry| entry.synced = Some(mark);
            after.spawn("remember Secrets", remember_in_entry(ledger.clone(), registry.clone(), volume, remember));
        };
        let (client, settings, tasks) = (client.clone(), config.sync.clone(), tasks.clone());
        Syncer::start(sync::Parts { client, settings, events: events.clone(), metrics: metrics.clone(), tasks }, synced)
    };
    let pod_statuses = {
        let (ledger, registry, after) = (ledger.clone(), registry.clone(), tasks.clone());
        let syncer = syncer.clone();
        let written = move |volume: &str, digest: &str| {
            syncer.pod_status_written(volume);
            let (volume, digest) = (volume.to_owned(), digest.to_owned());
            let remember = move |entry: &mut Entry| entry.status = Some(digest);
            after.spawn("remember status", remember_in_entry(ledger.clone(), registry.clone(), volume, remember));
        };
        PodStatuses::start(client.clone(), node.clone(), tasks, written)
    };
    let parts = Parts {
        source: Source::new(config.clone(), plugins.clone(), share, offline, metrics.clone()),
        classes: Classes::new(client.clone(), tasks),
        facts: facts.clone(),
        driver: arguments.drivername.clone(),
        ledger,
        registry,
        pod_statuses,
        events,
        syncer,
        metrics: metrics.clone(),
        rotation,
        tasks: tasks.clone(),
    };
    let pipeline = Pipeline::new(parts, entries);

    let endpoint = arguments.endpoint.0.clone();
    let door =
        server::Settings { endpoint: endpoint.clone(), driver: arguments.drivername.clone(), node: node.clone() };
    server::serve(door, Arc::new(pipeline.clone()), tasks)?;
    let admin_socket = arguments.admin_socket.clone().unwrap_or_else(|| beside(&endpoint, "admin.sock"));
    admin::serve(&admin_socket, log, admin::volumes::router(pipeline.clone()), tasks)?;
    if let Some(address) = arguments.metrics_addr.0 {
        let address = health::serve_metrics(address, metrics, tasks)?;
        tracing::info!(%address, what = "metrics", "listening");
    }
    if let Some(address) = arguments.health_addr.0 {
        let address = health::serve_health(address, readiness.clone(), tasks)?;
        tracing::info!(%address, what = "health", "listening");
    }
    tell_facts(&readiness, facts.clone(), tasks);
    tell_plugins(&readiness, &plugins, &config, tasks);
    if !arguments.registration_dir.as_os_str().is_empty() {
        let settings = registration::Settings {
            folder: arguments.registration_dir.clone(),
            driver: arguments.drivername.clone(),
            endpoint: arguments.kubelet_registration_path.clone().unwrap_or(endpoint),
        };
        let registered = register(settings, facts, &readiness, tasks);
        if let Some(key) = arguments.startup_taint.clone().filter(|key| !key.is_empty()) {
            untaint(client, node, key, registered, tasks);
        }
    }
    if rotation.has_timer() {
        timer::start(pipeline, pace.returned());
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        driver = arguments.drivername,
        rotation = rotation.enabled,
        "coffer serves this node"
    );
    Ok(())
}

/// The texts of the egress rules of each provider: the only ones that become labels.
fn rules(config: &Config) -> Vec<(String, Vec<String>)> {
    let text = |rule: &RuleSettings| rule.rule.text().to_string();
    config.providers.iter().map(|(name, grant)| (name.clone(), grant.rules.iter().map(text).collect())).collect()
}

/// Counts calls to the API server: verb, resource, code.
fn count(metrics: Metrics) -> impl Fn(&'static str, &'static str, &str) + Send + Sync + 'static {
    move |verb, resource, code| metrics.api(verb, resource, code)
}

fn expect(readiness: &Readiness, config: &Config, arguments: &Node) {
    readiness.expect(["api"]);
    readiness.expect(config.providers.keys().map(|provider| condition_of(provider)));
    if !arguments.registration_dir.as_os_str().is_empty() {
        readiness.expect(["registered"]);
    }
}

fn condition_of(provider: &str) -> String {
    format!("plugin {provider}")
}

fn beside(endpoint: &Path, name: &str) -> PathBuf {
    endpoint.parent().unwrap_or(Path::new("/")).join(name)
}

fn state_folder(arguments: &Node) -> PathBuf {
    arguments.state_dir.clone().unwrap_or_else(|| beside(&arguments.endpoint.0, "state"))
}

/// The ledger, and what it knows of volumes that are still there: after a reboot the mounts are gone.
async fn open_ledger(folder: PathBuf) -> Result<(Arc<Ledger>, Vec<Entry>), Error> {
    let opened = tokio::task::spawn_blocking(move || {
        let ledger = Ledger::open(&folder).map_err(|source| Error::State { folder: folder.clone(), source })?;
        let mut entries = ledger.load().map_err(|source| Error::State { folder, source })?;
        entries.retain(|entry| {
            // A look that failed says nothing.
            let is_gone = matches!(mount::look(&entry.target), Ok(Standing::Nothing | Standing::Unfinished));
            if is_gone {
                // It is looked for again at the next start.
                let _ = ledger.remove(&entry.volume);
            }
            !is_gone
        });
        Ok((Arc::new(ledger), entries))
    });
    opened.await.map_err(Error::Task)?
}

fn volumes(registry: Arc<Registry>) -> impl Fn() -> Volumes + Send + Sync + 'static {
    move || {
        let (count, oldest) = registry.oldest_check();
        let oldest_check = oldest.map(|checked| refresh::age(checked, SystemTime::now()));
        Volumes { count, oldest_check, offline: registry.offline() }
    }
}

/// Remembers what stands in the cluster, so that it is not written again.
async fn remember_in_entry(
    ledger: Arc<Ledger>,
    registry: Arc<Registry>,
    volume: String,
    remember: impl FnOnce(&mut Entry),
) {
    let slot = registry.slot(&volume);
    {
        // Whatever else is written about the volume is written by whoever holds it.
        let _alone = slot.lock.lock().await;
        let entry = {
            let mut known = slot.known();
            if let Some(entry) = &mut known.entry {
                remember(entry);
            }
            known.entry.clone()
        };
        if let Some(entry) = entry {
            let kept = tokio::task::spawn_blocking(move || ledger.put(&entry)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(volume, %error, "what is known of the volume cannot be kept; its pod status or its Secrets may be written again");
            }
        }
    }
    registry.release(&volume, slot);
}

fn tell_facts(readiness: &Readiness, mut facts: watch::Receiver<Facts>, tasks: &Tasks) {
    let (readiness, stopping) = (readiness.clone(), tasks.stopping());
    tasks.spawn("tell what the API server knows", async move {
        loop {
            let wrong = {
                let facts = facts.borrow_and_update();
                // Nothing is wrong before the first look, and nothing is right.
                (facts.driver.is_some() || !facts.wrong.is_empty()).then(|| facts.wrong.join("; "))
            };
            match wrong {
                Some(wrong) if wrong.is_empty() => readiness.set("api", Ok(())),
                Some(wrong) => readiness.set("api", Err(wrong)),
                None => {}
            }
            tokio::select! {
                changed = facts.changed() => if changed.is_err() { return },
                () = stopping.cancelled() => return,
            }
        }
    });
}

fn tell_plugins(readiness: &Readiness, plugins: &Plugins, config: &Config, tasks: &Tasks) {
    for provider in config.providers.keys() {
        let Some(mut state) = plugins.watch(provider) else { continue };
        let (readiness, condition, stopping) = (readiness.clone(), condition_of(provider), tasks.stopping());
        tasks.spawn("tell how far a plugin is", async move {
            loop {
                match &*state.borrow_and_update() {
                    State::Ready(_) => readiness.set(condition.clone(), Ok(())),
                    State::Broken { error, .. } => readiness.set(condition.clone(), Err(text(&**error))),
                    State::Loading => {}
                }
                tokio::select! {
                    changed = state.changed() => if changed.is_err() { return },
                    () = stopping.cancelled() => return,
                }
            }
        });
    }
}

/// Registers with kubelet, and again whenever it is needed. Somebody else who holds the socket, another driver of the same
/// name that has not gone yet, keeps the node from being ready and nothing else.
/// Says whenever kubelet has registered it.
fn register(
    settings: registration::Settings,
    mut facts: watch::Receiver<Facts>,
    readiness: &Readiness,
    tasks: &Tasks,
) -> watch::Receiver<bool> {
    let (readiness, tasks, stopping) = (readiness.clone(), tasks.clone(), tasks.stopping());
    let (is_registered, told) = watch::channel(false);
    tasks.clone().spawn("tell whether kubelet knows the driver", async move {
        let (again, asked) = watch::channel(0);
        let mut was_registered = false;
        let silent = silent(&settings);
        let mut registered = loop {
            match registration::serve(settings.clone(), asked.clone(), &tasks) {
                Ok(registered) => break registered,
                Err(error) => {
                    let error = text(&error);
                    tracing::warn!("kubelet cannot get to know this driver: {error}");
                    readiness.set("registered", Err(error));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(REGISTER_AGAIN) => {}
                () = stopping.cancelled() => return,
            }
        };
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        let mut heard = false;
        loop {
            let now = registered.borrow_and_update().clone();
            heard |= now != Registered::Waiting;
            match now {
                Registered::Yes => {
                    was_registered = true;
                    is_registered.send_replace(true);
                    readiness.set("registered", Ok(()));
                }
                Registered::Refused(why) => readiness.set("registered", Err(why)),
                Registered::Waiting if was_registered => {
                    let lost = "kubelet does not know the driver any more; it is offered again, see the log of kubelet";
                    readiness.set("registered", Err(lost.to_owned()));
                }
                Registered::Waiting => {}
            }
            tokio::select! {
                changed = registered.changed() => if changed.is_err() { return },
                changed = facts.changed() => {
                    let lost = facts.borrow_and_update().lost;
                    if changed.is_err() { return }
                    again.send_if_modified(|asked| std::mem::replace(asked, lost) != lost);
                }
                () = &mut silence, if !heard => {
                    heard = true;
                    tracing::warn!("{silent}");
                    readiness.set("registered", Err(silent.clone()));
                }
                () = stopping.cancelled() => return,
            }
        }
    });
    told
}

/// What to say when kubelet does not ask.
fn silent(settings: &registration::Settings) -> String {
    let (folder, socket) = (settings.folder.display(), registration::socket_name(&settings.driver));
    format!(
        "kubelet has not asked for the driver for {} s: {folder} must be the folder `plugins_registry` in the root folder of \
         this node's kubelet (its --root-dir; linux.kubeletRootDir of the chart). If it is, the log of kubelet says what is wrong \
         with {socket}",
        SILENCE.as_secs()
    )
}

/// Lets pods come to the node once their volumes can be mounted.
fn untaint(client: Client, node: String, key: String, mut registered: watch::Receiver<bool>, tasks: &Tasks) {
    let (after, stopping) = (tasks.clone(), tasks.stopping());
    tasks.spawn("wait with the startup taint", async move {
        let is_registered = tokio::select! {
            is_registered = registered.wait_for(|is_registered| *is_registered) => is_registered.is_ok(),
            () = stopping.cancelled() => return,
        };
        if is_registered {
            startup_taint::remove(client, node, key, &after);
        }
    });
}

/// An error with its causes, on one line.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
