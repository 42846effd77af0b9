//! Unix sockets that only root may use: CSI, registration, admin.
//!
//! The file has mode 0600 before anybody can connect, and whoever connects has to be root all the same. A socket that
//! somebody still serves is never replaced, and only our own file is ever removed. The callers are `csi` and
//! `telemetry::admin`.

mod kept;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

pub(crate) use kept::{Connection, Kept, Next};

/// The most bytes of a path: `sun_path` less the byte that ends it.
const LONGEST_PATH: usize = 107;
/// Bytes of the name under which a socket is made: a dot, which kubelet's watcher passes over, and random digits.
const DRAFT_NAME: usize = 8;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long to wait when a connection cannot be accepted, for want of file descriptors most likely.
const PAUSE: Duration = Duration::from_millis(200);
/// One warning of a kind is enough for this long.
const QUIET: Duration = Duration::from_secs(60);

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody else serves it.
    #[error(
        "the socket {} is served by another process; stop that one (another driver of the same name, or one that \
         is still ending), or name another path",
        .0.display()
    )]
    Alive(PathBuf),
    /// A file, a folder or a link has its name.
    #[error("the socket {} cannot be made, because something that is no socket has its name; remove that", .0.display())]
    InTheWay(PathBuf),
    /// No socket can have this path.
    #[error(
        "the socket {} cannot be made: a path of {length} bytes is too long for a socket, {LONGEST_PATH} is the most; \
         choose a shorter folder",
        path.display()
    )]
    TooLong {
        /// The socket.
        path: PathBuf,
        /// The bytes that the path would need.
        length: usize,
    },
    /// It cannot be made.
    #[error("the socket {} cannot be made; root has to be able to write to its folder", path.display())]
    Make {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A socket that listens: mode 0600, in a folder of mode 0700 where the folder had to be made. The file is removed on
/// drop, if it is still this one.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    file: FileId,
    refused: Seldom,
    failed: Seldom,
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl Socket {
    /// Listens at `path`. A socket that nobody serves any more is replaced, a living one is not. The mode of a folder
    /// that exists is left alone. Runs inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// All of [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| SocketError::Make { path: path.to_owned(), source })?;
        Self::bind_in_existing_folder(path)
    }

    /// As [`Socket::bind`], for a folder that is somebody else's to make.
    ///
    /// # Errors
    ///
    /// All of [`SocketError`].
    pub fn bind_in_existing_folder(path: &Path) -> Result<Self, SocketError> {
        let length = path.as_os_str().len();
        let name = path.file_name().map_or(0, |name| name.len());
        let length = length.max(length - name + DRAFT_NAME);
        if length > LONGEST_PATH {
            return Err(SocketError::TooLong { path: path.to_owned(), length });
        }
        let failed = |source| SocketError::Make { path: path.to_owned(), source };
        make_way(path)?;
        let (listener, file) = listen_at(path).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), file, refused: Seldom::default(), failed: Seldom::default() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to this very socket.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| FileId::of(&file) == self.file)
    }

    /// The next connection of a peer that may connect. Others are dropped, and what goes wrong passes; so this never
    /// fails. Nothing is lost when it is dropped.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.admits(&stream) => return stream,
                Ok(_) => {}
                Err(error) => {
                    if self.failed.is_due() {
                        tracing::warn!(socket = %self.path.display(), %error, "a connection cannot be accepted; trying on");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn admits(&self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) if may_connect(peer.uid(), geteuid().as_raw()) => true,
            peer => {
                let uid = peer.ok().map(|peer| peer.uid());
                if self.refused.is_due() {
                    tracing::warn!(socket = %self.path.display(), uid, "refused a connection: only root may connect");
                }
                false
            }
        }
    }
}

impl Listener for Socket {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        (Self::accept(self).await, ())
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_in_place() {
            // What is left behind is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl FileId {
    fn of(file: &fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// Lets something be said now and again.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= QUIET);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Root, or where this process is not root itself (a test), its own user.
fn may_connect(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

/// Refuses what must not be replaced.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Make { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(SocketError::InTheWay(path.to_owned())),
        Ok(_) => {}
    }
    match try_connect(path) {
        // A full queue of connections: alive, but busy.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Alive(path.to_owned())),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn try_connect(path: &Path) -> rustix::io::Result<()> {
    let socket = new_socket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

fn new_socket() -> rustix::io::Result<rustix::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Makes the socket under a name that nobody knows, and renames it when it is all that it should be. So whatever the
/// umask is, nobody ever connects to a socket with another mode, and kubelet never finds one that does not listen.
fn listen_at(path: &Path) -> io::Result<(StdListener, FileId)> {
    let digits = DRAFT_NAME - 1;
    let name = format!(".{:0digits$x}", rand::random::<u32>() >> 4);
    let draft = path.with_file_name(name);
    let made = make(&draft).and_then(|made| fs::rename(&draft, path).map(|()| made));
    if made.is_err() {
        let _ = fs::remove_file(&draft);
    }
    made
}

fn make(path: &Path) -> io::Result<(StdListener, FileId)> {
    let socket = new_socket()?;
    bind(&socket, &SocketAddrUnix::new(path.as_os_str().as_bytes())?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    let file = FileId::of(&fs::symlink_metadata(path)?);
    Ok((socket.into(), file))
}

#[cfg(test)]
mod tests;
