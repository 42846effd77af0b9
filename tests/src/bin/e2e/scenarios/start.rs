//! The time from a pod's creation until it is Running, with the volume and without it. The difference is ours, and kubelet's
//! own rhythm of looking after volumes.

use anyhow::Result;
use tokio::time::Instant;

use crate::figures::median;
use crate::pod;
use crate::world::World;

const NAME: &str = "start";
const PODS: usize = 7;

pub(crate) async fn run(world: &World) -> Result<()> {
    world.stage(NAME, "value").await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        let (plain, full) = (format!("plain-{number}"), format!("full-{number}"));
        without.push(time(world, &plain, pod::idle(&plain)).await?);
        with.push(time(world, &full, pod::with_volume(&full, "secrets")).await?);
    }
    let (with, without) = (median(with), median(without));
    let figure = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
    world.figures.tell("creation to Running without the volume, median of 7", figure(without));
    world.figures.tell("creation to Running with the volume, median of 7", figure(with));
    world.figures.tell("what the volume adds", figure(with - without));
    world.cluster.delete_pods(NAME).await
}

async fn time(world: &World, name: &str, pod: serde_json::Value) -> Result<f64> {
    let started = Instant::now();
    world.cluster.create(NAME, pod).await?;
    world.cluster.running(NAME, name).await?;
    Ok(started.elapsed().as_secs_f64())
}
