//! What stands before the driver's socket for csi-sanity: it says that there is a controller and answers for it, and lets
//! everything else through, byte for byte.
//!
//! A volume that csi-sanity makes by the controller gets a class and a pod as context, as kubelet sends them. A publish
//! becomes one for reading, because csi-sanity asks for writing and cannot be told otherwise. It must never change an answer
//! of the driver.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, request::Parts};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// `GetPluginCapabilities`: the one service is a controller. `ControllerGetCapabilities`: the one call makes and deletes
/// volumes. Both are a list of one message that holds a message that holds the number 1.
const ONE_CAPABILITY: [u8; 6] = [0x0a, 4, 0x0a, 2, 8, 1];
/// `readonly = true`. The last value of a field counts, so it can be added at the end.
const READ_ONLY: [u8; 2] = [0x30, 1];
/// Before each message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Dropped, it ends.
pub(super) struct Shim(JoinHandle<()>);

struct Shared {
    driver: PathBuf,
    context: BTreeMap<String, String>,
}

#[derive(Message)]
struct CreateVolumeRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct CreateVolumeResponse {
    #[prost(message, optional, tag = "1")]
    volume: Option<Volume>,
}

#[derive(Message)]
struct Volume {
    #[prost(string, tag = "2")]
    volume_id: String,
    #[prost(btree_map = "string, string", tag = "3")]
    volume_context: BTreeMap<String, String>,
}

impl Shim {
    /// Listens on a socket, with the driver behind it.
    pub(super) fn start(socket: &Path, driver: PathBuf, context: BTreeMap<String, String>) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let shared = Arc::new(Shared { driver, context });
        Ok(Self(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        })))
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await.unwrap_or_else(|error| broken(&error))) }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // An error is the other end gone.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let message = body.get(PREFIX..).unwrap_or_default();
    Ok(match parts.uri.path() {
        "/csi.v1.Identity/GetPluginCapabilities" | "/csi.v1.Controller/ControllerGetCapabilities" => {
            reply(&ONE_CAPABILITY)
        }
        "/csi.v1.Controller/CreateVolume" => {
            let name = CreateVolumeRequest::decode(message)?.name;
            let volume = Volume { volume_id: name, volume_context: shared.context.clone() };
            reply(&CreateVolumeResponse { volume: Some(volume) }.encode_to_vec())
        }
        "/csi.v1.Controller/DeleteVolume" => reply(&[]),
        "/csi.v1.Node/NodePublishVolume" => forward(parts, framed(&[message, &READ_ONLY].concat()), shared).await?,
        _ => forward(parts, body, shared).await?,
    })
}

async fn forward(parts: Parts, body: Bytes, shared: &Shared) -> Result<Response<Body>> {
    let stream = TokioIo::new(UnixStream::connect(&shared.driver).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    Ok(response.map(BodyExt::boxed_unsync))
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or_default());
    bytes.put_slice(message);
    bytes.freeze()
}

fn reply(message: &[u8]) -> Response<Body> {
    let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = HeaderMap::from_iter([status]);
    let body = Full::new(framed(message)).with_trailers(async { Some(Ok(trailers)) });
    grpc(body.map_err(|never: Infallible| match never {}).boxed_unsync())
}

/// INTERNAL, so that csi-sanity says what is wrong with the shim.
fn broken(error: &anyhow::Error) -> Response<Body> {
    let empty = Full::new(Bytes::new()).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = grpc(empty);
    response.headers_mut().insert("grpc-status", HeaderValue::from_static("13"));
    let message = HeaderValue::from_str(&format!("the shim before the driver: {error}"));
    response.headers_mut().extend(message.ok().map(|message| (http::HeaderName::from_static("grpc-message"), message)));
    response
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
