//! What the tests of the driver do with mount namespaces: they run programs in them, read the mounts, and do what a reboot
//! does. The namespace itself is the harness's.

use std::fs;
use std::path::{Path, PathBuf};

pub use coffer_tests::harness::node::{Namespace, is_root};

/// Says that a test did not run, and why.
pub fn skip_without_root(why: &str) -> bool {
    if !is_root() {
        println!("not run, as this takes root: {why}");
    }
    !is_root()
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub target: PathBuf,
    pub kind: String,
    /// Of the mount: `rw`, `nosuid`, `nodev`, `noexec`.
    pub options: Vec<String>,
    /// Of the file system: `size=…`, `nr_inodes=…`, `noswap`.
    pub filesystem: Vec<String>,
}

/// What tests do in a namespace.
pub trait Inside {
    /// Runs a program in it, which must work.
    fn run(&self, program: &str, arguments: &[&str]);
    /// The mounts at and below a folder, in the order in which they were made.
    fn mounted(&self, folder: &Path) -> Vec<Mount>;
    /// What a reboot does: mounts at and below a folder are gone, folders are not.
    fn reboot(&self, folder: &Path) {
        for mount in self.mounted(folder).into_iter().rev() {
            self.run("umount", &[mount.target.to_str().unwrap()]);
        }
    }
}

impl Inside for Namespace {
    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(Path::new(program)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn mounted(&self, folder: &Path) -> Vec<Mount> {
        self.mounts(folder).unwrap().iter().map(|line| parse(line)).collect()
    }
}

/// One for tests that run no driver. Makes folders in `folder`, one of them `folder`.
pub fn in_tests(folder: &Path) -> Namespace {
    let [scratch, cache, other] = ["scratch", "cache", "folder"].map(|name| folder.join(name));
    for path in [&scratch, &cache, &other] {
        fs::create_dir(path).unwrap();
    }
    Namespace::with_root(&scratch, &cache).unwrap()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &str) -> Mount {
    let (mount, filesystem) = line.split_once(" - ").unwrap();
    let (mount, filesystem): (Vec<_>, Vec<_>) = (mount.split(' ').collect(), filesystem.split(' ').collect());
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Mount {
        target: PathBuf::from(mount[4]),
        kind: filesystem[0].to_owned(),
        options: list(mount[5]),
        filesystem: list(filesystem[2]),
    }
}

/// What the tests of this folder stand on.
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_in_a_namespace_is_seen_through_it_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let namespace = in_tests(folder.path());
        let folder = folder.path().join("folder");
        let path = folder.to_str().unwrap();
        namespace.run("mount", &["-t", "tmpfs", "-o", "size=64k,nosuid", "none", path]);
        fs::write(namespace.root().join(path.trim_start_matches('/')).join("file"), "inside").unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let found = namespace.mounted(&folder);
        assert_eq!((found.len(), found[0].kind.as_str()), (1, "tmpfs"));
        assert!(found[0].options.contains(&"nosuid".to_owned()));
        assert!(found[0].filesystem.contains(&"size=64k".to_owned()));
        namespace.reboot(&folder);
        assert_eq!(namespace.mounted(&folder), []);
    }
}
