//! Thirty pods at the same time, each with a class of its own, so that none gets what another one fetched; and what the
//! driver costs before and with them, from the cgroup of its pod.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::driver::cgroup;
use crate::pod;
use crate::world::World;

const NAME: &str = "crowd";
const PODS: usize = 30;
/// Over which processor time at rest is counted: each volume is looked at once at least, as the interval is 10 s.
const REST: Duration = Duration::from_secs(15);

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    cluster.namespace(NAME).await?;
    cluster.apply(&pod::credentials(NAME)).await?;
    let names: Vec<String> = (0..PODS).map(|number| format!("crowd-{number}")).collect();
    let mut classes = Vec::new();
    for name in &names {
        world.vault.secret(name).set(name.as_str());
        classes.push(pod::class(NAME, name, &[name], &[]));
    }
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": classes}).to_string()).await?;

    let plain = time(world, &names, pod::idle).await?;
    world.figures.tell("30 pods at once without volumes, until all are Running", format!("{plain:.1} s"));
    cluster.delete_pods(NAME).await?;
    tell(world, "without volumes").await?;

    let full = time(world, &names, |name| pod::with_volume(name, name)).await?;
    world.figures.tell("30 pods at once with a volume each, until all are Running", format!("{full:.1} s"));
    for name in &names {
        cluster.file_becomes(NAME, name, &format!("{}/{name}", pod::FOLDER), name).await?;
    }
    let mounts = cluster.mounts()?.len();
    ensure!(mounts == PODS, "{PODS} volumes have {mounts} mounts");
    tell(world, "with 30 volumes, rotation every 10 s").await?;
    cluster.delete_pods(NAME).await?;
    let mounts = cluster.mounts()?;
    ensure!(mounts.is_empty(), "left behind: {mounts:?}");
    Ok(())
}

async fn time(world: &World, names: &[String], pod: impl Fn(&str) -> serde_json::Value) -> Result<f64> {
    let started = Instant::now();
    for name in names {
        world.cluster.create(NAME, pod(name)).await?;
    }
    for name in names {
        world.cluster.running(NAME, name).await?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Memory and processor time of the driver's pod as things are now.
async fn tell(world: &World, when: &str) -> Result<()> {
    let pod = world.driver.pod(&world.cluster).await?;
    let before = processor_time(&cgroup(&pod, "cpuacct")?)?;
    let started = Instant::now();
    sleep(REST).await;
    let used = processor_time(&cgroup(&pod, "cpuacct")?)? - before;
    let share = used / started.elapsed().as_secs_f64() * 1e3;
    world.figures.tell(&format!("processor of the driver's pod {when}"), format!("{share:.1} m"));
    let (total, resident) = memory(&cgroup(&pod, "memory")?)?;
    let figure = format!("{:.1} MiB, {:.1} MiB of it not files", total / MIB, resident / MIB);
    world.figures.tell(&format!("memory of the driver's pod {when}"), figure);
    Ok(())
}

const MIB: f64 = 1_048_576.0;

/// Seconds, from either version of cgroups.
fn processor_time(cgroup: &Path) -> Result<f64> {
    match std::fs::read_to_string(cgroup.join("cpuacct.usage")) {
        Ok(nanoseconds) => Ok(nanoseconds.trim().parse::<f64>()? / 1e9),
        Err(_) => Ok(field(&std::fs::read_to_string(cgroup.join("cpu.stat"))?, "usage_usec")? / 1e6),
    }
}

/// What kubelet counts against a limit (all but files that nobody uses), and what of it is no file.
fn memory(cgroup: &Path) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(cgroup.join("memory.stat"))?;
    match std::fs::read_to_string(cgroup.join("memory.usage_in_bytes")) {
        Ok(usage) => {
            let used = usage.trim().parse::<f64>()? - field(&stat, "total_inactive_file")?;
            Ok((used, field(&stat, "total_rss")?))
        }
        Err(_) => {
            let usage = std::fs::read_to_string(cgroup.join("memory.current"))?;
            Ok((usage.trim().parse::<f64>()? - field(&stat, "inactive_file")?, field(&stat, "anon")?))
        }
    }
}

fn field(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.ok_or_else(|| anyhow::anyhow!("the cgroup does not tell {name}"))?.parse()?)
}
