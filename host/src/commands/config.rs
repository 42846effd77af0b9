//! `coffer config`: the shipped configuration and the schema.

use crate::args::ConfigCommand;
use crate::config::{DEFAULT, document::Document};
use crate::error::Error;
use crate::exit::Exit;

pub fn run(command: ConfigCommand) -> Result<Exit, Error> {
    match command {
        ConfigCommand::Default => super::print(DEFAULT)?,
        ConfigCommand::Schema => {
            let schema = schemars::schema_for!(Document).to_value();
            super::print(&format!("{schema:#}\n"))?;
        }
    }
    Ok(Exit::Ok)
}
