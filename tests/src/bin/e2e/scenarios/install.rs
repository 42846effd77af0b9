//! From a cluster without the driver to one where a volume can be mounted: until then a taint keeps pods away.

use anyhow::{Context, Result};

use crate::cluster::{PATIENCE, until};
use crate::driver::STARTUP_TAINT;
use crate::world::World;

pub(crate) async fn run(world: &World) -> Result<()> {
    let size = std::fs::metadata(&world.driver.archive).context("the driver has no image")?.len();
    world.figures.tell("image, unpacked", format!("{:.1} MB", size as f64 / 1e6));
    world.driver.load(&world.cluster).await?;
    world.cluster.kubectl(&["taint", "node", "coffer-node", &format!("{STARTUP_TAINT}:NoSchedule")]).await?;
    let ready = world.driver.install(&world.cluster).await?;
    world.figures.tell("install to ready, the plugin compiled anew", format!("{:.1} s", ready.as_secs_f64()));
    until("that the startup taint is gone", PATIENCE, async || {
        let taints = ["get", "node", "coffer-node", "-o", "jsonpath={.spec.taints[*].key}"];
        Ok(!world.cluster.kubectl(&taints).await?.contains(STARTUP_TAINT))
    })
    .await
}
