//! Which metrics there are: names, help, labels, buckets.
//!
//! A label's text is from `known` or from the code. The encoder appends `_total` to counters and a full stop to
//! help.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Tools may match on these, which the reference's exporter adds.
const SCOPE: [(&str, &str); 3] = [
    ("otel_scope_name", "sigs.k8s.io/secrets-store-csi-driver"),
    ("otel_scope_version", ""),
    ("otel_scope_schema_url", ""),
];

type Counters<L> = Family<L, Counter>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Provider {
    pub(super) provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Failed {
    pub(super) provider: Arc<str>,
    pub(super) error_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Rotated {
    pub(super) provider: Arc<str>,
    pub(super) rotated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RotationFailed {
    pub(super) provider: Arc<str>,
    pub(super) error_type: &'static str,
    pub(super) rotated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Part {
    pub(super) stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Call {
    pub(super) provider: Arc<str>,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Egress {
    pub(super) provider: Arc<str>,
    pub(super) rule: Arc<str>,
    pub(super) status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Rule {
    pub(super) provider: Arc<str>,
    pub(super) rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Api {
    pub(super) verb: &'static str,
    pub(super) resource: &'static str,
    pub(super) code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// The series of the Secrets Store CSI Driver, byte for byte.
pub(super) struct Reference {
    pub(super) publish: Counters<Provider>,
    pub(super) publish_error: Counters<Failed>,
    pub(super) unpublish: Counter,
    pub(super) unpublish_error: Counter,
    pub(super) rotation: Counters<Rotated>,
    pub(super) rotation_error: Counters<RotationFailed>,
    pub(super) rotation_duration: Histogram,
    pub(super) sync: Counters<Provider>,
    pub(super) sync_duration: Histogram,
}

impl Reference {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let constant = SCOPE.into_iter().chain([("os_type", std::env::consts::OS)]);
        let registry = registry.sub_registry_with_labels(constant.map(|(name, value)| (name.into(), value.into())));
        let reference = Self {
            publish: counters(registry, "node_publish", "Total number of node publish calls"),
            publish_error: counters(registry, "node_publish_error", "Total number of node publish calls with error"),
            unpublish: Counter::default(),
            unpublish_error: Counter::default(),
            rotation: counters(registry, "rotation_reconcile", "Total number of rotation reconciles"),
            rotation_error: counters(
                registry,
                "rotation_reconcile_error",
                "Total number of rotation reconciles with error",
            ),
            rotation_duration: seconds_of_network(),
            sync: counters(registry, "sync_k8s_secret", "Total number of Kubernetes Secrets written"),
            sync_duration: seconds_of_network(),
        };
        registry.register(
            "k8s_secret_duration_sec",
            "How long it took to write a Kubernetes Secret, in seconds",
            reference.sync_duration.clone(),
        );
        registry.register("node_unpublish", "Total number of node unpublish calls", reference.unpublish.clone());
        registry.register(
            "node_unpublish_error",
            "Total number of node unpublish calls with error",
            reference.unpublish_error.clone(),
        );
        registry.register(
            "rotation_reconcile_duration_sec",
            "How long rotation reconciles took, in seconds",
            reference.rotation_duration.clone(),
        );
        reference
    }
}

/// Our own.
pub(super) struct Own {
    pub(super) stage: Histograms<Part>,
    refresh: Histograms<Outcome>,
    pub(super) call: Histograms<Call>,
    pub(super) cpu: Family<Provider, Counter<f64, AtomicU64>>,
    pub(super) memory: Histograms<Provider>,
    pub(super) egress: Counters<Egress>,
    pub(super) egress_seconds: Histograms<Rule>,
    pub(super) shared: Counters<Provider>,
    pub(super) offline: Counters<Provider>,
    pub(super) api: Counters<Api>,
    pub(super) secrets: Counters<Outcome>,
}

impl Own {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("coffer_build_info", "The version that runs", build);
        let registry = registry.sub_registry_with_prefix("coffer");
        let own = Self {
            stage: histograms(registry, "publish_stage_seconds", "How long a part of a publish took", seconds),
            refresh: histograms(registry, "refresh_seconds", "How long a refresh took", seconds),
            call: histograms(registry, "plugin_call_seconds", "How long a call of a provider took", seconds),
            cpu: Family::default(),
            memory: histograms(registry, "plugin_memory_bytes", "The largest memory of a call of a provider", bytes),
            egress: counters(registry, "egress_requests", "Requests of providers"),
            egress_seconds: histograms(
                registry,
                "egress_seconds",
                "How long a request of a provider took, retries included",
                seconds,
            ),
            shared: counters(registry, "shared_results", "Publishes that got the result of another one's call"),
            offline: counters(registry, "offline_starts", "Volumes that were mounted from a kept result"),
            api: counters(registry, "api_requests", "Requests to the Kubernetes API"),
            secrets: counters(registry, "synced_secrets", "Kubernetes Secrets that were to be written"),
        };
        registry.register("plugin_cpu_seconds", "Processor time of providers", own.cpu.clone());
        own
    }

    pub(super) fn refresh(&self, outcome: &'static str, duration: Duration) {
        self.refresh.get_or_create(&Outcome { outcome }).observe(duration.as_secs_f64());
    }
}

fn counters<L>(registry: &mut Registry, name: &str, help: &str) -> Counters<L>
where
    L: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

fn histograms<L>(registry: &mut Registry, name: &str, help: &str, new: fn() -> Histogram) -> Histograms<L>
where
    L: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Histograms::new_with_constructor(new);
    registry.register(name, help, family.clone());
    family
}

/// 1 ms to 131 s: from what a lock or a warm call takes to longer than kubelet waits, which is two minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 18))
}

/// 5 ms to 164 s. The reference's go from 100 ms to 2 s, though its authors meant minutes.
fn seconds_of_network() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 16))
}

/// 1 MiB to 256 MiB.
fn bytes() -> Histogram {
    Histogram::new(exponential_buckets(1_048_576.0, 2.0, 9))
}
