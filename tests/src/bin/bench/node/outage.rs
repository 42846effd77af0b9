//! A vault that is away for five minutes: what gets there meanwhile, and how long until all volumes are fresh again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{Fault, Matcher, Times};
use tokio::time::{Instant, sleep};

use super::world::{SHIPPED, World, pod};
use crate::Built;
use crate::network::{TENANT, VAULT};
use crate::table::{Table, show};

const VOLUMES: usize = 110;
const OUTAGE: Duration = Duration::from_secs(300);
/// As it ships.
const FLAGS: [&str; 3] = ["--enable-secret-rotation", "--rotation-poll-interval", "2m"];
/// How often kubelet asks for each volume.
const ASKED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn measure(built: &Built) -> Result<Table> {
    let world = Arc::new(World::new(built, SHIPPED).await?);
    let pods: Vec<Pod> = (0..VOLUMES)
        .map(|number| {
            let class = format!("class-{number}");
            world.put_class(&class, 1, &number.to_string());
            pod(&format!("pod-{number}"), &class, "default")
        })
        .collect();
    let node = world.start(&FLAGS).await?;
    world.publish_all(&pods).await?;
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask_again(world.clone(), pods.clone(), over.clone()));

    let vault = Matcher::any().host(&format!("{VAULT}.vault.azure.net"));
    world.emulator.inject(vault, Fault::Close, Times::Always);
    world.clear();
    sleep(OUTAGE).await;
    let [meanwhile, _] = world.requests();

    world.emulator.tenant(TENANT).vault(VAULT).secret("secret-0").set("another value");
    world.emulator.clear_faults();
    world.clear();
    let back = Instant::now();
    let mut first = None;
    loop {
        let fresh = (0..).zip(&pods).filter(|(number, pod)| is_fresh(&world, *number, pod)).count();
        if fresh > 0 {
            first.get_or_insert(back.elapsed());
        }
        if fresh == VOLUMES {
            break;
        }
        sleep(LOOK).await;
    }
    let all = back.elapsed();
    let [afterwards, _] = world.requests();
    over.store(true, Ordering::Relaxed);
    asking.await??;
    ensure!(node.stop().await?.success(), "the driver did not end well");

    let mut table = Table::new(
        "110 volumes of 110 classes, interval 2 minutes, and the vault closes every connection for 5 minutes",
        ["", ""],
    );
    table.row(["requests to the vault meanwhile".to_owned(), meanwhile.to_string()]);
    table.row(["each minute".to_owned(), format!("{:.1}", meanwhile as f64 / (OUTAGE.as_secs_f64() / 60.0))]);
    table.row(["back until the first volume is fresh".to_owned(), show(first.unwrap_or_default())]);
    table.row(["back until all are fresh".to_owned(), show(all)]);
    table.row(["requests to the vault for that".to_owned(), afterwards.to_string()]);
    Ok(table)
}

fn is_fresh(world: &World, number: usize, pod: &Pod) -> bool {
    std::fs::read(world.seen(pod).join(format!("f{number}"))).is_ok_and(|text| text == b"another value")
}

/// What kubelet does meanwhile.
async fn ask_again(world: Arc<World>, pods: Vec<Pod>, over: Arc<AtomicBool>) -> Result<()> {
    let pause = ASKED / u32::try_from(VOLUMES)?;
    for pod in pods.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        world.publish(pod).await?;
        sleep(pause).await;
    }
    Ok(())
}
