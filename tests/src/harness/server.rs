//! The listeners: accept, shake hands as whatever host the client names, tell the services apart by that host, apply the
//! planned faults and keep the log. The one without TLS is the node's own, for its metadata service and its NMI.
//!
//! Owns every task of the emulator; when its future is dropped they all end. Knows no rule of either service.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, USER_AGENT};
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::Answer;
use super::authority::Flavor;
use super::emulator::Services;
use super::faults::{Fault, TlsFault};
use super::log::{Entry, Kind, Ticket};
use super::metadata;
use super::wire::{Broken, End, Payload, Sabotage, Wire};

/// The longest request body that is read; Key Vault's own limit for a secret is 25 KiB.
const REQUEST_BODY_LIMIT: usize = 256 * 1024;
/// How long a client may take to shake hands.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);
/// How long open requests may take when the emulator is stopped.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// How a listener is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// With TLS, which tells the services apart.
    Tls,
    /// Without, for the services of a node.
    Plain,
}

/// Serves until `stop` turns true, then lets open requests finish for a short while.
pub(crate) async fn serve(
    listener: TcpListener,
    transport: Transport,
    services: Arc<Services>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // A connection that died in the backlog is the client's business.
        let Ok((stream, _)) = accepted else { continue };
        number += 1;
        services.log.connected();
        let connection = Connection { number, services: Arc::clone(&services) };
        match transport {
            Transport::Tls => connections.spawn(connection.run(stream, stop.clone())),
            Transport::Plain => connections.spawn(connection.run_plain(stream, stop.clone())),
        };
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(DRAIN_DEADLINE, drained).await;
    connections.shutdown().await;
}

/// What a request asks for, from its method, host and path.
fn classify(services: &Services, method: &Method, host: &str, path: &str) -> Kind {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if services.is_login_host(host) {
        return match (method, segments.as_slice()) {
            (_, [_, "oauth2", "v2.0", "token"] | ["adfs", "oauth2", "token"]) => Kind::Token,
            (_, ["common", "discovery", "instance"]) => Kind::InstanceDiscovery,
            (_, [_, "v2.0", ".well-known", "openid-configuration"]) => Kind::OpenIdConfiguration,
            _ => Kind::Other,
        };
    }
    if let Some(kind) = metadata::classify(host, &segments) {
        return kind;
    }
    match (method.as_str(), segments.as_slice()) {
        ("PUT", ["secrets", _]) => Kind::SetSecret,
        ("GET", ["secrets"]) => Kind::ListSecrets,
        ("GET", ["secrets", _, "versions"]) => Kind::ListSecretVersions,
        ("GET", ["secrets", _] | ["secrets", _, _]) => Kind::GetSecret,
        ("GET", ["keys"]) => Kind::ListKeys,
        ("GET", ["keys", _, "versions"]) => Kind::ListKeyVersions,
        ("GET", ["keys", _] | ["keys", _, _]) => Kind::GetKey,
        ("GET", ["certificates"]) => Kind::ListCertificates,
        ("GET", ["certificates", _, "versions"]) => Kind::ListCertificateVersions,
        ("GET", ["certificates", _] | ["certificates", _, _]) => Kind::GetCertificate,
        _ => Kind::Other,
    }
}

struct Connection {
    number: u64,
    services: Arc<Services>,
}

impl Connection {
    async fn run(self, stream: TcpStream, mut stop: watch::Receiver<bool>) {
        // Both ends are on one machine; Nagle would only add latency that no client caused.
        let _ = stream.set_nodelay(true);
        let stopping = stop.clone();
        let stream = tokio::select! {
            stream = timeout(HANDSHAKE_DEADLINE, self.shake_hands(stream)) => stream,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok(Some(stream)) = stream else { return };
        self.services.log.shook_hands();
        let server_name = stream.get_ref().1.server_name().unwrap_or_default().to_ascii_lowercase();
        self.speak(stream, Some(server_name), stopping).await;
    }

    async fn run_plain(self, stream: TcpStream, stop: watch::Receiver<bool>) {
        let _ = stream.set_nodelay(true);
        self.speak(stream, None, stop).await;
    }

    /// `None`: the handshake failed, by fault or for real.
    async fn shake_hands(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.ok()?;
        let host = start.client_hello().server_name()?.to_ascii_lowercase();
        let flavor = match self.services.faults.strike_tls(&host) {
            Some(TlsFault::WrongName) => Flavor::WrongName,
            Some(TlsFault::Expired) => Flavor::Expired,
            Some(TlsFault::NotYetValid) => Flavor::NotYetValid,
            Some(TlsFault::SelfSigned) => Flavor::SelfSigned,
            Some(TlsFault::Garbage) => {
                start.io.write_all(b"220 this is not the server you are looking for\r\n").await.ok()?;
                let _ = start.io.shutdown().await;
                return None;
            }
            Some(TlsFault::Stall) => std::future::pending().await,
            Some(TlsFault::Close) => return None,
            None => Flavor::Good,
        };
        // In Azure a vault that does not exist has no address; a refused handshake is the nearest thing here.
        if !self.services.knows_host(&host) {
            return None;
        }
        let config = self.services.authority.server_config(&host, flavor).ok()?;
        start.into_stream(config).await.ok()
    }

    async fn speak<S>(self, stream: S, server_name: Option<String>, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let sabotage = Sabotage::default();
        let io = TokioIo::new(Wire::new(stream, sabotage.clone()));
        let exchange = Arc::new(Exchange { connection: self.number, services: self.services, server_name, sabotage });
        let service = service_fn(move |request| {
            let exchange = Arc::clone(&exchange);
            async move { exchange.respond(request).await }
        });
        let streams = StreamsOwner::default();
        let mut server = auto::Builder::new(streams.0.clone());
        // No deadline between requests: an idle connection is the client's to close, as tests of pools expect.
        server.http1().timer(TokioTimer::new()).header_read_timeout(None);
        let conversation = server.serve_connection(io, service);
        tokio::pin!(conversation);
        tokio::select! {
            _ = conversation.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => conversation.as_mut().graceful_shutdown(),
        }
        let _ = conversation.await;
    }
}

/// Runs the streams of one HTTP/2 connection.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(stream);
    }
}

/// Ends the streams with their connection: hyper may keep clones of the executor in the very tasks it runs.
#[derive(Default)]
struct StreamsOwner(Streams);

impl Drop for StreamsOwner {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// What the requests of one connection share.
struct Exchange {
    connection: u64,
    services: Arc<Services>,
    /// None without TLS.
    server_name: Option<String>,
    sabotage: Sabotage,
}

/// The request cannot be answered; hyper ends the connection or the stream.
#[derive(Debug, thiserror::Error)]
#[error("the emulator was told to close the connection")]
struct Closed;

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Exchange {
    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Payload>, Closed> {
        let host = host_of(&request);
        let path = request.uri().path().to_owned();
        let kind = classify(&self.services, request.method(), &host, &path);
        let ticket = self.services.log.begin(self.describe(&request, kind, &host));
        let faults = &self.services.faults;
        let fault = faults.strike(kind, &host, &path);
        let fault = fault.or_else(|| faults.exceeds(kind, &host, self.services.clock.now_millis()));
        if let Some(fault) = &fault {
            ticket.met(fault.name());
        }
        match fault {
            None => deliver(self.serve(request, kind, &host).await, ticket),
            Some(Fault::Answer(answer)) => deliver(answer, ticket),
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                deliver(self.serve(request, kind, &host).await, ticket)
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Close) => Err(Closed),
            Some(fault) => {
                let version = request.version();
                let answer = self.serve(request, kind, &host).await;
                Ok(self.damage(answer, &fault, version, ticket))
            }
        }
    }

    fn describe(&self, request: &Request<Incoming>, kind: Kind, host: &str) -> Entry {
        let query = request.uri().query().unwrap_or_default();
        let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Entry {
            sequence: 0,
            at: self.services.clock.now_millis(),
            connection: self.connection,
            protocol: format!("{:?}", request.version()),
            kind,
            method: request.method().to_string(),
            host: host.to_owned(),
            path: request.uri().path().to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect(),
            authorized: request.headers().contains_key(AUTHORIZATION),
            user_agent: agent.to_owned(),
            status: None,
            fault: None,
        }
    }

    /// The real answer, after the configured latency.
    async fn serve(&self, request: Request<Incoming>, kind: Kind, host: &str) -> Answer {
        let latency = self.services.faults.latency();
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, REQUEST_BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Answer::empty(413),
        };
        let Some(server_name) = &self.server_name else {
            return metadata::answer(&self.services, kind, &head);
        };
        if !self.services.serves(server_name, host) {
            return Answer::empty(421);
        }
        let pause = if self.services.is_login_host(host) { latency.token } else { latency.vault };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.services.answer(kind, host, server_name, &head, &body)
    }

    fn damage(&self, answer: Answer, fault: &Fault, version: Version, ticket: Ticket) -> Response<Payload> {
        let status = answer.status;
        let length = answer.body.len();
        let half = answer.body.get(..length / 2).unwrap_or_default().to_vec();
        let (claimed, body) = match fault {
            Fault::CutBody => (Some(length), Broken::new(half, End::Torn, &self.sabotage)),
            Fault::StallInBody => (Some(length), Broken::new(half, End::Never, &self.sabotage)),
            Fault::LengthTooLong => (Some(length + 10), Broken::new(answer.body.clone(), End::Clean, &self.sabotage)),
            Fault::LengthTooShort => {
                if version < Version::HTTP_2 {
                    // hyper would cut the body to fit, and the client would never see the bytes beyond.
                    self.sabotage.send_instead(written_out(&answer, length / 2));
                }
                (Some(length / 2), Broken::new(answer.body.clone(), End::Clean, &self.sabotage))
            }
            Fault::Garbage => {
                self.sabotage.send_instead(&b"\x00\x01\x02 this is not HTTP \xff\xfe\r\n\r\n"[..]);
                (None, Broken::new(half, End::Clean, &self.sabotage))
            }
            _ => (None, Broken::new(vec![b'x'; 16 * 1024], End::Repeat, &self.sabotage)),
        };
        let mut builder = Response::builder().status(status);
        for (name, value) in &answer.headers {
            builder = builder.header(name, value);
        }
        if let Some(claimed) = claimed {
            builder = builder.header(CONTENT_LENGTH, claimed);
        }
        ticket.answered(status);
        builder.body(body.boxed_unsync()).unwrap_or_else(|error| unsendable(&error))
    }
}

fn deliver(answer: Answer, ticket: Ticket) -> Result<Response<Payload>, Closed> {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(answer.body)).map_err(io::Error::other).boxed_unsync();
    let response = builder.body(body).unwrap_or_else(|error| unsendable(&error));
    ticket.answered(response.status().as_u16());
    Ok(response)
}

/// A test planned an answer that is no HTTP; the client sees why.
fn unsendable(error: &http::Error) -> Response<Payload> {
    let body = Full::new(Bytes::from(format!("the planned answer cannot be sent: {error}")));
    let mut response = Response::new(body.map_err(io::Error::other).boxed_unsync());
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The answer as HTTP/1.1 bytes with a length of the caller's choice.
fn written_out(answer: &Answer, length: usize) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} Emulated\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    text.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
    text.extend_from_slice(&answer.body);
    text
}

/// The host a request names, in lower case and without a port: `:authority` of HTTP/2, `Host` of HTTP/1.1.
fn host_of(request: &Request<Incoming>) -> String {
    let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let named = named.or_else(|| Some(request.headers().get(HOST)?.to_str().ok()?.to_owned()));
    let named = named.unwrap_or_default().to_ascii_lowercase();
    match named.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => named,
    }
}
