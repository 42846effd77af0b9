//! A new connection: resolve, check, dial, tunnel, prove the name.
//!
//! One [`Connector`] per rule, asked by the rule's connection pool for a scheme and an authority. Addresses are looked up
//! once and checked all together, and the dial uses what was checked.
//!
//! It must never dial an address that was not checked, unless the rule names it, and never fall back: if one answer of
//! DNS is forbidden, none is used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection as Pooled};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connect::ConnectHost;
use super::pace::Way;
use super::proxy::{Proxies, Proxy, open_tunnel};
use super::resolver::Resolver;
use super::retry::Failure;
use super::tls::Trust;
use super::{Connect, Error, Rule, Scheme, address};

/// Name resolution, dialling, tunnel and TLS together.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Answers of DNS that are looked at.
const MOST_ADDRESSES: usize = 32;

/// Idle connections are probed, so that a firewall neither forgets them nor leaves them hanging.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What TLS and HTTP run over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How the connections of one rule are made.
pub(crate) struct Route {
    pub(crate) rule: Rule,
    pub(crate) connect: Option<Connect>,
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) trust: Trust,
    pub(crate) proxies: Proxies,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// One permit per connection that may be kept; shared by all rules of a plugin.
    pub(crate) kept: Arc<Semaphore>,
    /// Whose failures its failures are.
    pub(crate) way: Way,
}

/// Makes connections for the pool of one rule.
#[derive(Clone)]
pub(crate) struct Connector(pub(crate) Arc<Route>);

impl tower_service::Service<Uri> for Connector {
    type Response = Connection;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let route = Arc::clone(&self.0);
        Box::pin(async move { route.open(&uri).await.map_err(ConnectFailure) })
    }
}

/// A [`Failure`] on its way through the pool.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.error)]
pub(crate) struct ConnectFailure(pub(crate) Failure);

/// What is to be reached, by the rule or by `connect`.
struct Destination {
    host: Host,
    port: u16,
    /// `host:port` for messages and CONNECT.
    shown: String,
}

enum Host {
    /// To be resolved and checked.
    Name(String),
    /// Named by the rule.
    Named(Vec<IpAddr>),
}

impl Route {
    async fn open(&self, uri: &Uri) -> Result<Connection, Failure> {
        let deadline = Instant::now() + CONNECT_TIME;
        let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let destination = self.destination(uri, scheme)?;
        let proxy = self.proxies.find(uri)?;
        let opening = async {
            let mut stream = match &proxy {
                None => self.dial_checked(scheme, &destination, deadline).await?,
                Some(proxy) => self.dial_proxy(proxy, deadline).await?,
            };
            match (scheme, &proxy) {
                (Scheme::Http, proxy) => Ok(self.plain(stream, proxy.is_some())),
                (Scheme::Https, None) => self.secure(stream, uri).await,
                (Scheme::Https, Some(proxy)) => {
                    open_tunnel(&mut stream, proxy, &destination.shown).await?;
                    self.secure(stream, uri).await
                }
            }
        };
        match timeout_at(deadline, opening).await {
            Ok(result) => result,
            Err(_) => Err(connect_failure(match &proxy {
                Some(proxy) => {
                    format!("no connection to {} through proxy {proxy} within {CONNECT_TIME:?}", destination.shown)
                }
                None => format!("no connection to {} within {CONNECT_TIME:?}", destination.shown),
            })),
        }
    }

    fn destination(&self, uri: &Uri, scheme: Scheme) -> Result<Destination, Failure> {
        let host = uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let loopback = || Host::Named(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        let (host, port, shown) = match &self.connect {
            Some(connect) => {
                let host = match &connect.host {
                    ConnectHost::Address(address) => Host::Named(vec![*address]),
                    ConnectHost::Name(name) if name == "localhost" => loopback(),
                    ConnectHost::Name(name) => Host::Name(name.clone()),
                };
                (host, connect.port, connect.to_string())
            }
            None => {
                let port = uri.port_u16().unwrap_or(scheme.default_port());
                let shown = format!("{host}:{port}");
                // A literal arrives here only if the rule has the same one: rules with names do not match addresses.
                let host = match bare.parse() {
                    Ok(address) if self.rule.names_address(address) => Host::Named(vec![address]),
                    Ok(address) => {
                        return Err(denied(format!("{shown} is an address that the rule does not name ({address})")));
                    }
                    Err(_) if self.rule.names_localhost() => loopback(),
                    Err(_) => Host::Name(bare.to_owned()),
                };
                (host, port, shown)
            }
        };
        Ok(Destination { host, port, shown })
    }

    async fn dial_checked(
        &self,
        scheme: Scheme,
        destination: &Destination,
        deadline: Instant,
    ) -> Result<Box<dyn Stream>, Failure> {
        let addresses = match &destination.host {
            Host::Named(addresses) => addresses.clone(),
            Host::Name(name) => {
                let addresses = self.resolve(name).await?;
                for address in &addresses {
                    address::permits(scheme, *address).map_err(|reason| {
                        denied(format!("{name} resolves to {address}, {reason}; only a rule that names it may use it"))
                    })?;
                }
                addresses
            }
        };
        dial(&addresses, destination.port, deadline)
            .await
            .map_err(|why| connect_failure(format!("{} does not take connections: {why}", destination.shown)))
    }

    /// The administrator named the proxy, so its address may be of any kind.
    async fn dial_proxy(&self, proxy: &Proxy, deadline: Instant) -> Result<Box<dyn Stream>, Failure> {
        let addresses = match proxy.host.parse() {
            Ok(address) => vec![address],
            Err(_) => self
                .resolve(&proxy.host)
                .await
                .map_err(|failure| connect_failure(format!("proxy {proxy} cannot be found: {}", failure.error)))?,
        };
        let stream = dial(&addresses, proxy.port, deadline)
            .await
            .map_err(|why| connect_failure(format!("proxy {proxy} does not take connections: {why}")))?;
        if !proxy.tls {
            return Ok(stream);
        }
        let name = server_name(&proxy.host)?;
        let (stream, _) = self.trust.handshake(stream, name, &format!("proxy {proxy}"), false).await?;
        Ok(Box::new(stream))
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let dns = |why: String| Failure { error: Error::Dns(why), sent: false, transient: true };
        let mut addresses =
            self.resolver.resolve(name).await.map_err(|error| dns(format!("{name} does not resolve: {error}")))?;
        if addresses.is_empty() {
            return Err(dns(format!("{name} has no addresses")));
        }
        addresses.truncate(MOST_ADDRESSES);
        Ok(addresses)
    }

    fn plain(&self, stream: Box<dyn Stream>, proxied: bool) -> Connection {
        let permit = Arc::clone(&self.kept).try_acquire_owned().ok();
        Connection { stream: TokioIo::new(stream), http2: false, proxied, permit }
    }

    async fn secure(&self, stream: Box<dyn Stream>, uri: &Uri) -> Result<Connection, Failure> {
        let host = uri.host().unwrap_or_default();
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host.trim_start_matches('[').trim_end_matches(']'))?,
        };
        let permit = Arc::clone(&self.kept).try_acquire_owned().ok();
        // A connection that will not be kept is closed after one request, which HTTP/1.1 does at once.
        let (stream, http2) = self.trust.handshake(stream, name, host, permit.is_some()).await?;
        Ok(Connection { stream: TokioIo::new(Box::new(stream)), http2, proxied: false, permit })
    }
}

/// A connection that the pool may keep if it has a permit.
pub(crate) struct Connection {
    stream: TokioIo<Box<dyn Stream>>,
    http2: bool,
    proxied: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pooled for Connection {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        let connected = if self.http2 { connected.negotiated_h2() } else { connected };
        if self.permit.is_none() {
            connected.poison();
        }
        connected
    }
}

impl hyper::rt::Read for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// Tries the addresses in their order; each gets an equal share of the time that is left. The error is the last one.
async fn dial(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<Box<dyn Stream>, String> {
    let mut why = "there is no address".to_owned();
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let address = SocketAddr::new(*address, port);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(Box::new(stream));
            }
            Ok(Err(error)) => why = format!("{address}: {}", cause(&error)),
            Err(_) => why = format!("{address}: no answer"),
        }
    }
    Err(why)
}

/// Neither option decides whether a connection works, so a system that lacks one is no reason to fail.
fn tune(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    if let Err(error) = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keep_alive)) {
        tracing::debug!(%error, "socket options cannot be set");
    }
}

fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned()).map_err(|_| Failure {
        error: Error::Tls(format!("`{host}` is not a name that a certificate can prove; set `serverName`")),
        sent: false,
        transient: false,
    })
}

fn connect_failure(text: String) -> Failure {
    Failure { error: Error::Connect(text), sent: false, transient: true }
}

fn denied(text: String) -> Failure {
    Failure { error: Error::Denied(text), sent: false, transient: false }
}
