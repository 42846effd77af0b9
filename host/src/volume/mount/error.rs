//! What can be wrong with a target, in words for whoever operates the node.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use super::removal::{MAX_DEPTH, MAX_MOUNTS};

/// Something at a target cannot be done.
#[derive(Debug, Error)]
#[error("cannot {operation} {}: {problem}", .target.display())]
pub struct MountError {
    operation: &'static str,
    target: PathBuf,
    problem: Problem,
    source: Option<io::Error>,
}

/// What is wrong and what to do about it.
#[derive(Debug, Error)]
pub(super) enum Problem {
    #[error("a target must be an absolute path without `..`: correct the request")]
    Path,
    #[error("{} is a symbolic link, and none is followed on the way to a volume: put a folder in its place", .0.display())]
    Link(PathBuf),
    #[error("{} is not a folder: remove it", .0.display())]
    NotFolder(PathBuf),
    #[error("{} is being replaced by something else: find out by whom", .0.display())]
    Changing(PathBuf),
    #[error("nothing is mounted there: publish the volume first")]
    NotMounted,
    #[error("what is mounted there is not a tmpfs, and secrets must not go to a disk: unmount it")]
    NotTmpfs,
    #[error("a published volume is mounted there: refresh it instead")]
    Published,
    #[error("the folder was moved while a tmpfs was mounted on it: look for it in /proc/self/mountinfo and unmount it")]
    Moved,
    #[error("a file system is mounted at {} as well: unmount it first", .0.display())]
    MountInside(PathBuf),
    #[error("more than {MAX_MOUNTS} file systems are mounted there, one over the other: find out who mounts them")]
    TooManyMounts,
    #[error("{} lies more than {MAX_DEPTH} folders deep: remove it by hand", .0.display())]
    TooDeep(PathBuf),
    #[error("{} is not a group: set another fsGroup", u32::MAX)]
    Group,
    #[error("cannot {call} {}: check that Coffer runs as root with CAP_SYS_ADMIN and can write there", .path.display())]
    Call { call: &'static str, path: PathBuf },
}

/// A [`MountError`] that does not know yet what was tried.
#[derive(Debug)]
pub(super) struct Fault {
    problem: Problem,
    source: Option<io::Error>,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { problem, source: None }
    }
}

impl Fault {
    /// A system call failed.
    pub(super) fn call(call: &'static str, path: &Path, error: Errno) -> Self {
        Self { problem: Problem::Call { call, path: path.to_owned() }, source: Some(error.into()) }
    }

    pub(super) fn in_trying_to(operation: &'static str, target: &Path) -> impl FnOnce(Self) -> MountError {
        move |Self { problem, source }| MountError { operation, target: target.to_owned(), problem, source }
    }
}
