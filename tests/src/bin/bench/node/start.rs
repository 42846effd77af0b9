//! From the start of the process to the first answer to Probe, whatever the plugin needs.

use std::time::Duration;

use anyhow::{Result, ensure};
use coffer_tests::harness::kubelet::proto::csi::ProbeRequest;
use coffer_tests::harness::kubelet::proto::csi::identity_client::IdentityClient;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;

use super::world::{SHIPPED, World};
use crate::Built;
use crate::table::{Sample, Table, ratio, show};

const RUNS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(1);

pub(super) async fn measure(built: &Built) -> Result<Table> {
    let mut table = Table::new(
        "From the start of the process to the first answer to Probe; ratio to the first row",
        ["", "p50", "slowest", "ratio"],
    );
    let mut cached = Vec::new();
    let mut compiled = Vec::new();
    let world = World::new(built, SHIPPED).await?;
    for round in 0..RUNS {
        cached.push(start(&world).await?);
        let cache = built.scratch.path().join(format!("empty-{round}"));
        compiled.push(start(&World::with_cache(built, SHIPPED, cache).await?).await?);
    }
    let (cached, compiled) = (Sample::new(cached), Sample::new(compiled));
    let row = |name: &str, sample: &Sample| {
        [name.into(), show(sample.median()), show(sample.percentile(100)), ratio(sample.median(), cached.median())]
    };
    table.row(row("plugin cached", &cached));
    table.row(row("plugin has to be compiled", &compiled));
    Ok(table)
}

async fn start(world: &World) -> Result<Duration> {
    let started = Instant::now();
    let mut node = world.spawn()?;
    let socket = format!("unix://{}", world.surroundings.socket().display());
    let endpoint = Endpoint::from_shared(socket)?.origin(http::Uri::from_static("http://localhost"));
    loop {
        if let Ok(channel) = endpoint.connect().await
            && IdentityClient::new(channel).probe(ProbeRequest {}).await.is_ok()
        {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "nobody answers");
        sleep(INTERVAL).await;
    }
    let took = started.elapsed();
    // Whoever compiles must not do so during the next measurement.
    world.surroundings.introduce(&mut node).await?;
    node.stop().await?;
    Ok(took)
}
