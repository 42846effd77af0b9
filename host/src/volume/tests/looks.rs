//! What stands at a target, whoever put it there.

use super::namespace::*;
use super::*;

use std::error::Error as _;
use std::process::{Command, Stdio};

use crate::volume::mount::{Mounting, Standing, look, open, remove};

const NOTHING: [(&str, Start); 4] = [
    ("no folder above", |target| std::fs::remove_dir(target.parent().unwrap()).unwrap()),
    ("no folder", |_| {}),
    ("a folder", |target| std::fs::create_dir(target).unwrap()),
    ("a folder with everything in it but no mount", |target| {
        std::fs::create_dir(target).unwrap();
        lay_out_as_the_go_driver(target);
    }),
];

const UNFINISHED: [(&str, Start); 8] = [
    ("an empty mount", mounted),
    ("a version that is not in force", |target| {
        mounted(target);
        lay_out_as_the_go_driver(target);
        std::fs::remove_file(target.join(DATA)).unwrap();
    }),
    ("a link to nothing", |target| data_link(target, "..2026_04_30_12_00_00.1")),
    ("a link to a file", |target| {
        data_link(target, "file");
        std::fs::write(target.join("file"), "").unwrap();
    }),
    ("a link to itself", |target| data_link(target, DATA)),
    ("a link out of the volume", |target| data_link(target, "..")),
    ("a link further out of the volume", |target| data_link(target, "../..")),
    ("a link to a folder elsewhere", |target| data_link(target, "/proc")),
];

const PUBLISHED: [(&str, Start); 3] = [
    ("a volume of the Go driver", |target| {
        mounted(target);
        lay_out_as_the_go_driver(target);
    }),
    ("a volume of Coffer", |target| publish(target, OLD)),
    ("a volume that is read-only now", |target| {
        publish(target, OLD);
        run("mount", &["-o", "remount,bind,ro"], target);
    }),
];

fn mounted(target: &Path) {
    std::fs::create_dir(target).unwrap();
    mount_tmpfs(target);
}

fn data_link(target: &Path, text: &str) {
    mounted(target);
    symlink(text, target.join(DATA)).unwrap();
}

fn every_case(root: &Path) {
    let cases = NOTHING.map(|case| (case, Standing::Nothing)).into_iter();
    let cases = cases.chain(UNFINISHED.map(|case| (case, Standing::Unfinished)));
    for ((what, start), standing) in cases.chain(PUBLISHED.map(|case| (case, Standing::Published))) {
        let target = target_in(root);
        start(&target);
        let before = everything(root);
        assert_eq!(look(&target).unwrap(), standing, "{what}");
        assert_eq!(everything(root), before, "{what}");
        remove(&target).unwrap();
        assert_eq!(look(&target).unwrap(), Standing::Nothing, "{what}");
    }
}

#[test]
fn only_a_mount_with_a_version_in_force_is_published() {
    in_namespace(|root| {
        every_case(root);
    });
}

#[test]
fn a_kernel_without_openat2_and_statx_is_told_the_same() {
    on_an_old_kernel(&["openat2", "statx"], |root| {
        every_case(root);
    });
}

#[test]
fn a_bind_mount_within_one_file_system_is_a_mount_as_well() {
    in_namespace(|root| {
        let target = target_in(root);
        let elsewhere = root.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::create_dir(&target).unwrap();
        lay_out_as_the_go_driver(&elsewhere);
        bind(&elsewhere, &target);
        assert_eq!(look(&target).unwrap(), Standing::Published);
        let error = open(&target, None).unwrap_err().to_string();
        assert!(error.contains(target.to_str().unwrap()) && error.contains("not a tmpfs"), "{error}");
    });
}

#[test]
fn a_mount_that_cannot_be_read_is_an_error_and_can_be_removed() {
    in_namespace(|root| {
        let target = target_in(root);
        std::fs::create_dir(&target).unwrap();
        // A file system whose server is gone before it has said a word.
        let script = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 gone \"$0\"";
        let mut fuse = Command::new("sh");
        fuse.args(["-c", script]).arg(&target).stdout(Stdio::null()).stderr(Stdio::null());
        if !fuse.status().unwrap().success() {
            return not_run("a mount that cannot be read: /dev/fuse cannot be used here");
        }
        for error in [look(&target).unwrap_err(), Mounting::begin(&target, &options()).unwrap_err()] {
            assert!(error.to_string().contains(target.to_str().unwrap()), "{error}");
            assert!(error.source().is_some(), "{error}");
        }
        assert_eq!(mounts_at(&target).len(), 1);
        remove(&target).unwrap();
        assert_eq!((mounts_at(&target).len(), target.exists()), (0, false));
    });
}

/// Puts a link, which leads to a folder with the same inside, or a file in the place of each folder up to the target.
fn something_in_the_way(root: &Path, check: &dyn Fn(&Path, &Path)) {
    let parts = ["pods", "0f2b", "volumes", "kubernetes.io~csi", "secrets", "mount"];
    for depth in 1..=parts.len() {
        for is_link in [true, false] {
            let root = root.join(format!("{depth}-{is_link}"));
            let target = target_in(&root);
            publish(&target, OLD);
            let in_the_way: PathBuf =
                std::iter::once(root.as_path()).chain(parts[..depth].iter().map(Path::new)).collect();
            let outside = root.join("outside");
            if depth == parts.len() {
                // A mount cannot be renamed, so the link leads to where it is bound.
                std::fs::create_dir(&outside).unwrap();
                bind(&target, &outside);
                run("umount", &[], &target);
                std::fs::remove_dir(&target).unwrap();
            } else {
                std::fs::rename(&in_the_way, &outside).unwrap();
            }
            if is_link {
                symlink(&outside, &in_the_way).unwrap();
            } else {
                std::fs::write(&in_the_way, "in the way").unwrap();
            }
            check(&target, &in_the_way);
        }
    }
}

fn nothing_is_done_beyond_it(root: &Path) {
    something_in_the_way(root, &|target, in_the_way| {
        let before = everything(root);
        let mut errors = vec![
            look(target).unwrap_err(),
            open(target, None).unwrap_err(),
            Mounting::begin(target, &options()).unwrap_err(),
        ];
        if target != in_the_way {
            errors.push(remove(target).unwrap_err());
        }
        let kind = if in_the_way.is_symlink() { "is a symbolic link" } else { "is not a folder" };
        for error in errors {
            let error = error.to_string();
            assert!(error.contains(&format!("{}: ", target.display())), "{error}");
            assert!(error.contains(&format!("{} {kind}", in_the_way.display())), "{error}");
        }
        assert_eq!(everything(root), before);
    });
}

#[test]
fn a_link_or_a_file_on_the_way_is_refused_and_named_and_nothing_is_done_beyond_it() {
    in_namespace(|root| {
        nothing_is_done_beyond_it(root);
    });
}

#[test]
fn a_kernel_without_openat2_refuses_links_as_well() {
    on_an_old_kernel(&["openat2"], |root| {
        nothing_is_done_beyond_it(root);
    });
}

#[test]
fn a_link_or_a_file_at_the_target_itself_is_removed_and_not_what_it_leads_to() {
    in_namespace(|root| {
        something_in_the_way(root, &|target, in_the_way| {
            if target == in_the_way {
                let outside = root.read_dir().unwrap().map(|entry| entry.unwrap().path().join("outside"));
                let before: Vec<_> = outside.filter(|path| path.exists()).map(|path| everything_in(&path)).collect();
                let mounted = mounts();
                remove(target).unwrap();
                assert!(!target.is_symlink() && !target.exists());
                let outside = root.read_dir().unwrap().map(|entry| entry.unwrap().path().join("outside"));
                let after: Vec<_> = outside.filter(|path| path.exists()).map(|path| everything_in(&path)).collect();
                assert_eq!((before, mounted), (after, mounts()));
            }
        });
    });
}

#[test]
fn a_target_that_is_no_plain_absolute_path_is_refused() {
    for target in ["", "/", "mount", "./mount", "/a/../b", "/a/..", "..", "/.."] {
        let target = Path::new(target);
        let begun = Mounting::begin(target, &options()).unwrap_err();
        for error in [look(target).unwrap_err(), open(target, None).unwrap_err(), begun, remove(target).unwrap_err()] {
            assert!(error.to_string().contains("absolute path"), "{error}");
        }
    }
}

#[test]
fn only_what_is_mounted_is_opened() {
    in_namespace(|root| {
        for (what, start) in NOTHING {
            let target = target_in(root);
            start(&target);
            let error = open(&target, None).unwrap_err().to_string();
            assert!(
                error.contains(target.to_str().unwrap()) && error.contains("nothing is mounted"),
                "{what}: {error}"
            );
            remove(&target).unwrap();
        }
    });
}
