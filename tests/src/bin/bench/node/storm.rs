//! A hundred volumes at once, as when a node starts or a deployment rolls: nothing is warm, everything ships as it is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::world::{SHIPPED, World, pods};
use crate::Built;
use crate::table::{Sample, Table, ratio, show};

const VOLUMES: usize = 100;
const RUNS: usize = 5;

/// `one` is how long one first mount takes.
pub(super) async fn measure(built: &Built, one: Duration) -> Result<Table> {
    let mut table = Table::new(
        "100 volumes of one class at once, new process; ratio to one first mount",
        [
            "",
            "all answered p50",
            "slowest run",
            "ratio",
            "above one mount, each",
            "to vault",
            "to Entra",
            "API reads",
            "writes",
        ],
    );
    for identities in [1, 5] {
        let mut times = Vec::new();
        let (mut requests, mut api) = ([0; 2], [0; 2]);
        for _ in 0..RUNS {
            let world = Arc::new(World::new(built, SHIPPED).await?);
            world.put_class("storm", 1, "0");
            let _node = world.start(&[]).await?;
            times.push(world.publish_all(&pods(VOLUMES, "storm", identities)).await?);
            world.statuses_written(VOLUMES).await?;
            // The most of all runs.
            requests = std::array::from_fn(|index| most(requests, world.requests(), index));
            api = std::array::from_fn(|index| most(api, world.api_requests(), index));
        }
        let times = Sample::new(times);
        let p50 = times.median();
        let each = p50.saturating_sub(one) / u32::try_from(VOLUMES)?;
        let name = if identities == 1 { "1 identity".to_owned() } else { format!("{identities} service accounts") };
        let [vault, entra] = requests.map(|count| count.to_string());
        let [reads, writes] = api.map(|count| count.to_string());
        table.row([
            name,
            show(p50),
            show(times.percentile(100)),
            ratio(p50, one),
            show(each),
            vault,
            entra,
            reads,
            writes,
        ]);
    }
    Ok(table)
}

fn most(before: [u64; 2], now: [u64; 2], index: usize) -> u64 {
    let at = |counts: [u64; 2]| counts.get(index).copied().unwrap_or_default();
    at(before).max(at(now))
}
