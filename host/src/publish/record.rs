//! What is told about a publish when it is over: the audit line, events, metrics.
//!
//! Nothing here can undo a good mount or make it wait, and nothing holds a secret: names, versions, words from closed sets,
//! and error texts that are fit to be shown. `pipeline` is the caller.

use std::time::Duration;

use coffer_sandbox::egress::audit::TARGET;

use super::Error;
use super::obtain::Obtained;
use super::offline::{NotAnAge, StandIn};
use super::registry::Inputs;
use super::share::Part;
use crate::kube::events::Event;
use crate::volume::Change;

/// How a publish ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The volume was made.
    Mounted,
    /// It was right already.
    Unchanged,
    /// It has newer files now.
    Changed,
}

impl Ending {
    /// How a refresh ended that changed this in the volume.
    #[must_use]
    pub fn of_refresh(change: Option<Change>) -> Self {
        match change {
            Some(Change::Replaced { .. }) => Self::Changed,
            Some(Change::Repaired | Change::Unchanged) | None => Self::Unchanged,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Mounted => "mounted",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
        }
    }
}

/// One line for a publish that asked the provider and worked.
pub fn audit_success(inputs: &Inputs, obtained: &Obtained, cause: &'static str, ending: Ending, took: Duration) {
    let fetched = &obtained.fetched;
    let shared_with = (obtained.part == Part::Followed).then(|| fetched.pod.uid.as_str());
    tracing::info!(
        target: TARGET,
        volume = inputs.volume,
        pod.namespace = inputs.pod.namespace,
        pod.name = inputs.pod.name,
        pod.uid = inputs.pod.uid,
        service_account = inputs.pod.service_account,
        class = inputs.class,
        plugin = obtained.plugin.ready.name(),
        digest = %obtained.plugin.ready.digest(),
        cause,
        result = ending.word(),
        objects = fetched.objects.len(),
        overridden = (!obtained.overridden.is_empty()).then(|| obtained.overridden.join(",")),
        // The pod for which the requests were made, when it was another one.
        fetched_for = shared_with,
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "volume published"
    );
}

/// One line for a publish that failed.
pub fn audit_failure(inputs: &Inputs, error: &Error, cause: &'static str, took: Duration) {
    tracing::warn!(
        target: TARGET,
        volume = inputs.volume,
        pod.namespace = inputs.pod.namespace,
        pod.name = inputs.pod.name,
        pod.uid = inputs.pod.uid,
        service_account = inputs.pod.service_account,
        class = inputs.class,
        cause,
        result = error.reason(),
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "volume not published: {}",
        error.text()
    );
}

/// One line for a volume that was mounted from a kept result.
pub fn audit_offline(inputs: &Inputs, stand_in: &StandIn) {
    tracing::warn!(
        target: TARGET,
        volume = inputs.volume,
        pod.namespace = inputs.pod.namespace,
        pod.name = inputs.pod.name,
        pod.uid = inputs.pod.uid,
        service_account = inputs.pod.service_account,
        class = inputs.class,
        age_seconds = stand_in.age.as_secs(),
        result = stand_in.error.reason(),
        "volume mounted from a kept result: {}",
        stand_in.error.text()
    );
}

/// One line for a volume that was taken away.
pub fn audit_unpublish(volume: &str) {
    tracing::info!(target: TARGET, volume, "volume unpublished");
}

/// Tells the pod that its files are newer than before.
#[must_use]
pub fn changed(inputs: &Inputs) -> Event {
    let message = format!("the files of SecretProviderClass `{}` were replaced by newer ones", inputs.class);
    Event { pod: inputs.pod.clone(), warning: false, reason: "MountRotationComplete", message }
}

/// Tells the pod that it starts with what was kept.
#[must_use]
pub fn offline(inputs: &Inputs, stand_in: &StandIn) -> Event {
    let minutes = stand_in.age.as_secs() / 60;
    let age = if minutes == 1 { "1 minute".to_owned() } else { format!("{minutes} minutes") };
    let message = format!(
        "mounted from a kept result, {age} old, because the store cannot be reached; it is asked again until it answers: {}",
        stand_in.error.text()
    );
    Event { pod: inputs.pod.clone(), warning: true, reason: "MountedFromKeptResult", message }
}

/// Tells the pod what is wrong with the annotation for that.
#[must_use]
pub fn not_an_age(inputs: &Inputs, error: &NotAnAge) -> Event {
    Event { pod: inputs.pod.clone(), warning: true, reason: "OfflineStartInvalid", message: error.to_string() }
}

/// Tells the pod that its files could not be looked after; they stay as they are.
#[must_use]
pub fn failed(inputs: &Inputs, error: &Error) -> Event {
    let message = format!("the files stay as they are, the refresh failed: {}", error.text());
    Event { pod: inputs.pod.clone(), warning: true, reason: "MountRotationFailed", message }
}
