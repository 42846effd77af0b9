//! A mount namespace that outlives the processes in it: a driver that is killed leaves its mounts behind, and the next
//! one finds them, as on a node.
//!
//! A process that does nothing holds it. Everything else enters: the driver, and whoever mounts what another driver
//! would have mounted. The tests themselves stay outside and look through `/proc`.
//!
//! Who is not root gets a user namespace too, in which the folders of the machine's root belong to nobody. The driver
//! does not keep compiled plugins below such folders, so there it gets a `/` of its own with everything in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Whether mounts can be made without a user namespace, so that every id and every option can be had.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test did not run, and why.
pub fn skip_without_root(why: &str) -> bool {
    if !is_root() {
        println!("not run, as this takes root: {why}");
    }
    !is_root()
}

/// The namespace; dropping it ends its holder, and it ends with the last process in it.
pub struct Namespace {
    holder: Child,
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

/// Says something when the namespace is there, and ends when this process does.
const HOLD: &str = "echo ready && exec cat";

/// Makes a `/` in the folder `$1` that holds all folders of the machine, and `$2` as [`CACHE`], and lives in it.
const HOLD_WITH_A_ROOT: &str = "\
set -e
mount -t tmpfs root $1
for entry in /*; do
  if [ -L $entry ]; then cp -P $entry $1/
  elif [ -d $entry ]; then mkdir $1$entry; mount --rbind $entry $1$entry
  fi
done
mkdir $1/test-cache
mount --bind $2 $1/test-cache
exec chroot $1 sh -c 'echo ready && exec cat'";

/// Where who is not root finds the folder that was to be shown.
const CACHE: &str = "/test-cache";

impl Namespace {
    /// A copy of the mounts that are there now; nothing that is mounted in it gets out. `scratch` is an empty folder, and
    /// `cache` one to be shown at [`Namespace::cache`].
    pub fn new(scratch: &Path, cache: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if is_root() {
            command.args(["sh", "-c", HOLD]);
        } else {
            command.args(["--user", "--map-root-user", "sh", "-c", HOLD_WITH_A_ROOT, "sh"]).arg(scratch).arg(cache);
        }
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "there is no mount namespace to be had here");
        Self { holder }
    }

    /// A program that will run in the namespace, with its own process id and an empty environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.env_clear().arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        if !is_root() {
            command.args(["--user", "--preserve-credentials", "--root"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Runs a program in the namespace, which must work.
    pub fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(Path::new(program)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Where a program in the namespace finds what outside is `cache`.
    pub fn cache(cache: &Path) -> PathBuf {
        if is_root() { cache.to_owned() } else { PathBuf::from(CACHE) }
    }

    /// Where its `/` can be seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.id()))
    }

    /// The mounts at and below a folder, in the order in which they were made.
    pub fn mounts(&self, folder: &Path) -> Vec<Mount> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap();
        text.lines().map(parse).filter(|mount| mount.target.starts_with(folder)).collect()
    }

    /// What a reboot does: mounts at and below a folder are gone, folders are not.
    pub fn reboot(&self, folder: &Path) {
        for mount in self.mounts(folder).into_iter().rev() {
            self.run("umount", &[mount.target.to_str().unwrap()]);
        }
    }
}

#[cfg(test)]
impl Namespace {
    /// One for tests that run no driver. Makes folders in `folder`, one of them `folder`.
    pub fn in_tests(folder: &Path) -> Self {
        let [scratch, cache, other] = ["scratch", "cache", "folder"].map(|name| folder.join(name));
        for path in [&scratch, &cache, &other] {
            fs::create_dir(path).unwrap();
        }
        Self::new(&scratch, &cache)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
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
        let namespace = Namespace::in_tests(folder.path());
        let folder = folder.path().join("folder");
        let path = folder.to_str().unwrap();
        namespace.run("mount", &["-t", "tmpfs", "-o", "size=64k,nosuid", "none", path]);
        fs::write(namespace.root().join(path.trim_start_matches('/')).join("file"), "inside").unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let mounts = namespace.mounts(&folder);
        assert_eq!((mounts.len(), mounts[0].kind.as_str()), (1, "tmpfs"));
        assert!(mounts[0].options.contains(&"nosuid".to_owned()));
        assert!(mounts[0].filesystem.contains(&"size=64k".to_owned()));
        namespace.reboot(&folder);
        assert_eq!(namespace.mounts(&folder), []);
    }
}
