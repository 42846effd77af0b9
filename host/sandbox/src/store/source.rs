//! The first step: bytes from somewhere, not trusted yet. Files today; OCI references will stand here, too.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Cause, Error, Stage};
use crate::limits::Limits;
use crate::store::Digest;
use crate::store::verified::Verified;

/// A component as it was found.
pub struct Source {
    pub(super) plugin: String,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) limits: Limits,
}

impl Source {
    /// Reads the component of `plugin` (the name in `spec.provider`) from a file.
    ///
    /// # Errors
    /// [`Cause::Unreadable`] and [`Cause::ComponentTooLarge`].
    pub fn file(plugin: &str, path: &Path, limits: Limits) -> Result<Self, Error> {
        let fail = |cause| Error { plugin: plugin.to_owned(), stage: Stage::Source, cause };
        let unreadable = |source| fail(Cause::Unreadable { path: path.to_owned(), source });
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells "too large" from "just fits".
        file.take(limits.component as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > limits.component {
            return Err(fail(Cause::ComponentTooLarge { limit: limits.component }));
        }
        Ok(Self { plugin: plugin.to_owned(), path: path.to_owned(), bytes, limits })
    }

    /// Compares the bytes with what the administrator pinned. Without a pin the folder they came from is the trust.
    ///
    /// # Errors
    /// [`Cause::Digest`] and [`Cause::NotAComponent`].
    pub fn verify(self, pin: Option<&Digest>) -> Result<Verified, Error> {
        Verified::new(self, pin)
    }
}
