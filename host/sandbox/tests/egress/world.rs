//! What the tests need around an `Egress`: an authority, servers, a proxy, a resolver and a caller, all on 127.0.0.1 and
//! all gone with the runtime of the test.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coffer_sandbox::egress::resolver::{ResolveError, Resolving};
use coffer_sandbox::egress::{
    Caller, CertificateDer, Egress, Error, Gate, Lane, Options, Outbound, ProxySettings, Request, Resolver, Response,
    RuleSettings, Settings,
};
use coffer_sandbox::limits::EgressLimits;
use coffer_sandbox::provider::{Parameters, Pod};
use coffer_sandbox::redact::Redactor;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// An authority of the test's own.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // Authorities are told apart by name first.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test authority {}", COUNT.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub fn issue(&self, name: &str) -> Identity {
        self.issue_until(name, 4000)
    }

    pub fn issue_until(&self, name: &str, year: i32) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity { certificate: certificate.der().clone(), key }
    }
}

/// A server's certificate and key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn acceptor(self, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate], self.key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    /// Head of every request, its body in the extensions.
    pub requests: Mutex<Vec<http::Request<Bytes>>>,
}

impl Seen {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.uri().path().to_owned()).collect()
    }

    pub fn request(&self, index: usize) -> http::Request<Bytes> {
        self.requests.lock().unwrap()[index].clone()
    }

    pub fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

pub type Answer = http::Response<Full<Bytes>>;

pub fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Answer {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}

impl Server {
    pub async fn https<F, A>(identity: Identity, protocols: &[&str], handler: F) -> Self
    where
        F: Fn(http::Request<Bytes>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let acceptor = identity.acceptor(protocols);
        let seen = Arc::new(Seen::default());
        let known = Arc::clone(&seen);
        Self::listen(seen, move |stream| {
            let (acceptor, handler, seen) = (acceptor.clone(), handler.clone(), Arc::clone(&known));
            async move {
                // A handshake that the client breaks off is what some tests are about.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, handler, seen).await;
                }
            }
        })
        .await
    }

    pub async fn http<F, A>(handler: F) -> Self
    where
        F: Fn(http::Request<Bytes>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let seen = Arc::new(Seen::default());
        let known = Arc::clone(&seen);
        Self::listen(seen, move |stream| serve(stream, handler.clone(), Arc::clone(&known))).await
    }

    /// Reads one request's head, then writes `bytes` and closes.
    pub async fn raw(bytes: &'static [u8]) -> Self {
        Self::listen(Arc::default(), move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(bytes).await.unwrap();
        })
        .await
    }

    pub async fn listen<F, A>(seen: Arc<Seen>, serve: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                known.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, seen }
    }
}

async fn serve<S, F, A>(stream: S, handler: F, seen: Arc<Seen>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(http::Request<Bytes>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (handler, seen) = (handler.clone(), Arc::clone(&seen));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let request = http::Request::from_parts(parts, body);
            seen.requests.lock().unwrap().push(request.clone());
            Ok::<_, Infallible>(handler(request).await)
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // A client that goes away is what some tests are about.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8(head).unwrap()
}

/// A proxy that answers CONNECT with `answer`, and then connects to `to`, whatever it is asked for.
pub struct Tunnels {
    pub address: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    pub async fn to(to: Option<SocketAddr>, answer: &'static str) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&heads);
        let server = Server::listen(Arc::default(), move |mut stream| {
            let heads = Arc::clone(&known);
            async move {
                let head = read_head(&mut stream).await;
                heads.lock().unwrap().push(head);
                stream.write_all(answer.as_bytes()).await.unwrap();
                if let Some(to) = to {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
                }
            }
        })
        .await;
        Self { address: server.address, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A DNS server with opinions.
#[derive(Default)]
pub struct Dns {
    pub answers: BTreeMap<String, Vec<IpAddr>>,
    pub asked: Mutex<Vec<String>>,
}

impl Dns {
    pub fn new(answers: &[(&str, &[&str])]) -> Arc<Self> {
        let parse = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        let answers = answers.iter().map(|(name, addresses)| ((*name).to_owned(), parse(addresses))).collect();
        Arc::new(Self { answers, asked: Mutex::default() })
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolver for Dns {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        self.asked.lock().unwrap().push(host.to_owned());
        let found = self.answers.get(host).cloned().ok_or_else(|| ResolveError::new("no such host"));
        Box::pin(std::future::ready(found))
    }
}

/// Settings that depend on nothing outside the test.
pub fn settings(authority: &Authority) -> Settings {
    Settings {
        ca: vec![authority.certificate()],
        proxy: ProxySettings::None,
        resolver: Dns::new(&[]),
        ..Settings::default()
    }
}

pub fn plain_settings() -> Settings {
    Settings { ca: Vec::new(), proxy: ProxySettings::None, resolver: Dns::new(&[]), ..Settings::default() }
}

pub fn rule(text: &str) -> RuleSettings {
    RuleSettings::from(text.parse::<coffer_sandbox::egress::Rule>().unwrap())
}

/// A rule that is dialled at `address`.
pub fn rule_to(text: &str, address: SocketAddr) -> RuleSettings {
    RuleSettings { connect: Some(address.to_string().parse().unwrap()), ..rule(text) }
}

pub fn caller() -> Caller {
    Caller {
        plugin: "azure".into(),
        digest: "sha256:00".into(),
        pod: Pod {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            uid: "1234".to_owned(),
            service_account: "web".to_owned(),
        },
        parameters: Arc::new(Parameters::from([("vault".to_owned(), "kv".to_owned())])),
        node_identity: true,
        class: "class".into(),
        lane: Lane::first(),
        limits: EgressLimits::default(),
        deadline: Instant::now() + Duration::from_secs(60),
        redactor: Redactor::default(),
    }
}

/// A call that may send once, so that nothing is retried.
pub fn single() -> Caller {
    limited(|limits| limits.requests = 1)
}

pub fn limited(change: impl FnOnce(&mut EgressLimits)) -> Caller {
    let mut caller = caller();
    change(&mut caller.limits);
    caller
}

pub fn open(rules: Vec<RuleSettings>, settings: Settings) -> Gate {
    Egress::new(rules, settings).unwrap().open(caller())
}

pub fn get(url: impl Into<String>) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        options: Options::default(),
    }
}

/// A request that is sent once; only a connection that cannot be made is tried again.
pub fn once(url: impl Into<String>) -> Request {
    let options = Options { retry_statuses: Some(Vec::new()), idempotent: Some(false), timeout: None };
    Request { options, ..get(url) }
}

pub fn with_header(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.push((name.to_owned(), value.to_owned()));
    request
}

pub async fn send(gate: &Gate, request: Request) -> Result<Response, Error> {
    let mut answers = gate.send(vec![request]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub fn body(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}
