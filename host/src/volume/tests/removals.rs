//! Taking a volume away, whatever stands there.

use super::namespace::*;
use super::*;

use std::io::Read as _;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, RenameFlags};

use crate::volume::mount::{Mounting, remove};

/// Removes the target twice; then nothing of it is left, and everything beside it is as it was.
fn removes(root: &Path, what: &str, start: impl FnOnce(&Path)) {
    let target = target_in(root);
    let before = everything(root);
    start(&target);
    for _ in 0..2 {
        remove(&target).unwrap_or_else(|error| panic!("{what}: {error}: {:?}", std::error::Error::source(&error)));
        assert_eq!(everything(root), before, "{what}");
    }
}

fn plain_folder_with_everything(target: &Path) {
    std::fs::create_dir(target).unwrap();
    lay_out_as_the_go_driver(target);
    litter(target);
    mode(&target.join("sub"), 0o755);
    std::fs::create_dir_all(target.join("closed/deep/er")).unwrap();
    std::fs::write(target.join("closed/deep/er/file"), "").unwrap();
    mode(&target.join("closed/deep/er/file"), 0);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, target.join("pipe"), kind, rustix::fs::Mode::RWXU, 0).unwrap();
}

fn everything_that_may_be_there(root: &Path) {
    removes(root, "nothing", |_| {});
    removes(root, "a published volume", |target| publish(target, OLD));
    removes(root, "an unfinished mount", |target| Mounting::begin(target, &options()).unwrap().keep());
    removes(root, "an empty folder", |target| std::fs::create_dir(target).unwrap());
    removes(root, "what a restart of the machine leaves", plain_folder_with_everything);
    removes(root, "a mount over a folder with files", |target| {
        plain_folder_with_everything(target);
        publish(target, OLD);
    });
    removes(root, "a volume of the Go driver", |target| {
        std::fs::create_dir(target).unwrap();
        mount_tmpfs(target);
        lay_out_as_the_go_driver(target);
    });
    removes(root, "a file", |target| std::fs::write(target, "file").unwrap());
    removes(root, "a link to nothing", |target| symlink("nowhere", target).unwrap());
    removes(root, "mounts over each other", |target| {
        publish(target, OLD);
        (0..63).for_each(|_| mount_tmpfs(target));
        assert_eq!(mounts_at(target).len(), 64);
    });
    removes(root, "mounts inside of a mount", |target| {
        publish(target, OLD);
        std::fs::create_dir(target.join("inside")).unwrap();
        mount_tmpfs(&target.join("inside"));
    });
    removes(root, "a volume that is read-only", |target| {
        publish(target, OLD);
        run("mount", &["-o", "remount,bind,ro"], target);
    });
}

#[test]
fn whatever_stands_at_a_target_is_removed_and_removing_it_again_is_fine() {
    in_namespace(|root| {
        everything_that_may_be_there(root);
    });
}

#[test]
fn an_old_kernel_removes_the_same() {
    on_an_old_kernel(&["openat2", "fsopen", "statx"], |root| {
        everything_that_may_be_there(root);
    });
}

#[test]
fn a_missing_parent_is_fine() {
    in_namespace(|root| {
        remove(&root.join("no/such/mount")).unwrap();
        assert!(everything_in(root).is_empty());
    });
}

#[test]
fn what_belongs_to_something_else_is_unmounted_and_not_emptied() {
    in_namespace(|root| {
        let disk = root.join("disk");
        std::fs::create_dir(&disk).unwrap();
        std::fs::write(disk.join("precious"), "").unwrap();
        removes(root, "a folder of a disk", |target| {
            std::fs::create_dir(target).unwrap();
            bind(&disk, target);
        });
        removes(root, "a device", |target| {
            std::fs::write(target, "").unwrap();
            bind(Path::new("/dev/null"), target);
        });
        removes(root, "a file of a disk", |target| {
            std::fs::write(target, "").unwrap();
            bind(&disk.join("precious"), target);
        });
        assert!(disk.join("precious").exists());
    });
}

#[test]
fn links_in_a_folder_are_removed_and_not_followed() {
    in_namespace(|root| {
        let outside = root.join("outside");
        std::fs::create_dir_all(outside.join("folder")).unwrap();
        std::fs::write(outside.join("folder/precious"), "").unwrap();
        removes(root, "links", |target| {
            std::fs::create_dir_all(target.join("folder")).unwrap();
            for place in [target.join("link"), target.join("folder/link"), target.join(DATA)] {
                symlink(&outside, place).unwrap();
            }
            symlink(outside.join("folder/precious"), target.join("file")).unwrap();
            symlink("..", target.join("folder/up")).unwrap();
        });
        assert!(outside.join("folder/precious").exists());
    });
}

#[test]
fn nothing_is_removed_outside_while_somebody_swaps_a_folder_for_a_link() {
    // Every open takes a while, so that a swap before it is likely.
    with_faults(&["openat:delay_enter=500"], |root| {
        let target = target_in(root);
        let (inside, outside, link) = (target.join("folder"), root.join("outside"), root.join("link"));
        std::fs::create_dir_all(outside.join("folder")).unwrap();
        std::fs::write(outside.join("folder/precious"), "").unwrap();
        let before = everything_in(&outside);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Fails whenever one of the two has been removed.
                    let _ = rustix::fs::renameat_with(CWD, &link, CWD, &inside, RenameFlags::EXCHANGE);
                }
            });
            let _stop = Stop(&done);
            for _ in 0..50 {
                std::fs::create_dir_all(&target).unwrap();
                let _ = std::fs::create_dir(&inside);
                // What is there may be either of the two, and turn into the other.
                while symlink(&outside, &link).is_err() {
                    let _ = std::fs::remove_dir(&link).or_else(|_| std::fs::remove_file(&link));
                }
                // An error if the swap came just then; the next call goes on.
                let _ = remove(&target);
            }
        });
        remove(&target).unwrap();
        assert_eq!(everything_in(&outside), before);
    });
}

#[test]
fn another_file_system_in_a_plain_folder_is_named_and_left_alone() {
    in_namespace(|root| {
        let (target, disk) = (target_in(root), root.join("disk"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::write(disk.join("precious"), "").unwrap();
        std::fs::create_dir_all(target.join("a/b")).unwrap();
        std::fs::write(target.join("a/file"), "").unwrap();
        let inside: [(PathBuf, PathBuf); 2] =
            [(disk.clone(), target.join("a/b")), (disk.join("precious"), target.join("a/file"))];
        for (from, to) in inside {
            if !to.exists() {
                continue;
            }
            bind(&from, &to);
            let message = remove(&target).unwrap_err().to_string();
            assert!(message.contains(&format!("is mounted at {}", to.display())), "{message}");
            assert!(disk.join("precious").exists());
            run("umount", &[], &to);
        }
        remove(&target).unwrap();
        assert!(disk.join("precious").exists() && !target.exists());
    });
}

#[test]
fn more_mounts_than_anybody_has_are_an_error_and_the_next_call_goes_on() {
    in_namespace(|root| {
        let target = target_in(root);
        std::fs::create_dir(&target).unwrap();
        (0..70).for_each(|_| mount_tmpfs(&target));
        let message = remove(&target).unwrap_err().to_string();
        assert!(message.contains("more than 64") && message.contains(target.to_str().unwrap()), "{message}");
        remove(&target).unwrap();
        assert_eq!((mounts_at(&target).len(), target.exists()), (0, false));
    });
}

#[test]
fn folders_that_are_too_deep_are_named() {
    in_namespace(|root| {
        let target = target_in(root);
        let deep: PathBuf = std::iter::once(target.clone()).chain((0..100).map(|_| "d".into())).collect();
        std::fs::create_dir_all(&deep).unwrap();
        remove(&target).unwrap();
        std::fs::create_dir_all(deep.join("too/deep")).unwrap();
        let message = remove(&target).unwrap_err().to_string();
        assert!(message.contains("/too lies more than 100 folders deep"), "{message}");
    });
}

#[test]
fn a_volume_in_use_is_taken_from_its_users_at_once_and_they_keep_what_they_have_open() {
    in_namespace(|root| {
        let target = target_in(root);
        publish(&target, OLD);
        let mut opened = std::fs::File::open(target.join("both")).unwrap();
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo ready; read line; cat both"]).current_dir(&target);
        let mut inside = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        inside.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        remove(&target).unwrap();
        assert_eq!((mounts_at(&target).len(), target.exists()), (0, false));
        let mut text = String::new();
        opened.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old both");
        drop(inside.stdin.take());
        assert_eq!(inside.wait_with_output().unwrap().stdout, b"old both");
    });
}
