//! Without helm: the manifests of `deploy/` are enough, and a running pod does not notice who installs the driver.

use anyhow::{Result, ensure};

use crate::pod;
use crate::world::World;

const NAME: &str = "manifests";

pub(crate) async fn run(world: &World) -> Result<()> {
    let (cluster, driver) = (&world.cluster, &world.driver);
    let file = format!("{}/{NAME}", pod::FOLDER);
    world.stage(NAME, "before").await?;
    cluster.create(NAME, pod::with_volume("old", "secrets")).await?;
    cluster.running(NAME, "old").await?;

    driver.uninstall(cluster).await?;
    driver.apply_manifests(cluster).await?;
    cluster.create(NAME, pod::with_volume("new", "secrets")).await?;
    cluster.running(NAME, "new").await?;
    world.vault.secret(NAME).set("after");
    for name in ["old", "new"] {
        cluster.file_becomes(NAME, name, &file, "after").await?;
    }

    driver.delete_manifests(cluster).await?;
    driver.install(cluster).await?;
    world.vault.secret(NAME).set("by the chart again");
    for name in ["old", "new"] {
        cluster.file_becomes(NAME, name, &file, "by the chart again").await?;
    }
    let mounts = cluster.mounts()?;
    ensure!(mounts.len() == 2, "two volumes have these mounts: {mounts:?}");
    cluster.delete_pods(NAME).await
}
