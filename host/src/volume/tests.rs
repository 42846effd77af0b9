//! What the writer promises, shown on real folders. `writes`: one write after another. `crashes`: a write that stops
//! after each of its steps. `calls`: the steps against the system calls, and every call failing or killing. `readers`:
//! reading while versions change.
//!
//! And what `mount` promises, shown on real mounts in a `namespace`: `looks`, `mounts`, `removals`, `groups`, `room`.

mod calls;
mod crashes;
mod groups;
mod looks;
mod mounts;
mod namespace;
mod readers;
mod removals;
mod room;
mod writes;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tempfile::TempDir;

use super::layout::{DATA, is_version};
use super::{Change, FileSet, Limits, NewFile, Volume};

type Content<'a> = &'a [(&'a str, u32, &'a str)];

/// A version with everything in it: nested folders, an empty file, odd modes, a name that turns from file to folder.
const OLD: Content<'_> = &[
    ("both", 0o644, "old both"),
    ("empty", 0o644, ""),
    ("gone", 0o600, "old gone"),
    ("nested/deep/er", 0o440, "old deep"),
    ("nested/gone", 0o444, "old nested gone"),
    ("turns", 0o644, "old turns"),
    ("mode", 0o600, "same"),
];
const NEW: Content<'_> = &[
    ("both", 0o644, "new both"),
    ("empty", 0o644, ""),
    ("new", 0o400, "new new"),
    ("nested/deep/er", 0o440, "new deep"),
    ("nested/fresh/file", 0o777, "new fresh"),
    ("turns/into/folder", 0o644, "new turns"),
    ("mode", 0o640, "same"),
];
const OTHER: Content<'_> = &[("other", 0o644, "other other"), ("turns", 0o400, "other turns")];

fn now() -> Timestamp {
    "2026-04-30T12:05:09Z".parse().unwrap()
}

fn files(content: Content<'_>) -> FileSet {
    let new = |(path, mode, text): &(&str, u32, &str)| NewFile {
        path: (*path).into(),
        mode: Some(*mode),
        contents: text.as_bytes().to_vec().into(),
    };
    FileSet::new(content.iter().map(new), 0o644, &Limits::default()).unwrap()
}

fn replace(target: &Path, files: &FileSet) -> Change {
    Volume::open(target).unwrap().replace(files, now()).unwrap()
}

/// A volume that holds `content`.
fn volume_with(content: Content<'_>) -> TempDir {
    let target = tempfile::tempdir().unwrap();
    replace(target.path(), &files(content));
    target
}

/// Everything in a folder: path to kind, mode, and contents or link text. Nothing is followed.
fn everything_in(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_symlink() {
                format!("link to {}", std::fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                pending.push(path.clone());
                "folder".into()
            } else {
                String::from_utf8(std::fs::read(&path).unwrap()).unwrap()
            };
            let described = format!("{:o} {what}", metadata.mode() & 0o7777);
            all.insert(path.strip_prefix(folder).unwrap().to_owned(), described);
        }
    }
    all
}

/// The name of the version in force.
fn version_of(target: &Path) -> PathBuf {
    std::fs::read_link(target.join(DATA)).unwrap()
}

/// What a volume that holds `files` and nothing else consists of.
fn layout_of(version: &Path, files: &FileSet) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    all.insert(DATA.into(), format!("777 link to {}", version.display()));
    all.insert(version.to_owned(), String::from("755 folder"));
    for file in files.iter() {
        let top = file.path().split('/').next().unwrap();
        all.insert(top.into(), format!("777 link to ..data/{top}"));
        for folder in Path::new(file.path()).ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            all.insert(version.join(folder), String::from("755 folder"));
        }
        let contents = std::str::from_utf8(file.expose()).unwrap();
        all.insert(version.join(file.path()), format!("{:o} {contents}", file.mode()));
    }
    all
}

/// The volume holds exactly `files`: every link, folder, mode and byte, and nothing besides.
fn assert_holds(target: &Path, files: &FileSet) {
    let version = version_of(target);
    assert!(is_version(version.as_os_str()), "{version:?}");
    assert_eq!(everything_in(target), layout_of(&version, files));
}

/// Whether a reader that goes through `..data` sees exactly `files`.
fn shows(target: &Path, files: &FileSet) -> bool {
    let Ok(version) = std::fs::read_link(target.join(DATA)) else { return false };
    let seen = everything_in(&target.join(version));
    let wanted = layout_of(Path::new("v"), files);
    let wanted = wanted.iter().filter_map(|(path, what)| Some((path.strip_prefix("v").ok()?, what)));
    seen.iter().map(|(path, what)| (path.as_path(), what)).eq(wanted.filter(|(path, _)| *path != Path::new("")))
}

/// What crashed writes and strangers may leave in a volume. Returns the names that must stay.
fn litter(target: &Path) -> [&'static str; 4] {
    std::fs::create_dir_all(target.join("..2020_01_01_00_00_00.1/sub")).unwrap();
    std::fs::write(target.join("..2020_01_01_00_00_00.1/sub/secret"), "orphan").unwrap();
    symlink("..2020_01_01_00_00_00.1", target.join("..data_tmp")).unwrap();
    symlink("..data/new", target.join("..link_tmp.3")).unwrap();
    symlink("..data/stale", target.join("stale")).unwrap();
    std::fs::create_dir_all(target.join("new/folder/in/the/way")).unwrap();
    std::fs::write(target.join("new/folder/file"), "in the way").unwrap();
    let _ = std::fs::remove_file(target.join("both"));
    symlink("/nonexistent", target.join("both")).unwrap();
    std::fs::write(target.join("foreign"), "foreign").unwrap();
    std::fs::write(target.join("..foreign"), "foreign").unwrap();
    symlink("..data/both", target.join("alias")).unwrap();
    std::fs::create_dir(target.join("lost+found")).unwrap();
    ["foreign", "..foreign", "alias", "lost+found"]
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Says that it is over when it is dropped: also when a test fails, or its panic would leave other threads running.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
