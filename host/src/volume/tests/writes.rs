//! One write after another.

use super::*;

use std::error::Error as _;

use crate::volume::{PresentFile, WriteError};

#[test]
fn a_first_write_makes_the_layout_of_the_reference() {
    let target = volume_with(OLD);
    assert_holds(target.path(), &files(OLD));
    assert!(version_of(target.path()).to_str().unwrap().starts_with("..2026_04_30_12_05_09."));
    assert_eq!(std::fs::read_to_string(target.path().join("nested/deep/er")).unwrap(), "old deep");
}

#[test]
fn a_write_counts_what_it_wrote_and_what_it_removed() {
    let target = tempfile::tempdir().unwrap();
    assert_eq!(replace(target.path(), &files(OLD)), Change::Replaced { written: 7, removed: 0 });
    // gone, nested/gone and turns
    assert_eq!(replace(target.path(), &files(NEW)), Change::Replaced { written: 7, removed: 3 });
    assert_holds(target.path(), &files(NEW));
}

#[test]
fn the_same_files_again_change_nothing_not_even_a_time_stamp() {
    let target = volume_with(OLD);
    let times = |path: &Path| {
        let metadata = path.metadata().unwrap();
        (metadata.ctime(), metadata.ctime_nsec(), metadata.mtime(), metadata.mtime_nsec())
    };
    let before = (everything_in(target.path()), times(target.path()), times(&target.path().join(DATA)));
    assert_eq!(replace(target.path(), &files(OLD)), Change::Unchanged);
    let after = (everything_in(target.path()), times(target.path()), times(&target.path().join(DATA)));
    assert_eq!(before, after);
}

#[test]
fn a_mode_alone_is_a_change() {
    let target = volume_with(&[("a", 0o644, "same")]);
    let other = files(&[("a", 0o600, "same")]);
    assert_eq!(replace(target.path(), &other), Change::Replaced { written: 1, removed: 0 });
    assert_holds(target.path(), &other);
}

#[test]
fn mode_zero_is_a_mode_and_no_default() {
    let target = volume_with(&[("a", 0, "closed")]);
    let metadata = target.path().join("a").metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0, 6));
    // Readable for root only; in any case the next write goes through.
    replace(target.path(), &files(&[("a", 0, "closed")]));
    replace(target.path(), &files(OTHER));
    assert_holds(target.path(), &files(OTHER));
}

#[test]
fn a_byte_in_a_file_of_the_same_length_is_a_change() {
    let text = "x".repeat(100_000);
    let other = format!("{}y", "x".repeat(99_999));
    let target = volume_with(&[("a", 0o644, &text)]);
    assert_eq!(replace(target.path(), &files(&[("a", 0o644, &text)])), Change::Unchanged);
    let other = files(&[("a", 0o644, &other)]);
    assert_eq!(replace(target.path(), &other), Change::Replaced { written: 1, removed: 0 });
    assert_holds(target.path(), &other);
}

#[test]
fn file_turns_into_folder_and_back() {
    let (file, folder) = (files(&[("foo", 0o644, "file")]), files(&[("foo/bar", 0o644, "nested")]));
    let target = tempfile::tempdir().unwrap();
    for files in [&file, &folder, &file] {
        replace(target.path(), files);
        assert_holds(target.path(), files);
    }
}

#[test]
fn no_files_at_all_is_a_version_too() {
    let target = volume_with(OLD);
    assert_eq!(replace(target.path(), &files(&[])), Change::Replaced { written: 0, removed: 7 });
    assert_holds(target.path(), &files(&[]));
    assert_eq!(Volume::open(target.path()).unwrap().present().unwrap(), Some(vec![]));
}

#[test]
fn litter_is_cleared_and_strangers_stay() {
    let strangers_and_files = |content| {
        let target = volume_with(OLD);
        let strangers = litter(target.path());
        let change = replace(target.path(), &files(content));
        for name in strangers {
            let path = target.path().join(name);
            if path.symlink_metadata().unwrap().is_dir() {
                std::fs::remove_dir(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
        (target, change)
    };
    let (target, change) = strangers_and_files(NEW);
    assert_eq!(change, Change::Replaced { written: 7, removed: 3 });
    assert_holds(target.path(), &files(NEW));

    let (target, change) = strangers_and_files(OLD);
    assert_eq!(change, Change::Repaired);
    // Nobody wants `new`, so what stands there is a stranger as well.
    std::fs::remove_dir_all(target.path().join("new")).unwrap();
    assert_holds(target.path(), &files(OLD));
}

#[test]
fn a_version_that_somebody_changed_is_written_again() {
    let changes: [fn(&Path); 7] = [
        |data| std::fs::write(data.join("both"), "tampered").unwrap(),
        |data| std::fs::write(data.join("nested/added"), "").unwrap(),
        |data| std::fs::create_dir(data.join("nested/added")).unwrap(),
        |data| std::fs::remove_file(data.join("empty")).unwrap(),
        |data| mode(&data.join("nested"), 0o700),
        |data| mode(&data.join("both"), 0o4644),
        |data| {
            std::fs::rename(data.join("both"), data.join("../elsewhere")).unwrap();
            symlink("../elsewhere", data.join("both")).unwrap();
        },
    ];
    for change in changes {
        let target = volume_with(OLD);
        change(&std::fs::canonicalize(target.path().join(DATA)).unwrap());
        assert!(matches!(replace(target.path(), &files(OLD)), Change::Replaced { written: 7, .. }));
        let _ = std::fs::remove_file(target.path().join("elsewhere"));
        assert_holds(target.path(), &files(OLD));
    }
}

#[test]
fn a_data_link_that_leads_nowhere_or_elsewhere_is_replaced_and_its_end_left_alone() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("precious"), "").unwrap();
    for end in ["..2020_01_01_00_00_00.9", "/", "nested", outside.path().to_str().unwrap()] {
        let target = volume_with(OLD);
        std::fs::remove_file(target.path().join(DATA)).unwrap();
        symlink(end, target.path().join(DATA)).unwrap();
        assert_eq!(Volume::open(target.path()).unwrap().present().unwrap(), None, "{end}");
        assert_eq!(replace(target.path(), &files(OLD)), Change::Replaced { written: 7, removed: 0 });
        assert_holds(target.path(), &files(OLD));
    }
    assert!(outside.path().join("precious").exists());
}

#[test]
fn a_file_or_a_folder_in_place_of_the_data_link_is_replaced() {
    let target = tempfile::tempdir().unwrap();
    std::fs::write(target.path().join(DATA), "file").unwrap();
    replace(target.path(), &files(OLD));
    assert_holds(target.path(), &files(OLD));

    let target = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(target.path().join(DATA).join("folder")).unwrap();
    std::fs::create_dir_all(target.path().join("..data_tmp/folder")).unwrap();
    replace(target.path(), &files(OLD));
    assert_holds(target.path(), &files(OLD));
}

#[test]
fn links_inside_a_version_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("er"), "old deep").unwrap();
    mode(&outside.path().join("er"), 0o440);
    mode(outside.path(), 0o755);
    let target = volume_with(OLD);
    let deep = target.path().join(DATA).join("nested/deep");
    std::fs::remove_dir_all(&deep).unwrap();
    symlink(outside.path(), &deep).unwrap();
    assert!(matches!(replace(target.path(), &files(OLD)), Change::Replaced { .. }));
    assert_holds(target.path(), &files(OLD));
    assert!(outside.path().join("er").exists());
}

#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let target = volume_with(OLD);
    let file = target.path().join(DATA).join("empty");
    std::fs::remove_file(&file).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &file, kind, rustix::fs::Mode::from_raw_mode(0o644), 0).unwrap();
    replace(target.path(), &files(OLD));
    assert_holds(target.path(), &files(OLD));
}

#[test]
fn two_writes_at_once_are_refused_and_the_lock_ends_with_the_write() {
    let target = tempfile::tempdir().unwrap();
    let holder = std::fs::File::open(target.path()).unwrap();
    holder.lock().unwrap();
    let mut volume = Volume::open(target.path()).unwrap();
    assert!(matches!(volume.replace(&files(OLD), now()), Err(WriteError::Busy)));
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    holder.unlock().unwrap();
    volume.replace(&files(OLD), now()).unwrap();
    holder.try_lock().unwrap();
}

#[test]
fn a_missing_folder_a_file_and_a_link_are_no_volumes() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    symlink(root.path(), root.path().join("link")).unwrap();
    for name in ["missing", "file", "link"] {
        let error = Volume::open(&root.path().join(name)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.source().is_some());
    }
}

#[test]
fn what_is_present_is_told_with_length_and_mode() {
    let target = tempfile::tempdir().unwrap();
    let volume = Volume::open(target.path()).unwrap();
    assert_eq!(volume.present().unwrap(), None);
    replace(target.path(), &files(OTHER));
    let present = [
        PresentFile { path: "other".into(), len: 11, mode: 0o644 },
        PresentFile { path: "turns".into(), len: 11, mode: 0o400 },
    ];
    assert_eq!(volume.present().unwrap().unwrap(), present);
}
