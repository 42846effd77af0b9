//! What kubelet asks is what the pipeline gets, and what is wrong never gets there.

use std::path::Path;
use std::time::Duration;

use coffer::publish::request::TokenOrigin;
use tokio::time::Instant;
use tonic::Code;

use super::kubelet::{self, TOKENS, publish, unpublish, within};
use super::pipeline::Door;
use super::proto::csi::volume_capability::{AccessType, BlockVolume};
use super::proto::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest, VolumeCapability};

#[tokio::test(start_paused = true)]
async fn a_publish_reaches_the_pipeline_with_its_deadline() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let begun = Instant::now();
    node.node_publish_volume(within(Duration::from_secs(120), publish("csi-1"))).await.unwrap();
    node.node_publish_volume(publish("csi-2")).await.unwrap();
    let published = door.pipeline.published();
    let [(first, deadline), (second, without)] = &published[..] else { panic!("{} calls", published.len()) };
    assert_eq!((&*first.volume, &*first.class, &*second.volume), ("csi-1", "demo", "csi-2"));
    assert_eq!(first.target, Path::new("/var/lib/kubelet/pods/p/volumes/kubernetes.io~csi/csi-1/mount"));
    assert_eq!((&*first.pod.namespace, &*first.pod.name, &*first.pod.service_account), ("shop", "web-0", "web"));
    // Of a caller that sets no deadline, none is waited for without end.
    assert_eq!(*deadline, Some(begun + Duration::from_secs(120)));
    assert_eq!(*without, Some(begun + Duration::from_secs(300)));
}

#[tokio::test]
async fn an_unpublish_reaches_the_pipeline() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    node.node_unpublish_volume(unpublish("csi-1")).await.unwrap();
    let (volume, target, _) = door.pipeline.unpublished().pop().unwrap();
    assert_eq!((volume, target.to_str().unwrap()), ("csi-1".into(), &*unpublish("csi-1").target_path));
}

#[tokio::test]
async fn tokens_come_from_either_place_and_forged_ones_beside_kubelets_do_not_count() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let cases = [
        (Some("kubelet's"), None, Some(("kubelet's", TokenOrigin::Secrets))),
        (None, Some("context's"), Some(("context's", TokenOrigin::Context))),
        (Some("kubelet's"), Some("forged"), Some(("kubelet's", TokenOrigin::Secrets))),
        (Some(""), Some("forged"), None),
        (None, None, None),
    ];
    for (secret, context, expected) in cases {
        let mut request = publish("csi-1");
        request.secrets.insert("clientid".into(), "id".into());
        request.secrets.extend(secret.map(|json| (TOKENS.into(), json.into())));
        request.volume_context.extend(context.map(|json| (TOKENS.into(), json.into())));
        node.node_publish_volume(request).await.unwrap();
        let (request, _) = door.pipeline.published().pop().unwrap();
        let tokens = request.tokens.as_ref().map(|tokens| (tokens.json.expose(), tokens.origin));
        assert_eq!(tokens, expected.map(|(json, origin)| (json.as_bytes(), origin)), "{secret:?} {context:?}");
        assert_eq!(request.secrets.keys().collect::<Vec<_>>(), ["clientid"]);
        assert!(!request.attributes.contains_key(TOKENS));
    }
}

/// The rows of the reference's tables, and those that are ours.
#[tokio::test]
async fn what_is_wrong_is_refused_in_words_and_goes_no_further() {
    type Mistake = fn(&mut NodePublishVolumeRequest);
    let block = |request: &mut NodePublishVolumeRequest| {
        let access_type = Some(AccessType::Block(BlockVolume {}));
        request.volume_capability = Some(VolumeCapability { access_type, access_mode: None });
    };
    let mistakes: [(Mistake, &str); 10] = [
        (|request| request.volume_capability = None, "Volume capability missing in request"),
        (|request| request.volume_id.clear(), "Volume ID missing in request"),
        (|request| request.target_path.clear(), "Target path missing in request"),
        (|request| request.volume_context.clear(), "Volume attributes missing in request"),
        (|request| request.volume_id = "../v".into(), "the volume ID \"../v\" cannot be used"),
        (|request| request.target_path = "/a/../b".into(), "the target path \"/a/../b\" cannot be used"),
        (block, "a block device was asked for"),
        (|request| _ = request.volume_context.remove("secretProviderClass"), "secretProviderClass is not set"),
        (|request| _ = request.volume_context.remove("csi.storage.k8s.io/pod.uid"), "`podInfoOnMount: true`"),
        (|request| request.readonly = false, "Readonly is not true in request"),
    ];
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    for (mistake, text) in mistakes {
        let mut request = publish("csi-1");
        mistake(&mut request);
        let status = node.node_publish_volume(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    for (volume, target, text) in
        [("", "", "Volume ID missing in request"), ("v", "", "Target path missing in request")]
    {
        let request = NodeUnpublishVolumeRequest { volume_id: volume.into(), target_path: target.into() };
        let status = node.node_unpublish_volume(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    }
    assert!(door.pipeline.published().is_empty() && door.pipeline.unpublished().is_empty());
}

#[tokio::test]
async fn a_refusal_of_the_pipeline_reaches_kubelet_as_it_is() {
    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    let expected = (Code::NotFound, "class `demo` does not exist; create it");
    let published = node.node_publish_volume(publish("refused")).await.unwrap_err();
    assert_eq!((published.code(), published.message()), expected);
    let unpublished = node.node_unpublish_volume(unpublish("refused")).await.unwrap_err();
    assert_eq!((unpublished.code(), unpublished.message()), expected);
}
