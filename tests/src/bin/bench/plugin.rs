//! The plugin itself: how large it is, what compiling and loading it costs.

use std::time::Duration;

use anyhow::Result;
use coffer_sandbox::engine::{Engine, Pool};
use tokio::time::Instant;

use crate::Built;
use crate::table::{Sample, Table, ratio, show};

const LOADS: usize = 100;
const COMPILATIONS: usize = 5;

pub(crate) async fn measure(built: &Built) -> Result<Table> {
    let engine = Engine::new(Pool::default()).map_err(anyhow::Error::msg)?;
    let mut native = 0;
    let mut cold = Vec::new();
    let compiler = built.compiler(None)?;
    for _ in 0..COMPILATIONS {
        let started = Instant::now();
        let compiled = built.source()?.verify(None)?.compile(&engine, &compiler).await?;
        native = compiled.size();
        compiled.ready(&engine)?;
        cold.push(started.elapsed());
    }
    built.ready(&engine).await?;
    let mut cached = Vec::new();
    for _ in 0..LOADS {
        let started = Instant::now();
        built.ready(&engine).await?;
        cached.push(started.elapsed());
    }
    let (cold, cached) = (Sample::new(cold), Sample::new(cached));

    let mut table = Table::new("The Azure plugin: from its file to something callable", ["", "p50", "p99", "ratio"]);
    let row = |name: &str, sample: &Sample, baseline: Duration| {
        [name.into(), show(sample.median()), show(sample.percentile(99)), ratio(sample.median(), baseline)]
    };
    table.row(row("compile in the child and load", &cold, cold.median()));
    table.row(row("load from the cache", &cached, cold.median()));
    let size = std::fs::metadata(&built.component)?.len();
    table.row(["component".into(), kibibytes(size), String::new(), String::new()]);
    table.row(["native code".into(), kibibytes(native as u64), String::new(), String::new()]);
    Ok(table)
}

fn kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
