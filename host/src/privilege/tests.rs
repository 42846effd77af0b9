//! What is given up is given up for good, so each test is a process of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::dumpable_behavior;
use rustix::thread::no_new_privs;

use super::*;

/// Set in the process that runs one test alone.
const ALONE: &str = "COFFER_TEST_ALONE";

/// Whether this is that process. If not, it is started and has to end well.
fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([&format!("privilege::tests::{name}"), "--exact", "--nocapture"]).env(ALONE, "1");
    let output = test.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    print!("{out}");
    false
}

fn may_mount() -> bool {
    let may = capabilities(None).unwrap().permitted.contains(CapabilitySet::SYS_ADMIN);
    if !may {
        println!("not run: this process may not mount, so it has nothing to give up");
    }
    may
}

/// A line of `/proc/thread-self/status`.
fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/thread-self/status").unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t")).unwrap().to_owned()
}

fn bits(key: &str) -> CapabilitySet {
    CapabilitySet::from_bits_retain(u64::from_str_radix(&status(key), 16).unwrap())
}

fn sets() -> [CapabilitySet; 5] {
    ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"].map(bits)
}

#[test]
fn the_driver_keeps_what_it_needs_and_its_threads_and_programs_get_no_more() {
    if !is_alone("the_driver_keeps_what_it_needs_and_its_threads_and_programs_get_no_more") || !may_mount() {
        return;
    }
    drop_for_node().unwrap();
    let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::CHOWN | CapabilitySet::DAC_READ_SEARCH;
    let none = CapabilitySet::empty();
    let expected = ([kept, kept, kept, none, none], "1".to_owned());
    assert_eq!((sets(), status("NoNewPrivs")), expected);
    assert_eq!(std::thread::spawn(|| (sets(), status("NoNewPrivs"))).join().unwrap(), expected);
    assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    // Root gets everything back when it runs a program, were it not for the bounding set and `no_new_privs`.
    let output = Command::new("/proc/self/exe").arg("--list").output().unwrap();
    assert!(output.status.success());
    let output = Command::new("grep").args(["-E", "CapEff|CapBnd", "/proc/self/status"]).output().unwrap();
    let mask = format!("{:016x}", kept.bits());
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches(&mask).count(), 2, "{output:?}");
}

#[test]
fn a_driver_that_could_not_mount_does_not_start() {
    if !is_alone("a_driver_that_could_not_mount_does_not_start") {
        return;
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
    let error = drop_for_node().unwrap_err();
    assert!(error.contains("CAP_SYS_ADMIN") && error.contains("privileged container"), "{error}");
}

#[test]
fn the_compiler_keeps_nothing_and_reaches_neither_files_nor_the_network() {
    if !is_alone("the_compiler_keeps_nothing_and_reaches_neither_files_nor_the_network") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "readable by all").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = fs::File::open(&file).unwrap();
    drop_for_compiler().unwrap();

    let none = CapabilitySet::empty();
    assert_eq!(capabilities(None), Ok(CapabilitySets { effective: none, permitted: none, inheritable: none }));
    assert_eq!((no_new_privs(), dumpable_behavior()), (Ok(true), Ok(DumpableBehavior::NotDumpable)));
    assert_eq!(std::io::read_to_string(open).unwrap(), "readable by all", "what was open stays open");
    if landlock_version() < 4 {
        println!("not run: this kernel has no Landlock, or an old one, so files and network stay open");
        return;
    }
    let denied = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    };
    denied(fs::read(&file).map(drop));
    denied(fs::read_dir("/").map(drop));
    denied(fs::write(folder.path().join("new"), "x"));
    denied(Command::new("/proc/self/exe").arg("--list").output().map(drop));
    denied(std::net::TcpStream::connect(listener.local_addr().unwrap()).map(drop));
    denied(UnixDatagram::bind(folder.path().join("socket")).map(drop));
}

/// 0 where the kernel has none.
fn landlock_version() -> i32 {
    let access = AccessFs::from_all(ABI::V10);
    let ruleset = Ruleset::default().handle_access(access).unwrap().create().unwrap();
    let status = ruleset.restrict_self().unwrap();
    match status.landlock {
        landlock::LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        _ => 0,
    }
}
