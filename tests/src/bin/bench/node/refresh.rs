//! A node's volumes are all due, and nothing has changed in the vault.
//!
//! They are due by time, all at once, because the driver was away while the interval passed: it starts anew, and kubelet
//! asks again for every volume, as it does about every minute.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Result, ensure};
use coffer_tests::harness::kubelet::Pod;
use tokio::time::sleep;

use super::process::Usage;
use super::world::{SHIPPED, World, pods};
use crate::Built;
use crate::table::{Table, show};

const VOLUMES: usize = 110;
/// The shortest interval that there is, a tenth more, and a little more.
const DUE: Duration = Duration::from_secs(12);
const FLAGS: [&str; 3] = ["--enable-secret-rotation", "--rotation-poll-interval", "10s"];

pub(super) async fn measure(built: &Built) -> Result<Table> {
    let world = Arc::new(World::new(built, SHIPPED).await?);
    world.put_class("refresh", 1, "0");
    let pods = pods(VOLUMES, "refresh", 1);
    let node = world.start(&FLAGS).await?;
    world.publish_all(&pods).await?;
    world.statuses_written(VOLUMES).await?;
    ensure!(node.stop().await?.success(), "the driver did not end well");

    sleep(DUE).await;
    let (volumes, ledger) = (volumes(&world, &pods)?, ledger(&world)?);
    let node = world.start(&FLAGS).await?;
    let before = Usage::of(node.id())?;
    let took = world.publish_all(&pods).await?;
    let cpu = Usage::of(node.id())?.cpu.saturating_sub(before.cpu);
    let looked = node.metric("rotation_reconcile_total", &[]);
    ensure!(looked >= VOLUMES as f64, "only {looked} of {VOLUMES} volumes were looked at");
    let ([vault, entra], [reads, writes]) = (world.requests(), world.api_requests());

    let mut table = Table::new("110 unchanged volumes are due at once", ["", ""]);
    let rows = [
        ("until the last one is answered", show(took)),
        ("processor time of the driver", show(cpu)),
        ("requests to the vault", vault.to_string()),
        ("requests to Entra", entra.to_string()),
        ("reads of the API server", reads.to_string()),
        ("writes of the API server", writes.to_string()),
        (
            "files, links and folders of volumes made or written",
            changed(&volumes, &self::volumes(&world, &pods)?).to_string(),
        ),
        ("files of the ledger written", changed(&ledger, &self::ledger(&world)?).to_string()),
    ];
    for (name, value) in rows {
        table.row([name.to_owned(), value]);
    }
    Ok(table)
}

/// What tells a file from another or from what it was: inode, size, times in nanoseconds, or its content.
type Snapshot = BTreeMap<PathBuf, Vec<u8>>;

/// Paths that are in one and not in the other, or differ.
fn changed(before: &Snapshot, after: &Snapshot) -> usize {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).count();
    gone + after.iter().filter(|(path, now)| before.get(*path) != Some(*now)).count()
}

fn volumes(world: &World, pods: &[Pod]) -> io::Result<Snapshot> {
    let mut found = Snapshot::new();
    for pod in pods {
        walk(&world.seen(pod), &mut found)?;
    }
    Ok(found)
}

fn walk(path: &Path, found: &mut Snapshot) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    let numbers =
        [about.ino() as i64, about.size() as i64, about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
    found.insert(path.to_owned(), numbers.iter().flat_map(|number| number.to_ne_bytes()).collect());
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), found)?;
        }
    }
    Ok(())
}

/// The content alone: the time of the last look is kept as the time of the file.
fn ledger(world: &World) -> io::Result<Snapshot> {
    let entries = fs::read_dir(world.surroundings.state())?;
    entries.map(|entry| entry.map(|entry| entry.path()).and_then(|path| Ok((path.clone(), fs::read(path)?)))).collect()
}
