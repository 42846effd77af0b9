//! `make e2e`: Coffer on a real Kubernetes node, as its users meet it.
//!
//! `tests/e2e/node` has started the cluster before, and this program runs in its network. The neighbours that cannot be had
//! on one machine, Entra ID and Key Vault, are the emulator's; everything else is real. Scenarios run one after another and
//! in this order, because some take the driver away; each tidies up behind itself. It must never say that something works
//! that it has not seen, and never leave a wait without an end.

mod cluster;
mod driver;
mod figures;
mod pod;
mod run;
mod scenarios;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use run::Run;

/// Sees whether Coffer works on the node that tests/e2e/node started.
#[derive(Parser)]
#[command(name = "coffer-e2e")]
struct Args {
    /// The folder of the cluster
    #[arg(long)]
    state: PathBuf,
    /// The folder of kubectl, helm and csi-sanity
    #[arg(long)]
    programs: PathBuf,
    /// The image of the driver as an archive
    #[arg(long)]
    image: PathBuf,
    /// The repository: chart, manifests, the script of the node
    #[arg(long)]
    repository: PathBuf,
    /// Where to keep what explains a failure
    #[arg(long)]
    failures: PathBuf,
    /// Runs the scenarios whose names contain one of these words, and those that they need
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Run::new(Args::parse()).all().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: the run ended: {error:#}");
            ExitCode::FAILURE
        }
    }
}
