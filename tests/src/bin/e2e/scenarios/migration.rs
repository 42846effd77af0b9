//! Coffer takes over what the Secrets Store CSI Driver left: a running pod whose volume has that driver's layout, and of which
//! nothing is remembered.
//!
//! That driver is not run here. Its volume is written as its atomic writer leaves it, in the mount of the running pod.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cluster::{PATIENCE, until};
use crate::driver::Driver;
use crate::pod;
use crate::world::World;

const NAME: &str = "migration";
/// As the other driver names a version.
const VERSION: &str = "..2025_06_01_12_00_00.1234567890";

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let file = format!("{}/{NAME}", pod::FOLDER);
    world.stage(NAME, "before").await?;
    cluster.create(NAME, pod::with_volume("old", "secrets")).await?;
    cluster.running(NAME, "old").await?;
    world.driver.uninstall(cluster).await?;
    let mounts = cluster.mounts()?;
    let [mount] = mounts.as_slice() else { anyhow::bail!("one volume has these mounts: {mounts:?}") };
    lay_out(Path::new(mount)).context("the other driver's layout")?;
    let state = Driver::socket(cluster).with_file_name("state");
    fs::remove_dir_all(&state).with_context(|| format!("{} cannot be removed", state.display()))?;
    cluster.kubectl(&["delete", "secretproviderclasspodstatus", "--all", "-n", NAME]).await?;
    cluster.file_becomes(NAME, "old", &file, "before").await?;
    cluster.create(NAME, pod::with_volume("waits", "secrets")).await?;

    world.driver.install(cluster).await?;
    cluster.running(NAME, "waits").await?;
    cluster.file_becomes(NAME, "old", &file, "before").await?;
    until("that the old pod's volume is taken over", PATIENCE, async || {
        let statuses = ["get", "secretproviderclasspodstatus", "-n", NAME, "-o", "name"];
        Ok(cluster.kubectl(&statuses).await?.contains("old-migration-secrets"))
    })
    .await?;
    world.vault.secret(NAME).set("after");
    cluster.file_becomes(NAME, "old", &file, "after").await?;
    let left = cluster.mounts()?;
    ensure!(left.len() == 2 && left.contains(mount), "two volumes have these mounts: {left:?}");
    ensure!(!Path::new(mount).join(VERSION).exists(), "the other driver's version is still there");

    // What a rollback would find is a layout that the other driver's writer knows: a link to a folder beside it.
    let target = fs::read_link(Path::new(mount).join("..data"))?;
    ensure!(target.to_string_lossy().starts_with("..2"), "..data leads to {}", target.display());
    cluster.delete_pods(NAME).await?;
    let left = cluster.mounts()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// Puts the files into a version of the other driver's, and removes the one that is there.
fn lay_out(mount: &Path) -> Result<()> {
    let before = mount.join(fs::read_link(mount.join("..data"))?);
    let version = mount.join(VERSION);
    fs::create_dir(&version)?;
    fs::set_permissions(&version, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(&before)? {
        let entry = entry?;
        fs::copy(entry.path(), version.join(entry.file_name()))?;
    }
    symlink(VERSION, mount.join("..data_tmp"))?;
    fs::rename(mount.join("..data_tmp"), mount.join("..data"))?;
    Ok(fs::remove_dir_all(before)?)
}
