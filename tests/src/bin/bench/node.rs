//! `coffer node` under a kubelet: mounts, storms, refreshes, memory, processor time, start.
//!
//! The real program with real mounts in a namespace of its own, called by the kubelet simulator over the real socket; so
//! each time has the simulator's two connections in it. Emulator, API server and kubelet run in this process, on the same
//! processors as the driver. Prints tables as they are ready.

mod load;
mod mounts;
mod outage;
mod process;
mod quota;
mod refresh;
mod start;
mod storm;
mod sync;
mod world;

use std::io::{ErrorKind, Write as _};

use anyhow::Result;
use coffer_tests::harness::node::Namespace;

use crate::Built;

pub(crate) async fn measure(built: &Built) -> Result<()> {
    if let Err(error) = Namespace::new()
        && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
    {
        return Ok(writeln!(std::io::stdout(), "\n`coffer node` is not measured: {error}")?);
    }
    let one = mounts::measure(built).await?;
    storm::measure(built, one).await?.print()?;
    refresh::measure(built).await?.print()?;
    sync::measure(built).await?.print()?;
    load::measure(built).await?;
    start::measure(built).await?.print()
}

/// A vault that has too much to do, and one that is away; takes ten minutes.
pub(crate) async fn measure_load(built: &Built) -> Result<()> {
    quota::measure(built).await?.print()?;
    outage::measure(built).await?.print()
}

/// The part about Kubernetes Secrets alone.
pub(crate) async fn measure_sync(built: &Built) -> Result<()> {
    sync::measure(built).await?.print()
}
