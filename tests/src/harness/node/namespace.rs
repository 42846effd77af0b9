//! A mount namespace that outlives the processes in it: a driver that ends leaves its mounts behind, and the next one
//! finds them, as on a node.
//!
//! A process that does nothing holds it. Everything else enters by `nsenter`; whoever started it stays outside and looks
//! through `/proc`. Nothing that is mounted in it gets out.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The namespace; dropping it ends its holder, and it ends with the last process in it.
pub struct Namespace {
    holder: Child,
    is_root: bool,
}

impl Namespace {
    /// A copy of the mounts that are there now. Without root it has a user namespace too.
    ///
    /// # Errors
    /// `unshare` is not there, or may not do it.
    pub fn new() -> io::Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        // Says something when the namespace is there, and ends when this process does.
        command.args(["--mount", "--propagation", "private", "sh", "-c", "echo ready && exec cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let holder = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`unshare` does not run: {error}")))?;
        let mut this = Self { holder, is_root };
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
        if !self.is_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
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
