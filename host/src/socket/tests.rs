use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream as Client;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::tasks::Tasks;

/// Nobody's.
const STRANGER: u32 = 65534;
/// The clock of these tests jumps when nothing else is left to do, so this is no time but "never".
const NEVER: Duration = Duration::from_secs(3600);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// A socket that nobody serves any more. It never listened: a process that another test is just starting would hold on
/// to one that did.
fn stale(path: &Path) {
    bind(new_socket().unwrap(), &SocketAddrUnix::new(path).unwrap()).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_socket_and_the_folder_made_for_it_are_roots_alone() {
    let folder = folder();
    let path = folder.path().join("plugins/driver/csi.sock");
    let socket = Socket::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!((mode(path.parent().unwrap()), mode(&folder.path().join("plugins"))), (0o700, 0o700));
    assert_eq!((socket.path(), names(path.parent().unwrap())), (&*path, vec!["csi.sock".to_owned()]));
}

#[tokio::test]
async fn the_mode_of_a_folder_that_exists_is_left_alone() {
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o751)).unwrap();
    let _socket = Socket::bind(&folder.path().join("s")).unwrap();
    assert_eq!(mode(folder.path()), 0o751);
}

#[tokio::test]
async fn a_folder_is_not_made_where_it_is_not_ours_to_make() {
    let folder = folder();
    let error = Socket::bind_in_existing_folder(&folder.path().join("none/s")).unwrap_err();
    assert!(
        matches!(&error, SocketError::Make { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{error:?}"
    );
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let folder = folder();
    let path = folder.path().join("csi.sock");
    stale(&path);
    let living = Socket::bind(&path).unwrap();
    let error = Socket::bind(&path).unwrap_err();
    assert!(matches!(&error, SocketError::Alive(at) if *at == path), "{error:?}");
    assert!(living.is_in_place());
    assert_eq!(names(folder.path()), ["csi.sock"]);
}

#[tokio::test]
async fn a_socket_too_busy_to_accept_is_a_living_one() {
    let folder = folder();
    let path = folder.path().join("csi.sock");
    let _busy = Socket::bind(&path).unwrap();
    let clients: Vec<_> = std::iter::from_fn(|| Some(new_socket().unwrap()))
        .take_while(|client| connect(client, &SocketAddrUnix::new(&*path).unwrap()).is_ok())
        .take(10_000)
        .collect();
    assert!(clients.len() < 10_000, "its queue was never full");
    assert!(matches!(Socket::bind(&path).unwrap_err(), SocketError::Alive(_)));
}

#[tokio::test]
async fn what_is_no_socket_is_never_replaced() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "content").unwrap();
    fs::create_dir(path("folder")).unwrap();
    stale(&path("stale"));
    symlink(path("stale"), path("link")).unwrap();
    symlink(path("none"), path("dangling")).unwrap();
    for name in ["file", "folder", "link", "dangling"] {
        let error = Socket::bind(&path(name)).unwrap_err();
        assert!(matches!(&error, SocketError::InTheWay(at) if *at == path(name)), "{error:?}");
        assert!(error.to_string().contains("remove that"), "{error}");
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "content");
    assert_eq!(names(folder.path()).len(), 5);
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_with_both_lengths() {
    let folder = folder();
    let fill = |length: usize| {
        let rest = length - folder.path().as_os_str().len() - 1;
        folder.path().join("x".repeat(rest))
    };
    assert!(Socket::bind(&fill(LONGEST_PATH)).is_ok());
    let error = Socket::bind(&fill(LONGEST_PATH + 1)).unwrap_err();
    assert!(matches!(&error, SocketError::TooLong { length: 108, .. }), "{error:?}");
    assert!(error.to_string().contains("108 bytes is too long for a socket, 107 is the most"), "{error}");
    // A short name does not help: it begins under another one.
    let folder = fill(LONGEST_PATH - 2);
    let error = Socket::bind(&folder.join("s")).unwrap_err();
    assert!(matches!(&error, SocketError::TooLong { length: 114, .. }), "{error:?}");
}

#[tokio::test]
async fn only_our_own_file_is_removed_at_the_end() {
    let folder = folder();
    let path = folder.path().join("csi.sock");
    let socket = Socket::bind(&path).unwrap();
    assert!(socket.is_in_place());
    drop(socket);
    assert!(!path.exists());

    let socket = Socket::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!socket.is_in_place());
    let successor = Socket::bind(&path).unwrap();
    assert!(!socket.is_in_place());
    drop(socket);
    assert!(successor.is_in_place());
}

#[test]
fn root_and_oneself_may_connect_and_nobody_else() {
    assert!(may_connect(0, 0) && may_connect(0, 1000) && may_connect(1000, 1000));
    assert!(!may_connect(1000, 0) && !may_connect(1001, 1000));
}

/// The mode would keep a stranger out already, so it is opened wide here.
#[tokio::test]
async fn a_peer_that_is_not_root_is_dropped() {
    let folder = folder();
    let path = folder.path().join("csi.sock");
    let socket = Socket::bind(&path).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let accepting = Tasks::default().spawn("accepts", async move {
        let mut byte = [0];
        let mut stream = socket.accept().await;
        stream.read_exact(&mut byte).await.unwrap();
        byte[0]
    });
    let at = path.clone();
    let Some(answer) = tokio::task::spawn_blocking(|| connect_as_a_stranger(at)).await.unwrap() else {
        println!("not run: only root can be somebody else, and only where there is somebody else");
        return;
    };
    assert_eq!(answer, b"");
    let mut root = UnixStream::connect(&path).await.unwrap();
    root.write_all(b"r").await.unwrap();
    assert_eq!(accepting.await.unwrap(), b'r');
}

/// All that is read until the end; nothing where this process cannot be anybody else. The user is that of a thread, so
/// it has one of its own.
fn connect_as_a_stranger(path: PathBuf) -> Option<Vec<u8>> {
    if !geteuid().is_root() {
        return None;
    }
    let stranger = std::thread::spawn(|| {
        let uid = rustix::process::Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(uid, uid, uid).ok()?;
        let (mut client, mut answer) = (Client::connect(path).unwrap(), Vec::new());
        client.read_to_end(&mut answer).unwrap();
        Some(answer)
    });
    stranger.join().unwrap()
}

/// Limits belong to the process, so this one has its own.
#[test]
fn accepting_goes_on_when_there_are_file_descriptors_again() {
    const ALONE: &str = "COFFER_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "socket::tests::accepting_goes_on_when_there_are_file_descriptors_again";
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        let output = test.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let folder = folder();
        let path = folder.path().join("csi.sock");
        let socket = Socket::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).await.unwrap();
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        assert!(timeout(NEVER, socket.accept()).await.is_err());
        drop(taken);
        assert!(timeout(NEVER, socket.accept()).await.is_ok());
    });
}

fn keep(path: &Path, connections: usize) -> Kept {
    Kept::new(path.to_owned(), Socket::bind_in_existing_folder, connections, Duration::from_secs(10), "")
}

async fn connected(kept: &mut Kept) -> Option<Connection> {
    match timeout(NEVER, kept.next()).await {
        Ok(Next::Connected(connection)) => Some(connection),
        Ok(Next::Bound) | Err(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_socket_is_bound_anew_and_its_connections_live_on() {
    let folder = folder();
    let path = folder.path().join("registry/csi.sock");
    let mut kept = keep(&path, 8);
    assert!(matches!(kept.renew(), Err(SocketError::Make { .. })));
    assert!(connected(&mut kept).await.is_none(), "there is no folder");
    fs::create_dir(folder.path().join("registry")).unwrap();
    assert!(matches!(kept.next().await, Next::Bound));

    let mut client = UnixStream::connect(&path).await.unwrap();
    let mut connection = connected(&mut kept).await.unwrap();
    fs::remove_dir_all(folder.path().join("registry")).unwrap();
    fs::create_dir(folder.path().join("registry")).unwrap();
    assert!(matches!(kept.next().await, Next::Bound));
    stale(&folder.path().join("registry/other"));
    fs::rename(folder.path().join("registry/other"), &path).unwrap();
    assert!(matches!(kept.next().await, Next::Bound));

    client.write_all(b"x").await.unwrap();
    assert_eq!(connection.read_u8().await.unwrap(), b'x');
    let _another = UnixStream::connect(&path).await.unwrap();
    assert!(connected(&mut kept).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_kept_socket_waits_for_the_end_of_another_that_lives_in_its_place() {
    let folder = folder();
    let path = folder.path().join("csi.sock");
    let mut kept = keep(&path, 8);
    kept.renew().unwrap();
    fs::remove_file(&path).unwrap();
    let other = Socket::bind(&path).unwrap();
    assert!(timeout(NEVER, kept.next()).await.is_err());
    assert!(other.is_in_place());
    drop(other);
    assert!(matches!(kept.next().await, Next::Bound));
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let folder = folder();
    let path = folder.path().join("csi.sock");
    let mut kept = keep(&path, 2);
    kept.renew().unwrap();
    let _clients = [(); 3].map(|()| Client::connect(&path).unwrap());
    let (first, _second) = (connected(&mut kept).await.unwrap(), connected(&mut kept).await.unwrap());
    assert!(connected(&mut kept).await.is_none());
    drop(first);
    assert!(connected(&mut kept).await.is_some());
}
