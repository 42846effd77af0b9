//! The way to a target. Follows no link, whoever made it and wherever it leads: the last folders of the path may be
//! writable for others, and Coffer is root. What was walked is kept open, so later steps act on it and not on the path.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{Fault, Problem};

/// A folder, to be looked at and mounted on; not to be read.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Of the folders that are made, as in the reference.
const MADE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP);

/// Where a target is: a name in a folder.
#[derive(Debug)]
pub(super) struct Place {
    /// The folder above the target.
    pub above: OwnedFd,
    /// The target's name in it.
    pub name: OsString,
    /// The target as it was given, for errors.
    pub path: PathBuf,
}

impl Place {
    /// Finds the folder above `target`; none if it is missing.
    pub(super) fn find(target: &Path) -> Result<Option<Self>, Fault> {
        let (folders, name) = split(target)?;
        let above = open(folders)?;
        Ok(above.map(|above| Self { above, name: name.to_owned(), path: target.to_owned() }))
    }

    /// Makes what is missing of `target` and above it, and opens the target.
    pub(super) fn make(target: &Path) -> Result<(Self, OwnedFd, Made), Fault> {
        let (folders, name) = split(target)?;
        let mut made = Made::default();
        let above = match open(folders)? {
            Some(above) => above,
            None => made.folders(folders)?,
        };
        let folder = made.folder(above.as_fd(), name, target)?;
        Ok((Self { above, name: name.to_owned(), path: target.to_owned() }, folder, made))
    }

    /// The folder at the target, or the root of what is mounted there; none if it is missing.
    pub(super) fn folder(&self) -> Result<Option<OwnedFd>, Fault> {
        step(self.above.as_fd(), &self.name, &self.path)
    }

    /// Says that a system call on the target failed.
    pub(super) fn failed(&self, call: &'static str) -> impl FnOnce(Errno) -> Fault {
        move |error| Fault::call(call, &self.path, error)
    }
}

/// Folders that were made on the way. Dropped without [`Made::keep`] they are removed again, unless somebody has put
/// something into them.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<(OwnedFd, OsString)>);

impl Made {
    pub(super) fn keep(mut self) {
        self.0.clear();
    }

    /// Opens the folder `path` and makes it and those above it where they are missing.
    fn folders(&mut self, path: &Path) -> Result<OwnedFd, Fault> {
        let (mut folder, mut walked) = (root()?, PathBuf::from("/"));
        for name in names(path) {
            walked.push(name);
            folder = self.folder(folder.as_fd(), name, &walked)?;
        }
        Ok(folder)
    }

    /// Opens the folder `name`, which is `path`, and makes it where it is missing.
    fn folder(&mut self, above: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd, Fault> {
        if let Some(folder) = step(above, name, path)? {
            return Ok(folder);
        }
        let failed = |error| Fault::call("create the folder", path, error);
        let kept = rustix::io::fcntl_dupfd_cloexec(above, 0).map_err(failed)?;
        match rustix::fs::mkdirat(above, name, MADE) {
            Ok(()) => self.0.push((kept, name.to_owned())),
            // Somebody else was faster, so it is theirs.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        step(above, name, path)?.ok_or_else(|| failed(Errno::NOENT))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (above, name) in self.0.iter().rev() {
            if rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
        }
    }
}

/// The folders above `target`, and its name.
fn split(target: &Path) -> Result<(&Path, &OsStr), Fault> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    match (target.parent(), target.file_name()) {
        (Some(folders), Some(name)) if target.is_absolute() && target.components().all(plain) => Ok((folders, name)),
        _ => Err(Problem::Path.into()),
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// Opens the folder `path`; none if it is missing.
fn open(path: &Path) -> Result<Option<OwnedFd>, Fault> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if let Ok(folder) = rustix::fs::openat2(CWD, path, FOLDER, Mode::empty(), resolve) {
        return Ok(Some(folder));
    }
    // Whatever the reason, and be it an old kernel: component by component is as safe, and knows which one is wrong.
    let (mut folder, mut walked) = (root()?, PathBuf::from("/"));
    for name in names(path) {
        walked.push(name);
        match step(folder.as_fd(), name, &walked)? {
            Some(next) => folder = next,
            None => return Ok(None),
        }
    }
    Ok(Some(folder))
}

fn root() -> Result<OwnedFd, Fault> {
    rustix::fs::openat(CWD, "/", FOLDER, Mode::empty()).map_err(|error| Fault::call("open", Path::new("/"), error))
}

/// Opens the folder `name`, which is `path`; none if it is missing.
fn step(above: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Option<OwnedFd>, Fault> {
    match rustix::fs::openat(above, name, FOLDER, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(in_the_way(above, name, path).into()),
        Err(error) => Err(Fault::call("open", path, error)),
    }
}

fn in_the_way(above: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Problem {
    match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Problem::Link(path.to_owned()),
            FileType::Directory => Problem::Changing(path.to_owned()),
            _ => Problem::NotFolder(path.to_owned()),
        },
        Err(_) => Problem::Changing(path.to_owned()),
    }
}
