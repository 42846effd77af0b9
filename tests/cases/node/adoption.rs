//! Volumes that somebody else mounted: the Go driver, an earlier Coffer whose ledger is gone, or one that did not get to
//! the end. They are refreshed in place, and nothing that goes wrong then may cost the pod its files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{Fault, Kind, Matcher, Times};
use tonic::Code;

use super::namespace::Inside as _;
use super::world::{CLASS, CLIENT_ID, SECRET, VALUE, World, pod};

const OLD: &str = "canary of the old driver";

/// A driver, and a volume that another one published before.
async fn taken_over(files: &[(&str, &str)]) -> (World, Pod) {
    let world = World::new().await;
    let pod = pod("web");
    mount_like_the_go_driver(&world, &pod, files);
    (world, pod)
}

/// `mount -t tmpfs tmpfs TARGET`, a folder with a time in its name, and links.
fn mount_like_the_go_driver(world: &World, pod: &Pod, files: &[(&str, &str)]) {
    mount_tmpfs(world, pod, &[]);
    let target = world.seen(pod);
    let version = "..2026_01_02_03_04_05.1234567890";
    let folder = target.join(version);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    for (path, content) in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let first = path.split('/').next().unwrap();
        symlink(format!("..data/{first}"), target.join(first)).unwrap();
    }
    symlink(version, target.join("..data")).unwrap();
}

fn mount_tmpfs(world: &World, pod: &Pod, options: &[&str]) {
    let target = world.target(pod);
    fs::create_dir_all(&target).unwrap();
    let arguments = [&["-t", "tmpfs"], options, &["tmpfs", target.to_str().unwrap()]].concat();
    world.namespace.run("mount", &arguments);
}

#[tokio::test]
async fn a_volume_of_the_go_driver_is_brought_up_to_date_in_place() {
    let (world, pod) = taken_over(&[(SECRET, OLD), ("gone/since", "x")]).await;
    let (mounts, root) = (world.mounts(&pod), world.tree(&pod).unwrap().entry("").inode);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    assert!(!world.has_file(&pod, "gone"));
    let after = world.tree(&pod).unwrap();
    assert_eq!((world.mounts(&pod), after.entry("").inode), (mounts, root));
    assert_eq!(after.names().len(), 3, "{after:?}");
    world.status(&pod).await;
    world.emulator.log().clear();
    world.publish(&pod).await;
    assert_eq!(world.emulator.counters().total(), 0, "now it is known");
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn what_is_right_already_is_not_written_again() {
    let (world, pod) = taken_over(&[(SECRET, VALUE)]).await;
    let before = world.tree(&pod);
    world.publish(&pod).await;
    assert_eq!(world.gets(), 1);
    assert!(world.tree(&pod) == before, "somebody wrote");
}

#[tokio::test]
async fn a_vault_that_fails_in_that_moment_costs_nothing() {
    let (world, pod) = taken_over(&[(SECRET, OLD)]).await;
    let before = world.tree(&pod);
    world.vault.deny(CLIENT_ID);
    world.publish(&pod).await;
    assert!(world.tree(&pod) == before);
    world.event(&pod, "MountRotationFailed").await;
    world.vault.allow_all(CLIENT_ID);
    world.advance(61);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
}

#[tokio::test]
async fn a_class_that_cannot_be_found_in_that_moment_costs_nothing() {
    let (world, pod) = taken_over(&[(SECRET, OLD)]).await;
    let before = world.tree(&pod);
    world.api.class("default", CLASS).delete();
    world.publish(&pod).await;
    assert!(world.tree(&pod) == before);
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn a_lost_ledger_costs_one_fetch_and_no_write() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    let (before, mounts) = (world.tree(&pod), world.mounts(&pod));
    assert!(world.stop().await.success());
    fs::remove_dir_all(world.state()).unwrap();
    world.emulator.log().clear();
    world.start().await;
    world.publish(&pod).await;
    world.publish(&pod).await;
    assert_eq!(world.gets(), 1);
    assert!(world.tree(&pod) == before);
    assert_eq!(world.mounts(&pod), mounts);
}

#[tokio::test]
async fn a_damaged_ledger_is_a_lost_one() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    let before = world.tree(&pod);
    assert!(world.stop().await.success());
    for entry in fs::read_dir(world.state()).unwrap() {
        fs::write(entry.unwrap().path(), "{\"volume\": 1, ").unwrap();
    }
    world.start().await;
    world.publish(&pod).await;
    assert!(world.tree(&pod) == before);
}

#[tokio::test]
async fn a_mount_without_files_is_gone_on_with_and_never_reported_as_published() {
    let world = World::new().await;
    let pod = pod("web");
    mount_tmpfs(&world, &pod, &[]);
    world.vault.deny(CLIENT_ID);
    world.refused_with_rests(&pod, Code::PermissionDenied, &[CLASS]).await;
    world.vault.allow_all(CLIENT_ID);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    assert_eq!(world.mounts(&pod).len(), 1, "no mount on top of the other");
}

#[tokio::test]
async fn a_folder_that_looks_like_a_volume_and_is_no_mount_is_none() {
    let world = World::new().await;
    let pod = pod("web");
    let target = world.target(&pod);
    fs::create_dir_all(target.join("..2026_01_02_03_04_05.1")).unwrap();
    fs::write(target.join("..2026_01_02_03_04_05.1").join(SECRET), OLD).unwrap();
    symlink("..2026_01_02_03_04_05.1", target.join("..data")).unwrap();
    world.publish(&pod).await;
    assert_eq!((world.mounts(&pod).len(), world.file(&pod, SECRET).as_str()), (1, VALUE));
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_made_good() {
    let (world, pod) = taken_over(&[(SECRET, OLD)]).await;
    let target = world.seen(&pod);
    // What the Go driver never gets over.
    symlink("..2026_01_02_03_04_06.99", target.join("..data_tmp")).unwrap();
    fs::create_dir(target.join("..2026_01_02_03_04_06.99")).unwrap();
    fs::write(target.join("..2026_01_02_03_04_06.99").join(SECRET), "half").unwrap();
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    assert_eq!(world.tree(&pod).unwrap().names().len(), 3);
}

#[tokio::test]
async fn a_link_in_place_of_the_target_or_above_it_is_refused_and_not_followed() {
    let world = World::new().await;
    let elsewhere = world.path("elsewhere");
    fs::create_dir_all(elsewhere.join("mount")).unwrap();
    for above in [false, true] {
        let pod = Pod::new("web").volume(super::world::volume(CLASS));
        let target = world.target(&pod);
        let link = if above { target.parent().unwrap() } else { &target };
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&elsewhere, link).unwrap();
        // As a driver gets it whose kubelet looked a moment earlier.
        let request = world.kubelet.request(&pod, "secrets", true).unwrap();
        let error = world.kubelet.send(request, super::patience::PATIENCE).await.unwrap_err();
        assert_eq!(super::world::said(&error).code(), Code::Internal, "{error}");
        assert_eq!(world.namespace.mounted(&elsewhere), [], "the link was followed");
        assert_eq!(fs::read_dir(elsewhere.join("mount")).unwrap().count(), 0);
        assert!(fs::symlink_metadata(link).unwrap().is_symlink(), "it is somebody else's");
        fs::remove_file(link).unwrap();
    }
}

#[tokio::test]
async fn a_volume_that_is_too_small_for_newer_files_keeps_the_older_ones() {
    let world = World::new().await;
    let pod = pod("web");
    mount_tmpfs(&world, &pod, &["-o", "size=16k"]);
    let target = world.seen(&pod);
    fs::create_dir(target.join("..2026_01_02_03_04_05.1")).unwrap();
    fs::write(target.join("..2026_01_02_03_04_05.1").join(SECRET), OLD).unwrap();
    symlink("..2026_01_02_03_04_05.1", target.join("..data")).unwrap();
    symlink(format!("..data/{SECRET}"), target.join(SECRET)).unwrap();
    world.vault.secret(SECRET).set(&*"canary ".repeat(3_000));
    for _ in 0..3 {
        world.publish(&pod).await;
        world.advance(61);
    }
    world.event(&pod, "MountRotationFailed").await;
    assert_eq!(world.file(&pod, SECRET), OLD);
    world.vault.secret(SECRET).set("canary that fits");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), "canary that fits", "nothing of the attempts is left in the way");
}

#[tokio::test]
async fn a_driver_that_takes_over_asks_for_each_volume_once_and_shares_what_is_equal() {
    let world = World::new().await;
    let pods: Vec<Pod> = (0..10).map(|n| Pod::new(&format!("web-{n}")).volume(super::world::volume(CLASS))).collect();
    for pod in &pods {
        mount_like_the_go_driver(&world, pod, &[(SECRET, OLD)]);
    }
    futures_util::future::join_all(pods.iter().map(|pod| world.publish(pod))).await;
    assert_eq!((world.sign_ins(), world.gets()), (1, 1));
    assert!(pods.iter().all(|pod| world.file(pod, SECRET) == VALUE));
    // And a fault afterwards is nobody's business.
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::internal(), Times::Always);
    for pod in &pods {
        world.publish(pod).await;
    }
    assert_eq!(world.gets(), 1);
}
