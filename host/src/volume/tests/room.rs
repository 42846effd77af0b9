//! The room in a volume: enough for everything within the limits, twice, and what happens when it is not enough.

use super::namespace::*;
use super::*;

use std::error::Error as _;

use crate::volume::WriteError;
use crate::volume::mount::{Mounting, Options, Standing, look, open};

/// As much as `limits` allow, in the way that takes most room: every file begins a page that it hardly uses, and has a
/// folder and a long name at the top of its own. Two versions with different letters have no name in common.
fn as_much_as_possible(limits: &Limits, letter: char) -> FileSet {
    let page = 4_096;
    let name = |index: usize| format!("{index:04}{}/f", letter.to_string().repeat(251));
    let pages = (limits.bytes - limits.files) / page;
    let len = |index: usize| 1 + page * (pages / limits.files + usize::from(index < pages % limits.files));
    let new = |index| NewFile { path: name(index), mode: None, contents: vec![b'x'; len(index)].into() };
    FileSet::new((0..limits.files).map(new), 0o644, limits).unwrap()
}

fn refresh(target: &Path, files: &FileSet) -> Result<Change, WriteError> {
    open(target, None).unwrap().replace(files, now())
}

fn publish_within(target: &Path, options: &Options, files: &FileSet) {
    let mut mounting = Mounting::begin(target, options).unwrap();
    mounting.volume().replace(files, now()).unwrap();
    mounting.keep();
}

#[test]
fn the_default_limits_fit_twice_and_a_little_less_room_would_not_do() {
    in_namespace(|root| {
        let limits = Limits::default();
        let (first, second) = (as_much_as_possible(&limits, 'a'), as_much_as_possible(&limits, 'b'));
        assert_eq!((first.len(), first.folders().len()), (limits.files, limits.folders));
        let enough = Options::for_limits(&limits, None);
        let too_few = Options { inodes: 2 * (3_000 + 2), ..enough };
        let too_small = Options { bytes: enough.bytes - 3 * 4_096, ..enough };
        for (index, options) in [enough, too_few, too_small].into_iter().enumerate() {
            let target = target_in(&root.join(index.to_string()));
            publish_within(&target, &options, &first);
            match refresh(&target, &second) {
                Ok(change) => assert_eq!((index, change), (0, Change::Replaced { written: 1_000, removed: 1_000 })),
                Err(error) => assert!(index > 0 && error.is_full(), "{index}: {error}"),
            }
            assert_holds(&target, if index == 0 { &second } else { &first });
        }
    });
}

#[test]
fn a_refresh_that_finds_no_room_leaves_the_old_files_byte_for_byte() {
    in_namespace(|root| {
        let sizes = [Options { bytes: 64 << 10, ..options() }, Options { inodes: 40, ..options() }];
        let many: Vec<String> = (0..40).map(|index| format!("many/{index}")).collect();
        let many: Vec<_> = many.iter().map(|path| (path.as_str(), 0o600, "x")).collect();
        let large = [("both", 0o644, "new both"), ("large", 0o644, &"x".repeat(64 << 10))];
        for (index, (options, wanted)) in sizes.iter().zip([files(&large), files(&many)]).enumerate() {
            let target = target_in(&root.join(index.to_string()));
            publish_within(&target, options, &files(OLD));
            let before = everything(root);
            // More than once: what a failed refresh left would be in the way of the next one.
            for _ in 0..3 {
                let error = refresh(&target, &wanted).unwrap_err();
                assert!(error.is_full() && error.source().is_some(), "{error}");
                assert!(error.to_string().ends_with("the files that were there are untouched"), "{error}");
                assert_eq!(everything(root), before);
            }
            assert!(matches!(refresh(&target, &files(NEW)).unwrap(), Change::Replaced { .. }));
            assert_holds(&target, &files(NEW));
        }
    });
}

#[test]
fn a_first_write_that_finds_no_room_is_never_published() {
    in_namespace(|root| {
        let target = target_in(root);
        let mut mounting = Mounting::begin(&target, &Options { bytes: 4_096, ..options() }).unwrap();
        let error = mounting.volume().replace(&files(OLD), now()).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(look(&target).unwrap(), Standing::Unfinished);
        assert!(everything_in(&target).is_empty());
    });
}

#[test]
fn other_errors_are_not_for_want_of_room() {
    in_namespace(|root| {
        let target = target_in(root);
        publish(&target, OLD);
        run("mount", &["-o", "remount,bind,ro"], &target);
        let error = refresh(&target, &files(NEW)).unwrap_err();
        assert!(!error.is_full() && matches!(error, WriteError::Step { .. }), "{error}");
        assert_holds(&target, &files(OLD));
    });
}
