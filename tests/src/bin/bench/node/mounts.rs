//! One volume after the other: warm, cold, and taken away; and where the driver spends the time of a mount.

use std::time::Duration;

use anyhow::{Result, ensure};
use coffer_tests::harness::kubelet::proto::csi::ProbeRequest;
use coffer_tests::harness::kubelet::proto::csi::identity_client::IdentityClient;
use coffer_tests::harness::node::Node;
use tokio::time::Instant;

use super::world::{NOTHING_REUSED, World, pod};
use crate::Built;
use crate::network::bare_path;
use crate::table::{Sample, Table, ratio, show};

const ROUNDS: usize = 300;
const COLD_ROUNDS: usize = 50;
const SIZES: [usize; 2] = [1, 20];
/// The parts of a publish by the driver's own metrics, and what they are.
const STAGES: [(&str, &str); 5] = [
    ("lock", "waiting for the volume"),
    ("class", "reading the class"),
    ("fetch", "identity, share, provider"),
    ("write", "mounting and writing"),
    ("total", "all of these"),
];

/// Prints two tables, and says how long a first mount takes at the median.
pub(super) async fn measure(built: &Built) -> Result<Duration> {
    let mut times = Table::new(
        "One volume after the other, as kubelet waits for it, nothing reused; ratio to the bare path of one GET",
        ["", "p50", "p99", "ratio p50", "p99", "to vault and Entra", "API reads", "writes"],
    );
    let mut parts =
        Table::new("Where the time of a warm mount goes, means, by the driver's own metrics", ["", "of 1", "of 20"]);
    let world = World::new(built, NOTHING_REUSED).await?;
    let bare = [
        Sample::new(bare_path(&world.emulator, 1, ROUNDS).await?),
        Sample::new(bare_path(&world.emulator, 20, ROUNDS).await?),
    ];
    let [one, twenty] = &bare;
    let row = |name: &str, sample: &Sample, requests: [String; 3]| {
        let [p50, p99] = [sample.median(), sample.percentile(99)];
        let [vault, reads, writes] = requests;
        let ratios = [ratio(p50, one.median()), ratio(p99, one.percentile(99))];
        let [ratio50, ratio99] = ratios;
        [name.to_owned(), show(p50), show(p99), ratio50, ratio99, vault, reads, writes]
    };
    let nothing = || ["0", "0", "0"].map(str::to_owned);
    times.row(row("bare path: 1 GET by hyper", one, ["1".into(), "0".into(), "0".into()]));
    times.row(row("bare path: 20 GETs by hyper", twenty, ["20".into(), "0".into(), "0".into()]));

    let node = world.start(&[]).await?;
    times.row(row("kubelet's connection and an empty call", &Sample::new(probe(&world).await?), nothing()));
    let mut columns = Vec::new();
    let mut unpublished = Vec::new();
    for (size, bare) in SIZES.into_iter().zip(&bare) {
        let warm = warm(&world, &node, size).await?;
        times.row(row(&format!("warm mount of {size}"), &warm.published, warm.requests));
        columns.push(parts_of(&warm.published, bare, size, &warm.sums));
        unpublished.extend(warm.unpublished);
    }
    drop(node);
    let (cold, requests) = cold(built).await?;
    times.row(row("first mount of 1 of a new process, plugin cached", &cold, requests));
    times.row(row("unpublish", &Sample::new(unpublished), nothing()));
    times.print()?;
    let [one, twenty] = columns.try_into().unwrap_or_default();
    for ((name, one), (_, twenty)) in one.into_iter().zip(twenty) {
        parts.row([name, one, twenty]);
    }
    parts.print()?;
    Ok(cold.median())
}

async fn probe(world: &World) -> Result<Vec<Duration>> {
    let mut measurements = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        IdentityClient::new(world.surroundings.kubelet.connect().await?).probe(ProbeRequest {}).await?;
        measurements.push(started.elapsed());
    }
    Ok(measurements)
}

struct Warm {
    published: Sample,
    unpublished: Vec<Duration>,
    requests: [String; 3],
    /// Seconds for each publish: those of [`STAGES`], then network, the provider's call, its computing.
    sums: Vec<f64>,
}

async fn warm(world: &World, node: &Node, size: usize) -> Result<Warm> {
    let class = format!("of-{size}");
    world.put_class(&class, size, "0");
    let first = pod("first", &class, "default");
    world.publish(&first).await?;
    world.unpublish(&first).await?;
    world.clear();
    let before = sums(node);
    let (mut published, mut unpublished) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let pod = pod(&format!("warm-{round}"), &class, "default");
        published.push(world.publish(&pod).await?);
        unpublished.push(world.unpublish(&pod).await?);
    }
    let sums = sums(node).iter().zip(before).map(|(after, before)| (after - before) / ROUNDS as f64).collect();
    let requests = requests_of(world, ROUNDS);
    ensure!(world.requests().last() == Some(&0), "a warm mount asked for a token");
    Ok(Warm { published: Sample::new(published), unpublished, requests, sums })
}

/// What has been counted so far, for each of so many mounts.
fn requests_of(world: &World, rounds: usize) -> [String; 3] {
    let each = |count: u64| format!("{:.2}", count as f64 / rounds as f64);
    let ([vault, entra], [reads, writes]) = (world.requests(), world.api_requests());
    [each(vault + entra), each(reads), each(writes)]
}

fn sums(node: &Node) -> Vec<f64> {
    let stages =
        STAGES.map(|(stage, _)| node.metric("coffer_publish_stage_seconds_sum", &[&format!("stage=\"{stage}\"")]));
    let others = ["coffer_egress_seconds_sum", "coffer_plugin_call_seconds_sum", "coffer_plugin_cpu_seconds_total"];
    stages.into_iter().chain(others.map(|name| node.metric(name, &[]))).collect()
}

/// Rows of the second table. The network's share of one object is what the driver measured; requests for 20 overlap, so
/// theirs is the bare path's.
fn parts_of(published: &Sample, bare: &Sample, size: usize, sums: &[f64]) -> Vec<(String, String)> {
    let time = |seconds: Option<&f64>| Duration::from_secs_f64(seconds.copied().unwrap_or_default().max(0.0));
    let mut rows = vec![("as kubelet waits".to_owned(), show(published.mean()))];
    for ((stage, what), seconds) in STAGES.iter().zip(sums) {
        rows.push((format!("  {stage}: {what}"), show(time(Some(seconds)))));
    }
    let after = STAGES.len();
    rows.push(("  of fetch: the provider's call".into(), show(time(sums.get(after + 1)))));
    rows.push(("  of that: computing".into(), show(time(sums.get(after + 2)))));
    let network = if size == 1 { time(sums.get(after)) } else { bare.mean() };
    rows.push(("network (of 1: as the driver measured it; of 20: bare path)".into(), show(network)));
    rows.push(("added: as kubelet waits, less network".into(), show(published.mean().saturating_sub(network))));
    let inside = time(sums.get(after - 1)).saturating_sub(network);
    rows.push(("added in the driver: all stages, less network".into(), show(inside)));
    rows
}

/// The first mount of a process that is ready: no session, no connection, no class.
async fn cold(built: &Built) -> Result<(Sample, [String; 3])> {
    let world = World::new(built, NOTHING_REUSED).await?;
    world.put_class("cold", 1, "0");
    let mut measurements = Vec::new();
    let mut requests = Default::default();
    for round in 0..COLD_ROUNDS {
        let node = world.start(&[]).await?;
        let pod = pod(&format!("cold-{round}"), "cold", "default");
        measurements.push(world.publish(&pod).await?);
        if round + 1 == COLD_ROUNDS {
            world.statuses_written(1).await?;
            requests = requests_of(&world, 1);
        }
        world.unpublish(&pod).await?;
        node.stop().await?;
    }
    Ok((Sample::new(measurements), requests))
}
