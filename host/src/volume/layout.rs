//! How a volume looks on disk, and what is there now. Reads only; never follows a symbolic link, never leaves the
//! volume. Called by `writer` before it decides anything, and for reports.
//!
//! ```text
//! ..data                             -> ..2026_04_30_12_00_00.123    the version in force
//! ..2026_04_30_12_00_00.123/a/b         its files
//! a                                  -> ..data/a                     a link for each first component
//! ```
//!
//! While a write is going on there are also `..data_tmp`, `..link_tmp.<n>` and a second version. Whatever else stands in
//! the folder is foreign.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;
use zeroize::Zeroizing;

use super::PresentFile;
use super::files::{FileSet, shorten};

/// The link to the version in force.
pub(super) const DATA: &str = "..data";
/// What becomes [`DATA`].
pub(super) const NEXT_DATA: &str = "..data_tmp";
/// What becomes the link of a name that something foreign takes up; a number follows.
pub(super) const NEXT_LINK: &str = "..link_tmp.";
/// The mode of every folder.
pub(super) const FOLDER_MODE: u32 = 0o755;

const READ_BUFFER: usize = 16 << 10;

/// Something in a volume cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {path:?} of the volume; check that the volume is mounted and that Coffer runs as its owner")]
pub struct ReadError {
    path: String,
    source: io::Error,
}

impl ReadError {
    pub(super) fn of(path: &Path) -> impl FnOnce(Errno) -> Self {
        move |error| Self { path: shorten(&path.to_string_lossy()), source: error.into() }
    }
}

/// A file or folder below the top of a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Relative to the volume.
    pub path: PathBuf,
    pub kind: Kind,
    pub mode: u32,
    pub group: u32,
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// Links, sockets, devices: nothing that Coffer puts into a version.
    Other,
}

/// Something at the top of a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A symbolic link and what it says.
    Link(OsString),
    /// A folder and everything in it; each folder before what is in it, itself first.
    Folder(Vec<Node>),
    /// A file or anything else that one `unlink` removes.
    File,
}

/// What is at the top of a volume, foreign things that are in nobody's way left out.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub entries: BTreeMap<OsString, Entry>,
    /// The name of the version in force.
    pub current: Option<OsString>,
}

impl Found {
    /// Reads everything that is ours or bears one of the `wanted` names.
    pub(super) fn read(volume: BorrowedFd<'_>, wanted: &BTreeSet<&str>) -> Result<Self, ReadError> {
        let mut entries = BTreeMap::new();
        for name in names_in(volume.as_fd()).map_err(ReadError::of(Path::new(".")))? {
            let wanted = name.to_str().is_some_and(|name| wanted.contains(name));
            if let Some(entry) = read_entry(volume, &name, wanted)? {
                entries.insert(name, entry);
            }
        }
        let current = match entries.get(OsStr::new(DATA)) {
            Some(Entry::Link(to)) if matches!(entries.get(to), Some(Entry::Folder(_))) => {
                Some(to.clone()).filter(|to| is_version(to))
            }
            _ => None,
        };
        Ok(Self { entries, current })
    }

    /// Everything in the version in force.
    pub(super) fn current_nodes(&self) -> Option<&[Node]> {
        match self.entries.get(self.current.as_ref()?)? {
            Entry::Folder(nodes) => Some(nodes),
            Entry::Link(_) | Entry::File => None,
        }
    }
}

/// The name of the folder for a version made at `now`. The number keeps a name from coming back: a reader that
/// remembers an old one must never find newer files under it.
pub(super) fn version_name(now: Timestamp, number: u64) -> String {
    format!("{}.{number}", now.strftime("..%Y_%m_%d_%H_%M_%S"))
}

/// Whether `name` looks like `..YYYY_MM_DD_HH_MM_SS.<digits>`.
pub(super) fn is_version(name: &OsStr) -> bool {
    let Some((time, number)) = name.to_str().and_then(|name| name.strip_prefix("..")?.split_once('.')) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let lengths: Vec<usize> = time.split('_').map(str::len).collect();
    lengths == [4, 2, 2, 2, 2, 2] && time.split('_').all(digits) && digits(number)
}

/// What the link of a top-level name says.
pub(super) fn link_text(name: &OsStr) -> OsString {
    let mut text = OsString::from(DATA);
    text.push("/");
    text.push(name);
    text
}

/// Opens the folder at `path` relative to `volume`, one component after the other and none of them a link. An empty
/// path is an error: the volume is open already.
pub(super) fn open_folder(volume: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder: Option<OwnedFd> = None;
    for name in path {
        let above = folder.as_ref().map_or(volume, OwnedFd::as_fd);
        folder = Some(rustix::fs::openat(above, name, flags, Mode::empty())?);
    }
    folder.ok_or(Errno::INVAL)
}

/// The mode of a file that shall have `mode` in a volume of `group`: what its owner may read, the group may read, or a
/// process that is not root could not open a 0400 file in its own pod.
pub(super) fn mode_for(group: Option<u32>, mode: u32) -> u32 {
    match group {
        Some(_) => mode | (mode & 0o400) >> 3,
        None => mode,
    }
}

/// Whether `..data` leads to a folder in the volume, whoever made it. Nothing is followed but `..data` itself.
pub(super) fn has_version(volume: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(open_version(volume)?.is_some())
}

/// The folder that `..data` leads to, if that is in the volume.
pub(super) fn open_version(volume: BorrowedFd<'_>) -> rustix::io::Result<Option<OwnedFd>> {
    let version = match rustix::fs::readlinkat(volume, DATA, Vec::new()) {
        Ok(text) => PathBuf::from(OsString::from_vec(text.into_bytes())),
        // No link but perhaps a folder.
        Err(Errno::INVAL) => PathBuf::from(DATA),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let inside = version.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match inside.then(|| open_folder(volume, &version)) {
        None | Some(Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL)) => Ok(None),
        Some(folder) => folder.map(Some),
    }
}

/// See [`super::Volume::present`].
pub(super) fn present(volume: BorrowedFd<'_>) -> Result<Option<Vec<PresentFile>>, ReadError> {
    let found = Found::read(volume, &BTreeSet::new())?;
    let (Some(version), Some(nodes)) = (&found.current, found.current_nodes()) else { return Ok(None) };
    let mut files: Vec<PresentFile> = nodes
        .iter()
        .filter(|node| node.kind == Kind::File)
        .filter_map(|node| {
            let path = node.path.strip_prefix(version).ok()?.to_string_lossy().into_owned();
            Some(PresentFile { path, len: node.len, mode: node.mode })
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(files))
}

/// Whether the version in force consists of exactly `files`: names, kinds, modes, contents, and the group if there is
/// one.
pub(super) fn holds(
    volume: BorrowedFd<'_>,
    found: &Found,
    files: &FileSet,
    group: Option<u32>,
) -> Result<bool, ReadError> {
    let (Some(version), Some(nodes)) = (&found.current, found.current_nodes()) else { return Ok(false) };
    let folders = files.folders();
    // The folder of the version is a node as well.
    if nodes.len() != files.len() + folders.len() + 1 {
        return Ok(false);
    }
    if group.is_some_and(|group| nodes.iter().any(|node| node.group != group)) {
        return Ok(false);
    }
    for node in nodes {
        let path = node.path.strip_prefix(version).ok().and_then(Path::to_str);
        let right = match (path, node.kind) {
            (Some(path), Kind::Folder) => node.mode == FOLDER_MODE && (path.is_empty() || folders.contains(path)),
            (Some(path), Kind::File) => match files.find(path) {
                Some(file) if mode_for(group, file.mode()) == node.mode && file.len() as u64 == node.len => {
                    contains(volume, &node.path, file.expose()).map_err(ReadError::of(&node.path))?
                }
                _ => false,
            },
            _ => false,
        };
        if !right {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_entry(volume: BorrowedFd<'_>, name: &OsStr, wanted: bool) -> Result<Option<Entry>, ReadError> {
    let failed = || ReadError::of(Path::new(name));
    let kind = match rustix::fs::statat(volume, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        // Foreign things may come and go at any time.
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed()(error)),
    };
    let ours = name == DATA || name == NEXT_DATA || name.as_bytes().starts_with(NEXT_LINK.as_bytes());
    match kind {
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(volume, name, Vec::new()).map_err(failed())?;
            let text = OsString::from_vec(text.into_bytes());
            Ok((ours || wanted || text == link_text(name)).then_some(Entry::Link(text)))
        }
        FileType::Directory if ours || wanted || is_version(name) => {
            Ok(Some(Entry::Folder(nodes_of(volume, Path::new(name))?)))
        }
        FileType::Directory => Ok(None),
        _ => Ok((ours || wanted).then_some(Entry::File)),
    }
}

/// The folder `top` and everything in it, each folder before what is in it.
fn nodes_of(volume: BorrowedFd<'_>, top: &Path) -> Result<Vec<Node>, ReadError> {
    let mut nodes = vec![node(volume, top, top.as_os_str()).map_err(ReadError::of(top))?];
    let mut read = 0;
    while let Some(Node { path, kind, .. }) = nodes.get(read) {
        if *kind == Kind::Folder {
            let path = path.clone();
            let folder = open_folder(volume, &path).map_err(ReadError::of(&path))?;
            for name in names_in(folder.as_fd()).map_err(ReadError::of(&path))? {
                let path = path.join(&name);
                nodes.push(node(folder.as_fd(), &path, &name).map_err(ReadError::of(&path))?);
            }
        }
        read += 1;
    }
    Ok(nodes)
}

fn node(folder: BorrowedFd<'_>, path: &Path, name: &OsStr) -> rustix::io::Result<Node> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    };
    // All twelve bits: a file that somebody made setuid is not the file that was written.
    let (mode, len) = (stat.st_mode & 0o7777, stat.st_size.try_into().unwrap_or(0));
    Ok(Node { path: path.to_owned(), kind, mode, group: stat.st_gid, len })
}

/// Names in a folder, sorted, so that the same folder always gives the same plan.
fn names_in(folder: BorrowedFd<'_>) -> rustix::io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether the file at `path` has exactly these `contents`. A file that may not be read (mode 0 without the capability
/// to override it) counts as different: it is written again rather than never.
fn contains(volume: BorrowedFd<'_>, path: &Path, contents: &[u8]) -> rustix::io::Result<bool> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
    let folder = open_folder(volume, folder)?;
    // Not blocking: should a pipe have taken its place, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ACCESS) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut buffer = Zeroizing::new(vec![0; READ_BUFFER]);
    let mut rest = contents;
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, buffer.as_mut_slice()))?;
        if read == 0 {
            return Ok(rest.is_empty());
        }
        match buffer.get(..read).and_then(|bytes| rest.strip_prefix(bytes)) {
            Some(more) => rest = more,
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_like_those_of_the_reference() {
        let now: Timestamp = "2026-04-30T12:05:09.5Z".parse().unwrap();
        assert_eq!(version_name(now, 7), "..2026_04_30_12_05_09.7");
        assert!(is_version(OsStr::new("..2026_04_30_12_05_09.7")));
        assert!(is_version(OsStr::new(&version_name(now, u64::MAX))));
    }

    #[test]
    fn a_group_may_read_what_the_owner_may_and_loses_nothing() {
        let cases = [(0o400, 0o440), (0o600, 0o640), (0o644, 0o644), (0o440, 0o440), (0o770, 0o770), (0o200, 0o200)];
        for (mode, with_group) in cases {
            assert_eq!((mode_for(Some(1), mode), mode_for(None, mode)), (with_group, mode), "{mode:o}");
        }
        assert_eq!(mode_for(Some(0), 0), 0);
    }

    #[test]
    fn other_names_are_no_versions() {
        for name in [
            "..data",
            "..2026",
            "2026_04_30_12_05_09.7",
            "..2026_04_30_12_05_09",
            "..2026_04_30_12_05_09.",
            "..2026_04_30_12_05_09.x",
            "..2026_04_30_12_05.7",
            "..2026_04_30_12_05_9.7",
            "..2026_04_30_12_05_09.7.8",
            "..2026_04_30_12_05_0x.7",
            "..backup.1",
        ] {
            assert!(!is_version(OsStr::new(name)), "{name}");
        }
    }
}
