//! Memory comes back: whatever hostile calls took, the process has it no more when they are over.
//!
//! Figures of a process mean something only when nothing else runs in it. So the test starts this test binary once more
//! with itself as the only test.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use coffer_sandbox::limits::Limits;

use crate::sandbox::{Bench, Friendly, request};

const ALONE: &str = "COFFER_TEST_ALONE";

/// Those that take most: of the guest's memory, of the machine's stack, of the host's memory for an answer.
const HUNGRY: [&str; 6] = [
    "hoards_memory",
    "recurses_without_end",
    "returns_a_hundred_mebibytes",
    "returns_one_mebibyte_many_times",
    "returns_a_hundred_thousand_versions",
    "fails_with_a_mebibyte",
];

const ROUNDS: usize = 20;

/// A quarter of what one `hoards_memory` takes, so that one leak in twenty rounds is seen four times over.
const ALLOWED_GROWTH: usize = 32 << 20;

#[test]
fn memory_comes_back_after_hostile_calls() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(measure());
    }
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::memory::memory_comes_back_after_hostile_calls", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&alone.stdout), String::from_utf8_lossy(&alone.stderr));
    assert!(alone.status.success(), "{said}");
    assert!(said.contains("1 passed"), "the test was not found by its name: {said}");
}

async fn measure() {
    let limits = Limits { memory: 128 << 20, cpu: Duration::from_secs(10), ..Limits::default() };
    let bench = Bench::new("guest-modes", limits).await;
    // The first rounds load code and fill the allocator's own shelves.
    for _ in 0..3 {
        round(&bench).await;
    }
    let before = resident();
    for _ in 0..ROUNDS {
        round(&bench).await;
    }
    let growth = resident().saturating_sub(before);
    assert!(growth < ALLOWED_GROWTH, "{growth} bytes more after {ROUNDS} rounds, {before} before");
}

async fn round(bench: &Bench) {
    for mode in HUNGRY {
        let called = bench.send(&request(mode, &[]), Arc::new(Friendly)).await;
        assert!(called.result.is_err(), "{mode}");
    }
    bench.is_well().await;
}

/// Resident memory of this process in bytes: the second number of `/proc/self/statm`, in pages (proc_pid_statm(5)).
fn resident() -> usize {
    let numbers = std::fs::read_to_string("/proc/self/statm").unwrap();
    numbers.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}
