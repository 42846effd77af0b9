//! Asks the provider, and checks what it hands back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coffer_sandbox::egress::{Caller, Lane, Record};
use coffer_sandbox::instance::{Call, Usage};
use coffer_sandbox::provider::{Mounted, ObjectVersion, Outcome, Pod, Request, ServiceAccountToken, Session};
use coffer_sandbox::redact::Redactor;
use coffer_sandbox::secret::SecretBytes;
use tokio::time::Instant;

use super::Error;
use super::plan::Plan;
use crate::app::Plugin;
use crate::volume::{self, FileSet, NewFile};

/// Enough for any provider to put an error into words.
const LONGEST_MARGIN: Duration = Duration::from_millis(500);

/// What the provider handed back, checked.
pub struct Fetched {
    /// The whole content of the volume; none when the store has nothing newer than [`Before::mounted`].
    pub files: Option<FileSet>,
    /// The version of the object behind a file, by path, where the provider tells.
    pub versions: BTreeMap<String, String>,
    /// Every object and its version; empty when nothing is newer.
    pub objects: Vec<ObjectVersion>,
    /// What to keep for the next call.
    pub session: Option<Session>,
    /// The pod that asked.
    pub pod: Pod,
    /// What it had in its volume.
    pub mounted: Vec<ObjectVersion>,
    /// The requests that were made.
    pub records: Vec<Record>,
    /// What the call took.
    pub usage: Usage,
}

/// What was before this call.
#[derive(Default)]
pub struct Before {
    /// What is in the volume; empty on a first publish.
    pub mounted: Vec<ObjectVersion>,
    /// What the last call with the same identity and session key wanted to have back.
    pub session: Option<SecretBytes>,
}

/// Runs the plan until `deadline`. `now` is the only time that the provider sees; `lane` is where its requests stand when a
/// store wants fewer of them.
///
/// # Errors
///
/// [`Error::Provider`] and [`Error::Files`].
pub async fn fetch(
    plugin: &Plugin,
    plan: &Plan,
    before: Before,
    now: SystemTime,
    lane: Lane,
    deadline: Instant,
) -> Result<Fetched, Error> {
    let limits = plugin.ready.limits();
    let redactor = Redactor::default();
    let gate = Arc::new(plugin.egress.open(Caller {
        plugin: plan.provider.as_str().into(),
        digest: plugin.ready.digest().to_string().into(),
        pod: plan.pod.clone(),
        parameters: Arc::new(plan.parameters.clone()),
        node_identity: plan.node_identity,
        class: plan.class.as_str().into(),
        lane,
        limits: limits.egress.clone(),
        deadline: deadline - margin(deadline.duration_since(Instant::now())),
        redactor: redactor.clone(),
    }));
    let call = Call { outbound: gate.clone(), redactor, deadline };
    let mounted = before.mounted.clone();
    let called = plugin.ready.mount(&request(plan, before, now), call).await;
    let records = gate.records();
    match called.result {
        Ok(outcome) => {
            let (files, versions, objects, session) = check(plugin, plan, outcome)?;
            let (pod, usage) = (plan.pod.clone(), called.usage);
            Ok(Fetched { files, versions, objects, session, pod, mounted, records, usage })
        }
        Err(source) => {
            let (class, source) = (plan.class.clone(), Box::new(source));
            Err(Error::Provider { class, source, records, usage: Box::new(called.usage) })
        }
    }
}

/// What came out of the sandbox, checked.
type Content = (Option<FileSet>, BTreeMap<String, String>, Vec<ObjectVersion>, Option<Session>);

fn check(plugin: &Plugin, plan: &Plan, outcome: Outcome) -> Result<Content, Error> {
    let Outcome { mounted, session } = outcome;
    let is_newer = mounted.is_some();
    let Mounted { files, objects } = mounted.unwrap_or(Mounted { files: Vec::new(), objects: Vec::new() });
    let versions = pair_versions(files.iter().map(|file| file.path.as_str()), &objects);
    let files = files.into_iter().map(|file| NewFile { path: file.path, mode: file.mode, contents: file.contents });
    let files = FileSet::new(files, plan.default_mode, &volume_limits(plugin)).map_err(|source| Error::Files {
        class: plan.class.clone(),
        plugin: plan.provider.clone(),
        source,
    })?;
    Ok((is_newer.then_some(files), versions, objects, session))
}

/// How much a volume of this plugin may hold.
#[must_use]
pub fn volume_limits(plugin: &Plugin) -> volume::Limits {
    let limits = plugin.ready.limits();
    volume::Limits { files: limits.files, folders: limits.files, bytes: limits.file_bytes }
}

/// Requests end this much before the call does, so that the provider has the time to say which of them got no answer.
fn margin(time: Duration) -> Duration {
    (time / 10).min(LONGEST_MARGIN)
}

fn request(plan: &Plan, before: Before, now: SystemTime) -> Request {
    let token = |token: &ServiceAccountToken| ServiceAccountToken {
        audience: token.audience.clone(),
        token: token.token.duplicate(),
        expires: token.expires,
    };
    Request {
        pod: plan.pod.clone(),
        parameters: plan.parameters.clone(),
        secrets: plan.secrets.iter().map(|(key, value)| (key.clone(), value.duplicate())).collect(),
        tokens: plan.tokens.iter().map(token).collect(),
        config: plan.config.clone(),
        default_mode: plan.default_mode,
        mounted: before.mounted,
        session: before.session,
        now,
        entropy: rand::random(),
    }
}

/// The contract does not tie objects to files. A provider that lists as many of one as of the other means them in the
/// same order; where it does not, no file gets a version.
fn pair_versions<'a>(
    paths: impl ExactSizeIterator<Item = &'a str>,
    objects: &[ObjectVersion],
) -> BTreeMap<String, String> {
    if paths.len() != objects.len() {
        return BTreeMap::new();
    }
    paths.zip(objects).map(|(path, object)| (path.to_owned(), object.version.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str) -> ObjectVersion {
        ObjectVersion { id: "o".into(), version: version.into() }
    }

    #[test]
    fn versions_belong_to_files_only_where_both_are_as_many() {
        let objects = [object("1"), object("2")];
        let paired = pair_versions(["b", "a"].into_iter(), &objects);
        assert_eq!((paired["b"].as_str(), paired["a"].as_str()), ("1", "2"));
        assert!(pair_versions(["a"].into_iter(), &objects).is_empty());
    }
}
