//! A driver to be measured, with everything around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use coffer_tests::harness::apiserver::{Resource, Verb};
use coffer_tests::harness::kubelet::{Pod, Volume};
use coffer_tests::harness::node::{Node, Surroundings};
use coffer_tests::harness::{Emulator, Kind};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::network::{CLIENT_ID, CLIENT_SECRET, TENANT, VAULT, emulator};
use crate::{Built, memory, sandbox};

/// The name of each pod's volume.
pub(super) const VOLUME: &str = "secrets";
/// Further lines of the configuration under which every mount asks the vault.
pub(super) const NOTHING_REUSED: &str = "reuseResultsFor: 0s\n";
/// The configuration as it ships.
pub(super) const SHIPPED: &str = "";

/// For what comes after a publish.
const PATIENCE: Duration = Duration::from_secs(60);
/// From an answer of the API server until the driver has written it down, generously.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Everything but the driver, and where it is started from.
pub(super) struct World {
    pub(super) emulator: Emulator,
    pub(super) surroundings: Surroundings,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

impl World {
    /// With a cache that the plugin is in, or not yet.
    pub(super) async fn new(built: &Built, more: &str) -> Result<Self> {
        Self::with_cache(built, more, built.scratch.path().join("cache")).await
    }

    pub(super) async fn with_cache(built: &Built, more: &str, cache: PathBuf) -> Result<Self> {
        let emulator = emulator().await?;
        let surroundings = Surroundings::start(&emulator).await?;
        let file = |name: &str| surroundings.folder().join(name);
        let text = memory::config(built, &cache.display().to_string(), &emulator.address().to_string());
        std::fs::write(file("ca.pem"), emulator.ca_pem())?;
        std::fs::write(file("config.yaml"), format!("{more}{text}"))?;
        let (config, log) = (file("config.yaml"), file("node.log"));
        Ok(Self { emulator, surroundings, program: built.coffer.clone(), config, log })
    }

    /// A driver that is registered and ready; what happened until then is not counted.
    pub(super) async fn start(&self, flags: &[&str]) -> Result<Node> {
        let node = self.surroundings.start_node(&self.program, &self.config, &self.log, flags).await?;
        self.clear();
        Ok(node)
    }

    /// A driver that was started a moment ago.
    pub(super) fn spawn(&self) -> Result<Node> {
        Ok(self.surroundings.spawn(&self.program, &self.config, &self.log, &[])?)
    }

    /// A class with the first secrets of the vault. `alias` is part of the first file's name, so that classes differ.
    pub(super) fn put_class(&self, name: &str, objects: usize, alias: &str) {
        let mut parameters = sandbox::parameters(VAULT, TENANT, objects);
        if let Some(objects) = parameters.get_mut("objects") {
            *objects =
                objects.replacen("objectType: secret", &format!("objectType: secret\n    objectAlias: f{alias}"), 1);
        }
        let parameters: Vec<_> = parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.surroundings.api.class("default", name).put("azure", &parameters);
    }

    /// Publishes the volume of a pod, and says how long kubelet waited.
    pub(super) async fn publish(&self, pod: &Pod) -> Result<Duration> {
        let started = Instant::now();
        let published = self.surroundings.kubelet.publish(pod, VOLUME).await;
        let took = started.elapsed();
        published.with_context(|| std::fs::read_to_string(&self.log).unwrap_or_default())?;
        Ok(took)
    }

    /// Takes it away again, likewise.
    pub(super) async fn unpublish(&self, pod: &Pod) -> Result<Duration> {
        let started = Instant::now();
        self.surroundings.kubelet.unpublish(pod, VOLUME).await?;
        Ok(started.elapsed())
    }

    /// Publishes all at once, and says how long it took until the last one was answered.
    pub(super) async fn publish_all(self: &Arc<Self>, pods: &[Pod]) -> Result<Duration> {
        let mut calls = JoinSet::new();
        let started = Instant::now();
        for pod in pods {
            let (this, pod) = (self.clone(), pod.clone());
            calls.spawn(async move { this.publish(&pod).await });
        }
        let answers = calls.join_all().await;
        let took = started.elapsed();
        answers.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(took)
    }

    /// Where a pod's volume can be seen from here.
    pub(super) fn seen(&self, pod: &Pod) -> PathBuf {
        self.surroundings.kubelet.seen(&self.surroundings.kubelet.target(pod, VOLUME))
    }

    /// Requests to the vault and to Entra since they were counted anew.
    pub(super) fn requests(&self) -> [u64; 2] {
        let counters = self.emulator.counters();
        [counters.of(Kind::GetSecret), counters.of(Kind::Token)]
    }

    /// Requests to the API server: reads and writes.
    pub(super) fn api_requests(&self) -> [u64; 2] {
        let counters = self.surroundings.api.counters();
        [counters.total() - counters.writes(), counters.writes()]
    }

    /// Waits until the driver has told the API server about so many volumes since the counts began, and knows it.
    pub(super) async fn statuses_written(&self, volumes: usize) -> Result<()> {
        let log = self.surroundings.api.log();
        tokio::time::timeout(PATIENCE, log.answered(Verb::Patch, Resource::PodStatuses, volumes as u64)).await?;
        sleep(LAST_ANSWER).await;
        Ok(())
    }

    /// Counts anew.
    pub(super) fn clear(&self) {
        self.emulator.log().clear();
        self.surroundings.api.log().clear();
    }
}

/// A pod with a volume of a class and the credentials that it needs.
pub(super) fn pod(name: &str, class: &str, service_account: &str) -> Pod {
    let secret = [("clientid", CLIENT_ID), ("clientsecret", CLIENT_SECRET)];
    Pod::new(name).service_account(service_account).volume(Volume::new(VOLUME, class).secret(&secret))
}

/// Pods of one class, their service accounts in turn.
pub(super) fn pods(count: usize, class: &str, service_accounts: usize) -> Vec<Pod> {
    let pod = |number: usize| pod(&format!("pod-{number}"), class, &format!("account-{}", number % service_accounts));
    (0..count).map(pod).collect()
}
