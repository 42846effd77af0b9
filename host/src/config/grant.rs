//! What an administrator allows a provider.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_sandbox::egress::{RuleSettings, UserAgentSuffix};
use coffer_sandbox::limits::Limits;

use super::document::{self, Digest, Text};
use super::{Error, read_certificates};
use crate::mistake::{Mistake, Mistakes, Position};

/// The grant of one provider.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The component file.
    pub file: PathBuf,
    /// The only content that is accepted, if pinned.
    pub digest: Option<Digest>,
    /// The requests it may send.
    pub rules: Vec<RuleSettings>,
    /// What is appended to the `User-Agent` of its requests.
    pub user_agent_suffix: Option<UserAgentSuffix>,
    /// Parameters that lie under those of each class.
    pub parameters: BTreeMap<String, String>,
    /// Files that a class may name, by the name it uses.
    pub config_files: BTreeMap<String, PathBuf>,
    /// What one call may use.
    pub limits: Limits,
}

impl Grant {
    /// Makes the grant of what a file says, on top of what was granted before. Paths are relative to `base`; `position`
    /// is where the provider stands.
    pub(super) fn read(
        provider: document::Provider,
        position: Position,
        base: &Path,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let (file, digest) = match (provider.plugin, before) {
            (Some(plugin), _) => (base.join(plugin.file), plugin.digest.map(|Text(digest)| digest)),
            (None, Some(before)) => (before.file.clone(), before.digest),
            (None, None) => {
                let help = String::from("name its component: `plugin: {file: …}`");
                return Err(Mistakes::from(Mistake::at(position, "this provider has no `plugin`").help(help)).into());
            }
        };
        let rules = match (provider.egress, before) {
            (Some(rules), _) => rules.into_iter().map(|rule| read_rule(rule, base)).collect::<Result<_, _>>()?,
            (None, Some(before)) => before.rules.clone(),
            (None, None) => Vec::new(),
        };
        let suffix = provider.user_agent_suffix.map(|Text(suffix)| suffix);
        let user_agent_suffix = suffix.or_else(|| before.and_then(|before| before.user_agent_suffix.clone()));
        let parameters = provider.parameters.or_else(|| before.map(|before| before.parameters.clone()));
        let config_files = match (provider.config_files, before) {
            (Some(files), _) => files.into_iter().map(|(name, file)| (name, base.join(file))).collect(),
            (None, Some(before)) => before.config_files.clone(),
            (None, None) => BTreeMap::new(),
        };
        let mut limits = before.map(|before| before.limits.clone()).unwrap_or_default();
        apply_limits(&mut limits, &provider.limits.unwrap_or_default());
        let parameters = parameters.unwrap_or_default();
        Ok(Self { file, digest, rules, user_agent_suffix, parameters, config_files, limits })
    }
}

fn read_rule(rule: document::Rule, base: &Path) -> Result<RuleSettings, Error> {
    let document::Rule { rule, details } = rule;
    let mut ca = Vec::new();
    for file in &details.ca {
        ca.extend(read_certificates(&base.join(file))?);
    }
    Ok(RuleSettings {
        rule,
        when: details.when,
        connect: details.connect,
        server_name: details.server_name,
        ca,
        proxy: details.proxy.map(|proxy| proxy.0),
    })
}

fn apply_limits(limits: &mut Limits, said: &document::Limits) {
    fn set<T>(limit: &mut T, said: Option<T>) {
        if let Some(said) = said {
            *limit = said;
        }
    }
    let size = |size: Option<crate::units::Size>| size.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
    let bytes = |size: Option<crate::units::Size>| size.map(|size| size.0);
    let time = |span: Option<crate::units::Span>| span.map(|span| span.0);
    set(&mut limits.component, size(said.component));
    set(&mut limits.compile_time, time(said.compile_time));
    set(&mut limits.compile_memory, bytes(said.compile_memory));
    set(&mut limits.memory, size(said.memory));
    set(&mut limits.table_elements, said.table_elements);
    set(&mut limits.cpu, time(said.cpu));
    set(&mut limits.deadline, time(said.deadline));
    set(&mut limits.egress.requests, said.requests);
    set(&mut limits.egress.concurrent, said.concurrent_requests);
    set(&mut limits.egress.bytes_out, bytes(said.bytes_out));
    set(&mut limits.egress.bytes_in, bytes(said.bytes_in));
    set(&mut limits.egress.response, size(said.response));
    set(&mut limits.files, said.files);
    set(&mut limits.file_bytes, size(said.file_bytes));
    set(&mut limits.objects, said.objects);
    set(&mut limits.session, size(said.session));
    set(&mut limits.message, size(said.message));
    set(&mut limits.log_lines, said.log_lines);
}
