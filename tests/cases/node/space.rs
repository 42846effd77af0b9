//! Places where a volume does not fit or may not be: full, read-only, missing, in the way.

use std::fs;

use coffer_tests::harness::kubelet::{PATIENCE, Pod};
use tonic::Code;

use super::namespace::Inside as _;
use super::world::{CLIENT_ID, SECRET, VALUE, World, pod, said};

/// What a class can hold without being too large for the API server.
const ALMOST: usize = 1 << 20;

fn mount(world: &World, arguments: &[&str]) {
    world.namespace.run("mount", arguments);
}

#[tokio::test]
async fn files_that_do_not_fit_into_the_memory_are_not_half_there() {
    let world = World::new().await;
    let pod = pod("web");
    let target = world.target(&pod);
    fs::create_dir_all(&target).unwrap();
    mount(&world, &["-t", "tmpfs", "-o", "size=16k", "tmpfs", target.to_str().unwrap()]);
    world.vault.secret(SECRET).set(&*"canary ".repeat(3_000));
    world.refused_with_rests(&pod, Code::ResourceExhausted, &[target.to_str().unwrap()]).await;
    assert!(!world.has_file(&pod, "..data") && !world.has_file(&pod, SECRET));
    world.vault.secret(SECRET).set(VALUE);
    world.advance(11);
    world.publish(&pod).await;
    assert_eq!((world.file(&pod, SECRET).as_str(), world.mounts(&pod).len()), (VALUE, 1));
}

#[tokio::test]
async fn a_volume_has_room_for_older_and_newer_files_at_once() {
    let world = World::new().await;
    let (first, second) = ("a".repeat(ALMOST), "b".repeat(ALMOST));
    world.put_guest("large", "behaves", &[("contents", &first)]);
    let pod = Pod::new("web").mounts("large");
    world.publish(&pod).await;
    world.put_guest("large", "behaves", &[("contents", &second)]);
    world.advance(61);
    world.publish(&pod).await;
    assert!(world.file(&pod, "file") == second);
}

#[tokio::test]
async fn a_folder_of_pods_that_is_read_only_is_said_to_be_so() {
    let world = World::new().await;
    let pods = world.path("kubelet/pods");
    let pods = pods.to_str().unwrap();
    mount(&world, &["--bind", pods, pods]);
    mount(&world, &["-o", "remount,ro,bind", pods]);
    let pod = pod("web");
    let error = world.kubelet.publish(&pod, "secrets").await.unwrap_err();
    let status = said(&error);
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(status.message().contains(&world.target(&pod).display().to_string()), "{status:?}");
    assert!(status.message().to_lowercase().contains("read-only"), "{status:?}");
    world.namespace.run("umount", &[pods]);
    world.publish(&pod).await;
}

#[tokio::test]
async fn a_parent_that_is_missing_is_made_and_removed_again_where_it_was_for_nothing() {
    let world = World::new().await;
    let pod = pod("web");
    let request = world.kubelet.request(&pod, "secrets", true).unwrap();
    let uid = world.path("kubelet/pods").join(pod.uid());
    world.vault.deny(CLIENT_ID);
    world.kubelet.send(request, PATIENCE).await.unwrap_err();
    assert!(!uid.exists(), "a folder was left behind");
    world.vault.allow_all(CLIENT_ID);
    let request = world.kubelet.request(&pod, "secrets", true).unwrap();
    world.kubelet.send(request, PATIENCE).await.unwrap();
    assert_eq!(world.file(&pod, SECRET), VALUE);
    world.unpublish(&pod).await;
    world.kubelet.remove_pod(&pod).unwrap();
}

#[tokio::test]
async fn a_file_in_the_way_is_named_and_stays() {
    let world = World::new().await;
    let pod = pod("web");
    let target = world.target(&pod);
    let folder = target.parent().unwrap();
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(folder, "somebody's").unwrap();
    let request = world.kubelet.request(&pod, "secrets", true).unwrap();
    let error = world.kubelet.send(request, PATIENCE).await.unwrap_err();
    assert_eq!(said(&error).code(), Code::Internal, "{error}");
    assert!(said(&error).message().contains(folder.to_str().unwrap()), "{error}");
    assert_eq!(fs::read_to_string(folder).unwrap(), "somebody's");

    fs::remove_file(folder).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(&target, "somebody's").unwrap();
    let error = world.kubelet.publish(&pod, "secrets").await.unwrap_err();
    assert_eq!(said(&error).code(), Code::Internal, "{error}");
    assert!(!world.namespace.mounted(folder).iter().any(|mount| mount.target == target));
}

#[tokio::test]
async fn a_driver_that_cannot_write_its_ledger_mounts_all_the_same() {
    let world = World::new().await;
    fs::remove_dir_all(world.state()).unwrap();
    let pod = pod("web");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    world.log.wait("a warning", |line| line.field("level") == "warn" && line.message().contains("kept")).await;
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}
