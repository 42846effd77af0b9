//! The cluster as somebody with `kubectl`, `helm` and a shell on the node has it.
//!
//! Commands are run as they would be typed, with a deadline each; objects are read through the API where a figure or a wait
//! hangs on it. It must never decide whether something is right: it says what is there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// How long anything is waited for that the cluster does by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    pub(crate) state: PathBuf,
    pub(crate) repository: PathBuf,
    programs: PathBuf,
}

/// What a command said, and whether it was content.
pub(crate) struct Output {
    pub(crate) command: String,
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it printed.
    ///
    /// # Errors
    /// It failed; the error has what it said.
    pub(crate) fn ok(self) -> Result<String> {
        ensure!(self.success, "`{}` failed: {}{}", self.command, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

impl Cluster {
    pub(crate) async fn connect(state: &Path, programs: &Path, repository: &Path) -> Result<Self> {
        let config = Kubeconfig::read_from(state.join("admin.kubeconfig")).context("is the cluster up?")?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let client = kube::Client::try_from(config)?;
        let (state, programs, repository) = (state.to_owned(), programs.to_owned(), repository.to_owned());
        Ok(Self { client, state, repository, programs })
    }

    /// The root folder of kubelet.
    pub(crate) fn kubelet(&self) -> PathBuf {
        self.state.join("kubelet")
    }

    /// A program, with the words of its command line and perhaps something to read.
    pub(crate) async fn command<S: AsRef<OsStr>>(&self, program: &str, words: &[S], input: &str) -> Result<Output> {
        self.command_within(COMMAND, program, words, input).await
    }

    pub(crate) async fn command_within<S: AsRef<OsStr>>(
        &self,
        patience: Duration,
        program: &str,
        words: &[S],
        input: &str,
    ) -> Result<Output> {
        let shown: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let shown = format!("{program} {}", shown.join(" "));
        let own = self.programs.join(program);
        let mut command = Command::new(if own.exists() { own } else { program.into() });
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(words).env("PATH", format!("{}:{path}", self.programs.display()));
        command.env("KUBECONFIG", self.state.join("admin.kubeconfig")).env("HELM_CACHE_HOME", self.state.join("helm"));
        command.env("HELM_CONFIG_HOME", self.state.join("helm")).env("HELM_DATA_HOME", self.state.join("helm"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = timeout(patience, child.wait_with_output()).await;
        let output = output.with_context(|| format!("`{shown}` did not end in {} s", patience.as_secs()))??;
        Ok(Output {
            command: shown,
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// `kubectl`, which has to be content.
    pub(crate) async fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.command("kubectl", words, "").await?.ok()
    }

    /// `kubectl apply` of manifests, YAML or JSON.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<()> {
        self.command("kubectl", &["apply", "-f", "-"], manifests).await?.ok()?;
        Ok(())
    }

    /// The script that started the cluster.
    pub(crate) async fn node(&self, words: &[&str]) -> Result<()> {
        let script = self.repository.join("tests/e2e/node");
        self.command(&script.display().to_string(), words, "").await?.ok()?;
        Ok(())
    }

    /// A namespace with its default service account.
    pub(crate) async fn namespace(&self, name: &str) -> Result<()> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string()).await?;
        let account: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client.clone(), name);
        until("the default service account", PATIENCE, async || Ok(account.get_opt("default").await?.is_some())).await
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        self.api(namespace)
    }

    /// Objects of a namespace.
    pub(crate) fn api<K: kube::Resource<Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn create(&self, namespace: &str, pod: Value) -> Result<()> {
        let pod: Pod = serde_json::from_value(pod)?;
        self.pods(namespace).create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// Waits until a pod runs, and says for how long it waited.
    pub(crate) async fn running(&self, namespace: &str, name: &str) -> Result<Duration> {
        let started = Instant::now();
        let pods = self.pods(namespace);
        let what = format!("that pod {namespace}/{name} is Running");
        let is_running = async || {
            let pod = pods.get_opt(name).await?;
            Ok(pod.and_then(|pod| pod.status?.phase).is_some_and(|phase| phase == "Running"))
        };
        match until(&what, PATIENCE, is_running).await {
            Ok(()) => Ok(started.elapsed()),
            Err(error) => {
                let told = self.kubectl(&["describe", "pod", name, "-n", namespace]).await.unwrap_or_default();
                Err(error.context(format!("`kubectl describe pod` says\n{told}")))
            }
        }
    }

    /// Deletes pods and waits until they are gone, which is after their volumes.
    pub(crate) async fn delete_pods(&self, namespace: &str) -> Result<()> {
        self.kubectl(&["delete", "pods", "--all", "-n", namespace, "--grace-period=1", "--timeout=90s"]).await?;
        Ok(())
    }

    /// Deletes what a scenario left that did not come to its end.
    pub(crate) async fn delete_all_pods(&self) -> Result<()> {
        let others = format!("metadata.namespace!={}", super::driver::NAMESPACE);
        let words = ["delete", "pods", "-A", "--field-selector", &others, "--grace-period=1", "--timeout=90s"];
        self.kubectl(&words).await?;
        Ok(())
    }

    /// What a command in a pod prints.
    pub(crate) async fn exec(&self, namespace: &str, pod: &str, words: &[&str]) -> Result<String> {
        let command = [&["exec", "-n", namespace, pod, "--"], words].concat();
        self.kubectl(&command).await
    }

    /// Waits until a file in a pod has this content.
    pub(crate) async fn file_becomes(&self, namespace: &str, pod: &str, file: &str, content: &str) -> Result<()> {
        let mut last = String::new();
        let is_it = async || {
            // kubelet, which does it, may be starting; no file has such words in it.
            last = self.exec(namespace, pod, &["cat", file]).await.unwrap_or_else(|error| format!("{error:#}"));
            Ok(last == content)
        };
        let waited = until(&format!("{file} of pod {pod}"), PATIENCE, is_it).await;
        waited.with_context(|| format!("it should be {content:?} and is {last:?}"))
    }

    /// The mounts of volumes of CSI drivers below kubelet's folder.
    pub(crate) fn mounts(&self) -> Result<Vec<String>> {
        let below = self.kubelet().join("pods").display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        Ok(points.filter(|at| at.starts_with(&below) && at.contains("kubernetes.io~csi")).map(str::to_owned).collect())
    }
}

/// Asks again until the answer is yes.
///
/// # Errors
/// What the question says, or that the answer did not become yes in time.
pub(crate) async fn until(
    what: &str,
    patience: Duration,
    mut question: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !question().await? {
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        sleep(INTERVAL).await;
    }
    Ok(())
}
