//! The chart's next version is rolled out while a pod runs.
//!
//! The next version is this one under another number, with a setting changed, so that the driver's pod is made anew.

use std::fs;

use anyhow::{Result, ensure};

use crate::driver::NAMESPACE;
use crate::pod;
use crate::world::World;

const NAME: &str = "upgrade";
const NEXT: &str = "9.9.9";

pub(crate) async fn run(world: &World) -> Result<()> {
    let (cluster, driver) = (&world.cluster, &world.driver);
    let chart = &driver.chart;
    let file = format!("{}/{NAME}", pod::FOLDER);
    world.stage(NAME, "before").await?;
    cluster.create(NAME, pod::with_volume("web", "secrets")).await?;
    cluster.running(NAME, "web").await?;
    let before = driver.pod(cluster).await?;

    let folder = tempfile::tempdir()?;
    let at = folder.path().display().to_string();
    let shown = chart.display().to_string();
    cluster.command("helm", &["package", &shown, "--version", NEXT, "--destination", &at], "").await?.ok()?;
    let packed = fs::read_dir(folder.path())?.next().transpose()?.map(|entry| entry.path()).unwrap_or_default();
    driver.helm(cluster, "upgrade", &packed, &["--set", "logVerbosity=4"]).await?;
    driver.ready(cluster).await?;

    let after = driver.pod(cluster).await?;
    ensure!(after.uid != before.uid, "the driver's pod was not made anew");
    let listed = cluster.command("helm", &["list", "-n", NAMESPACE, "-o", "json"], "").await?.ok()?;
    ensure!(listed.contains(NEXT), "helm lists {listed}");
    cluster.file_becomes(NAME, "web", &file, "before").await?;
    world.vault.secret(NAME).set("after");
    cluster.file_becomes(NAME, "web", &file, "after").await?;
    let mounts = cluster.mounts()?;
    ensure!(mounts.len() == 1, "one volume has these mounts: {mounts:?}");
    cluster.delete_pods(NAME).await
}
