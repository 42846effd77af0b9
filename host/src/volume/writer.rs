//! Makes a volume hold exactly the files of a set. Called by `publish` for first publishes and refreshes, and by
//! `coffer mount`.
//!
//! Promises: who reads through `..data` sees one version, whole, and never a mix. If nothing differs (contents, modes,
//! kinds, links) nothing is written, not even a time stamp. When a write fails, what it made is removed and the old
//! files stand. Whatever a write that was cut short left behind, the next one repairs, even if the contents are right.
//! Foreign things at the top of the volume stay, unless they stand where a link must be.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use thiserror::Error;

use super::Volume;
use super::files::{FileSet, shorten};
use super::layout::{self, Found, ReadError};
use super::plan::Plan;
use super::step::{Runner, Step};

/// What a write that worked has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing; nothing was written.
    Unchanged,
    /// The files were right; links, or what an earlier write left behind, were not.
    Repaired,
    /// There is a new version.
    Replaced {
        /// Files of the new version.
        written: usize,
        /// Files of the old version that the new one does not have.
        removed: usize,
    },
}

/// Which files a failed write leaves in the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The ones that were there before, and nothing else.
    Old,
    /// The ones that were there before, beside something that nobody can see through the volume's links.
    OldWithLeftovers,
    /// The new ones, beside something of the old ones.
    New,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "the files that were there are untouched",
            Self::OldWithLeftovers => "the files that were there are untouched, the next write must clean up",
            Self::New => "the new files are in place, the next write must clean up",
        })
    }
}

/// A write did not work, or not to its end.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The volume cannot be read; nothing was changed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Somebody else is writing into the volume; nothing was changed.
    #[error("another write into the volume is going on: try again when it has ended")]
    Busy,
    /// The volume cannot be locked; nothing was changed.
    #[error("cannot lock the volume: check that its file system supports flock")]
    Lock(#[source] io::Error),
    /// A system call failed.
    #[error("cannot {operation} {path:?} in the volume: {standing}")]
    Step {
        /// What was tried.
        operation: &'static str,
        /// With what, relative to the volume.
        path: String,
        /// What is in the volume now.
        standing: Standing,
        /// Why it failed.
        source: io::Error,
    },
}

impl WriteError {
    /// Whether the volume has no room left: a limit was reached, and trying again does not help before it is raised or
    /// the files are fewer. The old files stand.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Step { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// See [`super::Volume::replace`].
pub(super) fn replace(volume: &Volume, files: &FileSet, now: Timestamp) -> Result<Change, WriteError> {
    let _lock = Lock::take(volume.folder.as_fd())?;
    let plan = plan(volume, files, now)?;
    run(volume.folder.as_fd(), files, &plan)?;
    Ok(change(&plan, files))
}

/// See [`super::Volume::preview`].
pub(super) fn preview(volume: &Volume, files: &FileSet, now: Timestamp) -> Result<Change, WriteError> {
    Ok(change(&plan(volume, files, now)?, files))
}

fn change(plan: &Plan, files: &FileSet) -> Change {
    match plan {
        Plan { replaces: true, removed, .. } => Change::Replaced { written: files.len(), removed: *removed },
        _ if plan.is_empty() => Change::Unchanged,
        _ => Change::Repaired,
    }
}

/// What [`replace`] would do now.
pub(super) fn plan(volume: &Volume, files: &FileSet, now: Timestamp) -> Result<Plan, WriteError> {
    let (folder, group) = (volume.folder.as_fd(), volume.group);
    let found = Found::read(folder, &files.top_level_names())?;
    if layout::holds(folder, &found, files, group)? {
        return Ok(Plan::new(&found, files, group, None));
    }
    let version = layout::version_name(now, rand::random());
    Ok(Plan::new(&found, files, group, Some(&version)))
}

fn run(volume: BorrowedFd<'_>, files: &FileSet, plan: &Plan) -> Result<(), WriteError> {
    let mut runner = Runner::new(volume, files);
    for (index, step) in plan.build.iter().enumerate() {
        if let Err(error) = runner.take(step) {
            // A step may have failed after its system call, but a name that was taken is not ours to remove.
            let taken = if error == Errno::EXIST { index } else { index + 1 };
            let undone = undo(&mut runner, plan.build.iter().take(taken));
            return Err(failed(step, error, if undone { Standing::Old } else { Standing::OldWithLeftovers }));
        }
    }
    let standing = if plan.replaces { Standing::New } else { Standing::OldWithLeftovers };
    let mut result = Ok(());
    for step in &plan.finish {
        let taken = runner.take(step).map_err(|error| failed(step, error, standing));
        result = result.and(taken);
    }
    result
}

/// Undoes steps from the last to the first; says whether all of it worked.
fn undo<'a>(runner: &mut Runner<'_>, steps: impl DoubleEndedIterator<Item = &'a Step>) -> bool {
    let mut undone = true;
    for step in steps.rev().filter_map(Step::undo) {
        undone &= runner.take(&step).is_ok();
    }
    undone
}

fn failed(step: &Step, error: Errno, standing: Standing) -> WriteError {
    let path = shorten(&step.path().to_string_lossy());
    WriteError::Step { operation: step.operation(), path, standing, source: error.into() }
}

/// Keeps two writes out of one volume: each would take the other's version for rubbish. The kernel drops the lock when
/// its holder dies.
struct Lock<'a>(BorrowedFd<'a>);

impl<'a> Lock<'a> {
    fn take(volume: BorrowedFd<'a>) -> Result<Self, WriteError> {
        match rustix::fs::flock(volume, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(volume)),
            Err(Errno::WOULDBLOCK) => Err(WriteError::Busy),
            Err(error) => Err(WriteError::Lock(error.into())),
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Nothing is lost if this fails: the lock goes with the descriptor.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}
