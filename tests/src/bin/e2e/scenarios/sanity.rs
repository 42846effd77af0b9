//! The sanity test of the Container Storage Interface against the driver of the node, with the real provider behind it.
//!
//! A driver without a controller makes it skip what matters, so a [`shim`] stands before the socket. The run fails when the
//! specs of publishing were skipped all the same.

mod shim;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::driver::Driver;
use crate::pod;
use crate::world::{CLIENT_ID, CLIENT_SECRET, World};
use shim::Shim;

const NAME: &str = "sanity";
const PATIENCE: Duration = Duration::from_secs(120);
/// Without these the run would say nothing about volumes.
const SPECS: [&str; 3] = ["should work", "should be idempotent", "should remove target path"];

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    world.stage(NAME, "sane").await?;
    cluster.create(NAME, pod::idle(NAME)).await?;
    cluster.running(NAME, NAME).await?;
    let uid = cluster.pods(NAME).get(NAME).await?.metadata.uid.context("the pod has no uid")?;

    let folder = tempfile::Builder::new().prefix("sanity-").tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    // csi-sanity makes the last folder itself, and the driver sees nothing outside this one.
    let volumes = cluster.kubelet().join("pods").join(&uid).join("volumes/kubernetes.io~csi");
    fs::create_dir_all(&volumes)?;
    let context = context(&uid);
    let socket = folder.path().join("csi.sock");
    let shim = Shim::start(&socket, Driver::socket(cluster), context)?;
    fs::write(
        at("secrets.yaml"),
        format!("NodePublishVolumeSecret: {{clientid: {CLIENT_ID}, clientsecret: {CLIENT_SECRET}}}\n"),
    )?;
    let words = [
        format!("-csi.endpoint=unix://{}", socket.display()),
        format!("-csi.mountdir={}", volumes.join("sanity").display()),
        format!("-csi.stagingdir={}", at("staging")),
        format!("-csi.secrets={}", at("secrets.yaml")),
        format!("-ginkgo.json-report={}", at("report.json")),
        "-ginkgo.focus=Identity Service|Node Service".to_owned(),
        "-ginkgo.no-color".to_owned(),
    ];
    let output = cluster.command_within(PATIENCE, "csi-sanity", &words, "").await?;
    drop(shim);
    output.ok()?;
    let ran = ran(&fs::read_to_string(at("report.json"))?)?;
    let missing: Vec<_> = SPECS.iter().filter(|spec| !ran.iter().any(|passed| passed.ends_with(**spec))).collect();
    ensure!(missing.is_empty(), "csi-sanity skipped {missing:?}; it ran {ran:?}");
    world.figures.tell("specs of csi-sanity that ran", ran.len().to_string());

    let mounts = cluster.mounts()?;
    ensure!(mounts.is_empty(), "left behind: {mounts:?}");
    // What csi-sanity made and leaves.
    let _ = fs::remove_dir(volumes.join("sanity"));
    cluster.delete_pods(NAME).await
}

/// What kubelet would say about the pod, and which class.
fn context(uid: &str) -> BTreeMap<String, String> {
    let of_pod = |key: &str| format!("csi.storage.k8s.io/{key}");
    BTreeMap::from([
        ("secretProviderClass".to_owned(), "secrets".to_owned()),
        (of_pod("pod.name"), NAME.to_owned()),
        (of_pod("pod.namespace"), NAME.to_owned()),
        (of_pod("pod.uid"), uid.to_owned()),
        (of_pod("serviceAccount.name"), "default".to_owned()),
        (of_pod("ephemeral"), "true".to_owned()),
    ])
}

/// The specs that passed, from the report that the test framework writes.
fn ran(report: &str) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(report)?;
    let specs = report.pointer("/0/SpecReports").and_then(Value::as_array).context("the report has no specs")?;
    let text = |spec: &Value, key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let passed = specs.iter().filter(|spec| text(spec, "State") == "passed" && text(spec, "LeafNodeType") == "It");
    let name = |spec: &Value| {
        let groups = spec.get("ContainerHierarchyTexts").and_then(Value::as_array).cloned().unwrap_or_default();
        let groups: Vec<_> = groups.iter().filter_map(Value::as_str).collect();
        format!("{} {}", groups.join(" "), text(spec, "LeafNodeText"))
    };
    Ok(passed.map(name).collect())
}
