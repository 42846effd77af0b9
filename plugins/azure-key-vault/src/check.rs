//! Judging a class without a vault.
//!
//! The host calls this before every mount and in its linter, so a class that works must pass: what is only suspicious
//! becomes a remark. Nothing here may depend on anything but the parameters.

use crate::failure::Failure;
use crate::parameters::Settings;
use crate::provider::{Checked, Parameters};

/// Says whether the parameters of a class make sense, and with whose eyes the vault will see the caller.
///
/// # Errors
/// `InvalidRequest` with every mistake that can be found without the network, a line each.
pub fn check(parameters: &Parameters) -> Result<Checked, Failure> {
    let settings = Settings::parse(parameters)?;
    Ok(Checked { scope: settings.identity.scope(), session_key: settings.session_key(), remarks: settings.remarks })
}
