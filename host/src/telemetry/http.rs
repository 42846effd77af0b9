//! Serves a router on a listener, carefully: anybody in the cluster may be at the other end.
//!
//! A head must come in time and be small, and so many connections may be open; one more ends the oldest, so nobody can
//! keep kubelet's probes out by holding connections. `health` and `admin` are the callers.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// How many connections of one listener may be open.
const MOST_CONNECTIONS: usize = 64;
/// How long a head may take, and how long a connection may idle.
const HEAD: Duration = Duration::from_secs(10);
/// How large a head may be, in bytes.
const LARGEST_HEAD: usize = 16 << 10;
/// How long an answer may still take at the end of the program.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Serves until `tasks` stops.
pub(super) fn serve<L: Listener>(listener: L, router: Router, tasks: &Tasks) {
    let connections = tasks.clone();
    tasks.spawn("http", accept(listener, router, connections));
}

async fn accept<L: Listener>(mut listener: L, router: Router, tasks: Tasks) {
    let stop = tasks.stopping();
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            (stream, _) = listener.accept() => stream,
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tasks.spawn("http connection", answer(stream, router.clone(), stop.clone())));
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, router: Router, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LARGEST_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // How a connection ended is of no interest: its other end knows.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Sends one request, as text without its end, and reads to the end: the head and the body.
    pub(in crate::telemetry) async fn ask(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        request: &str,
    ) -> (String, String) {
        stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn start() -> (Tasks, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tasks, address) = (Tasks::default(), listener.local_addr().unwrap());
        serve(listener, Router::new().route("/", get("hello")), &tasks);
        (tasks, address)
    }

    /// A connection over which one request went and that stays open.
    async fn hold(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
        }
        stream
    }

    /// Waits for the other end to close.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        let end = async { while !matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)) {} };
        tokio::time::timeout(3 * HEAD, end).await.is_ok()
    }

    // Paused clocks go on by themselves when everybody waits.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_a_head_is_cut_off() {
        let (_tasks, address) = start().await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        assert!(is_closed(&mut slow).await);
        let mut idle = hold(address).await;
        assert!(is_closed(&mut idle).await);
    }

    #[tokio::test]
    async fn a_head_has_a_limit() {
        let (_tasks, address) = start().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2 * LARGEST_HEAD));
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains("hello"), "{answer}");
    }

    #[tokio::test]
    async fn one_connection_too_many_ends_the_oldest_and_is_served() {
        let (_tasks, address) = start().await;
        let mut held = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            held.push(hold(address).await);
        }
        let _last = hold(address).await;
        assert!(is_closed(&mut held[0]).await);
        let second = ask(&mut held[1], "GET / HTTP/1.1").await;
        assert_eq!(second.1, "hello");
    }

    #[tokio::test]
    async fn the_end_of_the_program_ends_idle_connections_and_the_listener() {
        let (tasks, address) = start().await;
        let mut held = hold(address).await;
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, 0);
        assert!(is_closed(&mut held).await);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
