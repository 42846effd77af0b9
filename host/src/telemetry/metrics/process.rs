//! What the kernel says about this process. A number that cannot be read is none.

use rustix::time::{ClockId, clock_gettime};

/// The ticks of a second in `/proc`: the same on every architecture that we build for.
const TICKS: f64 = 100.0;

/// This process, now.
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: Option<f64>,
    pub(super) open_files: Option<f64>,
    /// Seconds since 1970.
    pub(super) started: Option<f64>,
}

pub(super) fn look() -> Process {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Process {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident_bytes: resident_bytes(),
        // One of them is the folder that is read.
        open_files: std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as f64),
        started: started(),
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn started() -> Option<f64> {
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; field 22 is the 20th behind it.
    let ticks: f64 = own.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let machine = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + ticks / TICKS)
}
