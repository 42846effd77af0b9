//! What is remembered about published volumes beyond this process: one small file each, in a folder of its own.
//!
//! It only saves work. A lost entry costs one fetch, so nothing is flushed to the disk (a machine that crashes loses the
//! mounts as well) and whatever looks damaged is removed. What a volume is, is never decided here but by `mount`. Called
//! by `publish`, `refresh` and unpublish; one volume's calls come one after the other, because they hold its lock.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coffer_sandbox::provider::ObjectVersion;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The largest entry in bytes: room for thousands of objects with long names.
const LARGEST: usize = 1 << 20;
/// More volumes than any node has.
const MOST: usize = 10_000;

const ENTRY: &str = ".json";
/// Follows the name of an entry that is being written.
const UNFINISHED: &str = ".new";

/// What is remembered about one volume. Nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `volume_id`.
    pub volume: String,
    /// `target_path`.
    pub target: PathBuf,
    /// The pod that somebody vouched for when the volume was made: `namespace/name/uid/service account`.
    pub pod: String,
    /// The class; empty where an older release wrote this.
    pub class: String,
    /// The provider; empty where an older release wrote this.
    pub provider: String,
    /// The class as it was when the volume was last right: `<uid>/<generation>`.
    pub revision: String,
    /// The annotation `coffer.dev/refresh` of the class then.
    pub refresh: Option<String>,
    /// What is in the volume.
    pub objects: Vec<ObjectVersion>,
    /// Digest of the pod status that stands in the cluster.
    pub status: Option<String>,
    /// What Kubernetes Secrets were made of: a digest of the class's wishes and the objects' versions, never of a value.
    pub synced: Option<String>,
    /// When its files were last written; unknown where an older release wrote this. To the millisecond.
    pub changed: Option<SystemTime>,
    /// Of when its files are, where they are a kept result that nobody has confirmed since. To the millisecond.
    pub offline: Option<SystemTime>,
    /// When the volume was last found or made right. Kept as the time of modification of the file, so an unchanged
    /// refresh writes no data.
    pub checked: SystemTime,
}

/// The folder with the entries.
#[derive(Debug)]
pub struct Ledger {
    folder: OwnedFd,
    path: PathBuf,
}

/// Something about the folder or one of its entries; travels inside an [`io::Error`] of the same kind.
#[derive(Debug, Error)]
#[error("cannot {operation} {} in {}: {cure}", .what, .folder.display())]
struct Failed {
    operation: &'static str,
    what: String,
    folder: PathBuf,
    cure: &'static str,
    source: io::Error,
}

impl Ledger {
    /// Opens the folder, and makes it with mode 0700 where it is missing.
    ///
    /// # Errors
    /// When it cannot be made or read, is a link, belongs to somebody else, or may be written by others: who writes here
    /// decides whether volumes look fresh.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let failed = |source: io::Error| {
            let cure = "name a folder with mode 0700 that Coffer owns, or one that it can make";
            let (path, what) = (folder.to_owned(), String::from("the state folder"));
            io::Error::new(source.kind(), Failed { operation: "use", what, folder: path, cure, source })
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, folder, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let stat = rustix::fs::fstat(&opened).map_err(|errno| failed(errno.into()))?;
        check(&stat).map_err(failed)?;
        Ok(Self { folder: opened, path: folder.to_owned() })
    }

    /// All entries that can be read, ten thousand at most; damaged ones and unfinished ones are removed, and a lost one
    /// costs one fetch. What is not an entry by its name is left alone.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let failed = |errno: Errno| self.failed("read", "the entries", errno.into());
        for entry in Dir::read_from(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = OsStr::from_bytes(entry.file_name().to_bytes()).to_str() else { continue };
            if name.strip_suffix(UNFINISHED).is_some_and(is_entry) {
                self.discard(name, "it was never finished");
            }
            if !is_entry(name) {
                continue;
            }
            if entries.len() == MOST {
                tracing::warn!(folder = %self.path.display(), "more than {MOST} volumes are remembered; the rest is not read");
                break;
            }
            match self.read(name) {
                Ok(entry) => entries.push(entry),
                Err(Unread::Damaged(reason)) => self.discard(name, reason),
                Err(Unread::Failed(error)) => {
                    tracing::warn!(name, %error, "cannot read what is remembered of a volume")
                }
            }
        }
        Ok(entries)
    }

    /// Replaces the entry of a volume.
    ///
    /// # Errors
    /// When the entry is larger than 1 MiB or cannot be written. The one that was there stays then.
    pub fn put(&self, entry: &Entry) -> io::Result<()> {
        let name = file_name(&entry.volume);
        let unfinished = format!("{name}{UNFINISHED}");
        let written = document(entry).and_then(|json| {
            // What a crash left; it must not be taken for what is written now.
            self.unlink(&unfinished)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file: File = rustix::fs::openat(&self.folder, &unfinished, flags, Mode::RUSR | Mode::WUSR)?.into();
            file.write_all(&json)?;
            file.set_modified(entry.checked)?;
            Ok(rustix::fs::renameat(&self.folder, &unfinished, &self.folder, &name)?)
        });
        written.map_err(|error| {
            let _ = self.unlink(&unfinished);
            self.failed("write", &entry.volume, error)
        })
    }

    /// Sets `checked` alone.
    ///
    /// # Errors
    /// When there is no entry for `volume`, or its time cannot be set.
    pub fn touch(&self, volume: &str, checked: SystemTime) -> io::Result<()> {
        let touched = self.open_entry(&file_name(volume)).and_then(|file| file.set_modified(checked));
        touched.map_err(|error| self.failed("set the time of", volume, error))
    }

    /// Forgets a volume; that it is unknown is fine.
    ///
    /// # Errors
    /// When the entry cannot be removed.
    pub fn remove(&self, volume: &str) -> io::Result<()> {
        self.unlink(&file_name(volume)).map_err(|error| self.failed("remove", volume, error))
    }

    fn read(&self, name: &str) -> Result<Entry, Unread> {
        let file = match self.open_entry(name) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                return Err(Unread::Damaged("it is a link"));
            }
            other => other?,
        };
        let status = file.metadata()?;
        if !status.is_file() {
            return Err(Unread::Damaged("it is no file"));
        }
        let mut json = Vec::new();
        let read = file.take(LARGEST as u64 + 1).read_to_end(&mut json)?;
        if read > LARGEST {
            return Err(Unread::Damaged("it is too large"));
        }
        let document: Document = serde_json::from_slice(&json).map_err(|_| Unread::Damaged("it makes no sense"))?;
        if file_name(&document.volume) != name {
            return Err(Unread::Damaged("it is about another volume"));
        }
        Ok(document.into_entry(status.modified()?))
    }

    /// Not blocking: should a pipe stand there, nobody waits for its writer.
    fn open_entry(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, name, flags, Mode::empty())?.into())
    }

    fn discard(&self, name: &str, reason: &'static str) {
        tracing::debug!(name, reason, "removing what is remembered of a volume");
        if let Err(error) = self.unlink(name) {
            tracing::warn!(name, reason, %error, "cannot remove what is remembered of a volume");
        }
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn failed(&self, operation: &'static str, what: &str, source: io::Error) -> io::Error {
        let cure = "check the folder and the room on its disk; until then a restart costs a fetch";
        let (what, folder) = (what.to_owned(), self.path.clone());
        io::Error::new(source.kind(), Failed { operation, what, folder, cure, source })
    }
}

/// Why an entry was not read.
enum Unread {
    /// It will never be readable.
    Damaged(&'static str),
    /// It may be readable the next time.
    Failed(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct Document {
    volume: String,
    target: PathBuf,
    pod: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    provider: String,
    revision: String,
    refresh: Option<String>,
    objects: Vec<Object>,
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    synced: Option<String>,
    /// Milliseconds since 1970, both.
    #[serde(default)]
    changed: Option<u64>,
    #[serde(default)]
    offline: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Object {
    id: String,
    version: String,
}

impl Document {
    fn into_entry(self, checked: SystemTime) -> Entry {
        let Self { volume, target, pod, class, provider, revision, refresh, objects, status, synced, changed, offline } =
            self;
        let objects = objects.into_iter().map(|Object { id, version }| ObjectVersion { id, version }).collect();
        let (changed, offline) = (changed.and_then(time), offline.and_then(time));
        Entry {
            volume,
            target,
            pod,
            class,
            provider,
            revision,
            refresh,
            objects,
            status,
            synced,
            changed,
            offline,
            checked,
        }
    }
}

fn document(entry: &Entry) -> io::Result<Vec<u8>> {
    let Entry { volume, target, pod, class, provider, revision, refresh, objects, status, synced, .. } = entry.clone();
    let (changed, offline) = (entry.changed.map(milliseconds), entry.offline.map(milliseconds));
    let objects = objects.into_iter().map(|ObjectVersion { id, version }| Object { id, version }).collect();
    let json = serde_json::to_vec(&Document {
        volume,
        target,
        pod,
        class,
        provider,
        revision,
        refresh,
        objects,
        status,
        synced,
        changed,
        offline,
    })?;
    if json.len() > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it takes {} bytes, not {LARGEST}", json.len()),
        ));
    }
    Ok(json)
}

/// A time before 1970 is as good as none.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// kubelet's ids are plain, and then the file bears the id that logs show. Others could be anything.
fn file_name(volume: &str) -> String {
    match volume.strip_prefix("csi-").is_some_and(is_digest) {
        true => format!("{volume}{ENTRY}"),
        false => format!("id-{:x}{ENTRY}", Sha256::digest(volume)),
    }
}

fn is_entry(name: &str) -> bool {
    let name = name.strip_suffix(ENTRY).and_then(|name| name.strip_prefix("csi-").or_else(|| name.strip_prefix("id-")));
    name.is_some_and(is_digest)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn check(folder: &Stat) -> io::Result<()> {
    if folder.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    if folder.st_mode & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use tempfile::TempDir;

    const KUBELETS: &str = "csi-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn ledger() -> (TempDir, PathBuf, Ledger) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("state");
        let ledger = Ledger::open(&folder).unwrap();
        (root, folder, ledger)
    }

    fn entry(volume: &str) -> Entry {
        let object = |id: &str, version: &str| ObjectVersion { id: id.into(), version: version.into() };
        Entry {
            volume: volume.into(),
            target: "/pods/1/volumes/kubernetes.io~csi/a/mount".into(),
            pod: "default/web/1/web".into(),
            class: "kv".into(),
            provider: "azure".into(),
            revision: "uid/3".into(),
            refresh: Some("now".into()),
            objects: vec![object("secret/a", "1"), object("key/ключ", "")],
            status: None,
            synced: None,
            changed: Some(UNIX_EPOCH + Duration::from_millis(1_777_550_000_123)),
            offline: None,
            checked: UNIX_EPOCH + Duration::new(1_777_550_709, 123_456_000),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_put_is_loaded_again_by_the_next_process() {
        let (_root, folder, ledger) = ledger();
        let offline = Some(UNIX_EPOCH + Duration::from_millis(1_777_550_000_001));
        let mut wanted = vec![
            entry(KUBELETS),
            entry("a/../b\n"),
            Entry { status: Some("s".into()), synced: Some("y".into()), ..entry("") },
            Entry { offline, changed: None, ..entry("kept") },
        ];
        wanted.iter().for_each(|entry| ledger.put(entry).unwrap());
        drop(ledger);
        let mut loaded = Ledger::open(&folder).unwrap().load().unwrap();
        loaded.sort_by(|a, b| a.volume.cmp(&b.volume));
        wanted.sort_by(|a, b| a.volume.cmp(&b.volume));
        assert_eq!(loaded, wanted);
        assert!(names(&folder).contains(&format!("{KUBELETS}.json")));
        assert!(names(&folder).iter().all(|name| is_entry(name)));
    }

    #[test]
    fn what_an_older_release_wrote_is_read() {
        let (_root, folder, ledger) = ledger();
        ledger.put(&entry(KUBELETS)).unwrap();
        let file = folder.join(file_name(KUBELETS));
        let mut old: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for new in ["class", "provider", "changed", "offline"] {
            assert!(old.as_object_mut().unwrap().remove(new).is_some(), "{new}");
        }
        std::fs::write(&file, old.to_string()).unwrap();
        ledger.touch(KUBELETS, entry("").checked).unwrap();
        let older = Entry { class: String::new(), provider: String::new(), changed: None, ..entry(KUBELETS) };
        assert_eq!(ledger.load().unwrap(), [older]);
    }

    #[test]
    fn folder_and_files_are_for_the_owner_alone() {
        let (_root, folder, ledger) = ledger();
        ledger.put(&entry(KUBELETS)).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join(file_name(KUBELETS)))), (0o700, 0o600));
    }

    #[test]
    fn an_entry_is_replaced_whole_and_by_a_new_file() {
        let (_root, folder, ledger) = ledger();
        ledger.put(&entry(KUBELETS)).unwrap();
        let mut before = File::open(folder.join(file_name(KUBELETS))).unwrap();
        let other = Entry { objects: vec![], refresh: None, ..entry(KUBELETS) };
        ledger.put(&other).unwrap();
        assert_eq!(ledger.load().unwrap(), [other]);
        let mut old = String::new();
        before.read_to_string(&mut old).unwrap();
        assert!(old.contains("secret/a"), "who had it open still reads the old one: {old}");
    }

    #[test]
    fn touching_changes_the_time_and_writes_no_data() {
        let (_root, folder, ledger) = ledger();
        ledger.put(&entry(KUBELETS)).unwrap();
        let before = std::fs::metadata(folder.join(file_name(KUBELETS))).unwrap();
        for checked in [UNIX_EPOCH + Duration::new(1_900_000_000, 987_654_000), UNIX_EPOCH - Duration::from_micros(1)] {
            ledger.touch(KUBELETS, checked).unwrap();
            assert_eq!(ledger.load().unwrap(), [Entry { checked, ..entry(KUBELETS) }]);
        }
        let after = std::fs::metadata(folder.join(file_name(KUBELETS))).unwrap();
        assert_eq!((before.ino(), before.len()), (after.ino(), after.len()));
    }

    #[test]
    fn touching_what_is_unknown_fails_and_makes_nothing() {
        let (_root, folder, ledger) = ledger();
        let error = ledger.touch(KUBELETS, UNIX_EPOCH).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let message = error.to_string();
        assert!(message.contains(KUBELETS) && message.contains(folder.to_str().unwrap()), "{message}");
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn forgetting_twice_is_fine() {
        let (_root, folder, ledger) = ledger();
        ledger.put(&entry(KUBELETS)).unwrap();
        ledger.remove(KUBELETS).unwrap();
        ledger.remove(KUBELETS).unwrap();
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn damaged_and_unfinished_entries_are_removed_and_the_others_are_loaded() {
        let (root, folder, ledger) = ledger();
        ledger.put(&entry("good")).unwrap();
        let good = std::fs::read(folder.join(file_name("good"))).unwrap();
        let place = |volume: &str, content: &[u8]| std::fs::write(folder.join(file_name(volume)), content).unwrap();
        place("empty", b"");
        place("cut", good.get(..good.len() / 2).unwrap());
        place("no json", b"\0\xff");
        place("a list", b"[]");
        place("of another volume", &good);
        place("large", &[b" ".repeat(LARGEST), good.clone()].concat());
        std::fs::write(folder.join(file_name("good") + UNFINISHED), &good).unwrap();
        std::fs::write(root.path().join("outside"), &good).unwrap();
        symlink(root.path().join("outside"), folder.join(file_name("link"))).unwrap();
        let (pipe, kind) = (folder.join(file_name("pipe")), rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(CWD, &pipe, kind, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(ledger.load().unwrap(), [entry("good")]);
        assert_eq!(names(&folder), [file_name("good")]);
        assert!(root.path().join("outside").exists());
    }

    #[test]
    fn what_is_not_an_entry_by_its_name_is_left_alone() {
        let (_root, folder, ledger) = ledger();
        let strangers = [".hidden", "csi-0123.json", "id-.json.new", "notes.json", &KUBELETS.to_uppercase()];
        for name in strangers {
            std::fs::write(folder.join(name), "{}").unwrap();
        }
        std::fs::create_dir(folder.join(file_name("a folder"))).unwrap();
        assert_eq!(ledger.load().unwrap(), []);
        assert_eq!(names(&folder).len(), strangers.len() + 1);
    }

    #[test]
    fn what_a_crash_left_unfinished_is_in_nobodys_way() {
        let (_root, folder, ledger) = ledger();
        std::fs::write(folder.join(file_name(KUBELETS) + UNFINISHED), "half of it").unwrap();
        ledger.put(&entry(KUBELETS)).unwrap();
        assert_eq!(names(&folder), [file_name(KUBELETS)]);
        assert_eq!(ledger.load().unwrap(), [entry(KUBELETS)]);
    }

    #[test]
    fn an_entry_that_is_too_large_is_refused_and_the_old_one_stays() {
        let (_root, folder, ledger) = ledger();
        ledger.put(&entry(KUBELETS)).unwrap();
        let large = Entry { revision: "x".repeat(LARGEST), ..entry(KUBELETS) };
        assert_eq!(ledger.put(&large).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(names(&folder), [file_name(KUBELETS)]);
        assert_eq!(ledger.load().unwrap(), [entry(KUBELETS)]);
    }

    #[test]
    fn two_thousand_objects_with_long_names_fit() {
        let (_root, _folder, ledger) = ledger();
        let object = |_| ObjectVersion { id: "i".repeat(256), version: "v".repeat(64) };
        let large = Entry { objects: (0..2_000).map(object).collect(), ..entry(KUBELETS) };
        ledger.put(&large).unwrap();
        assert_eq!(ledger.load().unwrap(), [large]);
    }

    #[test]
    fn ten_thousand_volumes_are_loaded_and_no_more() {
        let (_root, _folder, ledger) = ledger();
        (0..=MOST).for_each(|index| ledger.put(&entry(&index.to_string())).unwrap());
        assert_eq!(ledger.load().unwrap().len(), MOST);
    }

    #[test]
    fn a_folder_that_others_may_write_a_link_and_a_file_are_refused_and_named() {
        let (root, folder, _ledger) = ledger();
        std::fs::write(root.path().join("file"), "").unwrap();
        symlink(&folder, root.path().join("link")).unwrap();
        std::fs::create_dir(root.path().join("open")).unwrap();
        std::fs::set_permissions(root.path().join("open"), PermissionsExt::from_mode(0o720)).unwrap();
        for name in ["file", "link", "open"] {
            let message = Ledger::open(&root.path().join(name)).unwrap_err().to_string();
            assert!(message.contains(&format!("/{name}")) && message.contains("0700"), "{message}");
        }
        assert_eq!(mode(&root.path().join("open")), 0o720, "what is not Coffer's is not changed");
    }
}
