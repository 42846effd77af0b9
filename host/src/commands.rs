//! What `coffer <verb>` does, one file each. Called by `main` only.

mod check;
mod compile;
mod config;
mod mount;
pub mod report;

use std::io::Write;

use crate::args::{Command, Output};
use crate::error::Error;
use crate::exit::Exit;

/// Runs one command. What it has to say stands on stdout when this returns.
///
/// # Errors
///
/// Everything that ends a command; see [`crate::exit`] for the codes.
pub fn run(command: Command) -> Result<Exit, Error> {
    match command {
        Command::Mount(arguments) => runtime()?.block_on(mount::run(arguments)),
        Command::Check(arguments) => runtime()?.block_on(check::run(arguments)),
        Command::Config(command) => config::run(command),
        Command::CompileComponent(arguments) => compile::run(arguments),
    }
}

/// How a command wants its errors to look.
#[must_use]
pub fn output(command: &Command) -> Output {
    match command {
        Command::Mount(arguments) => arguments.shared.output,
        Command::Check(arguments) => arguments.shared.output,
        Command::Config(_) | Command::CompileComponent(_) => Output::Table,
    }
}

/// One thread: a command runs one call at a time, and what waits for the network needs no threads.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}

fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Print)
}
