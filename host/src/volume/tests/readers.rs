//! Reading while versions change.

use super::*;

use std::io::Read;
use std::sync::atomic::AtomicUsize;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

const PATHS: [&str; 3] = ["a", "sub/b", "sub/sub/c"];
const LEN: usize = 70_000;
const LEAST_VERSIONS: usize = 300;
const LEAST_SNAPSHOTS: usize = 100;
/// Should a reader never get its turn, the test fails instead of running for ever.
const MOST_VERSIONS: usize = 200_000;

/// Every byte of every file tells the version.
fn version(number: u8) -> FileSet {
    let file = |path: &str| NewFile { path: path.into(), mode: None, contents: vec![number; LEN].into() };
    FileSet::new(PATHS.map(file), 0o644, &Limits::default()).unwrap()
}

/// The version that a whole file tells.
fn told_by(bytes: &[u8]) -> u8 {
    assert_eq!(bytes.len(), LEN, "a partial file");
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a file of two versions");
    bytes[0]
}

/// Opens `..data` once and reads every file below it; none if the version was removed meanwhile.
fn snapshot(target: &Path) -> Option<[u8; 3]> {
    let gone = |error: Errno| (error == Errno::NOENT).then_some(()).unwrap();
    let data = openat(CWD, target.join(DATA), OFlags::DIRECTORY, Mode::empty()).map_err(gone).ok()?;
    let mut told = [0; 3];
    for (told, path) in told.iter_mut().zip(PATHS) {
        let file = openat(&data, path, OFlags::RDONLY, Mode::empty()).map_err(gone).ok()?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).read_to_end(&mut bytes).unwrap();
        *told = told_by(&bytes);
    }
    Some(told)
}

#[test]
fn no_reader_sees_a_mix_or_a_part_while_versions_change() {
    let target = tempfile::tempdir().unwrap();
    let versions = [version(1), version(2), version(3)];
    replace(target.path(), &versions[0]);
    let (done, snapshots, singles) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let enough = || [&snapshots, &singles].iter().all(|count| count.load(Ordering::Relaxed) >= LEAST_SNAPSHOTS);
    std::thread::scope(|scope| {
        let _stop = Stop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let Some(told) = snapshot(target.path()) else { continue };
                assert!(told.iter().all(|version| *version == told[0]), "a mix: {told:?}");
                snapshots.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let Ok(bytes) = std::fs::read(target.path().join(PATHS[1])) else { continue };
                told_by(&bytes);
                singles.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut volume = Volume::open(target.path()).unwrap();
        let mut written = 0;
        for files in versions.iter().cycle().skip(1).take(MOST_VERSIONS) {
            assert_eq!(volume.replace(files, now()).unwrap(), Change::Replaced { written: 3, removed: 0 });
            written += 1;
            if written >= LEAST_VERSIONS && enough() {
                break;
            }
        }
    });
    assert!(enough(), "the readers hardly read");
}
