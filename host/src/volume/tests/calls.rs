//! The writer under strace: the changing system calls that it makes are those of its steps and no others, and each of
//! them may fail, or be the last thing that the process does.
//!
//! The writer runs in a child, which is this test binary with [`write_into_the_volume`] alone.

use super::*;

use std::cell::Cell;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use crate::volume::layout::mode_for;
use crate::volume::plan::Plan;
use crate::volume::step::Step;
use crate::volume::writer;

/// Names the folder for the child.
const VOLUME: &str = "COFFER_TEST_VOLUME";
/// Tells the child the volume's group; without it the volume has none.
const GROUP: &str = "COFFER_TEST_GROUP";
/// Looked up around the write, to find it in the trace; neither exists.
const BEGIN: &str = "/coffer-test/begin";
const END: &str = "/coffer-test/end";
/// A file that takes more than one kind of limit to write.
const LARGE: usize = 300_000;

/// What changes a volume. A call in the trace that is neither here nor in [`HARMLESS`] fails the test as well.
const CHANGING: [&str; 8] = ["mkdirat", "openat", "write", "fchown", "fchmod", "symlinkat", "renameat", "unlinkat"];
/// What changes no file: reading, locking, memory, time. `openat` and `mmap` are looked at more closely.
const HARMLESS: [&str; 24] = [
    "openat",
    "close",
    "read",
    "fstat",
    "newfstatat",
    "statx",
    "readlinkat",
    "getdents64",
    "lseek",
    "fcntl",
    "flock",
    "getrandom",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "madvise",
    "mprotect",
    "futex",
    "clock_gettime",
    "sched_yield",
    "rt_sigprocmask",
    "sigaltstack",
    "getpid",
];

/// What the child writes: [`NEW`] and a large file, with modes that are the same with a group and without.
fn wanted() -> FileSet {
    let new = |(path, mode, text): &(&str, u32, &str)| NewFile {
        path: (*path).into(),
        mode: Some(mode_for(own_group(), *mode)),
        contents: text.as_bytes().to_vec().into(),
    };
    let large = NewFile { path: "large".into(), mode: None, contents: vec![b'x'; LARGE].into() };
    FileSet::new(NEW.iter().map(new).chain([large]), 0o644, &Limits::default()).unwrap()
}

/// Where the child starts: the old version, litter and strangers, so that every kind of step is needed.
fn littered() -> TempDir {
    let target = volume_with(OLD);
    litter(target.path());
    target
}

/// The one group that every user may give files to.
fn own_group() -> Option<u32> {
    Some(rustix::process::getegid().as_raw())
}

fn open(target: &Path, group: Option<u32>) -> Volume {
    Volume { group, ..Volume::open(target).unwrap() }
}

fn plan(target: &Path) -> Plan {
    writer::plan(&open(target, own_group()), &wanted(), now()).unwrap()
}

#[test]
#[ignore = "the other tests of this module run it as a child"]
fn write_into_the_volume() {
    // None of its own for a child, which may be killed and leave it behind.
    let Some(target) = std::env::var_os(VOLUME).map(PathBuf::from) else { return };
    let group = std::env::var(GROUP).ok().map(|group| group.parse().unwrap());
    let (mut volume, files) = (open(&target, group), wanted());
    let _ = Path::new(BEGIN).exists();
    let result = volume.replace(&files, now());
    let _ = Path::new(END).exists();
    result.unwrap();
    assert!(shows(&target, &files));
}

/// The command that runs [`write_into_the_volume`], to follow another one.
fn child() -> Vec<OsString> {
    let test = concat!(module_path!(), "::write_into_the_volume").split_once("::").unwrap().1;
    let mut command = vec![std::env::current_exe().unwrap().into_os_string()];
    command.extend(["--exact", test, "--ignored", "--test-threads=1"].map(OsString::from));
    command
}

/// Runs the child under strace.
fn strace(target: &Path, group: Option<u32>, options: &[&str]) -> ExitStatus {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--quiet=all", "--signal=none"]).args(options).args(child());
    // A child that fails must not spend a second on its backtrace.
    strace.env(VOLUME, target).env("RUST_BACKTRACE", "0").stdout(Stdio::null()).stderr(Stdio::null());
    strace.envs(group.map(|group| (GROUP, group.to_string())));
    strace.status().expect("this test needs strace: install the package of that name")
}

/// Everything that the child did, from its start to its end.
fn trace(target: &Path, group: Option<u32>) -> String {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let output = format!("--output={}", trace.path().display());
    let status = strace(target, group, &[&output, "--decode-fds=path", "--string-limit=0"]);
    assert!(status.success(), "{status}: strace must be able to trace a child here");
    let trace = join(&std::fs::read_to_string(trace.path()).unwrap());
    assert!(trace.contains(BEGIN) && trace.contains(END), "the write is not in the trace");
    trace
}

/// The trace with each call on one line. Where another thread of the child is in the way, strace writes a call in two
/// parts: `PID call(… <unfinished ...>` and `PID <... call resumed>…`.
fn join(trace: &str) -> String {
    let (mut begun, mut joined) = (BTreeMap::new(), String::new());
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        if let Some(start) = line.strip_suffix("<unfinished ...>") {
            begun.insert(thread, start);
            continue;
        }
        let rest = call.trim_start().strip_prefix("<... ").and_then(|call| call.split_once(" resumed>"));
        match rest.and_then(|(_, rest)| Some((begun.remove(thread)?, rest))) {
            Some((start, rest)) => joined.push_str(&format!("{start}{rest}\n")),
            None => joined.push_str(&format!("{line}\n")),
        }
    }
    joined
}

#[test]
fn a_call_that_strace_tells_in_two_parts_is_one() {
    let trace =
        "7 mkdirat(3</v>, \"a\" <unfinished ...>\n8 fcntl(1, F_GETFL) = 0\n7 <... mkdirat resumed>, 0700) = 0\n";
    assert_eq!(join(trace), "8 fcntl(1, F_GETFL) = 0\n7 mkdirat(3</v>, \"a\" , 0700) = 0\n");
}

/// The changing calls of the child's write, in the words of [`change_in`].
fn changes_in(trace: &str, target: &Path) -> Vec<String> {
    let lines = trace.lines().skip_while(|line| !line.contains(BEGIN)).skip(1);
    let mut changes: Vec<String> =
        lines.take_while(|line| !line.contains(END)).filter_map(|line| change_in(line, target)).collect();
    // One step writes a whole file, with as many calls as it takes.
    changes.dedup_by(|a, b| a == b && a.starts_with("write "));
    changes
}

/// Which of the child's calls named `name` change the volume, counted from 1 and from the start of its thread.
fn numbers_of_changes(trace: &str, target: &Path, name: &str) -> Vec<usize> {
    let (mut counts, mut numbers, mut writing) = (BTreeMap::new(), Vec::new(), false);
    for line in trace.lines() {
        writing = (writing || line.contains(BEGIN)) && !line.contains(END);
        let (thread, call) = line.split_once(' ').unwrap();
        if call.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with('(')) {
            let count: &mut usize = counts.entry(thread).or_default();
            *count += 1;
            if writing && change_in(line, target).is_some() {
                numbers.push(*count);
            }
        }
    }
    numbers
}

/// `PID call(3</folder>, "name", …) = result` as `call folder/name`; none if it changes nothing.
fn change_in(line: &str, target: &Path) -> Option<String> {
    let (_, call) = line.split_once(' ').unwrap();
    let (name, arguments) = call.trim_start().split_once('(').unwrap_or((line, ""));
    let (arguments, _) = arguments.rsplit_once(" = ").unwrap_or((arguments, ""));
    let creates = ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|flag| arguments.contains(flag));
    let harmless = match name {
        "openat" => !creates,
        "mmap" => arguments.contains("MAP_ANONYMOUS"),
        _ => HARMLESS.contains(&name),
    };
    if harmless {
        return None;
    }
    // Folders and open files stand in <>, names and link texts in "".
    let between = |open: char, close: char| {
        let parts = arguments.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0.to_owned()));
        parts.collect::<Vec<_>>()
    };
    let (opened, quoted) = (between('<', '>'), arguments.split('"').skip(1).step_by(2).collect::<Vec<_>>());
    let path = |folder: &str, name: &str| {
        let path = Path::new(folder).join(name);
        path.strip_prefix(target).unwrap_or(&path).display().to_string()
    };
    Some(match (name, opened.as_slice(), quoted.as_slice()) {
        ("mkdirat" | "openat", [folder, ..], [name_there]) => format!("{name} {}", path(folder, name_there)),
        ("write", [file], _) => format!("write {}", path(file, "").trim_end_matches('/')),
        ("fchmod" | "fchown", [file], []) => {
            let last = arguments.trim_end_matches(')').rsplit(' ').next().unwrap();
            format!("{name} {} {last}", path(file, "").trim_end_matches('/'))
        }
        ("symlinkat", [folder], [text, link]) => format!("symlinkat {} {text}", path(folder, link)),
        ("renameat", [from, to], [old, new]) => format!("renameat {} {}", path(from, old), path(to, new)),
        ("unlinkat", [folder], [entry]) => {
            let kind = if arguments.contains("AT_REMOVEDIR") { "folder" } else { "file" };
            format!("unlinkat {} {kind}", path(folder, entry))
        }
        _ => format!("not a step: {line}"),
    })
}

/// The system call of a step, in the words of [`change_in`].
fn expected(step: &Step) -> String {
    match step {
        Step::CreateFolder(path) => format!("mkdirat {}", path.display()),
        Step::CreateFile(path) => format!("openat {}", path.display()),
        Step::Write { path, .. } => format!("write {}", path.display()),
        Step::SetGroup { path, group } => format!("fchown {} {group}", path.display()),
        Step::SetMode { path, mode } => format!("fchmod {} {:#05o}", path.display(), mode).replace("0o", "0"),
        Step::Link { path, text } => format!("symlinkat {} {}", path.display(), text.display()),
        Step::Rename { from, to } => format!("renameat {} {}", from.display(), to.display()),
        Step::RemoveFile(path) => format!("unlinkat {} file", path.display()),
        Step::RemoveFolder(path) => format!("unlinkat {} folder", path.display()),
    }
}

#[test]
fn the_changing_system_calls_are_the_steps_and_no_others() {
    let target = littered();
    let old = version_of(target.path());
    let Plan { build, finish, .. } = plan(target.path());
    let steps: Vec<String> = build.iter().chain(&finish).map(expected).collect();
    for call in CHANGING {
        assert!(steps.iter().any(|step| step.starts_with(call)), "the example needs no {call}");
    }
    // The plan here and the one in the child name their versions differently.
    let Step::CreateFolder(planned) = build.iter().find(|step| matches!(step, Step::CreateFolder(_))).unwrap() else {
        panic!()
    };
    let calls = changes_in(&trace(target.path(), own_group()), target.path());
    let rename = |lines: Vec<String>, version: &Path| -> Vec<String> {
        lines.into_iter().map(|line| line.replace(version.to_str().unwrap(), "VERSION")).collect()
    };
    assert_ne!(version_of(target.path()), old);
    assert_eq!(rename(calls, &version_of(target.path())), rename(steps, planned));
}

#[test]
fn an_unchanged_write_makes_no_changing_system_call() {
    let target = tempfile::tempdir().unwrap();
    replace(target.path(), &wanted());
    for group in [None, own_group()] {
        assert_eq!(changes_in(&trace(target.path(), group), target.path()), [""; 0]);
    }
}

#[test]
fn without_a_group_nothing_is_given_away() {
    let target = littered();
    let steps = plan(target.path());
    let changes = changes_in(&trace(target.path(), None), target.path());
    assert!(changes.iter().all(|change| !change.starts_with("fchown")), "{changes:?}");
    let groups = steps.build.iter().filter(|step| matches!(step, Step::SetGroup { .. })).count();
    assert_eq!(changes.len() + groups, steps.build.len() + steps.finish.len());
}

#[test]
fn a_system_call_that_belongs_to_no_step_is_noticed() {
    let target = Path::new("/volume");
    for (call, noticed) in [
        ("openat(3</volume>, \"\"..., O_RDONLY|O_CLOEXEC) = 4</volume/a>", false),
        ("openat(3</volume>, \"a\", O_RDONLY|O_TRUNC) = 4</volume/a>", true),
        ("openat(3</volume>, \"a\", O_WRONLY) = 4</volume/a>", true),
        ("read(4</volume/a>, \"\"..., 16384) = 16", false),
        ("mmap(NULL, 16384, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000", false),
        ("mmap(NULL, 16384, PROT_READ|PROT_WRITE, MAP_SHARED, 4</volume/a>, 0) = 0x7f0000000000", true),
        ("fsync(4</volume/a>) = 0", true),
        ("fallocate(4</volume/a>, 0, 0, 16384) = 0", true),
        ("linkat(3</volume>, \"a\", 3</volume>, \"b\", 0) = 0", true),
        ("renameat2(3</volume>, \"a\", 3</volume>, \"b\", RENAME_EXCHANGE) = 0", true),
        ("fchown(4</volume/a>, 0, 0) = 0", true),
        ("fchownat(4</volume>, \"a\", 0, 0, 0) = 0", true),
        ("clone3({flags=CLONE_VM|CLONE_FS}, 88) = 7", true),
        ("io_uring_setup(8, {}) = 5<anon_inode:[io_uring]>", true),
    ] {
        assert_eq!(change_in(&format!("42    {call}"), target).is_some(), noticed, "{call}");
    }
}

/// Runs the child once for every changing call of its write, with `fault` injected into that one.
fn with_a_fault_in_every_call(fault: &str, check: impl Fn(&Path, ExitStatus, &BTreeMap<PathBuf, String>)) {
    let target = littered();
    let Plan { build, finish, .. } = plan(target.path());
    let trace = trace(target.path(), own_group());
    let mut faults = 0;
    for call in CHANGING {
        for number in numbers_of_changes(&trace, target.path(), call) {
            let target = littered();
            let before = everything_in(target.path());
            let inject = format!("--inject={call}:{fault}:when={number}");
            let options = ["--output=/dev/null", &format!("--trace={call}"), &inject];
            let status = strace(target.path(), own_group(), &options);
            assert!(!status.success(), "{inject} hit nothing");
            check(target.path(), status, &before);
            faults += 1;
        }
    }
    assert!(faults >= build.len() + finish.len(), "{faults} faults");
}

/// The next write repairs whatever is there.
fn assert_repairable(target: &Path) {
    replace(target, &wanted());
    assert!(shows(target, &wanted()));
    let tops = everything_in(target).into_keys().filter(|path| path.components().count() == 1);
    let mut expected: Vec<PathBuf> = wanted().top_level_names().into_iter().map(PathBuf::from).collect();
    expected.extend(["foreign", "..foreign", "alias", "lost+found", DATA].map(PathBuf::from));
    expected.push(version_of(target));
    expected.sort();
    assert_eq!(tops.collect::<Vec<_>>(), expected);
    assert_eq!(replace(target, &wanted()), Change::Unchanged);
}

#[test]
fn a_process_that_is_killed_in_any_call_leaves_one_version_and_the_next_write_repairs_the_volume() {
    let (old, new) = (files(OLD), wanted());
    with_a_fault_in_every_call("signal=KILL", |target, status, _| {
        assert_eq!(status.signal(), Some(9));
        assert!(shows(target, &old) || shows(target, &new));
        assert_repairable(target);
    });
}

#[test]
fn a_call_that_fails_before_the_swap_leaves_the_old_version_and_nothing_new() {
    let (old, new) = (files(OLD), wanted());
    let (before_swap, after_swap) = (Cell::new(0), Cell::new(0));
    with_a_fault_in_every_call("error=ENOSPC", |target, status, before| {
        assert_eq!(status.signal(), None);
        if shows(target, &old) {
            let left = everything_in(target);
            let added: Vec<_> = left.iter().filter(|(path, what)| before.get(*path) != Some(*what)).collect();
            assert!(added.is_empty(), "{added:?}");
            // What is missing is at most the litter.
            for path in before.keys().filter(|path| !left.contains_key(*path)) {
                let name = path.components().next().unwrap().as_os_str().to_str().unwrap();
                assert!(name.starts_with("..2020") || ["..data_tmp", "..link_tmp.3"].contains(&name), "{path:?}");
            }
            before_swap.set(before_swap.get() + 1);
        } else {
            assert!(shows(target, &new));
            after_swap.set(after_swap.get() + 1);
        }
        assert_repairable(target);
    });
    assert!(before_swap.get() > 20 && after_swap.get() > 5, "{before_swap:?} before and {after_swap:?} after the swap");
}

#[test]
fn a_file_that_stops_in_the_middle_leaves_the_old_version_and_nothing_new() {
    let target = volume_with(OLD);
    let before = everything_in(target.path());
    // Units of 512 or 1024 bytes, depending on the shell; either way less than the large file.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).args(child()).env(VOLUME, target.path());
        shell.output().unwrap()
    };
    let output = run(limited);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("operation: \"write\"") && said.contains("standing: Old,"), "{said}");
    assert_eq!(everything_in(target.path()), before);
    assert!(run("exec \"$0\" \"$@\"").status.success());
    assert_holds(target.path(), &wanted());
}
