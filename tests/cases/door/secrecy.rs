//! Nothing that passes the door is in the log, however much is logged.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::kubelet::{self, TOKENS, publish, unpublish};
use super::pipeline::Door;
use super::proto::csi::NodePublishVolumeRequest;

const CANARY: &str = "CANARY-b07c";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A request that is full of them.
fn request(volume: &str) -> NodePublishVolumeRequest {
    let mut request = publish(volume);
    request.secrets = [("clientsecret", CANARY), (TOKENS, CANARY)].map(|(k, v)| (k.into(), v.into())).into();
    request.volume_context.insert(TOKENS.into(), CANARY.into());
    request.volume_context.insert("objects".into(), CANARY.into());
    request
}

/// The runtime has one thread, so everything that is logged is logged here. The filter is that of the program at its
/// most verbose: libraries say warnings.
#[tokio::test]
async fn no_log_line_holds_a_secret_a_token_or_an_attribute() {
    let lines = Lines::default();
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("coffer", LevelFilter::TRACE);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    // While a process has one subscriber only, a line that another thread without one reaches first is off for all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let logged = tracing::subscriber::set_default(tracing_subscriber::registry().with(filter).with(layer));

    let door = Door::open();
    let mut node = kubelet::node(&door.socket).await;
    node.node_publish_volume(request("csi-fine")).await.unwrap();
    node.node_publish_volume(request("refused")).await.unwrap_err();
    node.node_publish_volume(request("panics")).await.unwrap_err();
    node.node_publish_volume(NodePublishVolumeRequest { readonly: false, ..request("csi-1") }).await.unwrap_err();
    let mut wrong = request("csi-1");
    wrong.volume_context.insert("secretProviderClass".into(), format!("{CANARY}!"));
    node.node_publish_volume(wrong).await.unwrap_err();
    node.node_unpublish_volume(unpublish("csi-gone")).await.unwrap();
    let goes = tokio::spawn(async move { node.node_publish_volume(request("waits")).await });
    door.pipeline.until(|counts| counts.begun == 5).await;
    goes.abort();
    door.pipeline.until(|counts| counts.dropped == 1).await;
    door.tasks.drain(super::PATIENCE).await;
    drop(logged);

    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains(CANARY) && !log.contains("clientsecret"), "{log}");
    let line = |parts: &[&str]| {
        let found = log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        assert_eq!(found, 1, "{parts:?} in {log}");
    };
    line(&["DEBUG", "NodePublishVolume", "csi-fine", "shop/web-0", "duration", "code=Ok"]);
    line(&["WARN", "NodePublishVolume", "refused", "shop/web-0", "code=NotFound", "class `demo` does not exist"]);
    line(&["WARN", "NodePublishVolume", "panics", "code=Internal", "a fault in Coffer"]);
    line(&["WARN", "NodePublishVolume", "code=InvalidArgument", "Readonly is not true in request"]);
    line(&["WARN", "NodePublishVolume", "code=InvalidArgument", "secretProviderClass is not the name of an object"]);
    line(&["WARN", "NodePublishVolume", "waits", "the caller stopped waiting"]);
    line(&["DEBUG", "NodeUnpublishVolume", "csi-gone", "code=Ok"]);
}
