//! Mounting, and what is left when it does not come to its end.

use super::namespace::*;
use super::*;

use std::sync::atomic::AtomicUsize;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::volume::mount::{Mounting, Options, Standing, look, open, remove};

/// What a Linux before 5.2 does not know.
const OLD_KERNEL: [&str; 3] = ["openat2", "fsopen", "statx"];

fn begin(target: &Path) -> Mounting {
    Mounting::begin(target, &options()).unwrap()
}

fn message(target: &Path) -> String {
    let message = Mounting::begin(target, &options()).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot mount a tmpfs at {}: ", target.display())), "{message}");
    message
}

fn a_tmpfs_as_it_was_asked_for(root: &Path) {
    let target = target_in(root);
    let options = Options { bytes: 128 << 10, inodes: 50, group: None };
    Mounting::begin(&target, &options).unwrap().keep();
    let mounts = mounts_at(&target);
    assert_eq!(mounts.len(), 1);
    let (attributes, settings) = mounts[0].split_once(" - tmpfs tmpfs ").unwrap();
    for attribute in ["rw", "nosuid", "nodev", "noexec"] {
        assert!(attributes.split([' ', ',']).any(|word| word == attribute), "{attribute}: {mounts:?}");
    }
    for setting in ["rw", "size=128k", "nr_inodes=50", "mode=755"] {
        assert!(settings.split(',').any(|word| word == setting), "{setting}: {mounts:?}");
    }
    let metadata = target.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o755, 0, 0));
    if is_root_or_skips("a tmpfs that is kept out of the swap") {
        assert!(settings.split(',').any(|word| word == "noswap"), "Linux 6.4 or later is needed: {mounts:?}");
    }
}

#[test]
fn a_volume_is_a_bounded_tmpfs_without_programs_devices_or_swap() {
    in_namespace(|root| {
        a_tmpfs_as_it_was_asked_for(root);
    });
}

#[test]
fn a_kernel_without_the_new_mount_calls_makes_the_same_tmpfs() {
    on_an_old_kernel(&OLD_KERNEL, |root| {
        a_tmpfs_as_it_was_asked_for(root);
    });
}

#[test]
fn a_kernel_that_does_not_know_noswap_mounts_all_the_same() {
    // What is set, in this order: source, mode, nr_blocks, nr_inodes, noswap.
    with_faults(&["fsconfig:error=EINVAL:when=5"], |root| {
        let target = target_in(root);
        begin(&target).keep();
        let mounts = mounts_at(&target);
        assert!(mounts[0].contains("nr_inodes=100") && !mounts[0].contains("noswap"), "{mounts:?}");
    });
}

#[test]
fn an_old_kernel_that_does_not_know_noswap_mounts_all_the_same() {
    with_faults(&["openat2,fsopen,statx:error=ENOSYS", "mount:error=EINVAL:when=1"], |root| {
        let target = target_in(root);
        begin(&target).keep();
        let mounts = mounts_at(&target);
        assert!(mounts[0].contains("nr_inodes=100") && !mounts[0].contains("noswap"), "{mounts:?}");
    });
}

#[test]
fn no_size_at_all_is_little_and_not_everything() {
    in_namespace(|root| {
        let target = target_in(root);
        Mounting::begin(&target, &Options { bytes: 0, inodes: 0, group: None }).unwrap().keep();
        let mounts = mounts_at(&target);
        assert!(mounts[0].contains("size=4k") && mounts[0].contains("nr_inodes=1,"), "{mounts:?}");
    });
}

#[test]
fn what_is_kept_is_published_and_refreshed_in_place() {
    in_namespace(|root| {
        let target = target_in(root);
        publish(&target, OLD);
        let mounted = mounts_at(&target);
        let mut volume = open(&target, None).unwrap();
        assert!(matches!(volume.replace(&files(NEW), now()).unwrap(), Change::Replaced { .. }));
        assert_holds(&target, &files(NEW));
        assert_eq!(mounts_at(&target), mounted);
    });
}

#[test]
fn a_volume_of_the_go_driver_is_refreshed_in_place() {
    in_namespace(|root| {
        let target = target_in(root);
        std::fs::create_dir(&target).unwrap();
        mount_tmpfs(&target);
        lay_out_as_the_go_driver(&target);
        let (mounted, before) = (mounts_at(&target), everything_in(&target));
        assert_eq!(look(&target).unwrap(), Standing::Published);
        let mut volume = open(&target, None).unwrap();
        let same = files(&[("a", 0o644, "go a"), ("sub/b", 0o644, "go b")]);
        assert_eq!(volume.replace(&same, now()).unwrap(), Change::Unchanged);
        assert_eq!(everything_in(&target), before);
        volume.replace(&files(NEW), now()).unwrap();
        assert_holds(&target, &files(NEW));
        assert_eq!(mounts_at(&target), mounted);
    });
}

/// Begins on a copy of every start, goes some way, and drops what was begun.
fn every_drop(root: &Path) {
    let starts: [(&str, Start); 5] = [
        ("no folder above", |target| {
            std::fs::remove_dir_all(target.ancestors().nth(4).unwrap()).unwrap();
        }),
        ("no folder", |_| {}),
        ("a folder", |target| std::fs::create_dir(target).unwrap()),
        ("a folder with foreign files", |target| {
            std::fs::create_dir(target).unwrap();
            lay_out_as_the_go_driver(target);
        }),
        ("an unfinished mount", |target| {
            std::fs::create_dir(target).unwrap();
            run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"], target);
        }),
    ];
    for (what, start) in starts {
        let target = target_in(root);
        start(&target);
        let (before, was) = (everything(root), look(&target).unwrap());
        drop(begin(&target));
        assert_eq!(everything(root), before, "{what}: at once");

        let mut mounting = begin(&target);
        let too_large = files(&[("a", 0o644, "1"), ("large", 0o644, &"x".repeat(2 << 20))]);
        assert!(mounting.volume().replace(&too_large, now()).unwrap_err().is_full());
        drop(mounting);
        assert_eq!(everything(root), before, "{what}: after a write that failed");

        if was == Standing::Nothing {
            let mut mounting = begin(&target);
            mounting.volume().replace(&files(OLD), now()).unwrap();
            assert_eq!(look(&target).unwrap(), Standing::Published);
            drop(mounting);
            assert_eq!(everything(root), before, "{what}: after a write that worked");
        }
        remove(&target).unwrap();
    }
}

#[test]
fn what_is_dropped_leaves_mounts_and_folders_as_they_were() {
    in_namespace(|root| {
        every_drop(root);
    });
}

#[test]
fn what_is_dropped_on_an_old_kernel_leaves_mounts_and_folders_as_they_were() {
    on_an_old_kernel(&OLD_KERNEL, |root| {
        every_drop(root);
    });
}

#[test]
fn missing_folders_are_made_for_owner_and_group_only() {
    in_namespace(|root| {
        let target = root.join("a/b/mount");
        begin(&target).keep();
        assert_eq!(look(&target).unwrap(), Standing::Unfinished);
        remove(&target).unwrap();
        let made = everything_in(root);
        assert_eq!(made, BTreeMap::from(["a", "a/b"].map(|path| (path.into(), String::from("750 folder")))));
    });
}

#[test]
fn folders_that_somebody_uses_meanwhile_stay() {
    in_namespace(|root| {
        let mounting = begin(&root.join("a/b/mount"));
        std::fs::write(root.join("a/foreign"), "").unwrap();
        drop(mounting);
        assert_eq!(everything_in(root).into_keys().collect::<Vec<_>>(), [Path::new("a"), Path::new("a/foreign")]);
    });
}

#[test]
fn an_unfinished_mount_is_gone_on_with_and_no_other_one_is_stacked() {
    in_namespace(|root| {
        let target = target_in(root);
        begin(&target).keep();
        let mounted = mounts_at(&target);
        drop(begin(&target));
        let mut mounting = begin(&target);
        mounting.volume().replace(&files(OLD), now()).unwrap();
        mounting.keep();
        assert_eq!((look(&target).unwrap(), mounts_at(&target)), (Standing::Published, mounted));
        assert_holds(&target, &files(OLD));
    });
}

#[test]
fn what_a_publish_that_was_killed_left_in_the_mount_is_cleared() {
    in_namespace(|root| {
        let target = target_in(root);
        begin(&target).keep();
        std::fs::create_dir(target.join("..2026_04_30_12_00_00.1")).unwrap();
        std::fs::write(target.join("..2026_04_30_12_00_00.1/half"), "half").unwrap();
        symlink("..data/half", target.join("half")).unwrap();
        let mut mounting = begin(&target);
        mounting.volume().replace(&files(OLD), now()).unwrap();
        mounting.keep();
        assert_holds(&target, &files(OLD));
    });
}

#[test]
fn a_published_volume_is_not_begun_again() {
    in_namespace(|root| {
        let target = target_in(root);
        publish(&target, OLD);
        let before = everything(root);
        assert!(message(&target).contains("refresh it"));
        assert_eq!(everything(root), before);
    });
}

#[test]
fn secrets_are_not_written_to_a_mount_that_is_no_tmpfs() {
    in_namespace(|root| {
        let (target, disk) = (target_in(root), root.join("disk"));
        std::fs::create_dir(&target).unwrap();
        std::fs::create_dir(&disk).unwrap();
        bind(&disk, &target);
        let before = everything(root);
        assert!(message(&target).contains("not a tmpfs"));
        assert_eq!(everything(root), before);
    });
}

#[test]
fn a_parent_that_cannot_be_written_is_named() {
    in_namespace(|root| {
        let target = target_in(root);
        let above = target.parent().unwrap();
        bind(above, above);
        run("mount", &["-o", "remount,bind,ro"], above);
        let before = everything(root);
        assert!(message(&target).contains(&format!("cannot create the folder {}", target.display())));
        assert_eq!(everything(root), before);
        remove(&target).unwrap();
    });
}

#[test]
fn a_mount_that_fails_leaves_no_folders() {
    with_faults(&["move_mount:error=ENOMEM"], |root| {
        assert!(message(&root.join("a/b/mount")).contains("CAP_SYS_ADMIN"));
        assert!(everything_in(root).is_empty());
    });
}

#[test]
fn a_tmpfs_that_cannot_be_made_leaves_no_folders() {
    with_faults(&["fsmount:error=ENOMEM"], |root| {
        message(&root.join("a/b/mount"));
        assert!(everything_in(root).is_empty());
    });
}

#[test]
fn a_mount_that_fails_on_an_old_kernel_leaves_no_folders() {
    with_faults(&["openat2,fsopen,statx:error=ENOSYS", "mount:error=ENOMEM"], |root| {
        message(&root.join("a/b/mount"));
        assert!(everything_in(root).is_empty());
    });
}

#[test]
fn a_mount_that_cannot_be_used_is_taken_back() {
    with_faults(&["fstatfs:error=EIO"], |root| {
        let mounted = mounts();
        message(&root.join("a/b/mount"));
        assert_eq!((mounts(), everything_in(root).len()), (mounted, 0));
    });
}

#[test]
fn what_somebody_mounts_over_a_mount_is_not_taken_for_it() {
    in_namespace(|root| {
        let target = target_in(root);
        let mounting = begin(&target);
        mount_tmpfs(&target);
        std::fs::write(target.join("foreign"), "").unwrap();
        drop(mounting);
        assert!(target.join("foreign").exists());
        remove(&target).unwrap();
        assert_eq!((mounts_at(&target).len(), target.exists()), (0, false));
    });
}

#[test]
fn a_target_that_becomes_a_link_between_two_calls_is_refused() {
    in_namespace(|root| {
        let (target, outside) = (target_in(root), root.join("outside"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "").unwrap();
        mount_tmpfs(&outside);
        std::fs::write(outside.join("precious"), "").unwrap();
        assert_eq!(look(&target).unwrap(), Standing::Nothing);
        symlink(&outside, &target).unwrap();
        let before = everything(root);
        assert!(message(&target).contains("is a symbolic link"));
        assert!(open(&target, None).unwrap_err().to_string().contains("is a symbolic link"));
        assert_eq!(everything(root), before);
    });
}

/// Somebody puts a link to a folder outside in the place of `swapped`, and the folder back, all the time.
fn somebody_swaps(root: &Path, swapped: &Path, outside: &Path) {
    const ROUNDS: usize = 300;
    /// Should one of the two never get its turn, the test fails instead of running for ever.
    const MOST: usize = 20_000;
    let target = target_in(root);
    symlink(outside, root.join("link")).unwrap();
    let before = everything(root);
    let (done, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut worked, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let is_over = done.load(Ordering::Relaxed);
                if is_over && swaps.load(Ordering::Relaxed) % 2 == 0 {
                    break;
                }
                match rustix::fs::renameat_with(CWD, root.join("link"), CWD, swapped, RenameFlags::EXCHANGE) {
                    Ok(()) => drop(swaps.fetch_add(1, Ordering::Relaxed)),
                    // Something is mounted on it, and in the end nothing is.
                    Err(error) => assert_eq!((error, is_over), (Errno::BUSY, false)),
                }
            }
        });
        let _stop = Stop(&done);
        let is_outside = || mounts().iter().any(|line| line.contains(outside.to_str().unwrap()));
        while (worked < ROUNDS || refused < ROUNDS) && worked + refused < MOST {
            match Mounting::begin(&target, &options()) {
                Ok(mut mounting) => {
                    mounting.volume().replace(&files(OTHER), now()).unwrap();
                    assert!(!is_outside(), "mounted outside");
                    worked += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("is a symbolic link") || error.contains("is being replaced"), "{error}");
                    refused += 1;
                }
            }
            assert!(!is_outside(), "left outside");
        }
    });
    assert_eq!(everything(root), before);
    assert!(worked > 0 && refused > 0, "{worked} worked and {refused} were refused: this shows nothing");
}

#[test]
fn nothing_is_mounted_outside_while_somebody_swaps_a_folder_above_for_a_link() {
    in_namespace(|root| {
        let target = target_in(root);
        std::fs::create_dir_all(root.join("outside/secrets/mount/precious")).unwrap();
        somebody_swaps(root, target.ancestors().nth(2).unwrap(), &root.join("outside"));
    });
}

#[test]
fn nothing_is_mounted_outside_while_somebody_swaps_the_target_for_a_link() {
    in_namespace(|root| {
        let target = target_in(root);
        std::fs::create_dir(&target).unwrap();
        std::fs::create_dir_all(root.join("outside/precious")).unwrap();
        somebody_swaps(root, &target, &root.join("outside"));
    });
}

#[test]
fn a_mount_reaches_the_node_and_is_taken_back_from_there() {
    in_namespace(|root| {
        // As kubelet's folder is mounted into a driver's container: what is mounted on one side appears on the other.
        let (inside, node) = (root.join("inside"), root.join("node"));
        [&inside, &node].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        bind(&inside, &inside);
        run("mount", &["--make-shared"], &inside);
        bind(&inside, &node);
        let (target, seen) = (target_in(&inside), target_in(&node));
        let before = everything(root);
        publish(&target, OLD);
        assert_eq!((mounts_at(&target).len(), mounts_at(&seen).len()), (1, 1));
        assert_holds(&seen, &files(OLD));
        remove(&target).unwrap();
        assert_eq!(everything(root), before);
        drop(begin(&target));
        assert_eq!(everything(root), before);
    });
}

#[test]
fn a_hundred_publishes_and_removals_leave_nothing() {
    in_namespace(|root| {
        let target = target_in(root);
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = (everything(root), descriptors());
        for _ in 0..100 {
            publish(&target, OLD);
            remove(&target).unwrap();
        }
        assert_eq!((everything(root), descriptors()), before);
    });
}
