//! The clocks of a driver under test, which a test moves instead of waiting: `clock.c`, loaded into the process in front
//! of libc.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Two clocks and how far they were moved.
pub struct Clock {
    file: PathBuf,
    moved: Mutex<[i64; 2]>,
}

impl Clock {
    /// The clocks of whoever is started with [`Clock::environment`]; `file` is made.
    pub fn new(file: PathBuf) -> Self {
        let clock = Self { file, moved: Mutex::default() };
        fs::write(&clock.file, [0; 16]).unwrap();
        clock
    }

    /// What a process needs in its environment.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", library().to_owned()), ("TEST_CLOCK", self.file.clone())]
    }

    /// Lets time pass: both clocks go forward. What sleeps notices when something wakes it.
    pub fn advance(&self, by: Duration) {
        let by = nanoseconds(by);
        self.shift([by, by]);
    }

    /// Sets the wall clock forward, as an administrator does.
    pub fn set_forward(&self, by: Duration) {
        self.shift([0, nanoseconds(by)]);
    }

    /// Sets the wall clock back.
    pub fn set_back(&self, by: Duration) {
        self.shift([0, -nanoseconds(by)]);
    }

    fn shift(&self, by: [i64; 2]) {
        let mut moved = self.moved.lock().unwrap();
        *moved = [moved[0] + by[0], moved[1] + by[1]];
        let file = fs::OpenOptions::new().write(true).open(&self.file).unwrap();
        for (number, offset) in moved.iter().zip([0, 8]) {
            file.write_all_at(&number.to_ne_bytes(), offset).unwrap();
        }
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap()
}

/// Compiled once for all tests; the programs under test need a C compiler anyway.
fn library() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/node/clock.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clock.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
        let output = compiler.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    })
}

/// What the tests of this folder stand on.
mod tests {
    use super::*;

    fn seconds(clock: &Clock) -> i64 {
        let output = Command::new("date").arg("+%s").envs(clock.environment()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_process_sees_the_time_that_a_test_wants_it_to_see() {
        const HOUR: Duration = Duration::from_secs(3600);
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new(folder.path().join("clock"));
        let before = seconds(&clock);
        clock.advance(HOUR);
        assert!(seconds(&clock) >= before + 3600);
        clock.set_back(2 * HOUR);
        assert!(seconds(&clock) < before);
        clock.set_forward(2 * HOUR);
        assert!(seconds(&clock) >= before + 3600);
    }
}
