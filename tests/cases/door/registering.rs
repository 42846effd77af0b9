//! Registration as kubelet's plugin watcher sees it: sockets that come and go in its folder. The clock is paused, so
//! waits that are minutes take no time.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use coffer::csi::registration::{Registered, Settings, serve};
use coffer::socket::SocketError;
use coffer::tasks::Tasks;
use tokio::sync::watch;

use super::kubelet::{Watcher, register};
use super::pipeline::DRIVER;
use super::{PATIENCE, soon, until};

const ENDPOINT: &str = "/var/lib/kubelet/plugins/csi-secrets-store/csi.sock";
const SOCKET: &str = "coffer@secrets-store.csi.k8s.io-reg.sock";
const REFUSAL: &str = "RegisterPlugin error -- plugin registration failed: another one is registered";

struct Registry {
    _root: tempfile::TempDir,
    folder: PathBuf,
    socket: PathBuf,
    tasks: Tasks,
    again: watch::Sender<u64>,
    registered: watch::Receiver<Registered>,
}

impl Registry {
    fn start() -> Self {
        Self::start_with(|folder| fs::create_dir(folder).unwrap()).unwrap()
    }

    fn start_with(prepare: impl FnOnce(&Path)) -> Result<Self, SocketError> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("plugins_registry");
        prepare(&folder);
        let (tasks, (again, changes)) = (Tasks::default(), watch::channel(0));
        let settings = Settings { folder: folder.clone(), driver: DRIVER.into(), endpoint: ENDPOINT.into() };
        let registered = serve(settings, changes, &tasks)?;
        Ok(Self { _root: root, socket: folder.join(SOCKET), folder, tasks, again, registered })
    }

    fn now(&self) -> Registered {
        self.registered.borrow().clone()
    }

    /// Waits until kubelet sees a new socket.
    async fn appears(&self, watcher: &Watcher) {
        let mut names = Vec::new();
        until("a new socket", || {
            names.extend(watcher.appeared());
            names.iter().any(|name| name == SOCKET)
        })
        .await;
    }

    async fn becomes(&mut self, expected: Registered) {
        soon(self.registered.wait_for(|now| *now == expected)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn kubelet_asks_who_the_driver_is_and_says_that_it_is_registered() {
    let registry = Registry::start();
    assert_eq!(registry.now(), Registered::Waiting);
    let info = register(&registry.socket, None).await.unwrap();
    assert_eq!((&*info.r#type, &*info.name, &*info.endpoint), ("CSIPlugin", DRIVER, ENDPOINT));
    assert_eq!(info.supported_versions, ["1.0.0"]);
    assert_eq!(registry.now(), Registered::Yes);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_was_restarted_finds_the_same_socket() {
    let registry = Registry::start();
    let watcher = Watcher::of(&registry.folder);
    for _ in 0..2 {
        register(&registry.socket, None).await.unwrap();
        assert_eq!(registry.now(), Registered::Yes);
    }
    assert_eq!(watcher.appeared(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_socket_is_made_anew_until_kubelet_accepts() {
    let registry = Registry::start();
    let watcher = Watcher::of(&registry.folder);
    for _ in 0..3 {
        register(&registry.socket, Some(REFUSAL)).await.unwrap();
        assert_eq!(registry.now(), Registered::Refused(REFUSAL.into()));
        registry.appears(&watcher).await;
        assert_eq!(registry.now(), Registered::Refused(REFUSAL.into()), "nobody has said otherwise");
    }
    register(&registry.socket, None).await.unwrap();
    assert_eq!(registry.now(), Registered::Yes);
    tokio::time::sleep(PATIENCE * 10).await;
    assert_eq!(watcher.appeared(), Vec::<String>::new(), "it is left alone then");
}

/// kubelet tries by itself every two minutes at most, and the wait for a new socket grows to five.
#[tokio::test(start_paused = true)]
async fn a_kubelet_that_keeps_refusing_does_not_put_the_next_try_off() {
    let registry = Registry::start();
    let watcher = Watcher::of(&registry.folder);
    for _ in 0..10 {
        let mut tries = 0;
        while watcher.appeared().is_empty() {
            register(&registry.socket, Some(REFUSAL)).await.unwrap();
            tokio::time::sleep(PATIENCE).await;
            tries += 1;
            assert!(tries < 10, "the socket is never made anew");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_csinode_has_lost_is_registered_anew() {
    let mut registry = Registry::start();
    let watcher = Watcher::of(&registry.folder);
    register(&registry.socket, None).await.unwrap();
    registry.again.send_modify(|times| *times += 1);
    registry.becomes(Registered::Waiting).await;
    registry.appears(&watcher).await;
    register(&registry.socket, None).await.unwrap();
    assert_eq!(registry.now(), Registered::Yes);
}

#[tokio::test(start_paused = true)]
async fn that_csinode_lacks_a_refused_driver_does_not_hasten_the_next_try() {
    let registry = Registry::start();
    let watcher = Watcher::of(&registry.folder);
    for _ in 0..4 {
        register(&registry.socket, Some(REFUSAL)).await.unwrap();
        registry.appears(&watcher).await;
    }
    register(&registry.socket, Some(REFUSAL)).await.unwrap();
    registry.again.send_modify(|times| *times += 1);
    tokio::time::sleep(PATIENCE).await;
    assert_eq!((registry.now(), watcher.appeared()), (Registered::Refused(REFUSAL.into()), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn nobody_needs_to_be_able_to_ask_again() {
    let Registry { _root, socket, again, registered, tasks, .. } = Registry::start();
    drop(again);
    register(&socket, None).await.unwrap();
    assert_eq!(*registered.borrow(), Registered::Yes);
    assert_eq!(tasks.drain(PATIENCE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_was_removed_with_or_without_its_folder_is_made_anew() {
    let mut registry = Registry::start();
    for with_folder in [false, true] {
        register(&registry.socket, None).await.unwrap();
        registry.becomes(Registered::Yes).await;
        if with_folder {
            fs::remove_dir_all(&registry.folder).unwrap();
            tokio::time::sleep(PATIENCE).await;
            assert!(!registry.folder.exists(), "it is kubelet's to make");
            fs::create_dir(&registry.folder).unwrap();
        } else {
            fs::remove_file(&registry.socket).unwrap();
        }
        registry.becomes(Registered::Waiting).await;
        assert!(registry.socket.exists());
    }
    register(&registry.socket, None).await.unwrap();
    registry.becomes(Registered::Yes).await;
}

#[tokio::test(start_paused = true)]
async fn a_living_socket_of_somebody_else_is_left_alone_until_it_ends() {
    let mut registry = Registry::start();
    register(&registry.socket, None).await.unwrap();
    let theirs = registry.folder.join("theirs");
    let other = UnixListener::bind(&theirs).unwrap();
    fs::rename(&theirs, &registry.socket).unwrap();
    tokio::time::sleep(PATIENCE).await;
    assert!(std::os::unix::net::UnixStream::connect(&registry.socket).is_ok());
    assert!(other.accept().is_ok(), "it was replaced");
    drop(other);
    registry.becomes(Registered::Waiting).await;
    register(&registry.socket, None).await.unwrap();
    assert_eq!(registry.now(), Registered::Yes);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_kubelet_did_not_make_yet_is_waited_for() {
    let registry = Registry::start_with(|_| {}).unwrap();
    tokio::time::sleep(PATIENCE).await;
    assert!(!registry.folder.exists());
    fs::create_dir(&registry.folder).unwrap();
    until("the socket is there", || registry.socket.exists()).await;
    register(&registry.socket, None).await.unwrap();
    assert_eq!(registry.now(), Registered::Yes);
}

#[tokio::test(start_paused = true)]
async fn a_driver_does_not_start_beside_a_living_one_of_its_name() {
    let mut other = None;
    let started = Registry::start_with(|folder| {
        fs::create_dir(folder).unwrap();
        other = Some(UnixListener::bind(folder.join(SOCKET)).unwrap());
    });
    assert!(matches!(started.err(), Some(SocketError::Alive(_))));
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn the_socket_goes_at_the_end() {
    let registry = Registry::start();
    assert_eq!(registry.tasks.drain(PATIENCE).await, 0);
    assert!(!registry.socket.exists());
}
