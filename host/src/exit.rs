//! The exit codes: one table, shown by `--help`. They are those of sysexits.h.

use std::process::ExitCode;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is done.
    Ok,
    /// It is done, and what it shows is not all right.
    Attention,
    /// The command line is wrong.
    Usage,
    /// What was given is wrong: manifests, class, Secret, configuration, or an object that does not exist.
    Invalid,
    /// Something that may pass: network, name resolution, TLS, the store, the time.
    Unavailable,
    /// The provider or Coffer failed.
    Fault,
    /// The result cannot be written.
    CannotWrite,
    /// Policy or the store says no.
    Denied,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Attention => 1,
            Self::Usage => 64,
            Self::Invalid => 65,
            Self::Unavailable => 69,
            Self::Fault => 70,
            Self::CannotWrite => 73,
            Self::Denied => 77,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The table for `--help`.
pub const HELP: &str = "\
Exit codes:
   0  done
   1  `status` and `refresh`: done, and a volume needs attention
  64  usage: the command line is wrong
  65  invalid input: a manifest, class, Secret or configuration is wrong or missing,
      or an object does not exist
  69  unavailable: the store, the network or a name cannot be reached, TLS or a proxy
      fails, or the time is up
  70  provider fault: the plugin failed, exceeded a limit or cannot be run
  73  the target or the result cannot be written
  77  denied: by an egress rule, by the configuration, or by the store (credentials
      refused, no permission)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_code() {
        use Exit::{Attention, CannotWrite, Denied, Fault, Invalid, Ok, Unavailable, Usage};
        for exit in [Ok, Attention, Usage, Invalid, Unavailable, Fault, CannotWrite, Denied] {
            let line = format!("\n  {:>2}  ", exit.code());
            assert!(HELP.contains(&line), "{exit:?}");
        }
    }
}
