//! Asks the provider, and checks what it hands back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coffer_sandbox::egress::{Caller, Record};
use coffer_sandbox::error::{Cause, Stage};
use coffer_sandbox::instance::{Call, Usage};
use coffer_sandbox::provider::{Mounted, ObjectVersion, Request};
use coffer_sandbox::redact::Redactor;
use tokio::time::Instant;

use super::Error;
use super::plan::Plan;
use crate::app::Plugin;
use crate::volume::{self, FileSet, NewFile};

/// Enough for any provider to put an error into words.
const LONGEST_MARGIN: Duration = Duration::from_millis(500);

/// What the provider handed back, checked.
pub struct Fetched {
    /// The whole content of the volume.
    pub files: FileSet,
    /// The version of the object behind a file, by path, where the provider tells.
    pub versions: BTreeMap<String, String>,
    /// Every object and its version.
    pub objects: Vec<ObjectVersion>,
    /// The requests that were made.
    pub records: Vec<Record>,
    /// What the call took.
    pub usage: Usage,
}

/// Runs the plan. `now` is the only time that the provider sees.
///
/// # Errors
///
/// [`Error::Provider`] and [`Error::Files`].
pub async fn fetch(plugin: &Plugin, plan: Plan, now: SystemTime) -> Result<Fetched, Error> {
    let limits = plugin.ready.limits().clone();
    let redactor = Redactor::default();
    let deadline = Instant::now() + plan.deadline;
    let gate = Arc::new(plugin.egress.open(Caller {
        plugin: plan.provider.as_str().into(),
        digest: plugin.ready.digest().to_string().into(),
        pod: plan.pod.clone(),
        parameters: Arc::new(plan.parameters.clone()),
        limits: limits.egress.clone(),
        deadline: deadline - margin(plan.deadline),
        redactor: redactor.clone(),
    }));
    let (class, provider) = (plan.class.clone(), plan.provider.clone());
    let default_mode = plan.default_mode;
    let called = plugin.ready.mount(&request(plan, now), Call { outbound: gate.clone(), redactor, deadline }).await;
    let records = gate.records();
    let outcome = match called.result {
        Ok(outcome) => outcome,
        Err(source) => return Err(Error::Provider { class, source: Box::new(source), records }),
    };
    let Some(Mounted { files, objects }) = outcome.mounted else {
        let cause = Cause::Answer { message: "`unchanged` for a volume that has nothing in it yet".into() };
        let source = Box::new(coffer_sandbox::error::Error { plugin: provider, stage: Stage::Mount, cause });
        return Err(Error::Provider { class, source, records });
    };
    let versions = pair_versions(files.iter().map(|file| file.path.as_str()), &objects);
    let volume_limits = volume::Limits { files: limits.files, folders: limits.files, bytes: limits.file_bytes };
    let files = files.into_iter().map(|file| NewFile { path: file.path, mode: file.mode, contents: file.contents });
    let files = FileSet::new(files, default_mode, &volume_limits).map_err(|source| Error::Files {
        class,
        plugin: provider,
        source,
    })?;
    Ok(Fetched { files, versions, objects, records, usage: called.usage })
}

/// Requests end this much before the call does, so that the provider has the time to say which of them got no answer.
fn margin(time: Duration) -> Duration {
    (time / 10).min(LONGEST_MARGIN)
}

fn request(plan: Plan, now: SystemTime) -> Request {
    Request {
        pod: plan.pod,
        parameters: plan.parameters,
        secrets: plan.secrets,
        tokens: Vec::new(),
        config: plan.config,
        default_mode: plan.default_mode,
        mounted: Vec::new(),
        session: None,
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
