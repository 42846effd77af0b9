//! What the threads of a process may do, read where the kernel tells it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use super::until;

/// Everything that `/proc/<pid>/task/<tid>/status` says of a thread, by its key.
pub type Status = BTreeMap<String, String>;

/// Reads the status of every thread of a process. One that ended meanwhile is left out.
pub fn threads(pid: u32) -> Vec<Status> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    texts.map(|text| text.lines().filter_map(|line| line.split_once(":\t")).map(owned).collect()).collect()
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.trim().to_owned())
}

fn compiler() -> Child {
    let test = std::env::current_exe().unwrap();
    let coffer = test.parent().unwrap().parent().unwrap().join("coffer");
    assert!(coffer.exists(), "{} is missing: run `make test`", coffer.display());
    let arguments = ["compile-component", "--address-space", "4294967296", "--cpu-seconds", "300"];
    let mut command = Command::new(coffer);
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// It waits for the component on its standard input, so there is time to look.
#[tokio::test]
async fn the_compiling_child_has_given_up_every_capability_before_it_reads_a_byte_and_compiles_all_the_same() {
    let mut child = compiler();
    let is_bare = |status: &Status| {
        let none = ["CapEff", "CapPrm", "CapInh", "CapAmb"].iter().all(|set| status[*set] == "0".repeat(16));
        none && status["NoNewPrivs"] == "1"
    };
    let bounds = |status: &Status| u64::from_str_radix(&status["CapBnd"], 16).unwrap();
    let may_shrink = u64::from_str_radix(&threads(std::process::id())[0]["CapEff"], 16).unwrap() & (1 << 8) != 0;
    until("the child is bare", || {
        let threads = threads(child.id());
        !threads.is_empty() && threads.iter().all(|status| is_bare(status) && (bounds(status) == 0 || !may_shrink))
    })
    .await;

    let component = wat::parse_str("(component (core module (func (export \"f\"))))").unwrap();
    child.stdin.take().unwrap().write_all(&component).unwrap();
    let (mut code, mut error) = (Vec::new(), String::new());
    child.stdout.take().unwrap().read_to_end(&mut code).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(child.wait().unwrap().success(), "{error}");
    assert!(code.starts_with(b"\x7fELF"), "{error}");
    assert_eq!(error, "");
}
