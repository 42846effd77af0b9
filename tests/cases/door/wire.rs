//! A client that is not tonic: HTTP/2 frames by hand, so that it can say what kubelets say.

use std::path::Path;

use coffer::csi::registration::{Registered, Settings, serve, socket_name};
use coffer::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::pipeline::{DRIVER, Door};
use super::soon;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Of HEADERS and DATA; of SETTINGS the bit means an acknowledgement.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The error code of HTTP/2.
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Connection(UnixStream);

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With a gRPC message.
    Answer(Vec<u8>),
    /// With this error code.
    Reset(Vec<u8>),
}

impl Connection {
    async fn open(socket: &Path) -> Self {
        let mut connection = Self(UnixStream::connect(socket).await.unwrap());
        connection.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        connection.send(SETTINGS, 0, 0, &[]).await;
        connection
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    async fn receive(&mut self) -> Frame {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Frame { kind: head[3], flags: head[4], stream, payload }
    }

    /// One call with an empty message, on a new stream.
    async fn call(&mut self, stream: u32, authority: &str, path: &str) -> End {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block: Vec<u8> = headers.iter().flat_map(|(name, value)| literal(name, value)).collect();
        self.send(HEADERS, END_HEADERS, stream, &block).await;
        self.send(DATA, END_STREAM, stream, &[0; 5]).await;
        let mut answer = Vec::new();
        loop {
            let frame = self.receive().await;
            match frame.kind {
                SETTINGS if frame.flags == 0 => self.send(SETTINGS, 1, 0, &[]).await,
                GOAWAY => panic!("the connection was ended: {:?}", frame.payload),
                RST_STREAM if frame.stream == stream => return End::Reset(frame.payload),
                DATA if frame.stream == stream => answer.extend(&frame.payload),
                HEADERS if frame.stream == stream && frame.flags & END_STREAM != 0 => return End::Answer(answer),
                _ => {}
            }
        }
    }
}

/// A header as HPACK writes it without a table and without compression.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 127);
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// A message of gRPC: not compressed, its length, its bytes.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0][..], &length, bytes].concat()
}

#[tokio::test]
async fn whoever_names_a_path_as_host_is_reset_and_others_are_served_on_the_same_connection() {
    let door = Door::open();
    let mut connection = Connection::open(&door.socket).await;
    let probe = "/csi.v1.Identity/Probe";
    let ready = End::Answer(message(&[0x0a, 2, 0x08, 1]));
    assert_eq!(soon(connection.call(1, "localhost", probe)).await, ready);
    for (stream, authority) in [(3, "%2Fvar%2Flib%2Fkubelet%2Fcsi.sock"), (5, "/var/lib/kubelet/csi.sock")] {
        assert_eq!(
            soon(connection.call(stream, authority, probe)).await,
            End::Reset(PROTOCOL_ERROR.into()),
            "{authority}"
        );
    }
    assert_eq!(soon(connection.call(7, "localhost", probe)).await, ready);
}

#[tokio::test]
async fn registration_answers_a_kubelet_that_names_the_sockets_path_percent_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let (_again, changes) = watch::channel(0);
    let settings = Settings { folder: folder.path().into(), driver: DRIVER.into(), endpoint: "/csi.sock".into() };
    let registered = serve(settings, changes, &tasks).unwrap();
    let socket = folder.path().join(socket_name(DRIVER));
    let mut connection = Connection::open(&socket).await;
    // As kubelet 1.35 does.
    let authority = socket.display().to_string().replace('/', "%2F");
    let info = soon(connection.call(1, &authority, "/pluginregistration.Registration/GetInfo")).await;
    let End::Answer(info) = info else {
        panic!("it was reset");
    };
    let field = |number: u8, text: &str| [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat();
    let expected = [field(1, "CSIPlugin"), field(2, DRIVER), field(3, "/csi.sock"), field(4, "1.0.0")].concat();
    assert_eq!(info, message(&expected));
    // An empty status is a refusal without a reason.
    let notify = "/pluginregistration.Registration/NotifyRegistrationStatus";
    assert_eq!(soon(connection.call(3, &authority, notify)).await, End::Answer(message(&[])));
    assert_eq!(*registered.borrow(), Registered::Refused(String::new()));
}
