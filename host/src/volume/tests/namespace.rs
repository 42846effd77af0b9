//! Tests that mount. Each runs itself once more, alone, in a mount namespace (and in a user namespace where the tests do
//! not run as root), so nothing that it mounts is seen elsewhere or outlives it. What cannot run here is printed past
//! the test harness, which would swallow it.

use super::*;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::volume::mount::{self, Mounting, Options, Standing};

/// Names the folder for the child.
const ROOT: &str = "COFFER_TEST_ROOT";
/// Starts a line of what did not run.
const NOT_RUN: &str = "NOT RUN ";

/// Puts something at or above a target.
pub(super) type Start = fn(&Path);

/// Runs `test` in a mount namespace, with a folder of its own. Nothing else may be in the function that calls this: all
/// of it runs twice. `test` must be a closure, because its name tells which function to run.
pub(super) fn in_namespace<F: FnOnce(&Path)>(test: F) {
    with_faults(&[], test);
}

/// As [`in_namespace`], on a kernel that does not know some system calls.
pub(super) fn on_an_old_kernel<F: FnOnce(&Path)>(missing: &[&str], test: F) {
    with_faults(&[&format!("{}:error=ENOSYS", missing.join(","))], test);
}

/// As [`in_namespace`], with system calls that fail, in the words of strace.
pub(super) fn with_faults<F: FnOnce(&Path)>(faults: &[&str], test: F) {
    if let Some(root) = std::env::var_os(ROOT) {
        return test(Path::new(&root));
    }
    // `crate::module::a_test::{{closure}}`
    let (_, name) = std::any::type_name::<F>().split_once("::").unwrap();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    if let Some(why) = no_namespaces() {
        return not_run(&format!("{name}: no mount namespace here: {why}"));
    }
    let root = tempfile::tempdir().unwrap();
    // Other users shall get as far as to the volume.
    mode(root.path(), 0o755);
    let mut command = unshare();
    if !faults.is_empty() {
        command.args(["strace", "--follow-forks", "--quiet=all", "--signal=none", "--output=/dev/null"]);
        let calls: Vec<&str> = faults.iter().filter_map(|fault| Some(fault.split_once(':')?.0)).collect();
        command.arg(format!("--trace={}", calls.join(",")));
        command.args(faults.iter().map(|fault| format!("--inject={fault}")));
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = command.env(ROOT, root.path().canonicalize().unwrap()).env("RUST_BACKTRACE", "0").output().unwrap();
    let said = said(&output);
    assert!(output.status.success() && said.contains("test result: ok. 1 passed; 0 failed"), "{name}:\n{said}");
    for line in said.lines().filter(|line| line.starts_with(NOT_RUN)) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Says in a child that something cannot be shown here.
pub(super) fn not_run(what: &str) {
    let _ = writeln!(std::io::stderr(), "\n{NOT_RUN}{what}");
}

/// Whether this process is the root of the machine. Says that `what` does not run if it is not.
pub(super) fn is_root_or_skips(what: &str) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let is_root = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !is_root {
        not_run(&format!("{what}: it needs root"));
    }
    is_root
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

fn no_namespaces() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    let why = WHY.get_or_init(|| match unshare().arg("true").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(said(&output)),
        Err(error) => Some(format!("unshare: {error}")),
    });
    why.as_deref()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, arguments: &[&str], last: &Path) {
    let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    all.push(last.into());
    let output = Command::new(program).args(&all).output().unwrap();
    assert!(output.status.success(), "{program} {all:?}: {}", said(&output));
}

/// Mounts a tmpfs as the Go driver does.
pub(super) fn mount_tmpfs(on: &Path) {
    run("mount", &["-t", "tmpfs", "tmpfs"], on);
}

pub(super) fn bind(from: &Path, to: &Path) {
    run("mount", &["--bind", from.to_str().unwrap()], to);
}

/// A target as kubelet names it; the folder above it is there, and others may enter it.
pub(super) fn target_in(root: &Path) -> PathBuf {
    let above = root.join("pods/0f2b/volumes/kubernetes.io~csi/secrets");
    std::fs::create_dir_all(&above).unwrap();
    above.join("mount")
}

pub(super) fn options() -> Options {
    Options { bytes: 1 << 20, inodes: 100, group: None }
}

/// Publishes `content` for the first time.
pub(super) fn publish(target: &Path, content: Content<'_>) {
    let mut mounting = Mounting::begin(target, &options()).unwrap();
    mounting.volume().replace(&files(content), now()).unwrap();
    mounting.keep();
    assert_eq!(mount::look(target).unwrap(), Standing::Published);
}

/// What the Go driver leaves in a volume, written without any code of ours.
pub(super) fn lay_out_as_the_go_driver(target: &Path) {
    let version = "..2026_04_30_12_00_00.3141592653";
    std::fs::create_dir_all(target.join(version).join("sub")).unwrap();
    std::fs::write(target.join(version).join("a"), "go a").unwrap();
    std::fs::write(target.join(version).join("sub/b"), "go b").unwrap();
    symlink(version, target.join(DATA)).unwrap();
    symlink("..data/a", target.join("a")).unwrap();
    symlink("..data/sub", target.join("sub")).unwrap();
}

/// The mounts of this namespace, as the kernel tells them, without numbers that change with every mount.
pub(super) fn mounts() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = table.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned());
    mounts.collect()
}

/// The lines of [`mounts`] for exactly `target`.
pub(super) fn mounts_at(target: &Path) -> Vec<String> {
    let target = target.to_str().unwrap();
    mounts().into_iter().filter(|line| line.split(' ').nth(1) == Some(target)).collect()
}

/// All that a call may change: mounts, and everything below `root`. Mounts elsewhere go when somebody outside removes the
/// folder below them, as a container runtime does; those of the system stay.
pub(super) fn everything(root: &Path) -> (Vec<String>, BTreeMap<PathBuf, String>) {
    let mounts = mounts().into_iter().filter(|line| {
        let at = Path::new(line.split(' ').nth(1).unwrap());
        let is_of_system = ["/proc", "/sys", "/dev"].iter().any(|folder| at.starts_with(folder));
        is_of_system || at.starts_with(root) || root.starts_with(at)
    });
    (mounts.collect(), everything_in(root))
}
