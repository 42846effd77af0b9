//! `make bench`: what Coffer costs, each figure beside something measured in the same run.
//!
//! Figures depend on the machine, ratios do not, so every row that can have one has one. Nothing here passes or fails;
//! `docs/performance.md` says what is aimed at. Built and run by `make bench`, from the release profile.

mod azure;
mod fleet;
mod memory;
mod network;
mod node;
mod plugin;
mod sandbox;
mod table;

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use coffer_sandbox::limits::Limits;
use coffer_sandbox::store::{Cache, Compiler, Ready, Source};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let result = match arguments.split_first() {
        Some((mode, command)) if mode == memory::CHILD => memory::child(command),
        _ => run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: the benchmark ended: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the parts that are named, or all.
fn run(parts: &[OsString]) -> Result<()> {
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let built = Built::find()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if wanted("plugin") {
            plugin::measure(&built).await?.print()?;
        }
        if wanted("sandbox") {
            sandbox::measure(&built).await?.print()?;
        }
        if wanted("azure") {
            azure::measure(&built).await?.print()?;
        }
        if wanted("network") {
            network::measure(&built).await?.print()?;
        }
        if wanted("memory") {
            memory::measure(&built).await?.print()?;
        }
        // Alone only when it is named: `node` has it, too.
        if !parts.is_empty() && wanted("sync") {
            node::measure_sync(&built).await?;
        }
        if wanted("node") {
            node::measure(&built).await?;
        }
        if wanted("fleet") {
            fleet::measure().print()?;
        }
        if wanted("load") {
            node::measure_load(&built).await?;
        }
        Ok(())
    })
}

/// What was built before, and where.
pub(crate) struct Built {
    /// The program `coffer` of the same profile.
    pub(crate) coffer: PathBuf,
    /// The program that measures.
    pub(crate) bench: PathBuf,
    /// The Azure provider.
    pub(crate) component: PathBuf,
    /// A folder for caches and volumes.
    pub(crate) scratch: tempfile::TempDir,
}

impl Built {
    fn find() -> Result<Self> {
        let bench = env::current_exe()?;
        let programs = bench.parent().context("the benchmark has no folder")?;
        let coffer = programs.join("coffer");
        let component = programs.parent().context("no target folder")?.join("components/azure-key-vault.wasm");
        for path in [&coffer, &component] {
            ensure!(path.exists(), "{} is not there; run `make bench`, which builds it", path.display());
        }
        Ok(Self { coffer, bench, component, scratch: tempfile::tempdir()? })
    }

    pub(crate) fn compiler(&self, cache: Option<&Path>) -> Result<Compiler> {
        Ok(Compiler {
            program: self.coffer.clone(),
            arguments: vec!["compile-component".into()],
            cache: cache.map(Cache::open).transpose()?,
        })
    }

    pub(crate) fn source(&self) -> Result<Source> {
        Ok(Source::file("azure", &self.component, Limits::default())?)
    }

    pub(crate) async fn ready(&self, engine: &coffer_sandbox::engine::Engine) -> Result<Ready> {
        let compiler = self.compiler(Some(&self.scratch.path().join("cache")))?;
        Ok(self.source()?.verify(None)?.compile(engine, &compiler).await?.ready(engine)?)
    }
}
