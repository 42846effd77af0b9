//! What is known of the volumes of a node, as `coffer status` shows it: names, times, versions, what is wrong. No content.
//!
//! It names objects of the store, so it goes over the admin socket and nowhere else. `docs/operations.md` promises the JSON
//! form: fields may come, none goes or changes its meaning. `telemetry::admin` asks for it, `commands::status` reads it.

use std::ffi::OsStr;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::looks::Choice;
use super::pipeline::Pipeline;
use super::registry::Known;
use crate::volume::ledger::Entry;

/// The volumes of a node at one moment. Every time is RFC 3339, in UTC and whole seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// By the clock of the node.
    pub time: String,
    /// Whether volumes are due by time.
    pub rotation: Rotation,
    /// The published volumes, by namespace, pod and class.
    pub volumes: Vec<Volume>,
}

/// The settings of rotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// `--enable-secret-rotation`.
    pub enabled: bool,
    /// `--rotation-poll-interval`.
    pub interval_seconds: u64,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Of the pod.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The pod's service account.
    pub service_account: String,
    /// The class; empty after an update from an older release, until kubelet calls.
    pub class: String,
    /// The provider; empty like the class.
    pub provider: String,
    /// The volume's name in the pod, as far as its target tells.
    pub volume: String,
    /// What kubelet calls it.
    pub volume_id: String,
    /// Where it is mounted.
    pub target: String,
    /// Whether all is right.
    pub state: State,
    /// When the store last said that its files are right.
    pub checked: String,
    /// When its files were last written, if that is known.
    pub changed: Option<String>,
    /// When it is due by time; none where that never comes.
    pub due: Option<String>,
    /// Whether it is kubelet's turn: without its next call there are no tokens to look with.
    pub waits_for_kubelet: bool,
    /// Until when the store asked to be left alone.
    pub throttled_until: Option<String>,
    /// What is in it, as the provider names it.
    pub objects: Vec<Object>,
    /// What is wrong.
    pub failure: Option<Failure>,
    /// The kept result that it has, as the store could not be reached.
    pub offline: Option<Offline>,
}

/// Whether all is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It is.
    Ok,
    /// The last look failed; the files are as they were.
    Failing,
    /// The files are a kept result that the store has not confirmed since.
    Offline,
}

/// An object of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The provider's name for it.
    pub id: String,
    /// The store's version.
    pub version: String,
}

/// Why a volume is not known to be right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// CamelCase, from a closed set; that of metrics and annotations.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it went wrong.
    pub since: String,
    /// When it was tried last.
    pub last: String,
    /// How often it was tried in vain.
    pub times: u32,
}

/// A kept result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offline {
    /// When the store gave or confirmed it.
    pub good_at: String,
    /// How long ago that is.
    pub age_seconds: u64,
}

impl Pipeline {
    /// What is known of the volumes.
    #[must_use]
    pub fn volumes(&self, choice: &Choice) -> Status {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut volumes = Vec::new();
        for (id, slot) in self.registry().all() {
            let described = describe(&slot.known(), now, wall);
            volumes.extend(described.filter(|volume| choice.fits(volume)));
            self.registry().release(&id, slot);
        }
        volumes.sort_by(|a, b| key(a).cmp(&key(b)));
        let rotation = self.rotation();
        Status {
            time: time(wall),
            rotation: Rotation { enabled: rotation.enabled, interval_seconds: rotation.interval.as_secs() },
            volumes,
        }
    }
}

fn key(volume: &Volume) -> [&str; 5] {
    [&volume.namespace, &volume.pod, &volume.class, &volume.volume, &volume.volume_id]
}

/// One volume; none where it is not published.
pub(super) fn describe(known: &Known, now: Instant, wall: SystemTime) -> Option<Volume> {
    let entry = known.entry.as_ref()?;
    let at = |instant: Instant| time(wall + instant.saturating_duration_since(now));
    let mut who = entry.pod.splitn(4, '/').map(str::to_owned);
    let mut next = || who.next().unwrap_or_default();
    let (namespace, pod, pod_uid, service_account) = (next(), next(), next(), next());
    let failure = known.wrong.as_ref().map(|wrong| Failure {
        reason: wrong.reason.to_owned(),
        message: wrong.text.clone(),
        since: time(wrong.since),
        last: time(wrong.last),
        times: known.failures,
    });
    let age = |good| wall.duration_since(good).unwrap_or_default().as_secs();
    let offline = entry.offline.map(|good| Offline { good_at: time(good), age_seconds: age(good) });
    Some(Volume {
        namespace,
        pod,
        pod_uid,
        service_account,
        class: entry.class.clone(),
        provider: entry.provider.clone(),
        volume: volume_name(entry),
        volume_id: entry.volume.clone(),
        target: entry.target.to_string_lossy().into_owned(),
        state: match (&offline, &failure) {
            (Some(_), _) => State::Offline,
            (None, Some(_)) => State::Failing,
            (None, None) => State::Ok,
        },
        checked: time(entry.checked),
        changed: entry.changed.map(time),
        due: known.due.map(at),
        waits_for_kubelet: known.waits_for_kubelet || (known.inputs.is_none() && is_due(known, now)),
        throttled_until: known.not_before.filter(|until| *until > now).map(at),
        objects: entry.objects.iter().map(|o| Object { id: o.id.clone(), version: o.version.clone() }).collect(),
        failure,
        offline,
    })
}

/// Whether it would be looked at now if there were something to look with.
fn is_due(known: &Known, now: Instant) -> bool {
    let is_offline = known.entry.as_ref().is_some_and(|entry| entry.offline.is_some());
    is_offline || known.asked.is_some() || known.failures > 0 || known.due.is_some_and(|due| due <= now)
}

/// `…/volumes/kubernetes.io~csi/<name>/mount`
fn volume_name(entry: &Entry) -> String {
    let folder = entry.target.parent().filter(|_| entry.target.file_name() == Some(OsStr::new("mount")));
    folder.and_then(|folder| folder.file_name()).unwrap_or_default().to_string_lossy().into_owned()
}

/// RFC 3339, whole seconds.
pub(super) fn time(time: SystemTime) -> String {
    let seconds = Timestamp::try_from(time).and_then(|time| Timestamp::from_second(time.as_second()));
    seconds.map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coffer_sandbox::provider::ObjectVersion;
    use serde_json::{Value, json};

    use super::super::Error;
    use super::super::request::PublishRequest;
    use super::*;

    const WALL: u64 = 1_777_550_709;

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(WALL * 1000 + 700)
    }

    fn known() -> Known {
        let entry = Entry {
            volume: "csi-1".into(),
            target: "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/secrets/mount".into(),
            pod: "shop/web/u/sa".into(),
            class: "kv".into(),
            provider: "azure".into(),
            revision: "r".into(),
            refresh: None,
            objects: vec![ObjectVersion { id: "secret/a".into(), version: "1".into() }],
            status: None,
            synced: None,
            changed: Some(wall() - Duration::from_secs(60)),
            offline: None,
            checked: wall() - Duration::from_secs(5),
        };
        Known { entry: Some(entry), ..Known::default() }
    }

    fn shown(known: &Known) -> Value {
        serde_json::to_value(describe(known, Instant::now(), wall()).unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_json_form_is_the_one_that_is_documented() {
        let mut known = known();
        known.due = Some(Instant::now() + Duration::from_secs(90));
        let expected = json!({
            "namespace": "shop", "pod": "web", "podUid": "u", "serviceAccount": "sa", "class": "kv", "provider": "azure",
            "volume": "secrets", "volumeId": "csi-1",
            "target": "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/secrets/mount",
            "state": "ok", "checked": "2026-04-30T12:05:04Z", "changed": "2026-04-30T12:04:09Z",
            "due": "2026-04-30T12:06:39Z", "waitsForKubelet": false, "throttledUntil": null,
            "objects": [{"id": "secret/a", "version": "1"}], "failure": null, "offline": null,
        });
        assert_eq!(shown(&known), expected);
        let document = include_str!("../../../docs/operations.md");
        for key in expected.as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{key}`")), "docs/operations.md does not explain `{key}`");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_is_shown_with_its_beginning_and_the_kept_result_with_its_age() {
        let mut known = known();
        known.failures = 3;
        known.note_wrong(&Error::Deadline { what: "fetching the secrets" });
        known.not_before = Some(Instant::now() + Duration::from_secs(30));
        let failing = shown(&known);
        assert_eq!((&failing["state"], &failing["failure"]["reason"]), (&"failing".into(), &"DeadlineExceeded".into()));
        assert_eq!((&failing["failure"]["times"], &failing["waitsForKubelet"]), (&3.into(), &true.into()));
        assert_eq!(failing["throttledUntil"], "2026-04-30T12:05:39Z");
        known.entry.as_mut().unwrap().offline = Some(wall() - Duration::from_secs(600));
        let offline = shown(&known);
        assert_eq!((&offline["state"], &offline["offline"]["ageSeconds"]), (&"offline".into(), &600.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_that_is_due_waits_for_kubelet_where_nothing_is_known_to_look_with() {
        let mut known = known();
        assert_eq!(shown(&known)["waitsForKubelet"], false);
        known.due = Some(Instant::now());
        assert_eq!(shown(&known)["waitsForKubelet"], true);
        known.inputs = Some(std::sync::Arc::new(PublishRequest::default().into()));
        assert_eq!(shown(&known)["waitsForKubelet"], false);
        known.waits_for_kubelet = true;
        assert_eq!(shown(&known)["waitsForKubelet"], true);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_published_is_not_shown() {
        assert!(describe(&Known::default(), Instant::now(), wall()).is_none());
    }
}
