//! The calls to the Kubernetes API, against the API server of the harness, over HTTP on loopback.

mod apiserver;
mod classes;
mod client;
mod events;
mod facts;
mod pod_statuses;
pub mod rights;
mod secrets;
mod startup_taint;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coffer::kube::client::{Client, connect};
use coffer::tasks::Tasks;
use coffer_sandbox::provider::Pod;
use coffer_tests::harness::apiserver::{ApiServer, Resource, Verb};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long anything may take that is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what has to come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Lets time pass in an instant. The clock runs on its own otherwise: paused, it would jump ahead of the network.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

async fn server() -> ApiServer {
    ApiServer::start().await.unwrap()
}

/// An API server, a client of it, and whatever runs.
struct World {
    server: ApiServer,
    client: Client,
    tasks: Tasks,
    /// `verb resource code` of each call that was counted.
    calls: Arc<watch::Sender<BTreeMap<String, u64>>>,
}

impl World {
    async fn new() -> Self {
        let server = server().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, server.kubeconfig()).unwrap();
        let calls: Arc<watch::Sender<BTreeMap<String, u64>>> = Arc::default();
        let counted = Arc::clone(&calls);
        let counter = move |verb: &str, resource: &str, code: &str| {
            let call = format!("{verb} {resource} {code}");
            counted.send_modify(|counted| *counted.entry(call).or_default() += 1);
        };
        let client = connect(Some(&path), counter).await.unwrap();
        Self { server, client, tasks: Tasks::default(), calls }
    }

    /// Looks again and again until it is so. Give it a deadline of your own.
    async fn until(&self, mut is_so: impl FnMut(&ApiServer) -> bool) {
        let server = &self.server;
        while !is_so(server) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn asked(&self, verb: Verb, resource: Resource) -> u64 {
        self.server.counters().of(verb, resource)
    }

    fn counted(&self, call: &str) -> u64 {
        self.calls.borrow().get(call).copied().unwrap_or_default()
    }

    /// Waits until so many calls have ended whose count starts like this. What Coffer made of them is done by then: there
    /// is one thread, and it does not wait in between.
    async fn called(&self, start: &str, times: u64) {
        let mut calls = self.calls.subscribe();
        let enough = |calls: &BTreeMap<String, u64>| {
            calls.iter().filter(|(call, _)| call.starts_with(start)).map(|(_, times)| times).sum::<u64>() >= times
        };
        soon(start, calls.wait_for(enough)).await.unwrap();
    }
}

fn pod(name: &str, uid: &str) -> Pod {
    Pod { name: name.into(), namespace: "shop".into(), uid: uid.into(), service_account: "default".into() }
}
