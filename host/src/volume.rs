//! Files in a folder: checks what shall be in a volume and replaces what is there, atomically.
//!
//! `files` checks, `layout` knows how a volume looks on disk, `read` reads files back, `plan` decides what to do, `step` does it, `writer` puts
//! them together. `target` makes the folder for `coffer mount`, `mount` the tmpfs for kubelet, and `ledger` remembers.
//! None of them knows Kubernetes or a provider. Everything blocks; callers on a runtime use `spawn_blocking`. Contents
//! are secret: they never appear in errors, logs or `Debug` output.

pub mod files;
pub mod ledger;
pub mod mount;
pub mod target;
pub mod writer;

mod layout;
mod plan;
mod read;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coffer_sandbox::secret::SecretBytes;
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags};
use thiserror::Error;

pub use files::{FileError, FileSet, Limits, NewFile};
pub use layout::ReadError;
pub use read::LARGEST;
pub use target::{Target, TargetError};
pub use writer::{Change, WriteError};

/// An open volume. Everything happens relative to this folder, whatever its path comes to mean later.
#[derive(Debug)]
pub struct Volume {
    folder: OwnedFd,
    /// Owns every file and folder that is written, so that it may read them; none leaves them with the process's.
    group: Option<u32>,
}

/// The folder of a volume cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open the volume {}: it must be an existing folder and no symbolic link", .path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// A file as it is in a volume now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentFile {
    /// Relative to the volume, without the folder of the version; characters that are not UTF-8 are replaced.
    pub path: String,
    /// Length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
}

impl Volume {
    /// Opens the folder at `path`, which must exist. A symbolic link in its place is refused.
    ///
    /// # Errors
    /// When `path` is missing, is no folder, or may not be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(folder) => Ok(Self { folder, group: None }),
            Err(error) => Err(OpenError { path: path.to_owned(), source: error.into() }),
        }
    }

    /// The files of the version that `..data` names, sorted by path; none if there is no such version, so an
    /// unfinished volume is told from an empty one.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn present(&self) -> Result<Option<Vec<PresentFile>>, ReadError> {
        layout::present(self.folder.as_fd())
    }

    /// The contents of these files of the version in force, as far as they are there; what is larger than [`LARGEST`] bytes
    /// is cut after one byte more. None if there is no version.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn contents(&self, paths: &BTreeSet<&str>) -> Result<Option<BTreeMap<String, SecretBytes>>, ReadError> {
        read::contents(self.folder.as_fd(), paths)
    }

    /// What [`Volume::replace`] would change now; nothing is written.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn preview(&self, files: &FileSet, now: Timestamp) -> Result<Change, WriteError> {
        writer::preview(self, files, now)
    }

    /// Makes the volume hold exactly `files`; see [`writer`] for what is promised on the way. `now` names the version.
    ///
    /// # Errors
    /// When a system call fails or somebody else is writing into the same volume. The error says which files stand.
    pub fn replace(&mut self, files: &FileSet, now: Timestamp) -> Result<Change, WriteError> {
        writer::replace(self, files, now)
    }
}
