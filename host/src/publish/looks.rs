//! Looks that somebody asks for by `coffer refresh`: which volumes, and what came of it.
//!
//! Asking makes a volume due now; whoever makes it right is the same as ever, the timer or kubelet's next call, and the
//! floor between two tries of a volume stays. A result that is kept for sharing is not taken for an answer. Waiting is
//! bounded, and nobody is harmed by one who stops waiting. `telemetry::admin` is the caller.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::pipeline::Pipeline;
use super::registry::{Known, Looked};
use super::status::{self, Volume};
use crate::refresh::FLOOR;

/// Which volumes; all where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Choice {
    /// Those of pods in this namespace.
    pub namespace: Option<String>,
    /// Those of pods with this name.
    pub pod: Option<String>,
    /// Those of classes with this name.
    pub class: Option<String>,
}

/// What became of one volume that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Of the pod.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The class.
    pub class: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// What became of it.
    pub result: Outcome,
    /// CamelCase, where it failed.
    pub reason: Option<String>,
    /// For people: why it failed, or what it waits for.
    pub message: Option<String>,
}

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Its files were replaced by newer ones.
    Changed,
    /// Its files are right as they are.
    Unchanged,
    /// The look failed; the files are as they were.
    Failed,
    /// It was not looked at yet.
    Waiting,
    /// The pod ended meanwhile.
    Gone,
}

impl Choice {
    /// Whether the volume is one of them.
    #[must_use]
    pub fn fits(&self, volume: &Volume) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        is(&self.namespace, &volume.namespace) && is(&self.pod, &volume.pod) && is(&self.class, &volume.class)
    }
}

/// A volume that was asked for.
struct Asked {
    id: String,
    shown: Volume,
    /// The command that its look will answer; an earlier one that has not begun is as good.
    command: u64,
}

impl Pipeline {
    /// Makes the volumes due now, and waits until each was looked at, for so long at most.
    pub async fn look_now(self: &Arc<Self>, choice: &Choice, patience: Duration) -> Vec<Look> {
        let deadline = Instant::now() + patience;
        let mut ended = self.ended.subscribe();
        let mut asked = self.ask(choice);
        asked.sort_by(|a, b| a.id.cmp(&b.id));
        self.learned.notify_one();
        let stopping = self.tasks().stopping();
        loop {
            let (now, wall) = (Instant::now(), SystemTime::now());
            let mut looks: Vec<Look> = asked.iter().map(|asked| self.answer(asked, now, wall)).collect();
            let is_waiting = looks.iter().any(|look| look.result == Outcome::Waiting);
            if is_waiting && now < deadline && !stopping.is_cancelled() {
                let _ = tokio::select! {
                    changed = timeout_at(deadline, ended.changed()) => changed.is_ok(),
                    () = stopping.cancelled() => false,
                };
                continue;
            }
            looks.sort_by(|a, b| key(a).cmp(&key(b)));
            return looks;
        }
    }

    fn ask(&self, choice: &Choice) -> Vec<Asked> {
        let command = self.commands.fetch_add(1, Ordering::Relaxed);
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut asked = Vec::new();
        for (id, slot) in self.registry().all() {
            {
                let mut known = slot.known();
                let described = status::describe(&known, now, wall).filter(|volume| choice.fits(volume));
                if let Some(shown) = described {
                    let command = *known.asked.get_or_insert(command);
                    // The timer looks whether the tokens that it has will do.
                    known.waits_for_kubelet = false;
                    known.due = known.due.map(|_| now);
                    asked.push(Asked { id: id.clone(), shown, command });
                }
            }
            self.registry().release(&id, slot);
        }
        asked
    }

    fn answer(&self, asked: &Asked, now: Instant, wall: SystemTime) -> Look {
        let slot = self.registry().slot(&asked.id);
        let (result, reason, message) = {
            let known = slot.known();
            match &known.looked {
                _ if known.entry.is_none() => (Outcome::Gone, None, None),
                Some((command, looked)) if *command >= asked.command => match looked {
                    Looked::Changed => (Outcome::Changed, None, None),
                    Looked::Unchanged => (Outcome::Unchanged, None, None),
                    Looked::Failed { reason, text } => {
                        (Outcome::Failed, Some((*reason).to_owned()), Some(text.clone()))
                    }
                },
                _ => (Outcome::Waiting, None, Some(waits_for(&known, now, wall))),
            }
        };
        self.registry().release(&asked.id, slot);
        let Volume { namespace, pod, class, volume, .. } = asked.shown.clone();
        Look { namespace, pod, class, volume, result, reason, message }
    }
}

fn key(look: &Look) -> [&str; 4] {
    [&look.namespace, &look.pod, &look.class, &look.volume]
}

/// What keeps a volume that is due from being looked at.
fn waits_for(known: &Known, now: Instant, wall: SystemTime) -> String {
    let at = |until: Instant| status::time(wall + until.saturating_duration_since(now));
    if known.asked.is_none() {
        return "it is being looked at".to_owned();
    }
    if let Some(until) = known.not_before.filter(|until| *until > now) {
        return format!("the store asked to be left alone until {}", at(until));
    }
    if known.inputs.is_none() {
        return "waits for kubelet's next call, which comes within two minutes and brings what it takes to ask the store"
            .to_owned();
    }
    if known.waits_for_kubelet {
        return "waits for kubelet: the tokens of its last call do not last, its next one brings new ones".to_owned();
    }
    match known.tried.map(|tried| tried + FLOOR).filter(|again| *again > now) {
        Some(again) => format!("it was looked at a moment ago, and is again at {}", at(again)),
        None => "it is its turn in a moment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::PublishRequest;
    use super::*;

    #[test]
    fn a_choice_without_words_is_all_and_each_word_narrows_it() {
        let volume: Volume = serde_json::from_value(serde_json::json!({
            "namespace": "shop", "pod": "web", "podUid": "", "serviceAccount": "", "class": "kv", "provider": "",
            "volume": "", "volumeId": "", "target": "", "state": "ok", "checked": "", "changed": null, "due": null,
            "waitsForKubelet": false, "throttledUntil": null, "objects": [], "failure": null, "offline": null,
        }))
        .unwrap();
        let choice = |text: &str| serde_json::from_str::<Choice>(text).unwrap();
        for (text, fits) in [
            ("{}", true),
            (r#"{"namespace": "shop"}"#, true),
            (r#"{"namespace": "shop", "pod": "web", "class": "kv"}"#, true),
            (r#"{"namespace": "shop", "pod": "web", "class": "other"}"#, false),
            (r#"{"pod": "we"}"#, false),
            (r#"{"namespace": ""}"#, false),
        ] {
            assert_eq!(choice(text).fits(&volume), fits, "{text}");
        }
        assert!(serde_json::from_str::<Choice>(r#"{"names": "shop"}"#).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_volume_waits_for_is_told() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut known = Known::default();
        let told = |known: &Known| waits_for(known, now, wall);
        assert!(told(&known).contains("being looked at"));
        known.asked = Some(1);
        assert!(told(&known).contains("next call"));
        known.inputs = Some(Arc::new(PublishRequest::default().into()));
        assert!(told(&known).contains("its turn"));
        known.tried = Some(now);
        assert!(told(&known).contains("again at 1970-01-01T00:00:10Z"));
        known.waits_for_kubelet = true;
        assert!(told(&known).contains("tokens"));
        known.not_before = Some(now + Duration::from_secs(90));
        assert!(told(&known).contains("left alone until 1970-01-01T00:01:30Z"));
    }
}
