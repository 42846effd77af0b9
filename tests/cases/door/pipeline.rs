//! What stands behind the door here: notes every call, and does what the name of the volume says.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use coffer::csi::server::{Settings, serve};
use coffer::csi::status::Refusal;
use coffer::csi::volumes::Volumes;
use coffer::publish::request::PublishRequest;
use coffer::tasks::Tasks;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::Code;

pub const DRIVER: &str = "secrets-store.csi.k8s.io";

/// How many calls are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Began.
    pub begun: usize,
    /// Came to their end.
    pub ended: usize,
    /// Were dropped before that.
    pub dropped: usize,
}

/// A volume named `waits…` waits for [`Pipeline::release`], `panics` panics, `refused` is refused; every other is fine.
#[derive(Default)]
pub struct Pipeline {
    published: Mutex<Vec<(PublishRequest, Option<Instant>)>>,
    unpublished: Mutex<Vec<(String, PathBuf, Option<Instant>)>>,
    gate: Gate,
    counts: watch::Sender<Counts>,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Pipeline {
    /// What was published, in order of arrival, and until when there was time.
    pub fn published(&self) -> MutexGuard<'_, Vec<(PublishRequest, Option<Instant>)>> {
        self.published.lock().unwrap()
    }

    /// As [`Pipeline::published`].
    pub fn unpublished(&self) -> MutexGuard<'_, Vec<(String, PathBuf, Option<Instant>)>> {
        self.unpublished.lock().unwrap()
    }

    /// Lets calls go that wait, or will.
    pub fn release(&self, calls: usize) {
        self.gate.0.add_permits(calls);
    }

    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts are right.
    pub async fn until(&self, right: impl FnMut(&Counts) -> bool) {
        let mut counts = self.counts.subscribe();
        super::soon(counts.wait_for(right)).await.unwrap();
    }

    async fn work(&self, volume: &str) -> Result<(), Refusal> {
        self.counts.send_modify(|counts| counts.begun += 1);
        let mut running = Running(self, false);
        if volume.starts_with("waits") {
            self.gate.0.acquire().await.unwrap().forget();
        }
        running.1 = true;
        match volume {
            "panics" => panic!("as asked"),
            "refused" => Err(Refusal::new(Code::NotFound, "class `demo` does not exist; create it")),
            _ => Ok(()),
        }
    }
}

struct Running<'a>(&'a Pipeline, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.counts.send_modify(|counts| if self.1 { counts.ended += 1 } else { counts.dropped += 1 });
    }
}

impl Volumes for Pipeline {
    async fn publish(&self, request: PublishRequest, deadline: Option<Instant>) -> Result<(), Refusal> {
        let volume = request.volume.clone();
        self.published().push((request, deadline));
        self.work(&volume).await
    }

    async fn unpublish(&self, volume: String, target: PathBuf, deadline: Option<Instant>) -> Result<(), Refusal> {
        self.unpublished().push((volume.clone(), target, deadline));
        self.work(&volume).await
    }
}

/// A door in a folder of its own.
pub struct Door {
    _folder: tempfile::TempDir,
    pub socket: PathBuf,
    pub pipeline: Arc<Pipeline>,
    pub tasks: Tasks,
}

impl Door {
    pub fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("plugins/csi.sock");
        let (pipeline, tasks) = (Arc::new(Pipeline::default()), Tasks::default());
        let settings = Settings { endpoint: socket.clone(), driver: DRIVER.into(), node: "node-1".into() };
        serve(settings, Arc::clone(&pipeline), &tasks).unwrap();
        Self { _folder: folder, socket, pipeline, tasks }
    }
}
