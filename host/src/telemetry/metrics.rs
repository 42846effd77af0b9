//! The metrics of `coffer node`: those of the Secrets Store CSI Driver by their names, and our own.
//! `docs/operations.md` lists all of them; a test compares.
//!
//! Every label has a bounded set of values, whatever a pod, a class or a vault says: names of providers and rules
//! come from the configuration, everything else from closed sets in the code. No label holds the name of a secret, a
//! pod or a class. Whoever does the work is the caller; `health` shows the result.

mod families;
mod known;
mod process;
mod scrape;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coffer_sandbox::egress::{Ending, Pace, Record};
use coffer_sandbox::instance::Usage;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use families::{Own, Reference};
use known::Known;
use scrape::Scraped;
pub use scrape::Volumes;

/// All metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    known: Known,
    reference: Reference,
    own: Own,
    scraped: Scraped,
}

/// A part of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for the volume's lock.
    Lock,
    /// Reading the class.
    Class,
    /// Waiting for the plugin to be loaded.
    Plugin,
    /// `check`, the share and the provider's call.
    Fetch,
    /// Mounting and writing.
    Write,
    /// Everything.
    Total,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Class => "class",
            Self::Plugin => "plugin",
            Self::Fetch => "fetch",
            Self::Write => "write",
            Self::Total => "total",
        }
    }
}

impl Metrics {
    /// `providers` are the configured ones: no other name becomes a label. Every rule is called `other`.
    #[must_use]
    pub fn new(providers: impl IntoIterator<Item = String>) -> Self {
        Self::with_rules(providers.into_iter().map(|provider| (provider, Vec::new())))
    }

    /// The configured providers, each with the texts of its rules: no other name, and no other rule, becomes a label.
    #[must_use]
    pub fn with_rules(providers: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let mut registry = Registry::default();
        let reference = Reference::register(&mut registry);
        let own = Own::register(&mut registry);
        let scraped = Scraped::register(&mut registry);
        Self(Arc::new(Inner { registry, known: Known::new(providers), reference, own, scraped }))
    }

    /// A NodePublishVolume that worked. A provider that is not known yet is empty, here and below.
    pub fn published(&self, provider: &str) {
        self.0.reference.publish.get_or_create(&families::Provider { provider: self.provider(provider) }).inc();
    }

    /// A NodePublishVolume that failed, whether kubelet was told or not. `reason` is from a closed set.
    pub fn publish_failed(&self, provider: &str, reason: &'static str) {
        let labels = families::Failed { provider: self.provider(provider), error_type: or_unnamed(reason) };
        self.0.reference.publish_error.get_or_create(&labels).inc();
    }

    /// A NodeUnpublishVolume that worked.
    pub fn unpublished(&self) {
        self.0.reference.unpublish.inc();
    }

    /// A NodeUnpublishVolume that failed.
    pub fn unpublish_failed(&self) {
        self.0.reference.unpublish_error.inc();
    }

    /// A refresh that asked the provider and worked.
    pub fn refreshed(&self, provider: &str, changed: bool, duration: Duration) {
        let Inner { reference, own, .. } = &*self.0;
        let labels = families::Rotated { provider: self.provider(provider), rotated: changed };
        reference.rotation.get_or_create(&labels).inc();
        reference.rotation_duration.observe(duration.as_secs_f64());
        own.refresh(if changed { "changed" } else { "unchanged" }, duration);
    }

    /// A refresh that failed. Its duration is not in the reference's histogram, as in the reference.
    pub fn refresh_failed(&self, provider: &str, reason: &'static str, duration: Duration) {
        let Inner { reference, own, .. } = &*self.0;
        let provider = self.provider(provider);
        let labels = families::RotationFailed { provider, error_type: or_unnamed(reason), rotated: false };
        reference.rotation_error.get_or_create(&labels).inc();
        own.refresh("failed", duration);
    }

    /// A Kubernetes Secret that was written.
    pub fn secret_synced(&self, provider: &str, duration: Duration) {
        let Inner { reference, own, .. } = &*self.0;
        reference.sync.get_or_create(&families::Provider { provider: self.provider(provider) }).inc();
        reference.sync_duration.observe(duration.as_secs_f64());
        own.secrets.get_or_create(&families::Outcome { outcome: "written" }).inc();
    }

    /// A Kubernetes Secret that could not be written; `outcome` is from a closed set.
    pub fn secret_not_synced(&self, outcome: &'static str) {
        self.0.own.secrets.get_or_create(&families::Outcome { outcome }).inc();
    }

    /// How long a part of a publish took.
    pub fn stage(&self, stage: Stage, duration: Duration) {
        let labels = families::Part { stage: stage.name() };
        self.0.own.stage.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// A call of a provider. `outcome` is `ok` or a reason.
    pub fn called(&self, provider: &str, outcome: &'static str, usage: &Usage, records: &[Record]) {
        let own = &self.0.own;
        let name = self.provider(provider);
        let labels = families::Call { provider: name.clone(), outcome: or_unnamed(outcome) };
        own.call.get_or_create(&labels).observe(usage.duration.as_secs_f64());
        let labels = families::Provider { provider: name.clone() };
        own.cpu.get_or_create(&labels).inc_by(usage.cpu.as_secs_f64());
        own.memory.get_or_create(&labels).observe(usage.memory as f64);
        for record in records {
            let rule = self.0.known.rule(provider, record.rule.as_deref());
            let labels = families::Egress { provider: name.clone(), rule, status: status(&record.ending) };
            own.egress.get_or_create(&labels).inc();
            let labels = families::Rule { provider: labels.provider, rule: labels.rule };
            own.egress_seconds.get_or_create(&labels).observe(record.duration.as_secs_f64());
        }
    }

    /// A publish that got the result of somebody else's call.
    pub fn shared(&self, provider: &str) {
        self.0.own.shared.get_or_create(&families::Provider { provider: self.provider(provider) }).inc();
    }

    /// A volume that was mounted from a kept result.
    pub fn offline_started(&self, provider: &str) {
        self.0.own.offline.get_or_create(&families::Provider { provider: self.provider(provider) }).inc();
    }

    /// Who knows about the volumes; asked at every scrape, so it must be quick.
    pub fn set_source(&self, source: impl Fn() -> Volumes + Send + Sync + 'static) {
        self.0.scraped.set_source(source);
    }

    /// What is known of the hosts that plugins ask; looked at at every scrape.
    pub fn set_pace(&self, pace: Pace) {
        self.0.scraped.set_pace(pace);
    }

    /// A call to the Kubernetes API: `get`, `patch`, `create`; the resource; the status code, or `error`.
    pub fn api(&self, verb: &'static str, resource: &'static str, code: &str) {
        let status = code.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        let code = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        self.0.own.api.get_or_create(&families::Api { verb, resource, code }).inc();
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut encoded, &self.0.registry);
        encoded
    }

    /// The same in Prometheus' older text format, where the suffix `_total` belongs to the name of a counter.
    #[must_use]
    pub fn encode_plain(&self) -> String {
        let encoded = self.encode();
        let counter = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
        let counters: BTreeSet<String> = encoded.lines().filter_map(counter).collect();
        let mut plain = String::with_capacity(encoded.len());
        for line in encoded.lines().filter(|line| *line != "# EOF") {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(name) => {
                    plain.extend(["# ", kind, " ", name, "_total ", rest, "\n"]);
                }
                _ => plain.extend([line, "\n"]),
            }
        }
        plain
    }

    fn provider(&self, name: &str) -> Arc<str> {
        self.0.known.provider(name)
    }
}

/// The reference leaves some errors without a type.
fn or_unnamed(reason: &'static str) -> &'static str {
    if reason.is_empty() { "Unknown" } else { reason }
}

/// The class of a status, as a store may answer any number; the four that tell what to do stand for themselves.
fn status(ending: &Ending) -> &'static str {
    match ending {
        Ending::Failed(error) => error.kind(),
        Ending::Status(401) => "401",
        Ending::Status(403) => "403",
        Ending::Status(404) => "404",
        Ending::Status(429) => "429",
        Ending::Status(status) => match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        },
    }
}
