//! A first publish that works: what the pod then sees, and what everybody else is told.

use coffer_tests::harness::Kind;
use coffer_tests::harness::kubelet::proto::csi::NodePublishVolumeRequest;
use coffer_tests::harness::kubelet::{PATIENCE, Pod, Volume};
use serde_json::json;
use tonic::Code;

use super::namespace::skip_without_root;
use super::world::{
    CLASS, CLIENT_ID, CLIENT_SECRET, NODE, SECRET, Setup, VALUE, World, objects, pod, said, status_name, url_of, volume,
};

#[tokio::test]
async fn the_files_are_laid_out_as_pods_know_it() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
    let tree = world.tree(&pod).unwrap();
    let version = tree.entry("..data").text().to_owned();
    assert!(version.starts_with("..20") && !version.contains('/'), "{version}");
    assert_eq!(tree.names(), [&version, "..data", SECRET]);
    assert_eq!(tree.entry(SECRET).text(), format!("..data/{SECRET}"));
    assert_eq!(tree.entry(&version).permissions(), 0o755);
    assert_eq!(tree.entry(&format!("{version}/{SECRET}")).permissions(), 0o644);
    let owners: Vec<_> = tree.entries().map(|(_, entry)| entry.owner).collect();
    let mine = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert!(owners.iter().all(|owner| *owner == mine), "{owners:?}");
}

#[tokio::test]
async fn the_volume_is_a_small_memory_of_its_own_that_runs_nothing_and_is_not_swapped() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    let mounts = world.mounts(&pod);
    let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
    assert_eq!(mount.kind, "tmpfs");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(mount.options.iter().any(|found| found == option), "{option} is not in {mount:?}");
    }
    for bound in ["size=", "nr_inodes="] {
        assert!(mount.filesystem.iter().any(|found| found.starts_with(bound)), "{bound} is not in {mount:?}");
    }
    if !skip_without_root("noswap") {
        assert!(mount.filesystem.iter().any(|found| found == "noswap"), "{mount:?}");
    }
}

#[tokio::test]
async fn modes_and_folders_are_those_of_the_class() {
    let world = World::new().await;
    let object = |alias: &str, mode: &str| {
        format!("  - |\n    objectName: {SECRET}\n    objectType: secret\n    objectAlias: {alias}\n{mode}")
    };
    let mode = "    filePermission: \"0400\"\n";
    world.put_class(CLASS, &format!("array:\n{}{}", object("plain", ""), object("nested/private", mode)));
    let pod = pod("web");
    world.publish(&pod).await;
    let tree = world.tree(&pod).unwrap();
    let version = tree.entry("..data").text();
    assert_eq!(tree.entry(&format!("{version}/plain")).permissions(), 0o644);
    assert_eq!(tree.entry(&format!("{version}/nested")).permissions(), 0o755);
    assert_eq!(tree.entry(&format!("{version}/nested/private")).permissions(), 0o400);
    assert_eq!(tree.entry("nested").text(), "..data/nested");
    assert_eq!(world.file(&pod, "nested/private"), VALUE);
}

#[tokio::test]
async fn the_group_of_the_pod_may_read_what_others_may_not() {
    if skip_without_root("any other group") {
        return;
    }
    let world = World::new().await;
    let mode = "    filePermission: \"0400\"\n";
    world.put_class(CLASS, &format!("array:\n  - |\n    objectName: {SECRET}\n    objectType: secret\n{mode}"));
    let pod = pod("web").fs_group(2000);
    world.publish(&pod).await;
    let tree = world.tree(&pod).unwrap();
    let version = tree.entry("..data").text();
    let file = tree.entry(&format!("{version}/{SECRET}"));
    assert_eq!((file.owner, file.permissions()), ((0, 2000), 0o440), "{tree:?}");
    world.publish(&pod).await;
    assert_eq!(world.tree(&pod).unwrap(), tree);
}

#[tokio::test]
async fn a_second_publish_finds_everything_right_and_asks_nobody() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    let (before, mounts) = (world.tree(&pod), world.mounts(&pod));
    world.emulator.log().clear();
    world.publish(&pod).await;
    assert_eq!((world.tree(&pod), world.mounts(&pod)), (before, mounts));
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn two_volumes_of_one_pod_are_two_volumes() {
    let world = World::new().await;
    world.vault.secret("Other").set("canary of the other");
    world.put_class("other", &objects(&["Other"]));
    let (first, second) = (volume(CLASS), {
        let secret = [("clientid", CLIENT_ID), ("clientsecret", CLIENT_SECRET)];
        Volume::new("second", "other").secret(&secret)
    });
    let pod = Pod::new("web").volume(first).volume(second);
    world.publish(&pod).await;
    world.kubelet.publish(&pod, "second").await.unwrap();
    let second = world.kubelet.seen(&world.kubelet.target(&pod, "second"));
    assert_eq!(std::fs::read_to_string(second.join("Other")).unwrap(), "canary of the other");
    world.unpublish(&pod).await;
    assert!(second.join("Other").exists());
    world.kubelet.unpublish(&pod, "second").await.unwrap();
    world.kubelet.remove_pod(&pod).unwrap();
}

#[tokio::test]
async fn twenty_objects_are_one_sign_in_and_a_request_each() {
    let world = World::new().await;
    let names: Vec<String> = (0..20).map(|n| format!("object-{n}")).collect();
    for name in &names {
        world.vault.secret(name).set(&*format!("canary of {name}"));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.put_class(CLASS, &objects(&names));
    let pod = pod("web");
    world.publish(&pod).await;
    assert_eq!((world.sign_ins(), world.gets()), (1, 20));
    for name in names {
        assert_eq!(world.file(&pod, name), format!("canary of {name}"));
    }
}

#[tokio::test]
async fn the_pod_status_stands_where_tools_look_for_it() {
    let world = World::new().await;
    let version = world.vault.secret(SECRET).set(VALUE);
    let pod = pod("web");
    world.publish(&pod).await;
    let status = world.status(&pod).await;
    let metadata = &status["metadata"];
    assert_eq!(metadata["name"], json!(status_name(&pod, CLASS)));
    assert_eq!(metadata["labels"]["internal.secrets-store.csi.k8s.io/node-name"], NODE);
    let owners = metadata["ownerReferences"].as_array().unwrap();
    assert_eq!(owners.len(), 1);
    for (key, value) in [("apiVersion", "v1"), ("kind", "Pod"), ("name", "web"), ("uid", pod.uid())] {
        assert_eq!(owners[0][key], value);
    }
    let target = world.target(&pod).display().to_string();
    assert_eq!(
        status["status"],
        json!({
            "podName": "web", "secretProviderClassName": CLASS, "mounted": true, "targetPath": target,
            "objects": [{"id": format!("secret/{SECRET}"), "version": version}],
        })
    );
}

#[tokio::test]
async fn metrics_and_audit_tell_of_it() {
    let world = World::new().await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert_eq!(world.metric("node_publish_total", &["provider=\"azure\""]), 1.0);
    assert_eq!(world.metric("node_publish_error_total", &[]), 0.0);
    let audit = world.audit(&pod, 1).await;
    let requests: Vec<_> = audit.iter().filter(|line| line.message() == "egress request").collect();
    let asked: Vec<_> = requests.iter().map(|line| (line.field("method"), line.json["status"].as_u64())).collect();
    assert_eq!(asked, [("POST", Some(200)), ("GET", Some(200))]);
    let [line] = audit.iter().filter(|line| line.message() == "volume published").collect::<Vec<_>>()[..] else {
        panic!("{audit:?}")
    };
    for (field, value) in [("class", CLASS), ("pod.name", "web"), ("service_account", "default"), ("result", "mounted")]
    {
        assert_eq!(line.field(field), value, "{line:?}");
    }
    world.unpublish(&pod).await;
    assert_eq!(world.metric("node_unpublish_total", &[]), 1.0);
}

#[tokio::test]
async fn attributes_of_the_pod_lie_over_the_parameters_of_the_class() {
    let world = World::new().await;
    world.vault.secret("Other").set("canary of the other");
    let pod = Pod::new("web").volume(volume(CLASS).attribute("objects", &objects(&["Other"])));
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, "Other"), "canary of the other");
    assert!(!world.has_file(&pod, SECRET));
    let audit = world.audit(&pod, 1).await;
    assert!(audit.iter().any(|line| line.field("overridden") == "objects"), "{audit:?}");
}

#[tokio::test]
async fn attributes_of_the_pod_are_limited_by_the_configuration() {
    let config = "volumeAttributeOverrides: [objects]".to_owned();
    let world = World::with(Setup { config, ..Setup::default() }).await;
    let allowed = Pod::new("web").volume(volume(CLASS).attribute("objects", &objects(&[SECRET])));
    world.publish(&allowed).await;
    let denied = Pod::new("other").volume(volume(CLASS).attribute("keyvaultName", "another-vault"));
    world.refused(&denied, Code::PermissionDenied, &["keyvaultName", "volumeAttributeOverrides"]).await;
}

#[tokio::test]
async fn tokens_among_the_secrets_do_not_become_secrets_of_the_provider() {
    let world = World::with(Setup { tokens_in_secrets: true, ..Setup::default() }).await;
    let pod = pod("web");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, SECRET), VALUE);
}

#[tokio::test]
async fn a_provider_may_have_no_secret_and_a_volume_of_one_file() {
    let world = World::new().await;
    world.put_guest("greeting", "behaves", &[("contents", "hello")]);
    let pod = Pod::new("web").mounts("greeting");
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, "file"), "hello");
    assert_eq!(world.emulator.counters().total(), 0);
    world.put_guest("asking", "behaves", &[("url", &url_of(SECRET))]);
    let pod = Pod::new("asks").mounts("asking");
    world.publish(&pod).await;
    assert!(world.file(&pod, "file").starts_with("401"));
    assert_eq!(world.emulator.counters().of(Kind::GetSecret), 1);
}

#[tokio::test]
async fn a_class_whose_optional_objects_are_all_missing_is_a_volume_without_files() {
    let world = World::with(Setup::rotating("1m")).await;
    let element =
        |name: &str| format!("  - |\n    objectName: {name}\n    objectType: secret\n    objectOptional: true\n");
    world.put_class(CLASS, &format!("array:\n{}{}", element("later"), element("never")));
    let pod = pod("web");
    world.publish(&pod).await;
    let tree = world.tree(&pod).unwrap();
    assert!(!tree.names().iter().any(|name| !name.starts_with("..")), "{tree:?}");
    let status = world.status(&pod).await;
    assert_eq!((&status["status"]["mounted"], &status["status"]["objects"]), (&json!(true), &json!([])));
    let told =
        world.log.lines().into_iter().filter(|line| line.text.contains("it is optional, so its file is left out"));
    assert_eq!(told.count(), 2);
    // A second call of kubelet finds it published, and asks nobody.
    world.emulator.log().clear();
    world.publish(&pod).await;
    assert_eq!(world.emulator.counters().total(), 0);
    // It is looked after like any other.
    world.vault.secret("later").set("canary of later");
    world.advance(70);
    world.publish(&pod).await;
    assert_eq!(world.file(&pod, "later"), "canary of later");
    world.unpublish(&pod).await;
}

/// What is done to a request of kubelet.
type Change = fn(&mut NodePublishVolumeRequest);

/// What kubelet always says, and what becomes of a request without it.
#[tokio::test]
async fn a_request_that_lacks_something_is_refused_before_anything_is_done() {
    let world = World::new().await;
    let pod = pod("web");
    let cases: [(&str, Change); 6] = [
        ("Volume capability missing in request", |request| request.volume_capability = None),
        ("Volume ID missing in request", |request| request.volume_id.clear()),
        ("Target path missing in request", |request| request.target_path.clear()),
        ("Volume attributes missing in request", |request| request.volume_context.clear()),
        ("secretProviderClass is not set", |request| {
            request.volume_context.remove("secretProviderClass");
        }),
        ("Readonly is not true in request", |request| request.readonly = false),
    ];
    for (message, change) in cases {
        let mut request = world.kubelet.request(&pod, "secrets", true).unwrap();
        change(&mut request);
        let error = world.kubelet.send(request, PATIENCE).await.unwrap_err();
        let status = said(&error);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(message), "{status:?}");
        world.assert_gone(&pod);
    }
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn a_target_that_is_no_clean_absolute_path_is_refused() {
    let world = World::new().await;
    let pod = pod("web");
    for path in ["relative/mount", "/tmp/../etc/mount", "/"] {
        let mut request = world.kubelet.request(&pod, "secrets", true).unwrap();
        path.clone_into(&mut request.target_path);
        let error = world.kubelet.send(request, PATIENCE).await.unwrap_err();
        assert_eq!(said(&error).code(), Code::InvalidArgument, "{path}: {error}");
    }
}

#[tokio::test]
async fn a_writable_volume_is_refused_and_the_pods_author_is_told() {
    let world = World::new().await;
    let pod = Pod::new("web").volume(volume(CLASS).writable());
    world.refused(&pod, Code::InvalidArgument, &["Readonly is not true in request"]).await;
}
