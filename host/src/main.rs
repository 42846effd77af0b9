//! `coffer`: parse, run, exit code. The only place that prints an error.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use coffer::args::Arguments;
use coffer::exit::Exit;
use coffer::{commands, failure, telemetry};
use rustix::process::{Resource, Rlimit, setrlimit};
use zeroizing_alloc::ZeroAlloc;

/// Wipes every block of memory before it is freed: secrets also pass through buffers of libraries (HTTP, TLS, YAML) that
/// know nothing of our types for them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    // A core dump would hold every secret of the process. Where even this is not allowed, there is nothing else to do.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return explain_usage(&error).into(),
    };
    let log = telemetry::start(telemetry::Settings::of(&arguments));
    let output = commands::output(&arguments.command);
    match commands::run(arguments.command, log) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // Nobody reads it, then.
            let _ = std::io::stderr().write_all(failure::render(&error, output).as_bytes());
            error.exit().into()
        }
    }
}

/// Prints help, or what is wrong with the command line.
fn explain_usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
        _ => Exit::Usage,
    }
}
