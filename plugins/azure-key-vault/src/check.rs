//! Judging a class without a vault.
//!
//! A misspelt optional parameter is a remark and no mistake: the class works and always has, but its author would like
//! to know. Nothing here may depend on anything but the parameters.

use crate::failure::Failure;
use crate::parameters::{Asker, Judged, judge};
use crate::provider::{Checked, Parameters};

/// Says whether the parameters of a class make sense, and with whose eyes the vault will see the caller.
///
/// # Errors
/// `InvalidRequest` with everything that can be found without the network, a line each: the mistakes, and then what
/// has no effect and looks like one.
pub fn check(parameters: &Parameters) -> Result<Checked, Failure> {
    let Judged { asker, mut mistakes, remarks, .. } = judge(parameters);
    match asker {
        Some(Asker { scope, session_key }) if mistakes.is_empty() => Ok(Checked { scope, session_key, remarks }),
        _ => {
            mistakes.extend(remarks);
            Err(Failure::of_mistakes(&mistakes))
        }
    }
}
