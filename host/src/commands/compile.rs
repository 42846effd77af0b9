//! The hidden `coffer compile-component`: this process is the compiler's child and ends with its one job.

use coffer_sandbox::store::{ChildLimits, run_child};

use crate::args::Compile;
use crate::error::Error;
use crate::exit::Exit;
use crate::privilege;

pub fn run(arguments: Compile) -> Result<Exit, Error> {
    privilege::drop_for_compiler().map_err(Error::Compile)?;
    let limits = ChildLimits { address_space: arguments.address_space, cpu_seconds: arguments.cpu_seconds };
    run_child(limits, std::io::stdin().lock(), std::io::stdout().lock()).map_err(Error::Compile)?;
    Ok(Exit::Ok)
}
