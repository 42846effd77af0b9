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

/// Tells a [`Wire`] what to send instead of the next thing that is written to it; then the connection ends.
#[derive(Clone, Default)]
pub(crate) struct Sabotage(Arc<Mutex<Option<Bytes>>>);

impl Sabotage {
    pub(crate) fn send_instead(&self, bytes: impl Into<Bytes>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.into());
    }

    fn ordered(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream under [`Sabotage`].
pub(crate) struct Wire<T> {
    inner: T,
    sabotage: Sabotage,
    instead: Option<Bytes>,
}

impl<T> Wire<T> {
    pub(crate) fn new(inner: T, sabotage: Sabotage) -> Self {
        Self { inner, sabotage, instead: None }
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
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
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

/// A body whose length hyper is not told.
pub(crate) struct Broken {
    pub(crate) bytes: Bytes,
    pub(crate) sent: bool,
    pub(crate) end: End,
}

impl Broken {
    pub(crate) fn new(bytes: impl Into<Bytes>, end: End) -> Self {
        Self { bytes: bytes.into(), sent: false, end }
    }
}

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.sent {
            self.sent = !matches!(self.end, End::Repeat);
            return Poll::Ready(Some(Ok(Frame::data(self.bytes.clone()))));
        }
        match self.end {
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
