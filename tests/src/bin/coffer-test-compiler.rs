//! The compiling child of the tests: what `coffer` does in its hidden subcommand, for tests that run before `coffer`
//! is built.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use coffer_sandbox::store::{ChildLimits, run_child};

#[derive(Parser)]
struct Arguments {
    /// Bytes.
    #[arg(long)]
    address_space: u64,
    /// Seconds.
    #[arg(long)]
    cpu_seconds: u64,
}

fn main() -> ExitCode {
    let Arguments { address_space, cpu_seconds } = Arguments::parse();
    match run_child(ChildLimits { address_space, cpu_seconds }, io::stdin(), io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // The parent reads one line; when it is gone there is nobody to tell.
            let _ = io::Write::write_all(&mut io::stderr(), message.as_bytes());
            ExitCode::FAILURE
        }
    }
}
