//! The emulator as a test sees it: start it, describe tenants and vaults, plan faults, read what happened.
//!
//! ```no_run
//! # use coffer_tests::harness::{Action, Collection, Emulator, Settings};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let emulator = Emulator::start(Settings::default()).await?;
//! let tenant = emulator.tenant("9c1fd3a4-7f0e-4d4e-8f0e-0b6d2f1f2a11");
//! tenant.app("d3b07384-d9a0-4c5b-8f6e-0d9c2b7a1e55").secret("a client secret");
//! let vault = tenant.vault("kv");
//! vault.allow("d3b07384-d9a0-4c5b-8f6e-0d9c2b7a1e55", Collection::Secrets, &[Action::Get]);
//! vault.secret("DemoSecret").set("MyExampleSecret");
//! println!("{} trusts\n{}", emulator.address(), emulator.ca_pem());
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::authority::{Authority, AuthorityError};
use super::clock::Clock;
use super::cloud::Cloud;
use super::entra::{Directory, Issuer, Place, Tenant};
use super::faults::{Fault, Faults, Matcher, Quota, Times, TlsFault};
use super::log::{Counters, Entry, Kind, Log};
use super::metadata::Node;
use super::server::{self, Transport};
use super::vault::{self, Vaults};

/// How an emulator is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Loopback; another address only in a network namespace that the caller made.
    pub host: Ipv4Addr,
    /// TCP port; 0 picks a free one.
    pub port: u16,
    /// Whether HTTP/2 is offered beside HTTP/1.1.
    pub http2: bool,
    /// The clouds whose host names it answers to.
    pub clouds: Vec<Cloud>,
    /// How many requests the log keeps.
    pub log_capacity: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST, port: 0, http2: true, clouds: Cloud::all(), log_capacity: 100_000 }
    }
}

/// Why the emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken or forbidden.
    #[error("emulator could not listen on {host}:{port}")]
    Listen {
        /// The address that was asked for.
        host: Ipv4Addr,
        /// The port that was asked for.
        port: u16,
        /// What the operating system said.
        source: io::Error,
    },
    /// The certificate authority could not be made.
    #[error("emulator has no certificate authority")]
    Authority(#[from] AuthorityError),
}

/// A running emulator; dropping it ends every task and connection of it.
pub struct Emulator {
    address: SocketAddr,
    node_address: SocketAddr,
    services: Arc<Services>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Emulator {
    /// Starts listening.
    ///
    /// # Errors
    /// The port cannot be bound, or the authority's key cannot be made.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { host, port, .. } = settings;
        let listen = |source| StartError::Listen { host, port, source };
        let listener = TcpListener::bind((host, port)).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let of_node = TcpListener::bind((host, 0)).await;
        let of_node = of_node.map_err(|source| StartError::Listen { host, port: 0, source })?;
        let node_address = of_node.local_addr().map_err(listen)?;
        let services = Arc::new(Services::new(settings)?);
        let stop = watch::Sender::new(false);
        let serve = |listener, transport| server::serve(listener, transport, Arc::clone(&services), stop.subscribe());
        let both = (serve(listener, Transport::Tls), serve(of_node, Transport::Plain));
        let task = tokio::spawn(async move {
            tokio::join!(both.0, both.1);
        });
        Ok(Self { address, node_address, services, stop, task })
    }

    /// Where it listens; every host name it stands for is to be dialled there.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the services of a node listen, without TLS: its metadata service and its NMI.
    pub fn node_address(&self) -> SocketAddr {
        self.node_address
    }

    /// The node, whose identities and pods are to be furnished.
    pub fn node(&self) -> Node {
        Node::new(&self.services)
    }

    /// From now on there is a token proxy, which clients tell from Entra by this TLS server name alone.
    pub fn token_proxy(&self, server_name: &str) {
        self.services.directory().proxies.insert(server_name.to_ascii_lowercase());
    }

    /// The host names it stands for now: those of the tokens, then those of the vaults.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.services.clouds.iter().map(|cloud| cloud.login_host.clone()).collect();
        hosts.extend(self.services.vaults().hosts());
        hosts
    }

    /// The certificate that its clients must trust, PEM.
    pub fn ca_pem(&self) -> String {
        self.services.authority.ca_pem()
    }

    /// The certificate authority itself.
    pub fn authority(&self) -> &Authority {
        &self.services.authority
    }

    /// The clock by which tokens and secrets expire.
    pub fn clock(&self) -> &Clock {
        &self.services.clock
    }

    /// A tenant of the public cloud, made when it is not there yet.
    pub fn tenant(&self, id: &str) -> Tenant {
        self.tenant_in(&Cloud::public(), id)
    }

    /// A tenant of any cloud, made when it is not there yet.
    pub fn tenant_in(&self, cloud: &Cloud, id: &str) -> Tenant {
        Tenant::open(&self.services, cloud, id)
    }

    /// Somebody who signs the service account tokens of a cluster.
    pub fn issuer(&self, url: &str) -> Issuer {
        Issuer::new(&self.services, url)
    }

    /// How long tokens live from now on; without it an hour, and a day for clients that take part in continuous
    /// access evaluation.
    pub fn token_lifetime(&self, lifetime: Duration) {
        self.services.directory().token_lifetime = Some(lifetime);
    }

    /// Makes every token that was issued worthless, as a revoked session does.
    pub fn revoke_tokens(&self) {
        self.services.directory().revoke_tokens();
    }

    /// How long each vault request takes from now on, at least.
    pub fn latency(&self, latency: Duration) {
        self.services.faults.change_latency(|kept| kept.vault = latency);
    }

    /// How long each request to a login host takes from now on, at least.
    pub fn token_latency(&self, latency: Duration) {
        self.services.faults.change_latency(|kept| kept.token = latency);
    }

    /// How many requests each vault answers from now on; none for all of them.
    pub fn quota(&self, quota: Option<Quota>) {
        self.services.faults.limit(quota);
    }

    /// Plans a fault for requests.
    pub fn inject(&self, matcher: Matcher, fault: Fault, times: Times) {
        self.services.faults.plan(matcher, fault, times);
    }

    /// Plans a fault for handshakes with a host.
    pub fn inject_tls(&self, host: &str, fault: TlsFault, times: Times) {
        self.services.faults.plan_tls(host, fault, times);
    }

    /// Forgets the planned faults; requests that are held or stalled stay so.
    pub fn clear_faults(&self) {
        self.services.faults.clear();
    }

    /// What happened, and ways to wait for it.
    pub fn log(&self) -> &Log {
        &self.services.log
    }

    /// The requests so far, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.services.log.entries()
    }

    /// The counts so far.
    pub fn counters(&self) -> Counters {
        self.services.log.counters()
    }

    /// Stops listening, lets open requests finish for two seconds, then ends everything.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // It can only have been cancelled, which is what is wanted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the connections and the handles share.
pub(crate) struct Services {
    pub(crate) authority: Authority,
    pub(crate) clock: Clock,
    pub(crate) clouds: Vec<Cloud>,
    pub(crate) faults: Faults,
    pub(crate) log: Arc<Log>,
    directory: Mutex<Directory>,
    vaults: Mutex<Vaults>,
}

impl Services {
    fn new(settings: Settings) -> Result<Self, AuthorityError> {
        let http1 = b"http/1.1".to_vec();
        let protocols = if settings.http2 { vec![b"h2".to_vec(), http1] } else { vec![http1] };
        Ok(Self {
            authority: Authority::new(protocols)?,
            clock: Clock::default(),
            clouds: settings.clouds,
            faults: Faults::default(),
            log: Arc::new(Log::new(settings.log_capacity)),
            directory: Mutex::default(),
            vaults: Mutex::default(),
        })
    }

    /// Lock order: the directory before the vaults.
    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn vaults(&self) -> MutexGuard<'_, Vaults> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_login_host(&self, host: &str) -> bool {
        self.clouds.iter().any(|cloud| cloud.login_host == host)
    }

    pub(crate) fn knows_host(&self, host: &str) -> bool {
        self.is_login_host(host) || self.is_token_proxy(host) || self.vaults().has(host)
    }

    pub(crate) fn is_token_proxy(&self, server_name: &str) -> bool {
        self.directory().proxies.contains(server_name)
    }

    /// Whether a connection that named this server may bring requests to this host. A token proxy passes on what is
    /// meant for Entra; everybody else answers for one name.
    pub(crate) fn serves(&self, server_name: &str, host: &str) -> bool {
        server_name == host || self.is_login_host(host) && self.is_token_proxy(server_name)
    }

    pub(crate) fn answer(&self, kind: Kind, host: &str, server_name: &str, head: &Parts, body: &[u8]) -> Answer {
        if self.is_login_host(host) {
            let proxied = self.is_token_proxy(server_name);
            let place = Place { host, clouds: &self.clouds, proxied };
            return self.directory().answer(kind, &place, self.clock.now(), head, body);
        }
        let now = self.clock.now();
        let caller = self.directory().caller(head, now);
        let mut vaults = self.vaults();
        match vaults.find(host) {
            Some(vault) => vault::answer(vault, &caller, now, head, body),
            None => Answer::empty(421),
        }
    }
}
