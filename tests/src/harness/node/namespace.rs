//! A mount namespace that outlives the processes in it: a driver that ends leaves its mounts behind, and the next one
//! finds them, as on a node.
//!
//! A process that does nothing holds it. Everything else enters by `nsenter`; whoever started it stays outside and looks
//! through `/proc`. Nothing that is mounted in it gets out.
//!
//! Who is not root gets a user namespace too, in which the folders of the machine's root belong to nobody. The driver
//! does not keep compiled plugins below such folders, so a test can have a `/` of its own with everything in it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The namespace; dropping it ends its holder, and it ends with the last process in it.
pub struct Namespace {
    holder: Child,
    has_own_root: bool,
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

/// Whether mounts can be made without a user namespace, so that every id and every option can be had.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Namespace {
    /// A copy of the mounts that are there now. Without root it has a user namespace too.
    ///
    /// # Errors
    /// `unshare` is not there, or may not do it.
    pub fn new() -> io::Result<Self> {
        Self::hold(&["-c".as_ref(), HOLD.as_ref()], false)
    }

    /// As [`Namespace::new`], and whoever is not root gets a `/` of its own, made in the empty folder `scratch`, in which the
    /// folder `cache` is at [`Namespace::cache`].
    ///
    /// # Errors
    /// As [`Namespace::new`].
    pub fn with_root(scratch: &Path, cache: &Path) -> io::Result<Self> {
        if is_root() {
            return Self::new();
        }
        let script = [OsStr::new("-c"), HOLD_WITH_A_ROOT.as_ref(), "sh".as_ref(), scratch.as_ref(), cache.as_ref()];
        Self::hold(&script, true)
    }

    /// `script` is what the shell that holds it gets.
    fn hold(script: &[&OsStr], has_own_root: bool) -> io::Result<Self> {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--propagation", "private", "sh"]).args(script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let holder = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`unshare` does not run: {error}")))?;
        let mut this = Self { holder, has_own_root };
        let mut line = String::new();
        if let Some(said) = this.holder.stdout.as_mut() {
            BufReader::new(said).read_line(&mut line)?;
        }
        match line.as_str() {
            "ready\n" => Ok(this),
            _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "this user may make no mount namespace here")),
        }
    }

    /// A program that will run in the namespace, with its own process id and an empty environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.env_clear().arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        if self.has_own_root {
            command.arg("--root");
        }
        command.arg("--").arg(program);
        command
    }

    /// Where a program in a namespace [with a root](Namespace::with_root) finds what outside is `cache`.
    #[must_use]
    pub fn cache(cache: &Path) -> PathBuf {
        if is_root() { cache.to_owned() } else { PathBuf::from(CACHE) }
    }

    /// Where its `/` can be seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.id()))
    }

    /// The lines of `mountinfo` for the mounts at and below a folder, in the order in which they were made.
    ///
    /// # Errors
    /// The holder has ended.
    pub fn mounts(&self, folder: &Path) -> io::Result<Vec<String>> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id()))?;
        let is_below = |line: &&str| line.split(' ').nth(4).is_some_and(|target| Path::new(target).starts_with(folder));
        Ok(text.lines().filter(is_below).map(str::to_owned).collect())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
