//! What the chart promises besides: one driver in a cluster, and definitions that come back.

use anyhow::{Result, ensure};

use crate::driver::NAMESPACE;
use crate::pod;
use crate::world::World;

const NAME: &str = "chart";
const DEFINITION: &str = "crd/secretproviderclasses.secrets-store.csi.x-k8s.io";

pub(crate) async fn run(world: &World) -> Result<()> {
    let (cluster, driver) = (&world.cluster, &world.driver);
    let chart = &driver.chart;
    let shown = chart.display().to_string();
    let second = cluster.command("helm", &["install", "second", &shown, "-n", "default"], "").await?;
    ensure!(!second.success, "a second driver was installed: {}", second.stdout);
    ensure!(
        second.stderr.contains("already gives this cluster the CSI driver"),
        "the refusal is another one: {}",
        second.stderr
    );

    // With it go all classes; the driver is not ready then, and is again afterwards.
    cluster.kubectl(&["delete", DEFINITION, "--timeout=60s"]).await?;
    driver.helm(cluster, "upgrade", chart, &[]).await?;
    cluster.kubectl(&["wait", DEFINITION, "--for=condition=Established", "--timeout=60s"]).await?;
    driver.ready(cluster).await?;
    world.stage(NAME, "value").await?;
    cluster.create(NAME, pod::with_volume("web", "secrets")).await?;
    cluster.running(NAME, "web").await?;
    cluster.delete_pods(NAME).await?;
    let listed = cluster.command("helm", &["list", "-n", NAMESPACE, "--short"], "").await?.ok()?;
    ensure!(listed == "coffer\n", "helm lists {listed:?}");
    Ok(())
}
