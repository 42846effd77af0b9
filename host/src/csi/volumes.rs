//! What stands behind kubelet's door: the one seam between gRPC and the publish pipeline.

use std::future::Future;
use std::path::PathBuf;

use tokio::time::Instant;

use super::status::Refusal;
use crate::publish::request::PublishRequest;

/// Carries out what kubelet asks. Calls for one volume may come at the same time, and a call that kubelet gave up is
/// dropped: whoever implements this must finish or undo what was begun all the same.
pub trait Volumes: Send + Sync + 'static {
    /// Makes the volume right. `deadline` is when kubelet stops waiting.
    fn publish(
        &self,
        request: PublishRequest,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Takes the volume away. That there is none is fine.
    fn unpublish(
        &self,
        volume: String,
        target: PathBuf,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}
