//! A volume that belongs to the pod's fsGroup.

use super::namespace::*;
use super::*;

use std::os::unix::fs::chown;
use std::process::Command;

use crate::volume::mount::{Mounting, Options, Standing, look, open, remove};

/// Groups and a user that the tests' process is not.
const GROUP: u32 = 12_345;
const OTHER_GROUP: u32 = 54_321;
const USER: u32 = 1_000;

const CONTENT: Content<'_> = &[("closed", 0, "closed"), ("dir/owner", 0o400, "owner"), ("open", 0o644, "open")];

fn publish_for(target: &Path, group: Option<u32>) {
    let mut mounting = Mounting::begin(target, &Options { group, ..options() }).unwrap();
    mounting.volume().replace(&files(CONTENT), now()).unwrap();
    mounting.keep();
}

/// Mode and group of the volume itself, of its version and of everything in there.
fn modes_and_groups(target: &Path) -> BTreeMap<String, (u32, u32)> {
    let version = target.join(version_of(target));
    let inside = everything_in(&version).into_keys().map(|path| (path.display().to_string(), version.join(path)));
    let all = inside.chain([("volume".into(), target.to_owned()), ("version".into(), version.clone())]);
    let of = |path: &Path| path.symlink_metadata().map(|metadata| (metadata.mode() & 0o7777, metadata.gid())).unwrap();
    all.map(|(name, path)| (name, of(&path))).collect()
}

fn expected(group: u32, owner: u32) -> BTreeMap<String, (u32, u32)> {
    let all =
        [("volume", 0o755), ("version", 0o755), ("closed", 0), ("dir", 0o755), ("dir/owner", owner), ("open", 0o644)];
    all.into_iter().map(|(name, mode)| (name.into(), (mode, group))).collect()
}

/// What a process of `USER` reads, that has `group` besides its own.
fn read_as_member(group: u32, path: &Path) -> Option<String> {
    let mut command = Command::new("setpriv");
    let (user, own, group) = (format!("--reuid={USER}"), format!("--regid={USER}"), format!("--groups={group}"));
    let output = command.args([&user, &own, &group, "--inh-caps=-all", "cat"]).arg(path).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn everything_belongs_to_the_group_which_may_read_what_the_owner_may() {
    in_namespace(|root| {
        if !is_root_or_skips("giving a volume to a group") {
            return;
        }
        let target = target_in(root);
        publish_for(&target, Some(GROUP));
        assert_eq!(modes_and_groups(&target), expected(GROUP, 0o440));
        let owner = target.join("dir/owner");
        assert_eq!(read_as_member(GROUP, &owner).as_deref(), Some("owner"));
        assert_eq!(read_as_member(OTHER_GROUP, &owner), None);
        assert_eq!(read_as_member(GROUP, &target.join("closed")), None);
    });
}

#[test]
fn the_same_files_for_the_same_group_change_nothing() {
    in_namespace(|root| {
        if !is_root_or_skips("refreshing a volume of a group") {
            return;
        }
        let target = target_in(root);
        publish_for(&target, Some(GROUP));
        let version = version_of(&target);
        let change = open(&target, Some(GROUP)).unwrap().replace(&files(CONTENT), now()).unwrap();
        assert_eq!((change, version_of(&target)), (Change::Unchanged, version));
    });
}

#[test]
fn a_wrong_group_of_a_file_or_a_folder_is_repaired() {
    in_namespace(|root| {
        if !is_root_or_skips("repairing the group of a file") {
            return;
        }
        let target = target_in(root);
        publish_for(&target, Some(GROUP));
        for name in ["..data/dir/owner", "..data/dir", "..data/."] {
            chown(target.join(name), None, Some(OTHER_GROUP)).unwrap();
            let mut volume = open(&target, Some(GROUP)).unwrap();
            assert!(matches!(volume.preview(&files(CONTENT), now()).unwrap(), Change::Replaced { .. }), "{name}");
            assert!(matches!(volume.replace(&files(CONTENT), now()).unwrap(), Change::Replaced { .. }), "{name}");
            assert_eq!(modes_and_groups(&target), expected(GROUP, 0o440), "{name}");
        }
    });
}

#[test]
fn without_a_group_nobodys_group_is_compared_or_changed() {
    in_namespace(|root| {
        if !is_root_or_skips("files of another group") {
            return;
        }
        let target = target_in(root);
        publish_for(&target, None);
        assert_eq!(modes_and_groups(&target), expected(0, 0o400));
        chown(target.join("..data/open"), None, Some(OTHER_GROUP)).unwrap();
        let change = open(&target, None).unwrap().replace(&files(CONTENT), now()).unwrap();
        assert_eq!(change, Change::Unchanged);
        assert_eq!(target.join("open").metadata().unwrap().gid(), OTHER_GROUP);
    });
}

#[test]
fn a_volume_of_the_go_driver_is_given_to_the_group_when_it_is_refreshed() {
    in_namespace(|root| {
        if !is_root_or_skips("giving an adopted volume to a group") {
            return;
        }
        let target = target_in(root);
        std::fs::create_dir(&target).unwrap();
        mount_tmpfs(&target);
        lay_out_as_the_go_driver(&target);
        let same = files(&[("a", 0o644, "go a"), ("sub/b", 0o644, "go b")]);
        let change = open(&target, Some(GROUP)).unwrap().replace(&same, now()).unwrap();
        assert_eq!(change, Change::Replaced { written: 2, removed: 0 });
        assert!(["a", "sub/b"].iter().all(|name| target.join(name).metadata().unwrap().gid() == GROUP));
    });
}

#[test]
fn a_group_that_cannot_be_given_leaves_nothing_behind() {
    in_namespace(|root| {
        let target = target_in(root);
        let before = everything(root);
        let error = Mounting::begin(&target, &Options { group: Some(u32::MAX), ..options() }).unwrap_err().to_string();
        assert!(error.contains("4294967295 is not a group") && error.contains(target.to_str().unwrap()), "{error}");
        assert!(open(&target, Some(u32::MAX)).unwrap_err().to_string().contains("fsGroup"));
        assert_eq!(everything(root), before);
    });
}

#[test]
fn the_own_group_works_for_every_user() {
    in_namespace(|root| {
        let target = target_in(root);
        let own = rustix::process::getegid().as_raw();
        publish_for(&target, Some(own));
        assert_eq!(modes_and_groups(&target), expected(own, 0o440));
        assert_eq!(look(&target).unwrap(), Standing::Published);
        remove(&target).unwrap();
    });
}
