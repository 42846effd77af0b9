//! The two places where the emulator lies below HTTP: a stream that can be made to send other bytes than those hyper
//! writes, and a body that breaks off, stalls or never ends.
//!
//! Used by `server` only, and only when a fault asks for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// The other end of a [`Wire`]: tells it what to send instead of the next thing that is written to it, after which the
/// connection ends, and hears from it what has left.
#[derive(Clone, Default)]
pub(crate) struct Sabotage {
    ordered: Arc<Mutex<Option<Bytes>>>,
    /// Bytes that were flushed since the beginning.
    flushed: Arc<watch::Sender<u64>>,
}

impl Sabotage {
    pub(crate) fn send_instead(&self, bytes: impl Into<Bytes>) {
        *self.ordered.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.into());
    }

    /// Waits until so many more bytes have left than at the time of the call, not of the first poll.
    fn flushed(&self, more: usize) -> impl Future<Output = ()> + Send + use<> {
        let mut flushed = self.flushed.subscribe();
        let goal = flushed.borrow().saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        async move {
            // An error means that the connection is gone, and this wait with it.
            let _ = flushed.wait_for(|flushed| *flushed >= goal).await;
        }
    }

    fn ordered(&self) -> Option<Bytes> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream under [`Sabotage`].
pub(crate) struct Wire<T> {
    inner: T,
    sabotage: Sabotage,
    instead: Option<Bytes>,
    written: u64,
}

impl<T> Wire<T> {
    pub(crate) fn new(inner: T, sabotage: Sabotage) -> Self {
        Self { inner, sabotage, instead: None, written: 0 }
    }
}

impl<T: AsyncWrite + Unpin> Wire<T> {
    /// Sends what was ordered and closes the stream; then fails whatever was to be written.
    fn poll_betray(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(bytes) = self.instead.as_mut().filter(|bytes| !bytes.is_empty()) {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
            let _ = bytes.split_to(sent.min(bytes.len()));
        }
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(instead) = self.sabotage.ordered() {
            self.instead = Some(instead);
        }
        if self.instead.is_some() {
            return self.poll_betray(context);
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.written += u64::try_from(written).unwrap_or_default();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        let written = self.written;
        self.sabotage.flushed.send_if_modified(|flushed| std::mem::replace(flushed, written) != written);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// What the server hands to hyper.
pub(crate) type Payload = UnsyncBoxBody<Bytes, io::Error>;

/// How a [`Broken`] body goes on after its bytes.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// It ends, whatever its length was said to be.
    Clean,
    /// The stream is torn down.
    Torn,
    /// Nothing more comes.
    Never,
    /// The same bytes come again and again.
    Repeat,
}

/// A body whose length hyper is not told. Before it ends in any way, its bytes have left: hyper would drop them with the
/// connection otherwise.
pub(crate) struct Broken {
    bytes: Bytes,
    end: End,
    sabotage: Sabotage,
    left: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Broken {
    pub(crate) fn new(bytes: impl Into<Bytes>, end: End, sabotage: &Sabotage) -> Self {
        Self { bytes: bytes.into(), end, sabotage: sabotage.clone(), left: None }
    }
}

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let Some(left) = &mut this.left else {
            let bytes = this.bytes.clone();
            if !matches!(this.end, End::Repeat) {
                this.left = Some(Box::pin(this.sabotage.flushed(bytes.len())));
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        };
        ready!(left.as_mut().poll(context));
        // Polled once more after it is done, it must not be asked again.
        this.left = Some(Box::pin(std::future::ready(())));
        match this.end {
            End::Clean | End::Repeat => Poll::Ready(None),
            End::Torn => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            // Nobody wakes this; the task ends when its connection does.
            End::Never => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
