//! Volumes over the admin socket: `GET /volumes` shows them, `POST /refresh` has them looked at now. The other end of both,
//! too, for `coffer status` and `coffer refresh`.
//!
//! Names of objects and their versions are shown, as only root can ask; contents never are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use coffer_sandbox::egress::audit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AskError, LARGEST_BODY, PATIENCE, ask};
use crate::publish::looks::{Choice, Look, Outcome};
use crate::publish::pipeline::Pipeline;
use crate::publish::status::Status;

const VOLUMES: &str = "/volumes";
const REFRESH: &str = "/refresh";

/// The longest that anybody is kept waiting for looks.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// Which volumes to look at, and how long to wait for that.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// Which.
    #[serde(default)]
    pub choice: Choice,
    /// How long; not at all where it is left out, ten minutes at most.
    #[serde(default)]
    pub wait_seconds: u64,
}

/// What became of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Looks {
    /// One for each volume, by namespace, pod and class.
    pub volumes: Vec<Look>,
}

/// The paths of both.
pub fn router(pipeline: Arc<Pipeline>) -> Router {
    Router::new().route(VOLUMES, get(show)).route(REFRESH, post(refresh)).with_state(pipeline)
}

async fn show(State(pipeline): State<Arc<Pipeline>>) -> Response {
    json(&pipeline.volumes(&Choice::default()))
}

async fn refresh(State(pipeline): State<Arc<Pipeline>>, body: Body) -> Response {
    let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST_BODY)).await else {
        let message = format!("the body is larger than {LARGEST_BODY} bytes, or did not come\n");
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let Ok(Asked { choice, wait_seconds }) = serde_json::from_slice(&body) else {
        let message =
            "write {\"choice\": {\"namespace\", \"pod\", \"class\"}, \"waitSeconds\"}, each of them optional\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let wait = Duration::from_secs(wait_seconds).min(LONGEST_WAIT);
    let volumes = pipeline.look_now(&choice, wait).await;
    let failed = volumes.iter().filter(|look| look.result == Outcome::Failed).count();
    let waiting = volumes.iter().filter(|look| look.result == Outcome::Waiting).count();
    let Choice { namespace, pod, class } = choice;
    tracing::info!(
        target: audit::TARGET,
        namespace,
        pod,
        class,
        volumes = volumes.len(),
        failed,
        waiting,
        "a refresh was asked for by command"
    );
    json(&Looks { volumes })
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        // Texts and numbers always have a JSON form.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Asks for what is known of the volumes.
///
/// # Errors
///
/// When the driver cannot be asked, or answers something else.
pub async fn ask_status(socket: &Path) -> Result<Status, AskError> {
    read(socket, &ask(socket, "GET", VOLUMES, "", PATIENCE).await?)
}

/// Has volumes looked at.
///
/// # Errors
///
/// When the driver cannot be asked, or answers something else.
pub async fn ask_refresh(socket: &Path, asked: &Asked) -> Result<Looks, AskError> {
    let body = serde_json::to_string(asked).unwrap_or_default();
    let wait = Duration::from_secs(asked.wait_seconds).min(LONGEST_WAIT);
    read(socket, &ask(socket, "POST", REFRESH, &body, wait + PATIENCE).await?)
}

fn read<T: DeserializeOwned>(socket: &Path, answer: &str) -> Result<T, AskError> {
    serde_json::from_str(answer).map_err(|error| AskError::NotUnderstood(socket.to_owned(), error))
}
