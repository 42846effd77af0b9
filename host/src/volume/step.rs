//! The smallest things that a write consists of. A [`Step`] makes exactly one system call that changes the volume
//! (`Write` repeats its one until all is written), so whatever a crash can leave behind is what some first part of a
//! list of steps leaves behind. The tests rely on that, and compare the steps with the system calls really made.
//!
//! Nothing is flushed to a disk: a volume is a tmpfs, and after a crash of the machine it is gone with its mount.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags};
use rustix::io::Errno;

use super::files::FileSet;
use super::layout::open_folder;

/// One change to a volume. Paths are relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    CreateFolder(PathBuf),
    CreateFile(PathBuf),
    /// Writes the contents of the file at `of` in the set into the file created last.
    Write {
        path: PathBuf,
        of: String,
    },
    /// Gives the file or folder created last to a group.
    SetGroup {
        path: PathBuf,
        group: u32,
    },
    /// Sets the mode of the file or folder created last, whatever the umask made of it.
    SetMode {
        path: PathBuf,
        mode: u32,
    },
    /// Creates the symbolic link `path` that says `text`.
    Link {
        path: PathBuf,
        text: PathBuf,
    },
    /// Puts `from` into the place of `to`, at once.
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// Removes anything but a folder.
    RemoveFile(PathBuf),
    RemoveFolder(PathBuf),
}

impl Step {
    /// What undoes the step; none where there is nothing to undo, or no way back.
    pub(super) fn undo(&self) -> Option<Self> {
        match self {
            Self::CreateFolder(path) => Some(Self::RemoveFolder(path.clone())),
            Self::CreateFile(path) | Self::Link { path, .. } => Some(Self::RemoveFile(path.clone())),
            Self::Write { .. } | Self::SetGroup { .. } | Self::SetMode { .. } => None,
            Self::Rename { .. } | Self::RemoveFile(_) | Self::RemoveFolder(_) => None,
        }
    }

    /// What the step does, to follow "cannot".
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::CreateFolder(_) => "create folder",
            Self::CreateFile(_) => "create file",
            Self::Write { .. } => "write",
            Self::SetGroup { .. } => "set the group of",
            Self::SetMode { .. } => "set the mode of",
            Self::Link { .. } => "create link",
            Self::Rename { .. } => "rename",
            Self::RemoveFile(_) => "remove",
            Self::RemoveFolder(_) => "remove folder",
        }
    }

    /// What the step changes.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::CreateFolder(path) | Self::CreateFile(path) | Self::RemoveFile(path) | Self::RemoveFolder(path) => {
                path
            }
            Self::Write { path, .. } | Self::SetGroup { path, .. } | Self::SetMode { path, .. } => path,
            Self::Link { path, .. } => path,
            Self::Rename { from, .. } => from,
        }
    }
}

/// Takes steps in a volume, one after the other.
pub(super) struct Runner<'a> {
    volume: BorrowedFd<'a>,
    files: &'a FileSet,
    /// The file or folder created last, so that it is not looked up again.
    created: Option<OwnedFd>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(volume: BorrowedFd<'a>, files: &'a FileSet) -> Self {
        Self { volume, files, created: None }
    }

    pub(super) fn take(&mut self, step: &Step) -> rustix::io::Result<()> {
        match step {
            Step::CreateFolder(path) => self.create_folder(path),
            Step::CreateFile(path) => self.create_file(path),
            Step::Write { of, .. } => {
                let file = self.files.find(of).ok_or(Errno::NOENT)?;
                write_all(self.created()?, file.expose())
            }
            Step::SetGroup { group, .. } => rustix::fs::fchown(self.created()?, None, Some(Gid::from_raw(*group))),
            Step::SetMode { mode, .. } => rustix::fs::fchmod(self.created()?, Mode::from_raw_mode(*mode)),
            Step::Link { path, text } => self.at(path, |folder, name| rustix::fs::symlinkat(text, folder, name)),
            Step::Rename { from, to } => self.at(from, |old_folder, old| {
                self.at(to, |new_folder, new| rustix::fs::renameat(old_folder, old, new_folder, new))
            }),
            Step::RemoveFile(path) => self.remove(path, AtFlags::empty()),
            Step::RemoveFolder(path) => self.remove(path, AtFlags::REMOVEDIR),
        }
    }

    fn created(&self) -> rustix::io::Result<BorrowedFd<'_>> {
        Ok(self.created.as_ref().ok_or(Errno::BADF)?.as_fd())
    }

    fn create_folder(&mut self, path: &Path) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.created = Some(self.at(path, |folder, name| {
            rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
            rustix::fs::openat(folder, name, flags, Mode::empty())
        })?);
        Ok(())
    }

    /// Nobody but the owner can open the file before its mode is set.
    fn create_file(&mut self, path: &Path) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.created =
            Some(self.at(path, |folder, name| rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR))?);
        Ok(())
    }

    /// What is gone already needs no removing.
    fn remove(&self, path: &Path, flags: AtFlags) -> rustix::io::Result<()> {
        match self.at(path, |folder, name| rustix::fs::unlinkat(folder, name, flags)) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// Acts on the last component of `path` in the folder that the others lead to.
    fn at<T>(
        &self,
        path: &Path,
        act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => act(open_folder(self.volume, folder)?.as_fd(), name),
            None => act(self.volume, name),
        }
    }
}

fn write_all(file: BorrowedFd<'_>, contents: &[u8]) -> rustix::io::Result<()> {
    let mut rest = contents;
    while !rest.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(file, rest))? {
            0 => return Err(Errno::IO),
            written => rest = rest.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}
