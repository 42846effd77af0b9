//! One attempt: a request over a pooled connection, and its response within the limits.
//!
//! One [`Pool`] per rule, so that a connection serves only the rule that opened it; inside, hyper-util keys connections by
//! scheme and authority. [`Sender`] is one request of a call as `retry` sees it. The only tasks that run on their own
//! are hyper's connection drivers and what the pool does to keep a connection; they end with their connections, whose
//! number the pool and [`Route`] bound.
//!
//! It must never follow a redirect, read more of a response than the limits allow, or put a URL into an error.

use std::error::Error as StdError;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, PROXY_AUTHORIZATION};
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::address;
use super::connect::{Connect, ConnectHost};
use super::connector::{ConnectFailure, Connector, Route};
use super::pace::{Ask, Pace, Pass, Verdict, Way};
use super::request::Content;
use super::retry::{Budget, Exchange, Failure};
use super::target::Target;
use super::{Error, Response, Scheme};

/// Longer than a rotation interval of two minutes with its jitter, shorter than the four minutes after which the load
/// balancers of clouds forget a connection.
const IDLE_TIME: Duration = Duration::from_secs(200);

/// Idle connections per rule and authority; HTTP/2 needs one.
const IDLE_PER_AUTHORITY: usize = 16;

/// Head of a response, HTTP/1.1 and HTTP/2.
const LONGEST_HEAD: usize = 64 << 10;

/// Flow control windows of HTTP/2: what a peer may send before it is asked for.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Memory that a response gets before its bytes are there.
const TRUSTED_LENGTH: u64 = 256 << 10;

/// A connection on which something is asked for is probed after this long without a word.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(10);

/// How long requests wait for another one's connection before they open their own.
const SHARED_DIAL_TIME: Duration = Duration::from_secs(2);

/// Doors of a pool; authorities share them by hash.
const DOORS: usize = 16;

/// A response that is given up is read to its end if it is not longer than this and comes soon, which keeps its
/// connection usable.
const DISCARDED_BYTES: usize = 64 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// The connections of one rule.
pub(crate) struct Pool {
    client: Client<Connector, Full<Bytes>>,
    route: Arc<Route>,
    doors: [Door; DOORS],
}

/// Where requests to a host queue while the first of them opens a connection: with HTTP/2 all of them share it, and
/// twenty handshakes for twenty requests would be nineteen too many.
#[derive(Default)]
struct Door {
    queue: Mutex<()>,
    /// The last connection spoke HTTP/1.1, where every request needs its own, so there is nothing to wait for.
    open: AtomicBool,
}

impl Pool {
    pub(crate) fn new(route: Route) -> Self {
        let route = Arc::new(route);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_PER_AUTHORITY)
            .http1_max_buf_size(LONGEST_HEAD)
            .http2_max_header_list_size(LONGEST_HEAD as u32)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIME)
            .build(Connector(Arc::clone(&route)));
        Self { client, route, doors: Default::default() }
    }

    /// The rule's text.
    pub(crate) fn rule(&self) -> &super::Rule {
        &self.route.rule
    }

    /// Whose failures its failures are.
    pub(crate) fn way(&self) -> Way {
        self.route.way
    }

    /// Whether it leads to a metadata service or another address of the node's platform, which believes whoever asks
    /// from this node.
    pub(crate) fn asks_the_platform(&self) -> bool {
        let dialled = match &self.route.connect {
            Some(Connect { host: ConnectHost::Address(address), .. }) => Some(*address),
            _ => None,
        };
        [dialled, self.route.rule.address()].into_iter().flatten().any(address::is_of_the_platform)
    }

    async fn request(&self, mut request: http::Request<Full<Bytes>>) -> Result<http::Response<Incoming>, ClientError> {
        if request.uri().scheme() != Some(&http::uri::Scheme::HTTPS) {
            return self.client.request(request).await;
        }
        let door = self.door(request.uri());
        let mut captured = capture_connection(&mut request);
        let mut sending = std::pin::pin!(self.client.request(request));
        if !door.open.load(Ordering::Relaxed) {
            // Without a turn in time there is a dial that hangs; then everybody tries alone.
            let turn = timeout(SHARED_DIAL_TIME, door.queue.lock()).await;
            tokio::select! {
                biased;
                result = &mut sending => return result,
                connection = captured.wait_for_connection_metadata() => {
                    let http1 = connection.as_ref().is_some_and(|connected| !connected.is_negotiated_h2());
                    door.open.store(http1, Ordering::Relaxed);
                }
            }
            drop(turn);
        }
        sending.await
    }

    fn door(&self, uri: &Uri) -> &Door {
        let mut hasher = DefaultHasher::new();
        uri.authority().hash(&mut hasher);
        let [first, ..] = &self.doors;
        self.doors.get(hasher.finish() as usize % DOORS).unwrap_or(first)
    }
}

/// What one request used; read by the audit, also when the request is dropped half-way.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) attempts: AtomicU32,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
}

/// One request of a call.
pub(crate) struct Sender<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) target: &'a Target,
    pub(crate) content: &'a Content,
    pub(crate) budget: &'a Budget,
    pub(crate) progress: &'a Progress,
    /// Bytes of one response's body.
    pub(crate) most: usize,
    /// Time for one attempt.
    pub(crate) time: Option<Duration>,
    /// When the current attempt is over.
    pub(crate) until: Option<Instant>,
    pub(crate) pace: &'a Pace,
    /// What it asks the pace for.
    pub(crate) ask: Ask,
    /// What let the current attempt go.
    pub(crate) pass: Option<Pass>,
}

impl Exchange for Sender<'_> {
    type Head = http::Response<Incoming>;

    async fn enter(&mut self) -> Result<(), Error> {
        self.pass = Some(self.pace.enter(&self.ask).await?);
        // Whatever comes now is sent again for itself.
        self.ask.place.requests = 1;
        Ok(())
    }

    fn may_enter_again(&self) -> bool {
        self.pace.would_let(&self.ask)
    }

    fn settle(&mut self, verdict: Verdict) {
        if let Some(pass) = self.pass.take() {
            pass.settle(&verdict);
        }
    }

    async fn send(&mut self) -> Result<Self::Head, Failure> {
        self.until = self.time.map(|time| Instant::now() + time);
        let request = self.build()?;
        self.progress.attempts.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes_out.fetch_add(self.content.size, Ordering::Relaxed);
        let sending =
            async { self.pool.request(request).await.map_err(|error| explain(&error, &self.target.authority())) };
        within(self.until, sending).await
    }

    fn status(head: &Self::Head) -> u16 {
        head.status().as_u16()
    }

    fn headers(head: &Self::Head) -> &HeaderMap {
        head.headers()
    }

    async fn finish(&mut self, head: Self::Head) -> Result<Response, Failure> {
        within(self.until, self.read(head)).await
    }

    async fn discard(&mut self, head: Self::Head) {
        let (parts, mut body) = head.into_parts();
        self.count(size_of_headers(&parts.headers));
        let mut left = DISCARDED_BYTES;
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let enough = self.count(length as u64);
                match left.checked_sub(length) {
                    Some(rest) if enough => left = rest,
                    _ => return,
                }
            }
        };
        // Not in time means that the connection is closed, no more.
        let time =
            self.until.map_or(DISCARD_TIME, |until| DISCARD_TIME.min(until.saturating_duration_since(Instant::now())));
        let _ = timeout(time, reading).await;
    }

    fn take_retry(&mut self) -> bool {
        self.budget.take_request() && self.budget.take_bytes_out(self.content.size)
    }
}

impl Sender<'_> {
    fn build(&self) -> Result<http::Request<Full<Bytes>>, Failure> {
        let mut request = http::Request::new(Full::new(self.content.body.clone()));
        *request.method_mut() = self.content.method.clone();
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = self.content.headers.clone();
        // An https request meets its proxy in CONNECT, an http request brings the credentials itself.
        if self.target.scheme == Scheme::Http
            && let Some(proxy) = self.pool.route.proxies.find(&self.target.uri)?
            && let Some(authorization) = proxy.authorization
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    async fn read(&self, response: http::Response<Incoming>) -> Result<Response, Failure> {
        let (parts, mut body) = response.into_parts();
        self.charge(size_of_headers(&parts.headers))?;
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        // HEAD announces a body that does not come.
        let announced = announced.filter(|_| self.content.method != http::Method::HEAD);
        if announced.is_some_and(|length| length > self.most as u64) {
            return Err(self.too_large());
        }
        // A peer that announces much and sends nothing gets no memory for it.
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(TRUSTED_LENGTH) as usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| explain_hyper(&error, &self.target.authority()))?;
            let Ok(data) = frame.into_data() else { continue };
            self.charge(data.len() as u64)?;
            if bytes.len() + data.len() > self.most {
                return Err(self.too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Response { status: parts.status.as_u16(), headers: show_headers(&parts.headers), body: bytes })
    }

    fn charge(&self, bytes: u64) -> Result<(), Failure> {
        match self.count(bytes) {
            true => Ok(()),
            false => Err(Failure {
                error: Error::Exhausted("the responses of the call are larger than `bytesIn` of the grant".to_owned()),
                sent: true,
                transient: false,
            }),
        }
    }

    fn count(&self, bytes: u64) -> bool {
        self.progress.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        self.budget.take_bytes_in(bytes)
    }

    fn too_large(&self) -> Failure {
        let text = format!(
            "the response of {} is larger than {} bytes, `response` of the grant",
            self.target.authority(),
            self.most
        );
        Failure { error: Error::TooLarge(text), sent: true, transient: false }
    }
}

async fn within<T>(until: Option<Instant>, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match until {
        None => work.await,
        Some(until) => {
            timeout_at(until, work).await.unwrap_or(Err(Failure { error: Error::Timeout, sent: true, transient: true }))
        }
    }
}

fn size_of_headers(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

fn show_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
    headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value.as_bytes())?))).collect()
}

/// What went wrong between request and response, with `host` for people.
fn explain(error: &ClientError, host: &str) -> Failure {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(ConnectFailure(failure)) = error.downcast_ref() {
            return failure.clone();
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return explain_hyper(error, host);
        }
        source = error.source();
    }
    // What is left comes from the pool itself: another request's connection that this one waited for was not made.
    let text = format!("the connection to {host} that the request waited for was not made");
    Failure { error: Error::Connect(text), sent: !error.is_connect(), transient: true }
}

fn explain_hyper(error: &hyper::Error, host: &str) -> Failure {
    let protocol = |text: String, transient| Failure { error: Error::Protocol(text), sent: true, transient };
    let lost = |text: String, sent| Failure { error: Error::Connect(text), sent, transient: true };
    if error.is_canceled() || error.is_closed() {
        return lost(format!("{host} closed the connection before the request was sent"), false);
    }
    if error.is_incomplete_message() {
        return protocol(format!("{host} closed the connection before its response was complete"), true);
    }
    if error.is_parse() {
        return protocol(format!("the response of {host} is not valid HTTP: {error}"), false);
    }
    if error.is_timeout() {
        return lost(format!("{host} does not answer on its connection any more"), true);
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return explain_io(io, host);
        }
        source = inner.source();
    }
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    protocol(format!("the exchange with {host} failed: {cause}"), true)
}

fn explain_io(error: &io::Error, host: &str) -> Failure {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let text = format!("{host} broke TLS off: {tls}");
        return Failure { error: Error::Tls(text), sent: true, transient: true };
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let text = format!("{host} closed the connection before its response was complete");
        return Failure { error: Error::Protocol(text), sent: true, transient: true };
    }
    // This is how hyper reports a body that is framed wrongly.
    if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) {
        let text = format!("the response of {host} is not valid HTTP: {error}");
        return Failure { error: Error::Protocol(text), sent: true, transient: false };
    }
    Failure { error: Error::Connect(format!("the connection to {host} broke: {error}")), sent: true, transient: true }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::egress::SystemResolver;
    use crate::egress::proxy::Proxies;
    use crate::egress::tls::{SystemRoots, Trust};

    /// Answers every request of every connection, and counts the connections.
    async fn server() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut head = [0; 1024];
                    while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        (address, connections)
    }

    async fn connections_of_two_requests(kept: usize) -> usize {
        let (address, connections) = server().await;
        let pool = Pool::new(Route {
            rule: format!("GET http://{address}/").parse().unwrap(),
            connect: None,
            server_name: None,
            trust: Trust::new(Arc::new(SystemRoots::default()), Vec::new()),
            proxies: Proxies::none(),
            resolver: Arc::new(SystemResolver),
            kept: Arc::new(Semaphore::new(kept)),
            way: Way::PLAIN,
        });
        for _ in 0..2 {
            let request = http::Request::get(format!("http://{address}/")).body(Full::default()).unwrap();
            let response = pool.request(request).await.unwrap();
            assert_eq!(response.status(), 204);
        }
        connections.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn a_connection_over_the_bound_serves_one_request() {
        assert_eq!(connections_of_two_requests(1).await, 1);
        assert_eq!(connections_of_two_requests(0).await, 2);
    }
}
