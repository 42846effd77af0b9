//! Judging a class without a vault.
//!
//! The linter of the host shows what is found here, so this is stricter than `mount`: a misspelt optional parameter
//! never stops a mount, because the class works and always has, but its author would like to know. Nothing here may
//! depend on anything but the parameters.

use crate::failure::Failure;
use crate::parameters::{Judged, judge};
use crate::provider::{Checked, Parameters};

/// Says whether the parameters of a class make sense, and with whose eyes the vault will see the caller.
///
/// # Errors
/// `InvalidRequest` with every mistake that can be found without the network, a line each. It includes what has no
/// effect and looks like a mistake, which [`mount`](crate::mount()) only remarks.
pub fn check(parameters: &Parameters) -> Result<Checked, Failure> {
    let Judged { settings, mut mistakes, remarks } = judge(parameters);
    mistakes.extend(remarks);
    match settings {
        Some(settings) if mistakes.is_empty() => {
            Ok(Checked { scope: settings.identity.scope(), session_key: settings.session_key() })
        }
        _ => Err(Failure::of_mistakes(&mistakes)),
    }
}
