//! `coffer log-level`: asks the running driver how much it logs, or tells it to.

use crate::args::SetLogLevel;
use crate::error::Error;
use crate::exit::Exit;
use crate::telemetry::admin;

pub async fn run(arguments: SetLogLevel) -> Result<Exit, Error> {
    let level = admin::ask_level(&arguments.admin_socket, arguments.level).await?;
    super::print(&format!("{level}\n"))?;
    Ok(Exit::Ok)
}
