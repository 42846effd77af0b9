//! The driver goes and comes back while pods run: they keep their files, new ones wait, and the volumes are taken over.

use anyhow::{Result, ensure};

use crate::cluster::{PATIENCE, until};
use crate::pod;
use crate::world::World;

const NAME: &str = "reinstall";

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let file = format!("{}/{NAME}", pod::FOLDER);
    world.stage(NAME, "before").await?;
    for name in ["stays", "goes"] {
        cluster.create(NAME, pod::with_volume(name, "secrets")).await?;
    }
    for name in ["stays", "goes"] {
        cluster.running(NAME, name).await?;
    }

    world.driver.uninstall(cluster).await?;
    cluster.file_becomes(NAME, "stays", &file, "before").await?;
    let kept = cluster.kubectl(&["get", "secretproviderclass", "-n", NAME, "-o", "name"]).await?;
    ensure!(kept.contains("/secrets"), "the classes went with the driver");
    cluster.create(NAME, pod::with_volume("waits", "secrets")).await?;
    until("that a new pod waits for the driver", PATIENCE, async || {
        Ok(cluster.kubectl(&["describe", "pod", "waits", "-n", NAME]).await?.contains("FailedMount"))
    })
    .await?;
    cluster.kubectl(&["delete", "pod", "goes", "-n", NAME, "--grace-period=1", "--wait=false"]).await?;

    let ready = world.driver.install(cluster).await?;
    world.figures.tell("install to ready, the plugin in the cache", format!("{:.1} s", ready.as_secs_f64()));
    cluster.running(NAME, "waits").await?;
    cluster.kubectl(&["wait", "pod", "goes", "-n", NAME, "--for=delete", "--timeout=90s"]).await?;
    world.vault.secret(NAME).set("after");
    cluster.file_becomes(NAME, "stays", &file, "after").await?;
    cluster.file_becomes(NAME, "waits", &file, "after").await?;
    let mounts = cluster.mounts()?;
    ensure!(mounts.len() == 2, "two volumes have these mounts: {mounts:?}");
    cluster.delete_pods(NAME).await
}
