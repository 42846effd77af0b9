//! What `coffer <verb>` does, one file each. Called by `main` only.

mod check;
mod compile;
mod config;
mod crds;
mod log_level;
mod mount;
mod node;
mod refresh;
pub mod report;
mod status;
mod token;

use std::io::Write;

use crate::args::{self, Command, Output};
use crate::error::Error;
use crate::exit::Exit;
use crate::telemetry::Log;

/// Runs one command. `log` is the switch of the log that was started for it. What it has to say stands on stdout when this returns.
///
/// # Errors
///
/// Everything that ends a command; see [`crate::exit`] for the codes.
pub fn run(command: Command, log: Log) -> Result<Exit, Error> {
    match command {
        Command::Mount(arguments) => runtime()?.block_on(mount::run(arguments)),
        Command::Check(arguments) => runtime()?.block_on(check::run(arguments)),
        Command::Node(arguments) if arguments.version => print(&args::node::version()).map(|()| Exit::Ok),
        Command::Node(arguments) => {
            warn_of_ignored(&arguments.ignored);
            node::run(&arguments, log)
        }
        Command::Status(arguments) => runtime()?.block_on(status::run(arguments)),
        Command::Refresh(arguments) => runtime()?.block_on(refresh::run(arguments)),
        Command::LogLevel(arguments) => runtime()?.block_on(log_level::run(arguments)),
        Command::Config(command) => config::run(command),
        Command::Crds => crds::run(),
        Command::CompileComponent(arguments) => compile::run(arguments),
    }
}

/// How a command wants its errors to look.
#[must_use]
pub fn output(command: &Command) -> Output {
    match command {
        Command::Mount(arguments) => arguments.shared.output,
        Command::Check(arguments) => arguments.shared.output,
        Command::Status(arguments) => arguments.driver.output,
        Command::Refresh(arguments) => arguments.driver.output,
        Command::Node(_) | Command::LogLevel(_) | Command::Config(_) | Command::Crds | Command::CompileComponent(_) => {
            Output::Table
        }
    }
}

/// Flags of the driver whose place this one takes: a manifest that has them works, and its author learns that they do
/// nothing.
fn warn_of_ignored(flags: &[&str]) {
    if !flags.is_empty() {
        tracing::warn!(flags = flags.join(", "), "these flags have no meaning in this driver and are ignored");
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
