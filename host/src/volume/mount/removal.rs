//! Takes away a target with everything that is on it and in it. Starts from whatever a crash, a restart of the machine
//! or somebody else left there, and can be repeated at any point.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::error::{Fault, Problem};
use super::linux;
use super::walk::Place;

/// Mounts over each other at one target. Whoever mounts faster than this must be found.
pub(super) const MAX_MOUNTS: usize = 64;
/// Folders in each other below a target, each of which takes a descriptor.
pub(super) const MAX_DEPTH: usize = 100;

pub(super) fn remove(place: &Place) -> Result<(), Fault> {
    let mut mounts = 0;
    // What a mount is, and whose, does not matter; what is mounted inside it goes along.
    while linux::unmount(place).map_err(place.failed("unmount"))? {
        mounts += 1;
        if mounts > MAX_MOUNTS {
            return Err(Problem::TooManyMounts.into());
        }
    }
    remove_entry(place.above.as_fd(), &place.name, &place.path, 0)
}

/// Removes the entry `name`, which is `path`, whatever it is.
fn remove_entry(above: BorrowedFd<'_>, name: &OsStr, path: &Path, depth: usize) -> Result<(), Fault> {
    if unlink(above, name, AtFlags::empty(), path)? {
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Err(Problem::TooDeep(path.to_owned()).into());
    }
    let failed = |error| Fault::call("open", path, error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(above, name, flags, Mode::empty()).map_err(failed)?;
    if linux::is_mount(folder.as_fd(), above).map_err(failed)? {
        return Err(Problem::MountInside(path.to_owned()).into());
    }
    empty(folder, path, depth)?;
    unlink(above, name, AtFlags::REMOVEDIR, path).map(drop)
}

fn empty(folder: OwnedFd, path: &Path, depth: usize) -> Result<(), Fault> {
    let failed = |error| Fault::call("read the folder", path, error);
    let mut entries = Dir::new(folder).map_err(failed)?;
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_entry(entries.fd().map_err(failed)?, name, &path.join(name), depth + 1)?;
        }
    }
    Ok(())
}

/// False if it is a folder, and one was not asked for. What is gone already needs no removing.
fn unlink(above: BorrowedFd<'_>, name: &OsStr, flags: AtFlags, path: &Path) -> Result<bool, Fault> {
    match rustix::fs::unlinkat(above, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // Where nothing can be written, that comes before there being nothing to remove.
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) if is_missing(above, name) => Ok(true),
        Err(Errno::BUSY) => Err(Problem::MountInside(path.to_owned()).into()),
        Err(error) => Err(Fault::call("remove", path, error)),
    }
}

fn is_missing(above: BorrowedFd<'_>, name: &OsStr) -> bool {
    matches!(rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
}
