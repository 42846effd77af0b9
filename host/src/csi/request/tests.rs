use std::collections::BTreeMap;

use super::*;
use crate::csi::proto::csi::volume_capability::{BlockVolume, MountVolume};

type Mistake<T> = fn(&mut T);

/// A request as kubelet makes it.
fn request() -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: format!("csi-{}", "0123456789abcdef".repeat(4)),
        target_path: "/var/lib/kubelet/pods/1b4e28ba-2fa1-11d2-883f-0016d3cca427/volumes/kubernetes.io~csi/s/mount"
            .into(),
        volume_capability: Some(mount("")),
        readonly: true,
        secrets: HashMap::new(),
        volume_context: map(&[
            (CLASS, "demo"),
            (POD_NAME, "web-0"),
            (POD_NAMESPACE, "shop"),
            (POD_UID, "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
            (SERVICE_ACCOUNT, "web"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("objects", "array: []"),
        ]),
    }
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn mount(group: &str) -> VolumeCapability {
    let mount = MountVolume { volume_mount_group: group.into(), ..MountVolume::default() };
    VolumeCapability { access_type: Some(AccessType::Mount(mount)), access_mode: None }
}

fn with(change: impl FnOnce(&mut NodePublishVolumeRequest)) -> Result<PublishRequest, Refusal> {
    let mut request = request();
    change(&mut request);
    publish(request)
}

fn refusal(change: impl FnOnce(&mut NodePublishVolumeRequest)) -> String {
    let refusal = with(change).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidArgument);
    refusal.message
}

fn set(request: &mut NodePublishVolumeRequest, key: &str, value: &str) {
    request.volume_context.insert(key.into(), value.into());
}

#[test]
fn a_request_of_kubelet_becomes_ours() {
    let wanted = with(|request| {
        request.volume_capability = Some(mount("2000"));
        request.secrets = map(&[("clientid", "id"), ("clientsecret", "s3cret")]);
    })
    .unwrap();
    assert_eq!((&*wanted.volume, wanted.volume.len()), (&*request().volume_id, 68));
    assert_eq!(wanted.target.to_str(), Some(&*request().target_path));
    assert_eq!((&*wanted.class, wanted.group), ("demo", Some(2000)));
    let Pod { name, namespace, uid, service_account } = &wanted.pod;
    assert_eq!([&**name, namespace, service_account], ["web-0", "shop", "web"]);
    assert_eq!(uid, "1b4e28ba-2fa1-11d2-883f-0016d3cca427");
    assert_eq!(wanted.attributes, BTreeMap::from_iter(request().volume_context));
    let secrets = wanted.secrets.iter().map(|(key, value)| (&**key, value.expose()));
    assert_eq!(secrets.collect::<Vec<_>>(), [("clientid", &b"id"[..]), ("clientsecret", b"s3cret")]);
    assert!(wanted.tokens.is_none());
}

/// Of two mistakes, the one that the reference would name first is named.
#[test]
fn checks_come_in_the_references_order_with_its_texts() {
    let mistakes: [(&str, Mistake<NodePublishVolumeRequest>); 7] = [
        ("Volume capability missing in request", |request| request.volume_capability = None),
        ("Volume ID missing in request", |request| request.volume_id.clear()),
        ("Target path missing in request", |request| request.target_path.clear()),
        ("Volume attributes missing in request", |request| request.volume_context.clear()),
        ("secretProviderClass is not set: ", |request| _ = request.volume_context.remove(CLASS)),
        ("the volume attribute csi.storage.k8s.io/pod.name is missing: ", |request| {
            request.volume_context.remove(POD_NAME);
        }),
        ("Readonly is not true in request: ", |request| request.readonly = false),
    ];
    for (first, (text, mistake)) in mistakes.iter().enumerate() {
        let message = refusal(mistake);
        assert!(message.starts_with(text), "{message}");
        for (_, later) in &mistakes[first + 1..] {
            let message = refusal(|request| {
                later(request);
                mistake(request);
            });
            assert!(message.starts_with(text), "{message}");
        }
    }
}

#[test]
fn a_capability_with_nothing_in_it_is_a_mount_and_a_block_device_is_refused() {
    let nothing = VolumeCapability { access_type: None, access_mode: None };
    assert!(with(|request| request.volume_capability = Some(nothing)).is_ok());
    let block = VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), access_mode: None };
    assert!(refusal(|request| request.volume_capability = Some(block)).contains("block device"));
}

#[test]
fn the_id_of_a_volume_can_be_the_name_of_a_file() {
    for right in ["csi-1", "fake vol id", "a.b", &"x".repeat(128)] {
        assert!(with(|request| request.volume_id = right.into()).is_ok(), "{right}");
    }
    for wrong in [".", "..", ".hidden", "a/b", "../a", "a..b", "a\\b", "a\0", "a\nb", &"x".repeat(129)] {
        let message = refusal(|request| request.volume_id = wrong.into());
        assert!(message.starts_with("the volume ID "), "{message}");
        assert!(!message.contains(char::is_control), "{message}");
    }
}

#[test]
fn a_target_is_an_absolute_path_that_does_not_climb() {
    for right in ["/t", "/a/../b".replace("..", ".").as_str(), "/a//b/", &format!("/{}", "x".repeat(4094))] {
        assert!(with(|request| request.target_path = right.into()).is_ok(), "{right}");
    }
    for wrong in ["t", "./t", "/", "//", "/..", "/a/../b", "/a/..", "/a\0b", &format!("/{}", "x".repeat(4095))] {
        let message = refusal(|request| request.target_path = wrong.into());
        assert!(message.starts_with("the target path "), "{message}");
        let unpublish = unpublish(NodeUnpublishVolumeRequest { volume_id: "v".into(), target_path: wrong.into() });
        assert_eq!(unpublish.unwrap_err().message, message);
    }
}

#[test]
fn a_group_is_a_number_that_names_a_group() {
    for (text, group) in [("", None), ("0", Some(0)), ("4294967294", Some(u32::MAX - 1))] {
        assert_eq!(with(|request| request.volume_capability = Some(mount(text))).unwrap().group, group);
    }
    for wrong in ["staff", "-1", "4294967295", "4294967296", " 1", "0x1"] {
        assert!(refusal(|request| request.volume_capability = Some(mount(wrong))).contains("fsGroup"), "{wrong}");
    }
}

#[test]
fn a_class_has_a_name_that_can_stand_in_a_url() {
    for right in ["a", "a-b.c-1", "0", &"x".repeat(253)] {
        assert!(with(|request| set(request, CLASS, right)).is_ok(), "{right}");
    }
    for wrong in ["../secrets/s", "a/b", "A", "a_b", "-a", "a-", "a..b", ".a", "a?x", "a%2f", " a", &"x".repeat(254)] {
        let message = refusal(|request| set(request, CLASS, wrong));
        assert!(message.starts_with("secretProviderClass is not the name of an object"), "{message}");
    }
    assert!(refusal(|request| set(request, CLASS, "")).starts_with("secretProviderClass is not set: "));
}

#[test]
fn pod_info_is_kubelets_or_the_csidriver_object_is_named() {
    for key in [POD_NAME, POD_NAMESPACE, POD_UID, SERVICE_ACCOUNT] {
        let missing = refusal(|request| _ = request.volume_context.remove(key));
        let wrong = refusal(|request| set(request, key, "../x"));
        for message in [missing, wrong] {
            assert!(message.contains(key) && message.contains("`podInfoOnMount: true`"), "{message}");
        }
    }
    for key in [POD_NAME, POD_NAMESPACE, POD_UID] {
        refusal(|request| set(request, key, ""));
    }
    let of_a_static_pod = with(|request| set(request, SERVICE_ACCOUNT, "")).unwrap();
    assert_eq!(of_a_static_pod.pod.service_account, "");
}

fn tokens(secret: Option<&str>, context: Option<&str>) -> PublishRequest {
    with(|request| {
        request.secrets.insert("clientid".into(), "id".into());
        request.secrets.extend(secret.map(|json| (TOKENS.into(), json.into())));
        request.volume_context.extend(context.map(|json| (TOKENS.into(), json.into())));
    })
    .unwrap()
}

#[test]
fn tokens_are_taken_from_the_secrets_or_else_from_the_context() {
    let cases = [
        (Some("{s}"), None, Some(("{s}", TokenOrigin::Secrets))),
        (None, Some("{c}"), Some(("{c}", TokenOrigin::Context))),
        // Whoever wrote the pod can write the context.
        (Some("{s}"), Some("{forged}"), Some(("{s}", TokenOrigin::Secrets))),
        (Some(""), Some("{forged}"), None),
        (Some(""), None, None),
        (None, Some(""), None),
        (None, None, None),
    ];
    for (secret, context, expected) in cases {
        let request = tokens(secret, context);
        let found = request.tokens.as_ref().map(|tokens| (tokens.json.expose(), tokens.origin));
        assert_eq!(found, expected.map(|(json, origin)| (json.as_bytes(), origin)), "{secret:?} {context:?}");
        assert_eq!(request.secrets.keys().collect::<Vec<_>>(), ["clientid"]);
        assert!(!request.attributes.contains_key(TOKENS));
    }
}

#[test]
fn no_refusal_holds_the_value_of_an_attribute_a_secret_or_a_token() {
    const CANARY: &str = "CANARY/4d1c";
    for key in [CLASS, POD_NAME, POD_NAMESPACE, POD_UID, SERVICE_ACCOUNT] {
        assert!(!refusal(|request| set(request, key, CANARY)).contains("CANARY"), "{key}");
    }
    let message = refusal(|request| {
        request.secrets = map(&[("clientsecret", CANARY), (TOKENS, CANARY)]);
        set(request, TOKENS, CANARY);
        set(request, "objects", CANARY);
        request.readonly = false;
    });
    assert!(!message.contains("CANARY"), "{message}");
}

#[test]
fn unpublishing_needs_the_volume_and_then_the_target() {
    let refused = |volume: &str, target: &str| {
        let request = NodeUnpublishVolumeRequest { volume_id: volume.into(), target_path: target.into() };
        unpublish(request).unwrap_err().message
    };
    assert_eq!(refused("", ""), "Volume ID missing in request");
    assert_eq!(refused("v", ""), "Target path missing in request");
    assert!(refused("../v", "/t").starts_with("the volume ID "));
    let request = NodeUnpublishVolumeRequest { volume_id: "v".into(), target_path: "/t/m".into() };
    assert_eq!(unpublish(request), Ok(("v".to_owned(), PathBuf::from("/t/m"))));
}

#[test]
fn staging_is_checked_and_does_nothing() {
    let full = NodeStageVolumeRequest {
        volume_id: "v".into(),
        staging_target_path: "/s".into(),
        volume_capability: Some(mount("")),
    };
    assert_eq!(stage(&full), Ok(()));
    let cases: [(&str, Mistake<NodeStageVolumeRequest>); 3] = [
        ("Volume ID missing in request", |request| request.volume_id.clear()),
        ("Target path missing in request", |request| request.staging_target_path.clear()),
        ("Volume capability missing in request", |request| request.volume_capability = None),
    ];
    for (text, mistake) in cases {
        let mut request = full.clone();
        mistake(&mut request);
        assert_eq!(stage(&request).unwrap_err().message, text);
    }
    let unstaged = |volume: &str, path: &str| {
        unstage(&NodeUnstageVolumeRequest { volume_id: volume.into(), staging_target_path: path.into() })
    };
    assert_eq!(unstaged("v", "/s"), Ok(()));
    assert_eq!(unstaged("", "").unwrap_err().message, "Volume ID missing in request");
    assert_eq!(unstaged("v", "").unwrap_err().message, "Target path missing in request");
}
