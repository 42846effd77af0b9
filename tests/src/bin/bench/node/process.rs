//! What the kernel says about the driver's process, its volumes and its control group.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time and resident memory of a process now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Since its start, threads that ended included.
    pub(super) cpu: Duration,
    /// KiB, as the rest.
    pub(super) resident: u64,
    pub(super) anonymous: u64,
    pub(super) file: u64,
    pub(super) shared: u64,
    /// The most that was ever resident.
    pub(super) peak: u64,
    pub(super) threads: u64,
}

impl Usage {
    pub(super) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        Ok(Self {
            cpu: cpu(process)?,
            resident: field("VmRSS"),
            anonymous: field("RssAnon"),
            file: field("RssFile"),
            shared: field("RssShmem"),
            peak: field("VmHWM"),
            threads: field("Threads"),
        })
    }
}

/// Fields 14 and 15 of `/proc/<pid>/stat`, counted in ticks.
fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("no stat")?;
    let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// KiB in use of a file system.
pub(super) fn used(path: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(path)?;
    Ok((about.f_blocks - about.f_bfree) * about.f_frsize / 1024)
}

/// A control group for the memory of one process; dropping it removes it, if the process has ended.
pub(super) struct Group(PathBuf);

impl Group {
    /// None where no group can be made.
    pub(super) fn around(process: u32) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let of = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                (parts.next()? == controller)
                    .then(|| parts.next().unwrap_or_default().trim_start_matches('/').to_owned())
            })
        };
        let folder = match of("memory") {
            Some(path) => Path::new("/sys/fs/cgroup/memory").join(path),
            None => Path::new("/sys/fs/cgroup").join(of("")?),
        };
        // Where it was started this process may not be in the tree that can be seen here.
        let parent = folder.ancestors().find(|folder| folder.join("cgroup.procs").exists())?;
        let group = Self(parent.join(format!("coffer-bench-{process}")));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join("cgroup.procs"), process.to_string()).ok()?;
        group.kernel().map(|_| group)
    }

    /// KiB that the kernel uses for the group.
    pub(super) fn kernel(&self) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(self.0.join(name)).ok();
        if let Some(bytes) = read("memory.kmem.usage_in_bytes") {
            return Some(bytes.trim().parse::<u64>().ok()? / 1024);
        }
        let text = read("memory.stat")?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("kernel ")?.parse::<u64>().ok())?;
        Some(bytes / 1024)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
