//! A target folder as it is on disk, down to inodes and times, to be compared with what it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every entry by its path; the folder itself has the empty one.
#[derive(PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(PartialEq, Eq)]
struct Entry {
    inode: u64,
    mode: u32,
    changed: (i64, i64),
    /// The bytes of a file, what a link points to, nothing of a folder.
    content: Vec<u8>,
}

/// Paths only: contents are secrets.
impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.0.iter().map(|(path, entry)| (path, (entry.inode, entry.mode, entry.changed)));
        f.debug_map().entries(shown).finish()
    }
}

impl Tree {
    /// What is there; none if nothing is.
    pub fn read(folder: &Path) -> Option<Self> {
        fs::symlink_metadata(folder).ok()?;
        let mut entries = BTreeMap::new();
        add(folder, Path::new(""), &mut entries);
        Some(Self(entries))
    }
}

fn add(folder: &Path, path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    let place = folder.join(path);
    let status = fs::symlink_metadata(&place).unwrap();
    let content = match status.file_type() {
        kind if kind.is_symlink() => fs::read_link(&place).unwrap().into_os_string().into_encoded_bytes(),
        kind if kind.is_dir() => Vec::new(),
        _ => fs::read(&place).unwrap(),
    };
    let changed = (status.ctime(), status.ctime_nsec());
    entries.insert(path.to_owned(), Entry { inode: status.ino(), mode: status.mode(), changed, content });
    if status.is_dir() {
        for entry in fs::read_dir(&place).unwrap() {
            add(folder, &path.join(entry.unwrap().file_name()), entries);
        }
    }
}
