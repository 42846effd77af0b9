//! The least client that can talk to the emulator: one connection per request, HTTP/1.1 or HTTP/2, no retries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use coffer_tests::harness::Emulator;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Long enough never to be reached by a test that passes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits with a deadline, so that a failing test fails instead of hanging.
pub async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it should not take this long")
}

pub const LOGIN: &str = "login.microsoftonline.com";
pub const KV: &str = "kv.vault.azure.net";

#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The value at a JSON pointer, as text.
    pub fn text(&self, pointer: &str) -> String {
        self.json().pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Status, error code and inner error code of a vault's refusal.
    pub fn refusal(&self) -> (u16, String, String) {
        (self.status, self.text("/error/code"), self.text("/error/innererror/code"))
    }
}

impl Client {
    pub fn of(emulator: &Emulator) -> Self {
        Self::new(emulator.address(), emulator.authority().ca_der(), &[b"http/1.1"])
    }

    pub fn http2_of(emulator: &Emulator) -> Self {
        Self::new(emulator.address(), emulator.authority().ca_der(), &[b"h2"])
    }

    pub fn new(address: SocketAddr, ca: CertificateDer<'static>, protocols: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { address, config: Arc::new(config) }
    }

    pub async fn connect(&self, host: &str) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await?)
    }

    /// Sends over a new connection to `host` and returns when the head of the answer is there.
    pub async fn open(&self, host: &str, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let stream = self.connect(host).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        if http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            let (parts, body) = request.into_parts();
            let mut request = Request::from_parts(parts, body);
            let uri: http::Uri = request.uri().path_and_query().context("a path")?.as_str().parse()?;
            *request.uri_mut() = uri;
            Ok(sender.send_request(request).await?)
        }
    }

    pub async fn send(&self, host: &str, request: Request<Full<Bytes>>) -> anyhow::Result<Reply> {
        let response = self.open(host, request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    pub async fn try_get(&self, host: &str, target: &str, token: Option<&str>) -> anyhow::Result<Reply> {
        soon(self.send(host, get(host, target, token))).await
    }

    pub async fn get(&self, host: &str, target: &str, token: Option<&str>) -> Reply {
        self.try_get(host, target, token).await.unwrap()
    }

    pub async fn put(&self, host: &str, target: &str, token: &str, body: &Value) -> Reply {
        let request = build("PUT", host, target)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        soon(self.send(host, request.body(Full::from(body.to_string())).unwrap())).await.unwrap()
    }

    pub async fn post_form(&self, host: &str, target: &str, form: &[(&str, &str)]) -> Reply {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = build("POST", host, target)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("client-request-id", "11111111-2222-3333-4444-555555555555")
            .header("return-client-request-id", "true");
        soon(self.send(host, request.body(Full::from(body)).unwrap())).await.unwrap()
    }

    pub async fn token(&self, tenant: &str, app: &str, secret: &str, scope: &str) -> String {
        let form =
            [("grant_type", "client_credentials"), ("client_id", app), ("client_secret", secret), ("scope", scope)];
        let reply = self.post_form(LOGIN, &format!("/{tenant}/oauth2/v2.0/token"), &form).await;
        assert_eq!(reply.status, 200);
        reply.text("/access_token")
    }
}

pub fn build(method: &str, host: &str, target: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{host}{target}")).header("host", host)
}

pub fn get(host: &str, target: &str, token: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = build("GET", host, target);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::default()).unwrap()
}
