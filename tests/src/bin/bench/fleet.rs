//! A hundred nodes that look at one vault, simulated: when each volume is due is asked of the driver's own code, everything
//! else is a clock that jumps from one look to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use coffer::refresh::Rotation;

use crate::table::Table;

const NODES: usize = 100;
const VOLUMES: usize = 100;
const CLASSES: usize = 50;
const ROTATION: Rotation = Rotation { enabled: true, interval: Duration::from_secs(120) };
/// What shares a result, as it ships.
const REUSE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);
/// A peak is the most in so much time.
const PEAK: Duration = Duration::from_secs(10);

pub(crate) fn measure() -> Table {
    let mut table = Table::new(
        "Simulated: 100 nodes, each with 100 volumes of 50 classes, interval 2 minutes, one hour",
        ["requests to the vault", "mean a second", "most in 10 s, a second", "peak to mean"],
    );
    for (name, spread) in
        [("all mounted within a minute", Duration::from_secs(60)), ("all mounted at once", Duration::ZERO)]
    {
        let (mean, peak) = simulate(spread);
        table.row([name.to_owned(), format!("{mean:.1}"), format!("{peak:.1}"), format!("{:.2} ×", peak / mean)]);
    }
    table
}

/// Mean and peak of requests per second, after all are mounted.
fn simulate(spread: Duration) -> (f64, f64) {
    let mut due = BinaryHeap::new();
    for volume in 0..NODES * VOLUMES {
        let mounted = spread.mul_f64(rand::random());
        let first = ROTATION.first(rand::random()).unwrap_or_default();
        due.push(Reverse((mounted + first, volume)));
    }
    let mut fetched = vec![None::<Duration>; NODES * CLASSES];
    let mut requests = Vec::new();
    while let Some(Reverse((now, volume))) = due.pop() {
        if now >= spread + HOUR {
            break;
        }
        let (node, class) = (volume / VOLUMES, volume % VOLUMES % CLASSES);
        if let Some(last) = fetched.get_mut(node * CLASSES + class)
            && last.is_none_or(|last| now - last >= REUSE)
        {
            *last = Some(now);
            requests.extend((now >= spread).then_some(now));
        }
        let next = ROTATION.next(Duration::ZERO, rand::random()).unwrap_or_default();
        due.push(Reverse((now + next, volume)));
    }
    let mut oldest = 0;
    let mut most = 0;
    for (index, now) in requests.iter().enumerate() {
        while requests.get(oldest).is_some_and(|then| *now - *then >= PEAK) {
            oldest += 1;
        }
        most = most.max(index + 1 - oldest);
    }
    (requests.len() as f64 / HOUR.as_secs_f64(), most as f64 / PEAK.as_secs_f64())
}
