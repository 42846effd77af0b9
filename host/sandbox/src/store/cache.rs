//! Compiled code on disk, so that a restart does not compile again.
//!
//! Native code is as powerful as this process, so the folder is ours alone (0700, every parent safe from others), and
//! an entry is used only when it is ours, complete and for exactly this component and engine. The checksum finds
//! damage, not forgery: whoever can write here as our user has won already. Anything doubtful is compiled anew.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::store::Digest;

/// First line of an entry; the number changes with the layout.
const MAGIC: &str = "coffer native code 1";

/// How many entries stay: a few plugins in a few versions.
const ENTRIES: usize = 16;

/// The largest entry that is read, in bytes.
const LARGEST: u64 = 512 << 20;

/// After this time an unfinished entry belongs to nobody.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A folder of compiled code.
pub struct Cache {
    folder: OwnedFd,
}

/// A folder that cannot be trusted with native code.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or opened.
    #[error("cache folder {path} cannot be opened")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can write to it, or put another one in its place.
    #[error("{path} {what}, so others could place code in the cache; {cure}")]
    Exposed {
        /// The folder or a parent of it.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        cure: &'static str,
    },
}

/// What an entry is for.
pub(super) struct Key {
    pub(super) digest: Digest,
    pub(super) engine: String,
}

impl Key {
    fn name(&self) -> String {
        format!("{}-{}.code", self.digest.hex(), self.engine)
    }

    fn header(&self, code: &[u8]) -> String {
        format!("{MAGIC}\n{} {}\n{}\n", self.digest, self.engine, Digest::of(code))
    }
}

impl Cache {
    /// Opens the folder; makes it, mode 0700, if it is not there.
    ///
    /// # Errors
    /// [`CacheError`] when it cannot be made, or when others than this user and root could write to it or replace it.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        let io = |source: io::Error| CacheError::Io { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(io)?;
        make(&path).map_err(io)?;
        let path = path.canonicalize().map_err(io)?;
        path.ancestors().skip(1).try_for_each(check_parent)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = fs::open(&path, flags, Mode::empty()).map_err(|errno| io(errno.into()))?;
        check_folder(&path, &fs::fstat(&folder).map_err(|errno| io(errno.into()))?)?;
        let cache = Self { folder };
        cache.sweep();
        Ok(cache)
    }

    /// The code for `key`, if there is an entry that can be trusted.
    pub(super) fn read(&self, key: &Key) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let entry = fs::openat(&self.folder, key.name(), flags, Mode::empty()).ok()?;
        let status = fs::fstat(&entry).ok()?;
        let reason = if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            "it is no regular file"
        } else if !is_mine(&status) || status.st_mode & 0o022 != 0 {
            "others may have written it"
        } else {
            match read_entry(entry.into(), key) {
                Some(code) => return Some(code),
                None => "it is damaged or made for something else",
            }
        };
        tracing::warn!(plugin_digest = %key.digest, reason, "ignoring a cached plugin, compiling it again");
        None
    }

    /// Stores the code for `key`: whole or not at all.
    pub(super) fn write(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        let temporary = format!(".{:032x}.new", rand::random::<u128>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let written = write_entry(file.into(), key, code)
            .and_then(|()| Ok(fs::renameat(&self.folder, &temporary, &self.folder, key.name())?));
        if written.is_err() {
            let _ = fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
        }
        self.sweep();
        written
    }

    /// Removes what nobody will use again: abandoned unfinished entries, and the oldest beyond [`ENTRIES`]. Best
    /// effort: what stays is only space.
    fn sweep(&self) {
        let mut entries = self.list();
        entries.sort_by_key(|(_, modified)| std::cmp::Reverse(*modified));
        let abandoned = SystemTime::now() - ABANDONED;
        let (unfinished, finished): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(name, _)| name.ends_with(".new"));
        let unfinished = unfinished.into_iter().filter(|(_, modified)| *modified < abandoned);
        let surplus = finished.into_iter().filter(|(name, _)| name.ends_with(".code")).skip(ENTRIES);
        for (name, _) in unfinished.chain(surplus) {
            let _ = fs::unlinkat(&self.folder, &name, AtFlags::empty());
        }
    }

    fn list(&self) -> Vec<(String, SystemTime)> {
        let Ok(folder) = Dir::read_from(&self.folder) else { return Vec::new() };
        let names = folder.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let modified = |name: String| {
            let status = fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let seconds = u64::try_from(status.st_mtime).unwrap_or_default();
            Some((name, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
        };
        names.filter_map(modified).collect()
    }
}

fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn is_mine(status: &Stat) -> bool {
    status.st_uid == rustix::process::geteuid().as_raw()
}

fn check_folder(path: &Path, status: &Stat) -> Result<(), CacheError> {
    let exposed = |what, cure| Err(CacheError::Exposed { path: path.to_owned(), what, cure });
    if !is_mine(status) {
        return exposed(
            format!("belongs to user {}", status.st_uid),
            "choose another folder with `cache` in the configuration",
        );
    }
    match status.st_mode & 0o077 {
        0 => Ok(()),
        _ => exposed(format!("has mode {:04o}", status.st_mode & 0o7777), "empty it and set its mode to 0700"),
    }
}

/// A parent may belong to root or us, and be writable for others only with the sticky bit, as `/tmp` is.
fn check_parent(path: &Path) -> Result<(), CacheError> {
    let status = fs::stat(path).map_err(|errno| CacheError::Io { path: path.to_owned(), source: errno.into() })?;
    let exposed = |what, cure| Err(CacheError::Exposed { path: path.to_owned(), what, cure });
    if status.st_uid != 0 && !is_mine(&status) {
        return exposed(
            format!("belongs to user {}", status.st_uid),
            "choose another folder with `cache` in the configuration",
        );
    }
    let (writable, sticky) = (status.st_mode & 0o022 != 0, status.st_mode & 0o1000 != 0);
    match writable && !sticky {
        true => {
            exposed(format!("has mode {:04o}", status.st_mode & 0o7777), "take write permission from group and others")
        }
        false => Ok(()),
    }
}

fn read_entry(entry: std::fs::File, key: &Key) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(entry.metadata().ok()?.len()).ok()?.min(LARGEST as usize));
    entry.take(LARGEST).read_to_end(&mut bytes).ok()?;
    let header = key.header(b"").len();
    let code = bytes.get(header..)?;
    if bytes.get(..header)? != key.header(code).as_bytes() {
        return None;
    }
    bytes.drain(..header);
    Some(bytes)
}

fn write_entry(mut file: std::fs::File, key: &Key, code: &[u8]) -> io::Result<()> {
    file.write_all(key.header(code).as_bytes())?;
    file.write_all(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn key() -> Key {
        Key { digest: Digest::of(b"component"), engine: "engine".into() }
    }

    fn cache() -> (tempfile::TempDir, PathBuf, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let cache = Cache::open(&path).unwrap();
        (folder, path, cache)
    }

    #[test]
    fn an_entry_comes_back_as_it_was_written() {
        let (_keep, path, cache) = cache();
        cache.write(&key(), b"code").unwrap();
        assert_eq!(cache.read(&key()).unwrap(), b"code");
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn an_entry_with_one_changed_missing_or_added_byte_is_not_used() {
        let (_keep, path, cache) = cache();
        cache.write(&key(), b"some code").unwrap();
        let entry = path.join(key().name());
        let good = std::fs::read(&entry).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            std::fs::write(&entry, &bad).unwrap();
            assert!(cache.read(&key()).is_none(), "byte {position} changed");
            std::fs::write(&entry, &good[..position]).unwrap();
            assert!(cache.read(&key()).is_none(), "cut at byte {position}");
        }
        std::fs::write(&entry, [&good[..], b"x"].concat()).unwrap();
        assert!(cache.read(&key()).is_none(), "one byte more");
        std::fs::write(&entry, &good).unwrap();
        assert!(cache.read(&key()).is_some(), "the good one again");
    }

    #[test]
    fn an_entry_for_another_component_or_engine_is_not_used_under_this_name() {
        let (_keep, path, cache) = cache();
        for other in [Key { digest: Digest::of(b"another"), ..key() }, Key { engine: "another".into(), ..key() }] {
            cache.write(&other, b"code").unwrap();
            std::fs::rename(path.join(other.name()), path.join(key().name())).unwrap();
            assert!(cache.read(&key()).is_none());
        }
    }

    #[test]
    fn an_entry_that_others_can_write_or_that_is_a_link_is_not_used() {
        let (_keep, path, cache) = cache();
        cache.write(&key(), b"code").unwrap();
        let entry = path.join(key().name());
        std::fs::set_permissions(&entry, PermissionsExt::from_mode(0o622)).unwrap();
        assert!(cache.read(&key()).is_none(), "writable by others");
        std::fs::set_permissions(&entry, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(&entry, path.join("elsewhere")).unwrap();
        symlink("elsewhere", &entry).unwrap();
        assert!(cache.read(&key()).is_none(), "a link");
    }

    #[test]
    fn an_entry_of_another_user_is_not_used() {
        if !rustix::process::geteuid().is_root() {
            return; // Nobody else can give a file away.
        }
        let (_keep, path, cache) = cache();
        cache.write(&key(), b"code").unwrap();
        std::os::unix::fs::chown(path.join(key().name()), Some(65_534), None).unwrap();
        assert!(cache.read(&key()).is_none());
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused_and_named() {
        let (_keep, path, _cache) = cache();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
        let error = Cache::open(&path).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("0750") && error.contains("0700"), "{error}");
    }

    #[test]
    fn a_parent_that_others_can_write_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("parent");
        std::fs::create_dir(&parent).unwrap();
        std::fs::set_permissions(&parent, PermissionsExt::from_mode(0o777)).unwrap();
        let error = Cache::open(&parent.join("cache")).err().unwrap().to_string();
        assert!(error.contains(parent.to_str().unwrap()) && error.contains("0777"), "{error}");
    }

    #[test]
    fn only_the_newest_entries_stay() {
        let (_keep, path, cache) = cache();
        for number in 0..ENTRIES + 3 {
            cache.write(&Key { engine: number.to_string(), ..key() }, b"code").unwrap();
        }
        assert_eq!(std::fs::read_dir(path).unwrap().count(), ENTRIES);
    }
}
