//! The kubelet of these tests, against a driver that does nothing but remember what it was asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer::csi::proto::csi::identity_server::{Identity, IdentityServer};
use coffer::csi::proto::csi::node_server::{Node, NodeServer};
use coffer::csi::proto::csi::node_service_capability::{Rpc, Type, rpc};
use coffer::csi::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use coffer::csi::proto::csi::*;
use coffer::csi::proto::registration::registration_server::{Registration, RegistrationServer};
use coffer::csi::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use coffer_tests::harness::kubelet::{
    CallError, Driver, Kubelet, Notice, Pod, RegisterError, Tokens, Volume, volume_id,
};
use coffer_tests::harness::{Emulator, Settings};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::namespace::{Inside as _, in_tests};
use super::patience::in_time;

/// What a driver says and remembers.
#[derive(Clone)]
struct Fake {
    info: PluginInfo,
    groups: bool,
    /// The answer to publish and unpublish; none never comes.
    answer: Arc<Mutex<Option<Code>>>,
    seen: Arc<Mutex<Vec<String>>>,
    published: Arc<Mutex<Option<NodePublishVolumeRequest>>>,
    /// The `grpc-timeout` of the last publish.
    timeout: Arc<Mutex<Option<String>>>,
    /// How many publishes wait for the answer that never comes.
    waiting: Arc<watch::Sender<i32>>,
}

impl Fake {
    fn new(root: &Path) -> Self {
        let info = PluginInfo {
            r#type: "CSIPlugin".into(),
            name: "secrets-store.csi.k8s.io".into(),
            endpoint: root.join("csi.sock").display().to_string(),
            supported_versions: vec!["1.0.0".into()],
        };
        Self {
            info,
            groups: true,
            answer: Arc::new(Mutex::new(Some(Code::Ok))),
            seen: Arc::default(),
            published: Arc::default(),
            timeout: Arc::default(),
            waiting: Arc::default(),
        }
    }

    fn answers(&self, code: Option<Code>) {
        *self.answer.lock().unwrap() = code;
    }

    fn saw(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn note(&self, what: &str) {
        self.seen.lock().unwrap().push(what.to_owned());
    }

    async fn act(&self) -> Result<(), Status> {
        let answer = *self.answer.lock().unwrap();
        match answer {
            None => {
                let _waiting = Waiting::begin(&self.waiting);
                std::future::pending().await
            }
            Some(Code::Ok) => Ok(()),
            Some(code) => Err(Status::new(code, "as told")),
        }
    }
}

/// Counts itself while it lives.
struct Waiting(Arc<watch::Sender<i32>>);

impl Waiting {
    fn begin(count: &Arc<watch::Sender<i32>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[tonic::async_trait]
impl Node for Fake {
    async fn node_stage_volume(
        &self,
        _: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        panic!("kubelet does not stage inline volumes");
    }

    async fn node_unstage_volume(
        &self,
        _: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        panic!("kubelet does not stage inline volumes");
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        *self.timeout.lock().unwrap() = timeout;
        let request = request.into_inner();
        self.note(&format!("publish {}", request.volume_id));
        *self.published.lock().unwrap() = Some(request);
        self.act().await?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(&format!("unpublish {} {}", request.volume_id, request.target_path));
        self.act().await?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        self.note("capabilities");
        let r#type = i32::from(if self.groups { rpc::Type::VolumeMountGroup } else { rpc::Type::Unknown });
        let capability = NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type })) };
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: vec![capability] }))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.note("info");
        Ok(Response::new(NodeGetInfoResponse { node_id: "node-1".into() }))
    }
}

#[tonic::async_trait]
impl Identity for Fake {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse::default()))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse {}))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse::default()))
    }
}

#[tonic::async_trait]
impl Registration for Fake {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.note("who are you");
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        self.note(&format!("registered {} {}", status.plugin_registered, status.error));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

/// A kubelet and a driver that runs.
struct Stage {
    kubelet: Kubelet,
    fake: Fake,
    folder: tempfile::TempDir,
    servers: Vec<JoinHandle<()>>,
}

impl Stage {
    fn new(driver: Driver, change: impl FnOnce(&mut Fake)) -> Self {
        Self::seen_from(driver, Path::new("/"), change)
    }

    fn seen_from(driver: Driver, view: &Path, change: impl FnOnce(&mut Fake)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubelet = Kubelet::start(folder.path(), view, driver).unwrap();
        let mut fake = Fake::new(folder.path());
        change(&mut fake);
        let mut stage = Self { kubelet, fake, folder, servers: Vec::new() };
        stage.serve_csi();
        stage.serve_registration();
        stage
    }

    async fn registered(driver: Driver) -> Self {
        let stage = Self::new(driver, |_| ());
        in_time("registration", stage.kubelet.register()).await.unwrap();
        stage.fake.saw();
        stage
    }

    fn serve_csi(&mut self) {
        let listener = UnixListener::bind(self.folder.path().join("csi.sock")).unwrap();
        let server = Server::builder()
            .add_service(NodeServer::new(self.fake.clone()))
            .add_service(IdentityServer::new(self.fake.clone()));
        let serving = server.serve_with_incoming(UnixListenerStream::new(listener));
        self.servers.push(tokio::spawn(async move { serving.await.unwrap() }));
    }

    fn serve_registration(&mut self) {
        let listener = UnixListener::bind(self.kubelet.plugins().join("secrets-store.sock")).unwrap();
        let server = Server::builder().add_service(RegistrationServer::new(self.fake.clone()));
        let serving = server.serve_with_incoming(UnixListenerStream::new(listener));
        self.servers.push(tokio::spawn(async move { serving.await.unwrap() }));
    }

    fn published(&self) -> NodePublishVolumeRequest {
        self.fake.published.lock().unwrap().take().unwrap()
    }

    fn volume_folder(&self, pod: &Pod) -> PathBuf {
        self.kubelet.target(pod, "secrets").parent().unwrap().to_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

fn pod() -> Pod {
    Pod::new("web").namespace("shop").service_account("seller").with_uid("6f1a").mounts("a-class")
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn it_asks_in_the_words_of_kubelet() {
    let stage = Stage::registered(Driver::default()).await;
    stage.kubelet.publish(&pod(), "secrets").await.unwrap();
    // `printf 6f1asecrets | sha256sum`
    let id = "csi-43fea86baee4aae518f4969399e656a60ac03e45e3fe1d22719b840c4d0f6c02";
    assert_eq!(stage.fake.saw(), ["capabilities", &format!("publish {id}")]);
    let root = stage.folder.path().display();
    let access_type = AccessType::Mount(MountVolume::default());
    let request = stage.published();
    assert_eq!(request.volume_id, id);
    assert_eq!(request.target_path, format!("{root}/pods/6f1a/volumes/kubernetes.io~csi/secrets/mount"));
    assert!(request.readonly && request.secrets.is_empty());
    assert_eq!(
        request.volume_capability,
        Some(VolumeCapability { access_mode: Some(AccessMode { mode: 1 }), access_type: Some(access_type) })
    );
    let context = [
        ("secretProviderClass", "a-class"),
        ("csi.storage.k8s.io/pod.name", "web"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/pod.uid", "6f1a"),
        ("csi.storage.k8s.io/serviceAccount.name", "seller"),
        ("csi.storage.k8s.io/ephemeral", "true"),
    ];
    assert_eq!(request.volume_context, map(&context));
    assert_eq!(stage.fake.timeout.lock().unwrap().as_deref(), Some("120000m"));
}

#[tokio::test]
async fn what_it_says_about_the_pod_lies_over_what_the_author_says() {
    let mut stage = Stage::registered(Driver::default()).await;
    let forged = Volume::new("secrets", "a-class")
        .attribute("csi.storage.k8s.io/pod.namespace", "kube-system")
        .attribute("csi.storage.k8s.io/serviceAccount.tokens", "forged")
        .secret(&[("key", "value")]);
    let pod = Pod::new("web").volume(forged);
    stage.kubelet.publish(&pod, "secrets").await.unwrap();
    let request = stage.published();
    assert_eq!(request.volume_context["csi.storage.k8s.io/pod.namespace"], "default");
    assert_eq!(request.volume_context["csi.storage.k8s.io/serviceAccount.tokens"], "forged", "there is none over it");
    assert_eq!(request.secrets, map(&[("key", "value")]));

    stage.kubelet.driver().pod_info = false;
    stage.kubelet.publish(&pod, "secrets").await.unwrap();
    assert_eq!(stage.published().volume_context["csi.storage.k8s.io/pod.namespace"], "kube-system");
}

#[tokio::test]
async fn tokens_stand_in_the_context_or_in_the_secrets_and_are_kept_for_a_while() {
    let emulator = Emulator::start(Settings::default()).await.unwrap();
    let tokens = Tokens {
        issuer: emulator.issuer("https://cluster.example"),
        audiences: vec!["one".into(), "two".into()],
        lifetime: Duration::from_secs(3600),
    };
    let mut stage = Stage::registered(Driver { tokens: Some(tokens), ..Driver::default() }).await;
    let key = "csi.storage.k8s.io/serviceAccount.tokens";
    stage.kubelet.publish(&pod(), "secrets").await.unwrap();
    let first = stage.published().volume_context[key].clone();
    let json: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert!(json["one"]["token"].as_str().unwrap().starts_with("eyJ"));
    assert!(json["two"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'));

    stage.kubelet.driver().tokens_in_secrets = true;
    stage.kubelet.publish(&pod(), "secrets").await.unwrap();
    let request = stage.published();
    assert_eq!((request.secrets.get(key), request.volume_context.get(key)), (Some(&first), None));

    stage.kubelet.restart();
    in_time("registration", stage.kubelet.register()).await.unwrap();
    stage.kubelet.publish(&pod(), "secrets").await.unwrap();
    assert_ne!(stage.published().secrets[key], first);
}

#[tokio::test]
async fn the_group_of_a_pod_is_told_to_a_driver_that_offers_to_take_care_of_it() {
    for groups in [true, false] {
        let stage = Stage::new(Driver::default(), |fake| fake.groups = groups);
        in_time("registration", stage.kubelet.register()).await.unwrap();
        stage.kubelet.publish(&pod().fs_group(2000), "secrets").await.unwrap();
        let Some(AccessType::Mount(mount)) = stage.published().volume_capability.unwrap().access_type else { panic!() };
        assert_eq!(mount.volume_mount_group, if groups { "2000" } else { "" });
    }
}

#[tokio::test]
async fn it_makes_the_parent_of_a_target_and_not_the_target() {
    let stage = Stage::registered(Driver::default()).await;
    stage.kubelet.publish(&pod(), "secrets").await.unwrap();
    let folder = stage.volume_folder(&pod());
    let found: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(found, ["vol_data.json"]);
}

#[tokio::test]
async fn after_a_final_failure_it_removes_what_is_not_mounted_and_after_any_other_it_leaves_everything() {
    let stage = Stage::registered(Driver::default()).await;
    for (code, left) in [
        (Code::Unavailable, true),
        (Code::DeadlineExceeded, true),
        (Code::Cancelled, true),
        (Code::ResourceExhausted, true),
        (Code::Aborted, true),
        (Code::Internal, false),
        (Code::NotFound, false),
        (Code::Unknown, false),
    ] {
        stage.fake.answers(Some(code));
        let target = stage.kubelet.target(&pod(), "secrets");
        std::fs::create_dir_all(&target).unwrap();
        let error = stage.kubelet.publish(&pod(), "secrets").await.unwrap_err();
        assert_eq!(error.status().unwrap().code(), code);
        assert_eq!((target.exists(), stage.volume_folder(&pod()).exists()), (left, left), "{code:?}");
    }
}

#[tokio::test]
async fn what_is_mounted_stays_whatever_the_driver_says() {
    let folder = tempfile::tempdir().unwrap();
    let namespace = in_tests(folder.path());
    let stage = Stage::seen_from(Driver::default(), &namespace.root(), |_| ());
    in_time("registration", stage.kubelet.register()).await.unwrap();
    let pod = pod();
    let target = stage.kubelet.target(&pod, "secrets");
    std::fs::create_dir_all(&target).unwrap();
    namespace.run("mount", &["-t", "tmpfs", "tmpfs", target.to_str().unwrap()]);
    stage.fake.answers(Some(Code::Internal));
    stage.kubelet.publish(&pod, "secrets").await.unwrap_err();
    assert_eq!(namespace.mounted(&target).len(), 1);
    assert!(stage.volume_folder(&pod).join("vol_data.json").exists());
    namespace.reboot(&target);
    stage.kubelet.publish(&pod, "secrets").await.unwrap_err();
    assert!(!stage.volume_folder(&pod).exists());
}

#[tokio::test]
async fn a_driver_that_dies_in_the_middle_of_a_call_is_unavailable_and_nothing_is_removed() {
    let stage = Stage::new(Driver::default(), |_| ());
    in_time("registration", stage.kubelet.register()).await.unwrap();
    let pod = pod();
    stage.kubelet.publish(&pod, "secrets").await.unwrap();
    let request = stage.kubelet.request(&pod, "secrets", true).unwrap();
    // Somebody who takes every connection, reads a little and is gone.
    let socket = stage.folder.path().join("csi.sock");
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let dying = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = [0; 256];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut read).await;
        }
    };
    let error = tokio::select! {
        result = stage.kubelet.send(request, Duration::from_secs(5)) => result.unwrap_err(),
        never = dying => never,
    };
    assert_eq!(error.status().unwrap().code(), Code::Unavailable, "{error}");
    assert!(stage.volume_folder(&pod).exists());
}

#[tokio::test]
async fn after_unpublishing_nothing_of_the_pod_is_left_and_something_foreign_is_an_error() {
    let stage = Stage::registered(Driver::default()).await;
    let pod = pod();
    stage.kubelet.publish(&pod, "secrets").await.unwrap();
    let target = stage.kubelet.target(&pod, "secrets");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("foreign"), "").unwrap();
    let error = stage.kubelet.unpublish(&pod, "secrets").await.unwrap_err();
    assert!(matches!(error, CallError::Folder { operation: "remove", .. }), "{error}");

    std::fs::remove_file(target.join("foreign")).unwrap();
    stage.fake.saw();
    stage.kubelet.unpublish(&pod, "secrets").await.unwrap();
    let id = volume_id("6f1a", "secrets");
    assert_eq!(stage.fake.saw(), [format!("unpublish {id} {}", target.display())]);
    stage.kubelet.remove_pod(&pod).unwrap();
    assert_eq!(std::fs::read_dir(stage.folder.path().join("pods")).unwrap().count(), 0);
    stage.kubelet.unpublish(&pod, "secrets").await.unwrap();
}

#[tokio::test]
async fn it_asks_a_driver_for_its_name_and_its_node_before_it_says_that_it_is_registered() {
    let stage = Stage::new(Driver::default(), |_| ());
    let early = stage.kubelet.publish(&pod(), "secrets").await.unwrap_err();
    assert!(matches!(early, CallError::NotRegistered(_)), "{early}");
    let plugin = in_time("registration", stage.kubelet.register()).await.unwrap();
    assert_eq!((plugin.node.as_str(), plugin.info.name.as_str()), ("node-1", "secrets-store.csi.k8s.io"));
    assert_eq!(stage.fake.saw(), ["who are you", "info", "registered true "]);
    assert!(stage.kubelet.knows_driver());
}

#[tokio::test]
async fn it_registers_again_after_its_own_restart_and_for_a_new_socket_only() {
    let mut stage = Stage::registered(Driver::default()).await;
    stage.kubelet.restart();
    assert!(!stage.kubelet.knows_driver());
    in_time("registration", stage.kubelet.register()).await.unwrap();

    stage.kubelet.empty_plugins().unwrap();
    assert!(!stage.kubelet.knows_driver(), "a driver without a socket is none");
    stage.serve_registration();
    in_time("registration", stage.kubelet.register()).await.unwrap();
    assert!(stage.kubelet.knows_driver());
}

#[tokio::test]
async fn it_refuses_what_is_no_csi_driver_of_version_1_and_whom_it_is_told_to_refuse() {
    let stage = Stage::new(Driver::default(), |fake| fake.info.supported_versions = vec!["0.3.0".into()]);
    let error = in_time("registration", stage.kubelet.register()).await.unwrap_err();
    assert!(matches!(error, RegisterError::Refused(_)), "{error}");
    assert!(stage.fake.saw().last().unwrap().starts_with("registered false none of the versions"));

    let stage = Stage::new(Driver::default(), |_| ());
    in_time("registration", stage.kubelet.answer(&Notice::Refused("there is one".into()))).await.unwrap();
    assert_eq!(stage.fake.saw().last().unwrap(), "registered false there is one");
    assert!(!stage.kubelet.knows_driver());
}

#[tokio::test]
async fn a_call_that_it_gives_up_is_given_up_at_the_driver_too() {
    let stage = Stage::registered(Driver::default()).await;
    stage.fake.answers(None);
    let mut waiting = stage.fake.waiting.subscribe();
    {
        let pod = pod();
        let call = stage.kubelet.publish(&pod, "secrets");
        tokio::pin!(call);
        tokio::select! {
            result = &mut call => panic!("{result:?}"),
            _ = waiting.wait_for(|count| *count == 1) => {}
        }
    }
    in_time("the driver to notice", waiting.wait_for(|count| *count == 0)).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_says_nothing_is_waited_for_as_long_as_was_said() {
    let stage = Stage::registered(Driver::default()).await;
    stage.fake.answers(None);
    let error = stage.kubelet.publish_within(&pod(), "secrets", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.status().unwrap().code(), Code::DeadlineExceeded, "{error}");
    assert!(stage.volume_folder(&pod()).exists());
}
