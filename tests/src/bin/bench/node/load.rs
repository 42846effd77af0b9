//! Memory and processor time: at rest, with the volumes of a full node, at the peak of a storm in which nothing is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use coffer_tests::harness::kubelet::Pod;
use tokio::time::{Instant, sleep};

use super::process::{Group, Usage, used};
use super::world::{SHIPPED, World, pod, pods};
use crate::Built;
use crate::table::{Table, show};

const VOLUMES: usize = 110;
const STORM: usize = 100;
const REST: Duration = Duration::from_secs(30);
/// Between two looks at a storm.
const INTERVAL: Duration = Duration::from_millis(2);

/// Prints two tables.
pub(super) async fn measure(built: &Built) -> Result<()> {
    let mut table = Table::new(
        "Memory of the driver in MiB: resident, and apart from it what the kernel keeps for it and in volumes",
        ["", "resident", "anonymous", "file", "shared", "peak", "kernel", "tmpfs", "threads"],
    );
    // Both rest at the same time.
    let idle = Arc::new(World::new(built, SHIPPED).await?);
    let full = Arc::new(World::new(built, SHIPPED).await?);
    full.put_class("rest", 1, "0");
    let (idle_node, full_node) = (idle.start(&[]).await?, full.start(&[]).await?);
    let (idle_group, full_group) = (Group::around(idle_node.id()), Group::around(full_node.id()));
    let pods = pods(VOLUMES, "rest", 1);
    full.publish_all(&pods).await?;
    full.statuses_written(VOLUMES).await?;

    let before = [Usage::of(idle_node.id())?, Usage::of(full_node.id())?];
    let started = Instant::now();
    sleep(REST).await;
    let after = [Usage::of(idle_node.id())?, Usage::of(full_node.id())?];
    let rested = started.elapsed();

    let mut rest = Table::new("Processor time of the driver, kubelet silent", ["", "30 s", "millicores"]);
    for (name, (before, after)) in
        ["at rest, no volume", "at rest, 110 volumes"].into_iter().zip(before.iter().zip(&after))
    {
        let cpu = after.cpu.saturating_sub(before.cpu);
        rest.row([name.into(), show(cpu), format!("{:.2}", cpu.as_secs_f64() / rested.as_secs_f64() * 1e3)]);
    }
    let [of_idle, of_full] = after;
    table.row(row("at rest, no volume", of_idle, kernel(idle_group.as_ref()), 0));
    table.row(row("at rest, 110 volumes of one class", of_full, kernel(full_group.as_ref()), tmpfs(&full, &pods)?));
    let calls = full.publish_all(&pods).await?;
    let again = Usage::of(full_node.id())?.cpu.saturating_sub(of_full.cpu);
    rest.row(["kubelet asks for 110 volumes, none due".into(), show(again), format!("in {}", show(calls))]);
    drop((idle_node, full_node));
    drop((idle_group, full_group));

    let storm = storm(built, &mut table).await?;
    rest.row(["storm: 100 mounts of 100 classes at once".into(), show(storm.0), format!("in {}", show(storm.1))]);
    table.print()?;
    rest.print()
}

/// A mount for each of so many classes, watched. Says the processor time and how long it took.
async fn storm(built: &Built, table: &mut Table) -> Result<(Duration, Duration)> {
    let world = Arc::new(World::new(built, SHIPPED).await?);
    let mut pods = Vec::new();
    for number in 0..STORM {
        let class = format!("class-{number}");
        world.put_class(&class, 1, &number.to_string());
        pods.push(pod(&format!("pod-{number}"), &class, "default"));
    }
    let node = world.start(&[]).await?;
    let group = Group::around(node.id());
    let before = Usage::of(node.id())?;
    let (over, id) = (Arc::new(AtomicBool::new(false)), node.id());
    let watch = {
        let over = over.clone();
        tokio::spawn(async move { watch(id, &over).await })
    };
    let took = world.publish_all(&pods).await?;
    over.store(true, Ordering::Relaxed);
    let worst = watch.await?;
    let after = Usage::of(id)?;
    let worst = Usage { peak: after.peak, ..worst };
    table.row(row("peak of the storm: 100 classes at once", worst, kernel(group.as_ref()), tmpfs(&world, &pods)?));
    sleep(Duration::from_secs(12)).await; // Results are kept for 10 s.
    table.row(row("12 s after the storm", Usage::of(id)?, kernel(group.as_ref()), tmpfs(&world, &pods)?));
    drop(node);
    Ok((after.cpu.saturating_sub(before.cpu), took))
}

/// The usage when the most was resident.
async fn watch(process: u32, over: &AtomicBool) -> Usage {
    let mut worst = Usage::default();
    while !over.load(Ordering::Relaxed) {
        match Usage::of(process) {
            Ok(now) if now.resident > worst.resident => worst = now,
            _ => {}
        }
        sleep(INTERVAL).await;
    }
    worst
}

fn kernel(group: Option<&Group>) -> Option<u64> {
    group.and_then(Group::kernel)
}

fn tmpfs(world: &World, pods: &[Pod]) -> Result<u64> {
    let mut sum = 0;
    for pod in pods {
        sum += used(&world.seen(pod))?;
    }
    Ok(sum)
}

fn row(name: &str, usage: Usage, kernel: Option<u64>, tmpfs: u64) -> [String; 9] {
    let show = |kibibytes: u64| format!("{:.1}", kibibytes as f64 / 1024.0);
    let kernel = kernel.map_or_else(|| "not measured".to_owned(), show);
    let Usage { resident, anonymous, file, shared, peak, threads, .. } = usage;
    let sizes = [resident, anonymous, file, shared, peak].map(show);
    let [resident, anonymous, file, shared, peak] = sizes;
    [name.to_owned(), resident, anonymous, file, shared, peak, kernel, show(tmpfs), threads.to_string()]
}
