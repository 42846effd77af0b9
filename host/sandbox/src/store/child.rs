//! The compiler, in a process of its own: the same program with a hidden subcommand.
//!
//! The component comes in on standard input, native code goes out on standard output, one line about a failure on
//! standard error. Before it reads a byte the child gives up what it does not need. A component that drives the
//! compiler wild ends the child, not the driver; a compiler that is *wrong* is not contained here (see
//! `docs/threat-model.md`).

use std::io::{Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::engine;

/// What the child may use.
#[derive(Clone, Copy, Debug)]
pub struct ChildLimits {
    /// Address space in bytes.
    pub address_space: u64,
    /// Processor time in seconds.
    pub cpu_seconds: u64,
}

/// The body of the hidden subcommand: compiles `input` to `output` within the limits.
///
/// # Errors
/// One line for the parent, without the name of a file: the child knows none.
pub fn run(limits: ChildLimits, mut input: impl Read, mut output: impl Write) -> Result<(), String> {
    confine(limits).map_err(|errno| format!("limits cannot be set: {errno}"))?;
    let mut component = Vec::new();
    input.read_to_end(&mut component).map_err(|error| format!("the component cannot be read: {error}"))?;
    let engine = engine::compiler().map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&component).map_err(|error| format!("{error:#}"))?;
    output
        .write_all(&code)
        .and_then(|()| output.flush())
        .map_err(|error| format!("the code cannot be handed over: {error}"))
}

fn confine(limits: ChildLimits) -> rustix::io::Result<()> {
    let set = |resource, limit| setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
    set(Resource::As, limits.address_space)?;
    set(Resource::Cpu, limits.cpu_seconds)?;
    set(Resource::Core, 0)?;
    // No file may grow: the child has nothing to write but its pipes.
    set(Resource::Fsize, 0)?;
    set(Resource::Nofile, 16)
}
