//! Reads files of a volume back: for Kubernetes Secrets that are made of what was mounted earlier.
//!
//! Nothing is followed but `..data`, and that not out of the volume. A refresh may replace the version at any time: all
//! files come from the same one, or it is begun anew. `sync` is the caller, by [`super::Volume::contents`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coffer_sandbox::secret::SecretBytes;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::files::is_path;
use super::layout::{self, ReadError};

/// No Kubernetes Secret holds more.
pub const LARGEST: usize = 1 << 20;
/// How often it is begun anew.
const ATTEMPTS: usize = 4;

type Contents = BTreeMap<String, SecretBytes>;

/// See [`super::Volume::contents`].
pub(super) fn contents(volume: BorrowedFd<'_>, paths: &BTreeSet<&str>) -> Result<Option<Contents>, ReadError> {
    let open = || layout::open_version(volume).map_err(ReadError::of(Path::new(layout::DATA)));
    for _ in 1..ATTEMPTS {
        let Some(version) = open()? else { return Ok(None) };
        let contents = of_version(&version, paths)?;
        // A file that is missing may have gone with its version.
        if contents.len() == paths.len() || is_same(&version, open()?.as_ref()) {
            return Ok(Some(contents));
        }
    }
    open()?.map(|version| of_version(&version, paths)).transpose()
}

fn of_version(version: &OwnedFd, paths: &BTreeSet<&str>) -> Result<Contents, ReadError> {
    let mut contents = Contents::new();
    for path in paths.iter().filter(|path| is_path(path)) {
        if let Some(file) = open(version.as_fd(), Path::new(path)).map_err(ReadError::of(Path::new(path)))? {
            contents.insert((*path).to_owned(), read(file).map_err(ReadError::of(Path::new(path)))?);
        }
    }
    Ok(contents)
}

/// A file that is no link, in folders that are none.
fn open(version: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Option<File>> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let folder = match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => match layout::open_folder(version, folder) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            folder => Some(folder?),
        },
        None => None,
    };
    // Not blocking: should a pipe stand there, nobody waits for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder.as_ref().map_or(version, OwnedFd::as_fd), name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        file => file?,
    };
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    Ok((kind == rustix::fs::FileType::RegularFile).then(|| file.into()))
}

fn read(file: File) -> rustix::io::Result<SecretBytes> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = file.take(LARGEST as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(std::mem::take(&mut *bytes).into())
}

fn is_same(one: &OwnedFd, other: Option<&OwnedFd>) -> bool {
    let inode = |folder: &OwnedFd| rustix::fs::fstat(folder).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    other.is_some_and(|other| inode(one) == inode(other))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::{FileSet, Limits, NewFile, Volume};
    use super::*;

    fn volume(files: &[(&str, &str)]) -> (TempDir, Volume) {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = Volume::open(folder.path()).unwrap();
        let files = files.iter().map(|(path, text)| NewFile {
            path: (*path).into(),
            mode: None,
            contents: String::from(*text).into(),
        });
        let files = FileSet::new(files, 0o644, &Limits { bytes: 8 << 20, ..Limits::default() }).unwrap();
        volume.replace(&files, "2026-04-30T12:05:09Z".parse().unwrap()).unwrap();
        (folder, volume)
    }

    fn read_back(volume: &Volume, paths: &[&str]) -> Vec<(String, Vec<u8>)> {
        let contents = volume.contents(&paths.iter().copied().collect()).unwrap().unwrap();
        contents.into_iter().map(|(path, bytes)| (path, bytes.expose().to_vec())).collect()
    }

    #[test]
    fn files_are_read_back_by_their_paths_and_missing_ones_are_left_out() {
        let (_folder, volume) = volume(&[("a", "1"), ("b/c", "2"), ("d", "")]);
        let read = read_back(&volume, &["a", "b/c", "d", "b", "none", "none/a", "a/b"]);
        let wanted = [("a", "1"), ("b/c", "2"), ("d", "")];
        assert_eq!(read, wanted.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())));
    }

    #[test]
    fn nothing_outside_of_the_version_is_read_by_any_name() {
        let (folder, volume) = volume(&[("a", "1"), ("b/c", "2")]);
        std::fs::write(folder.path().join("outside"), "canary").unwrap();
        let version = std::fs::read_link(folder.path().join("..data")).unwrap();
        let version = folder.path().join(version);
        symlink("/etc", version.join("folder")).unwrap();
        symlink("../outside", version.join("link")).unwrap();
        std::fs::create_dir(version.join("kind")).unwrap();
        let paths =
            ["../outside", "/etc/passwd", "folder/passwd", "link", "b/../../outside", "kind", "", ".", "..data/a"];
        assert_eq!(read_back(&volume, &paths), []);
    }

    #[test]
    fn a_data_link_that_leaves_the_volume_leads_nowhere() {
        let (folder, volume) = volume(&[("passwd", "1")]);
        for text in ["/etc", "../../etc"] {
            std::fs::remove_file(folder.path().join("..data")).unwrap();
            symlink(text, folder.path().join("..data")).unwrap();
            assert!(volume.contents(&BTreeSet::from(["passwd"])).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn what_no_secret_can_hold_is_not_read_to_its_end() {
        let (_folder, volume) = volume(&[("large", &"x".repeat(3 << 20))]);
        assert_eq!(read_back(&volume, &["large"])[0].1.len(), LARGEST + 1);
    }
}
