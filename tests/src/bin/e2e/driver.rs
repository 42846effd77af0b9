//! Coffer as an administrator has it: put on the cluster, taken off it, asked for its metrics.
//!
//! It is installed by its chart, and once from the manifests of `deploy/`, with what differs here: the image, kubelet's folder,
//! the emulator in place of Azure, and a rotation that is quick enough to be waited for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cluster::{Cluster, PATIENCE, until};

pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const DRIVER: &str = "secrets-store.csi.k8s.io";
/// A taint that goes when the driver is there.
pub(crate) const STARTUP_TAINT: &str = "coffer.dev/agent-not-ready";
const IMAGE: &str = "coffer.test/coffer";
const TAG: &str = "1";
const RELEASE: &str = "coffer";
const FOLDER: &str = "plugins/csi-secrets-store";

pub(crate) struct Driver {
    pub(crate) archive: PathBuf,
    pub(crate) chart: PathBuf,
    emulator: SocketAddr,
    ca: String,
}

/// The driver's one pod.
pub(crate) struct DriverPod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) restarts: i32,
}

impl Driver {
    pub(crate) fn new(archive: PathBuf, chart: PathBuf, emulator: SocketAddr, ca: String) -> Self {
        Self { archive, chart, emulator, ca }
    }

    /// The CSI socket as this machine sees it.
    pub(crate) fn socket(cluster: &Cluster) -> PathBuf {
        cluster.kubelet().join(FOLDER).join("csi.sock")
    }

    pub(crate) async fn load(&self, cluster: &Cluster) -> Result<()> {
        cluster.node(&["load", &self.archive.display().to_string()]).await
    }

    /// Puts it on the cluster, and says how long it takes to be ready.
    pub(crate) async fn install(&self, cluster: &Cluster) -> Result<Duration> {
        let started = Instant::now();
        self.helm(cluster, "install", &self.chart, &[]).await?;
        self.ready(cluster).await?;
        Ok(started.elapsed())
    }

    /// `helm install` or `helm upgrade`, which waits until the driver is ready, and says what the notes say.
    pub(crate) async fn helm(&self, cluster: &Cluster, verb: &str, chart: &Path, settings: &[&str]) -> Result<String> {
        let chart = chart.display().to_string();
        let words = [verb, RELEASE, &chart, "-n", NAMESPACE, "--values", "-", "--wait", "--timeout", "90s"];
        let words = [&words, settings].concat();
        cluster.command("helm", &words, &self.values(cluster).to_string()).await?.ok()
    }

    /// Puts it on the cluster without helm, as docs/operations.md says.
    pub(crate) async fn apply_manifests(&self, cluster: &Cluster) -> Result<()> {
        cluster.kubectl(&["apply", "-f", &manifest(cluster, "crds")]).await?;
        let configuration = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coffer", "namespace": NAMESPACE},
            "data": {"config.yaml": self.configuration().to_string(), "ca.pem": self.ca},
        });
        cluster.apply(&configuration.to_string()).await?;
        for file in ["csidriver.yaml", "rbac.yaml"] {
            cluster.kubectl(&["apply", "-f", &manifest(cluster, file)]).await?;
        }
        cluster.apply(&daemon_set(cluster)?).await?;
        self.ready(cluster).await
    }

    /// Takes off what [`Driver::apply_manifests`] put on, but for the CRDs.
    pub(crate) async fn delete_manifests(&self, cluster: &Cluster) -> Result<()> {
        for file in ["daemonset.yaml", "rbac.yaml", "csidriver.yaml"] {
            cluster.kubectl(&["delete", "-f", &manifest(cluster, file), "--timeout=60s"]).await?;
        }
        cluster.kubectl(&["delete", "configmap", "coffer", "-n", NAMESPACE]).await?;
        self.gone(cluster).await
    }

    /// Takes it off, but for the CRDs, and waits until its pod is gone.
    pub(crate) async fn uninstall(&self, cluster: &Cluster) -> Result<()> {
        cluster.command("helm", &["uninstall", RELEASE, "-n", NAMESPACE, "--wait"], "").await?.ok()?;
        self.gone(cluster).await
    }

    async fn gone(&self, cluster: &Cluster) -> Result<()> {
        cluster.kubectl(&["wait", "pod", "-n", NAMESPACE, "-l", "app=coffer", "--for=delete", "--timeout=60s"]).await?;
        Ok(())
    }

    /// Waits until the rollout is done and kubelet knows the driver.
    pub(crate) async fn ready(&self, cluster: &Cluster) -> Result<()> {
        cluster.kubectl(&["rollout", "status", "daemonset/coffer", "-n", NAMESPACE, "--timeout=90s"]).await?;
        until("that kubelet knows the driver", PATIENCE, async || {
            let drivers = cluster.kubectl(&["get", "csinode", "coffer-node", "-o", "jsonpath={.spec.drivers[*].name}"]);
            Ok(drivers.await?.split(' ').any(|name| name == DRIVER))
        })
        .await
    }

    /// The pod that is there now.
    pub(crate) async fn pod(&self, cluster: &Cluster) -> Result<DriverPod> {
        let list = kube::api::ListParams::default().labels("app=coffer");
        let pods = cluster.pods(NAMESPACE).list(&list).await?;
        let alive = pods.items.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        let pod = alive.context("the driver has no pod")?;
        let status = pod.status.unwrap_or_default();
        let restarts = status.container_statuses.unwrap_or_default().first().map_or(0, |status| status.restart_count);
        Ok(DriverPod {
            name: pod.metadata.name.unwrap_or_default(),
            uid: pod.metadata.uid.unwrap_or_default(),
            restarts,
        })
    }

    pub(crate) async fn log(&self, cluster: &Cluster) -> Result<String> {
        cluster.kubectl(&["logs", "-n", NAMESPACE, "daemonset/coffer"]).await
    }

    /// The emulator instead of Azure; names in TLS stay the real ones.
    fn configuration(&self) -> Value {
        let rule = |rule: &str| json!({"rule": rule, "connect": self.emulator.to_string(), "ca": ["ca.pem"]});
        json!({"providers": {"azure": {"egress": [
            rule("GET https://{keyvaultName}.vault.azure.net/"),
            rule("POST https://login.microsoftonline.com/{tenantID|tenantId}/oauth2/v2.0/token"),
        ]}}})
    }

    /// What an administrator of such a cluster would set.
    fn values(&self, cluster: &Cluster) -> Value {
        json!({
            "image": {"repository": IMAGE, "tag": TAG, "pullPolicy": "Never"},
            "linux": {"kubeletRootDir": cluster.kubelet().display().to_string()},
            "syncSecret": {"enabled": true}, "startupTaint": {"key": STARTUP_TAINT},
            "enableSecretRotation": true, "rotationPollInterval": "10s",
            "config": self.configuration(), "files": {"ca.pem": self.ca},
        })
    }
}

fn manifest(cluster: &Cluster, name: &str) -> String {
    cluster.repository.join("deploy").join(name).display().to_string()
}

/// The shipped one with what an administrator of such a cluster would change.
fn daemon_set(cluster: &Cluster) -> Result<String> {
    let mut text = std::fs::read_to_string(manifest(cluster, "daemonset.yaml"))?;
    let kubelet = cluster.kubelet().display().to_string();
    let arguments = format!(
        "args: [node, '--endpoint=unix://{kubelet}/{FOLDER}/csi.sock', '--registration-dir={kubelet}/plugins_registry', \
         --enable-secret-rotation=true, --rotation-poll-interval=10s]"
    );
    for (from, to) in [
        ("/var/lib/kubelet", kubelet.as_str()),
        ("image: coffer:dev", &format!("image: {IMAGE}:{TAG}\n          imagePullPolicy: Never")),
        ("args: [node]", &arguments),
        (
            "          volumeMounts:\n",
            "          volumeMounts:\n            - {name: config, mountPath: /etc/coffer}\n",
        ),
        ("      volumes:\n", "      volumes:\n        - {name: config, configMap: {name: coffer}}\n"),
    ] {
        ensure!(text.contains(from), "deploy/daemonset.yaml has no {from:?} any more; mend driver.rs of the e2e run");
        text = text.replace(from, to);
    }
    Ok(text)
}

/// A file below the cgroup of a container, of one controller where there are several hierarchies.
pub(crate) fn cgroup(pod: &DriverPod, controller: &str) -> Result<PathBuf> {
    let roots = [Path::new("/sys/fs/cgroup").join(controller), PathBuf::from("/sys/fs/cgroup")];
    let pods = roots.iter().map(|root| root.join("kubepods")).find(|path| path.is_dir());
    let wanted = format!("pod{}", pod.uid);
    let pods = pods.context("there is no cgroup kubepods")?;
    let found = [pods.clone(), pods.join("burstable"), pods.join("besteffort")].into_iter().map(|at| at.join(&wanted));
    found.into_iter().find(|path| path.is_dir()).context("the driver's pod has no cgroup")
}
