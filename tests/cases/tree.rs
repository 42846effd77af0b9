//! A folder as it is on disk, down to inodes and times, to be compared with what it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every entry by its path; the folder itself has the empty one.
#[derive(PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

/// One entry. Any write to it changes `changed`, which nobody can set.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub inode: u64,
    /// Kind and permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    pub changed: (i64, i64),
    /// The bytes of a file, what a link points to, nothing of a folder.
    pub content: Vec<u8>,
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

    /// The entry of this path, which must be there.
    pub fn entry(&self, path: &str) -> &Entry {
        self.0.get(Path::new(path)).unwrap_or_else(|| panic!("{path:?} is not in {self:?}"))
    }

    /// The names at the top, sorted.
    pub fn names(&self) -> Vec<&str> {
        let top = self.0.keys().filter(|path| path.components().count() == 1);
        top.map(|path| path.to_str().unwrap()).collect()
    }

    /// Everything, by path.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }
}

impl Entry {
    /// Permission bits.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// The bytes of a file or a link as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
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
    let owner = (status.uid(), status.gid());
    let entry = Entry { inode: status.ino(), mode: status.mode(), owner, changed, content };
    entries.insert(path.to_owned(), entry);
    if status.is_dir() {
        for entry in fs::read_dir(&place).unwrap() {
            add(folder, &path.join(entry.unwrap().file_name()), entries);
        }
    }
}
