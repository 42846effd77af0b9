//! Parts of the node die, and volumes of running pods stay as they are and are still kept right.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{PATIENCE, until};
use crate::driver::{NAMESPACE, cgroup};
use crate::pod;
use crate::world::World;

pub(crate) async fn driver(world: &World) -> Result<()> {
    let (cluster, name) = (&world.cluster, "driver-killed");
    let file = begin(world, name).await?;

    // The process, with a signal that it cannot see coming; kubelet starts the container again.
    let before = world.driver.pod(cluster).await?;
    kill(&cgroup(&before, "memory")?)?;
    until("that the container is started again", PATIENCE, async || {
        let after = world.driver.pod(cluster).await?;
        Ok(after.restarts > before.restarts)
    })
    .await?;
    world.driver.ready(cluster).await?;
    cluster.file_becomes(name, "old", &file, "first").await?;
    world.vault.secret(name).set("second");
    cluster.file_becomes(name, "old", &file, "second").await?;

    // The pod; the DaemonSet makes another one.
    cluster.kubectl(&["delete", "pod", &before.name, "-n", NAMESPACE, "--timeout=60s"]).await?;
    until("another pod of the driver", PATIENCE, async || {
        Ok(world.driver.pod(cluster).await.is_ok_and(|after| after.uid != before.uid))
    })
    .await?;
    world.driver.ready(cluster).await?;
    cluster.file_becomes(name, "old", &file, "second").await?;
    world.vault.secret(name).set("third");
    cluster.file_becomes(name, "old", &file, "third").await?;
    end(world, name, &file, "third").await
}

pub(crate) async fn kubelet(world: &World) -> Result<()> {
    let (cluster, name) = (&world.cluster, "kubelet-restarted");
    let file = begin(world, name).await?;
    let before = world.driver.pod(cluster).await?;
    cluster.node(&["restart", "kubelet"]).await?;
    cluster.file_becomes(name, "old", &file, "first").await?;
    world.driver.ready(cluster).await?;
    world.vault.secret(name).set("second");
    cluster.file_becomes(name, "old", &file, "second").await?;
    end(world, name, &file, "second").await?;
    let after = world.driver.pod(cluster).await?;
    ensure!((after.uid, after.restarts) == (before.uid, before.restarts), "the driver was started again");
    Ok(())
}

/// A pod that was there before; answers with its file.
async fn begin(world: &World, name: &str) -> Result<String> {
    let file = format!("{}/{name}", pod::FOLDER);
    world.stage(name, "first").await?;
    world.cluster.create(name, pod::with_volume("old", "secrets")).await?;
    world.cluster.running(name, "old").await?;
    world.cluster.file_becomes(name, "old", &file, "first").await?;
    Ok(file)
}

/// A pod starts afterwards, every volume has one mount, and all of them can be taken away.
async fn end(world: &World, name: &str, file: &str, value: &str) -> Result<()> {
    let cluster = &world.cluster;
    cluster.create(name, pod::with_volume("new", "secrets")).await?;
    cluster.running(name, "new").await?;
    cluster.file_becomes(name, "new", file, value).await?;
    let mounts = cluster.mounts()?;
    ensure!(mounts.len() == 2, "two volumes have these mounts: {mounts:?}");
    cluster.delete_pods(name).await?;
    let mounts = cluster.mounts()?;
    ensure!(mounts.is_empty(), "left behind: {mounts:?}");
    Ok(())
}

/// Kills the driver's process in the cgroup of its pod, not the one that holds the pod's namespaces.
fn kill(cgroup: &std::path::Path) -> Result<()> {
    for container in std::fs::read_dir(cgroup)? {
        let Ok(processes) = std::fs::read_to_string(container?.path().join("cgroup.procs")) else { continue };
        for process in processes.lines() {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            if name.trim() == "coffer" {
                let process = process.parse().ok().and_then(Pid::from_raw).context("that is no process")?;
                return Ok(kill_process(process, Signal::KILL)?);
            }
        }
    }
    anyhow::bail!("the driver's process is not in {}", cgroup.display())
}
