//! A socket that stays where it is: bound anew when its folder was emptied or its file replaced.
//!
//! Connections that were accepted before are not touched. The path is looked at now and again, which costs nothing
//! measurable and misses nothing, as a watch on a folder that is itself removed would.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::transport::server::Connected;

use super::{Socket, SocketError};

/// How a socket is bound: [`Socket::bind`] or [`Socket::bind_in_existing_folder`].
pub(crate) type Bind = fn(&std::path::Path) -> Result<Socket, SocketError>;

/// A path at which there should always be a socket.
pub(crate) struct Kept {
    path: PathBuf,
    bind: Bind,
    socket: Option<Socket>,
    look: Interval,
    slots: Arc<Semaphore>,
    /// What to check when it cannot be bound.
    advice: &'static str,
    /// What was said last about a socket that cannot be bound.
    trouble: Option<String>,
}

/// What happened at a kept socket.
pub(crate) enum Next {
    /// A peer connected.
    Connected(Connection),
    /// The socket was not in its place any more, and is again.
    Bound,
}

impl Kept {
    /// Keeps a socket at `path` and looks after it every `period`. At most `connections` are open at a time; others
    /// wait to be accepted. There is no socket until [`Kept::renew`] or the first look. `advice` stands in the warning
    /// when there can be none.
    pub(crate) fn new(path: PathBuf, bind: Bind, connections: usize, period: Duration, advice: &'static str) -> Self {
        let mut look = interval_at(Instant::now() + period, period);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, bind, socket: None, look, slots: Arc::new(Semaphore::new(connections)), advice, trouble: None }
    }

    /// Takes the socket away and binds it anew, so that whoever watches the folder sees a new one.
    ///
    /// # Errors
    ///
    /// When it cannot be bound. The next look tries again.
    pub(crate) fn renew(&mut self) -> Result<(), SocketError> {
        self.socket = None;
        self.socket = Some((self.bind)(&self.path)?);
        self.trouble = None;
        Ok(())
    }

    /// Waits for what happens next. Nothing is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            tokio::select! {
                connection = accept(&self.slots, self.socket.as_ref()) => return Next::Connected(connection),
                _ = self.look.tick() => if self.mend() { return Next::Bound },
            }
        }
    }

    /// Notes why the socket cannot be bound, and says it when it is news.
    pub(crate) fn complain(&mut self, error: &SocketError) {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let trouble = format!("{error}{cause}");
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}. {} Trying again until it works", self.advice);
            self.trouble = Some(trouble);
        }
    }

    /// Whether the socket had to be bound anew. One that is out of place is kept until then: it may still be
    /// connected to by another name.
    fn mend(&mut self) -> bool {
        if self.socket.as_ref().is_some_and(Socket::is_in_place) {
            return false;
        }
        match (self.bind)(&self.path) {
            Ok(socket) => {
                tracing::info!(socket = %self.path.display(), "the socket was not in its place; bound it anew");
                self.socket = Some(socket);
                self.trouble = None;
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }
}

async fn accept(slots: &Arc<Semaphore>, socket: Option<&Socket>) -> Connection {
    let slot = Arc::clone(slots).acquire_owned().await;
    match (socket, slot) {
        (Some(socket), Ok(slot)) => Connection { stream: socket.accept().await, _slot: slot },
        // Nobody closes the semaphore.
        (None, _) | (_, Err(_)) => std::future::pending().await,
    }
}

/// A connection that counts until it is dropped.
pub(crate) struct Connection {
    stream: UnixStream,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
