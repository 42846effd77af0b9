//! The last step: `coffer node` between an emulated API server and a simulated kubelet, with real mounts.
//!
//! Where this user can make no mount namespace it says so and shows nothing. What a real cluster does in minutes, such as
//! kubelet's next call, is done here as soon as there is something to see; what the driver does is all its own.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coffer::manifest;
use coffer_tests::harness::Emulator;
use coffer_tests::harness::kubelet::{Pod, Volume};
use coffer_tests::harness::node::{DRIVER, NODE, Node, Surroundings};
use coffer_tests::harness::vault::Vault;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{CLIENT_ID, CLIENT_SECRET, Demo, say, tree};

const CLASS: &str = "akvprovider-demo";
const VOLUME: &str = "secrets-store01-inline";
/// The driver takes a copy of a class that is older than this for too old when a pod starts.
const CLASS_AGE: Duration = Duration::from_millis(1_100);
/// What is told to the API server comes after the mount, but not long after.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(10);

pub(crate) async fn show(demo: &Demo, emulator: &Emulator, vault: &Vault) -> Result<()> {
    let surroundings = match Surroundings::start(emulator).await {
        Ok(surroundings) => surroundings,
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => {
            return say(&format!(
                "Skipped, because a driver mounts: {error}. Run the demo as root, or allow user namespaces, to see it."
            ));
        }
        Err(error) => return Err(error).context("the node of the demo does not start"),
    };
    let stage = Stage { demo, surroundings };
    let node = stage.start().await?;

    let web = stage.pod("web");
    stage.publish_first(&web).await?;
    sleep(CLASS_AGE).await;

    let shop = stage.pod("shop");
    stage.rotate(vault, &web, &shop).await?;
    sleep(CLASS_AGE).await;

    stage.refuse(vault, &shop).await?;
    stage.unpublish(node, [&web, &shop]).await
}

/// Where this step plays.
struct Stage<'a> {
    demo: &'a Demo,
    surroundings: Surroundings,
}

impl Stage<'_> {
    async fn start(&self) -> Result<Node> {
        say(&format!(
            "An emulated API server listens on {}; a simulated kubelet, with a mount namespace for its node, has\n\
             the folder {}.",
            self.surroundings.api.address(),
            self.surroundings.folder().join("kubelet").display()
        ))?;
        self.apply_class()?;
        let config = self.demo.folder.join("config.yaml");
        let log = self.demo.folder.join("node.log");
        say(&format!(
            "\n$ coffer node --nodeid {NODE} --endpoint unix://{} --registration-dir … --kubeconfig … --config config.yaml",
            self.surroundings.socket().display()
        ))?;
        let started = Instant::now();
        let node = self.surroundings.start_node(&self.demo.coffer, &config, &log, &[]).await?;
        say(&format!(
            "kubelet found its socket and registered it as {DRIVER}; /readyz says 200 after {:.1} s.\n\
             Its log, with an audit line for each request and publish, goes to {}.",
            started.elapsed().as_secs_f64(),
            self.demo.shown.join("node.log").display()
        ))?;
        Ok(node)
    }

    /// The class of the walk-through, as `kubectl apply` would bring it to the API server.
    fn apply_class(&self) -> Result<()> {
        say("\n$ kubectl apply -f secretproviderclass.yaml")?;
        let manifests = manifest::read(&[self.demo.folder.join("secretproviderclass.yaml")])?;
        let class = &manifests.classes.first().context("there is no class")?.object;
        let parameters: Vec<_> = class.parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.surroundings.api.class("default", &class.name).put(&class.provider, &parameters);
        say(&format!("secretproviderclass.secrets-store.csi.x-k8s.io/{} created", class.name))
    }

    /// A pod as in the walk-through, with the content of the Secret that it names.
    fn pod(&self, name: &str) -> Pod {
        let content = [("clientid", CLIENT_ID), ("clientsecret", CLIENT_SECRET)];
        Pod::new(name).volume(Volume::new(VOLUME, CLASS).secret(&content))
    }

    async fn publish_first(&self, pod: &Pod) -> Result<()> {
        say(&format!(
            "\nA pod `{}` starts with this volume, and kubelet asks the driver for it:\n\n\
             \x20   csi:\n\
             \x20     driver: {DRIVER}\n\
             \x20     readOnly: true\n\
             \x20     volumeAttributes: {{secretProviderClass: {CLASS}}}\n\
             \x20     nodePublishSecretRef: {{name: secrets-store-creds}}\n",
            pod.name()
        ))?;
        let started = Instant::now();
        self.surroundings.kubelet.publish(pod, VOLUME).await?;
        say(&format!("NodePublishVolume: OK after {:.0} ms", started.elapsed().as_secs_f64() * 1e3))?;

        let target = self.target(pod);
        let mounts = self.surroundings.namespace.mounts(&target)?;
        say(&format!("\n$ grep {VOLUME} /proc/self/mountinfo\n{}", mounts.join("\n")))?;
        ensure!(mounts.len() == 1, "there is not one mount but {}", mounts.len());
        say(&format!("\n$ tree {}", target.display()))?;
        say(&tree(&self.surroundings.kubelet.seen(&target), "")?)?;
        self.cat(pod, "MyRotatedSecret")?;

        let status = self.status(pod, |status| status.pointer("/status/mounted") == Some(&json!(true))).await?;
        let get = |pointer: &str| status.pointer(pointer).cloned().unwrap_or_default();
        let shown = json!({
            "metadata": {"name": get("/metadata/name"), "labels": get("/metadata/labels")}, "status": get("/status"),
        });
        say(&format!(
            "\n$ kubectl get secretproviderclasspodstatus {} -o json      # of its metadata name and labels\n{shown:#}",
            status_name(pod)
        ))
    }

    async fn rotate(&self, vault: &Vault, old: &Pod, new: &Pod) -> Result<()> {
        say(&format!(
            "\nThe secret changes in the vault once more. Rotation is off, as it ships; an annotation of the class asks\n\
             for a look. A pod `{}` starts, for which the driver reads the class anew; then kubelet asks again for the volume\n\
             of `{}`, as it does about every minute.",
            new.name(),
            old.name()
        ))?;
        vault.secret("DemoSecret").set("MyNewestSecret");
        self.annotate("first")?;
        self.surroundings.kubelet.publish(new, VOLUME).await?;
        self.surroundings.kubelet.publish(old, VOLUME).await?;
        self.cat(new, "MyNewestSecret")?;
        self.cat(old, "MyNewestSecret")?;
        let mounts = self.surroundings.namespace.mounts(&self.target(old))?;
        ensure!(mounts.len() == 1, "the volume is no longer in its one mount");
        self.event(old, "MountRotationComplete").await
    }

    async fn refuse(&self, vault: &Vault, running: &Pod) -> Result<()> {
        say(&format!(
            "\nThe vault's firewall refuses everybody from now on. A pod `late` cannot start: kubelet hears why, and nothing is\n\
             mounted. The volume of `{}` is due by the annotation; when kubelet asks again, it hears OK and the files stay.",
            running.name()
        ))?;
        vault.firewalled(true);
        self.annotate("second")?;
        let late = self.pod("late");
        match self.surroundings.kubelet.publish(&late, VOLUME).await {
            Ok(()) => bail!("a pod got a volume from a vault that refuses"),
            Err(error) => say(&format!("\nNodePublishVolume for `late`: {}", said(&error)))?,
        }
        ensure!(self.surroundings.namespace.mounts(&self.target(&late))?.is_empty(), "a mount was left behind");
        self.surroundings.kubelet.remove_pod(&late)?;
        self.surroundings.kubelet.publish(running, VOLUME).await?;
        say(&format!("\nNodePublishVolume for `{}`: OK", running.name()))?;
        self.cat(running, "MyNewestSecret")?;
        self.event(running, "MountRotationFailed").await?;
        let status = self.status(running, |status| status.pointer("/metadata/annotations").is_some()).await?;
        let annotations = status.pointer("/metadata/annotations").cloned().unwrap_or_default();
        say(&format!(
            "\n$ kubectl get secretproviderclasspodstatus {} -o jsonpath='{{.metadata.annotations}}'\n{annotations}",
            status_name(running)
        ))
    }

    async fn unpublish(&self, node: Node, pods: [&Pod; 2]) -> Result<()> {
        say("\nThe pods end, kubelet gives the volumes back, and the driver is told to stop.")?;
        for pod in pods {
            self.surroundings.kubelet.unpublish(pod, VOLUME).await?;
            self.surroundings.kubelet.remove_pod(pod)?;
        }
        let status = node.stop().await?;
        let folder = self.surroundings.folder();
        let mounts = self.surroundings.namespace.mounts(folder)?.len();
        let count = |folder: PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
        let (folders, kept) = (count(folder.join("kubelet/pods")), count(self.surroundings.state()));
        say(&format!(
            "Left: {mounts} mounts, {folders} folders of pods, {kept} remembered volumes. `coffer node` ended with {status}."
        ))?;
        ensure!(mounts + folders + kept == 0 && status.success(), "something was left behind");
        Ok(())
    }

    fn annotate(&self, value: &str) -> Result<()> {
        say(&format!("\n$ kubectl annotate secretproviderclass {CLASS} coffer.dev/refresh={value} --overwrite"))?;
        self.surroundings.api.class("default", CLASS).annotate("coffer.dev/refresh", Some(value));
        Ok(())
    }

    fn cat(&self, pod: &Pod, expected: &str) -> Result<()> {
        let file = self.surroundings.kubelet.seen(&self.target(pod)).join("DemoSecret");
        let value = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        say(&format!("$ kubectl exec {} -- cat /mnt/secrets-store/DemoSecret\n{value}", pod.name()))?;
        ensure!(value == expected, "the file holds something else than it should");
        Ok(())
    }

    fn target(&self, pod: &Pod) -> PathBuf {
        self.surroundings.kubelet.target(pod, VOLUME)
    }

    async fn status(&self, pod: &Pod, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let name = status_name(pod);
        let look = || self.surroundings.api.pod_status("default", &name).filter(|status| is_it(status));
        soon("the pod status", look).await
    }

    /// Waits for an event and shows it as `kubectl` does.
    async fn event(&self, pod: &Pod, reason: &str) -> Result<()> {
        let text = |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let about = |event: &Value| text(event, "/regarding/uid").or_else(|| text(event, "/involvedObject/uid"));
        let is_it = |event: &Value| {
            about(event).as_deref() == Some(pod.uid()) && text(event, "/reason").as_deref() == Some(reason)
        };
        let event = soon(reason, || self.surroundings.api.events().into_iter().find(is_it)).await?;
        let message = text(&event, "/note").or_else(|| text(&event, "/message")).unwrap_or_default();
        let kind = text(&event, "/type").unwrap_or_default();
        say(&format!("\n$ kubectl events --for pod/{}\n{kind}  {reason}  {message}", pod.name()))
    }
}

fn status_name(pod: &Pod) -> String {
    format!("{}-default-{CLASS}", pod.name())
}

fn said(error: &coffer_tests::harness::kubelet::CallError) -> String {
    error.status().map_or_else(|| error.to_string(), |status| format!("{:?}: {}", status.code(), status.message()))
}

/// Looks until there is something to see.
async fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what} does not come");
        sleep(INTERVAL).await;
    }
}
