//! kubelet's door over real sockets: the CSI services, registration, and what the process may still do. What stands
//! behind the door is a double of the pipeline; `node` puts the real one there.

mod kubelet;
mod pipeline;
mod privilege;
mod publishing;
mod registering;
mod secrecy;
mod serving;
mod wire;

/// What the services and their messages are called.
mod proto {
    #![allow(unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated")]

    pub mod csi {
        tonic::include_proto!("csi.v1");
    }
    pub mod registration {
        tonic::include_proto!("pluginregistration");
    }
}

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Longer than anything takes on a machine that does much else. Where the clock is paused, "never".
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a future that has to come to its end.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("this never ends")
}

/// Waits until a condition holds that nothing tells of. Where the clock is paused, this takes no time.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE * 10, async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}
