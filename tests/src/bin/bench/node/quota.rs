//! A vault whose quota is half of what pods need that start within a minute: what it answers, and what kubelet is told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffer_tests::harness::kubelet::{Pod, is_final};
use coffer_tests::harness::{Kind, Quota};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Code;

use super::world::{SHIPPED, World, pod};
use crate::Built;
use crate::table::{Table, show};

/// Pods that start one after the other in a minute, each with a class of its own, and what each needs.
const PODS: usize = 120;
const OBJECTS: usize = 20;
const MINUTE: Duration = Duration::from_secs(60);
const QUOTA: Quota = Quota { requests: 200, window: Duration::from_secs(10), says_when: true };
/// kubelet's waits between two tries for a volume.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(122);

pub(super) async fn measure(built: &Built) -> Result<Table> {
    let mut table = Table::new(
        "120 pods of 20 objects start in a minute, 40 GETs a second, and the vault answers 200 in 10 s",
        ["", "all mounted", "of the quota", "200", "429", "of all", "told to wait", "final codes"],
    );
    for (name, says_when) in [("with Retry-After", true), ("without", false)] {
        let world = Arc::new(World::new(built, SHIPPED).await?);
        let node = world.start(&[]).await?;
        world.emulator.quota(Some(Quota { says_when, ..QUOTA }));
        let started = Instant::now();
        let mut pods = JoinSet::new();
        for number in 0..PODS {
            let class = format!("class-{number}");
            world.put_class(&class, OBJECTS, &number.to_string());
            let (world, pod) = (world.clone(), pod(&format!("pod-{number}"), &class, "default"));
            let at = started + MINUTE.mul_f64(number as f64 / PODS as f64);
            pods.spawn(async move {
                sleep_until(at).await;
                until_mounted(&world, &pod).await
            });
        }
        let codes = pods.join_all().await.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let took = started.elapsed();
        ensure!(node.stop().await?.success(), "the driver did not end well");
        let of = |status: u16| {
            let entries = world.emulator.entries();
            entries.iter().filter(|entry| entry.kind == Kind::GetSecret && entry.status == Some(status)).count()
        };
        let (answered, throttled) = (of(200), of(429));
        let needed = (PODS * OBJECTS) as f64;
        let quota = QUOTA.requests as f64 * took.as_secs_f64() / QUOTA.window.as_secs_f64();
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        table.row([
            name.to_owned(),
            show(took),
            percent(needed / quota),
            answered.to_string(),
            throttled.to_string(),
            percent(throttled as f64 / (answered + throttled) as f64),
            codes.iter().filter(|code| !is_final(**code)).count().to_string(),
            codes.iter().filter(|code| is_final(**code)).count().to_string(),
        ]);
    }
    Ok(table)
}

/// Publishes as kubelet does, until it worked; says what it was told before.
async fn until_mounted(world: &World, pod: &Pod) -> Result<Vec<Code>> {
    let (mut codes, mut wait) = (Vec::new(), FIRST_WAIT);
    while let Err(error) = world.surroundings.kubelet.publish(pod, super::world::VOLUME).await {
        codes.push(error.status().context("kubelet could not ask")?.code());
        sleep(wait).await;
        wait = wait.saturating_mul(2).min(LAST_WAIT);
    }
    Ok(codes)
}
