use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use coffer_sandbox::egress::Error;

use super::*;

/// The metrics' section is a promise.
const DOCUMENT: &str = include_str!("../../../../docs/operations.md");
const RULE: &str = r#"GET https://{keyvaultName}.vault.azure.net/?x="y\z""#;

/// One line that is no comment.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a sample as a scraper does, and panics where a scraper would refuse it.
fn parse(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, mut rest) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        None => (series, ""),
    };
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => value.push(chars.next().unwrap().1),
                (_, c) => value.push(c),
            }
        };
        assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        assert!(labels.insert(key.to_owned(), value).is_none(), "twice in {line}");
        rest = after.split_at(end).1.trim_start_matches('"').trim_start_matches(',');
    }
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap() }
}

fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

fn metrics() -> Metrics {
    Metrics::with_rules([("azure".to_owned(), vec![RULE.to_owned()])])
}

fn usage() -> Usage {
    Usage {
        duration: Duration::from_millis(30),
        queued: Duration::ZERO,
        http: Duration::from_millis(20),
        cpu: Duration::from_millis(1),
        memory: 2 << 20,
        log_lines_dropped: 0,
    }
}

fn record(rule: Option<&str>, ending: Ending) -> Record {
    Record {
        rule: rule.map(Into::into),
        method: "GET".into(),
        host: "kv.vault.azure.net".into(),
        path: "/secrets/name-of-a-secret".into(),
        ending,
        attempts: 1,
        bytes_out: 1,
        bytes_in: 1,
        duration: Duration::from_millis(20),
    }
}

/// Everything that can be recorded, by a provider of this name.
fn record_all(metrics: &Metrics, provider: &str) {
    metrics.published(provider);
    metrics.publish_failed(provider, "");
    metrics.unpublished();
    metrics.unpublish_failed();
    metrics.refreshed(provider, true, Duration::from_secs(1));
    metrics.refresh_failed(provider, "Unavailable", Duration::from_secs(1));
    metrics.stage(Stage::Lock, Duration::ZERO);
    let records = [
        record(Some(RULE), Ending::Status(200)),
        record(Some("GET https://elsewhere/"), Ending::Status(599)),
        record(None, Ending::Failed(Error::Denied("why".into()))),
    ];
    metrics.called(provider, "ok", &usage(), &records);
    metrics.shared(provider);
    metrics.offline_started(provider);
    metrics.set_source(|| Volumes { count: 1, oldest_check: Some(Duration::from_secs(1)), offline: 0 });
    metrics.api("get", "secretproviderclasses", "200");
    metrics.secret_synced(provider, Duration::from_secs(1));
    metrics.secret_not_synced("foreign");
}

#[test]
fn the_series_of_the_reference_have_its_names_and_labels_byte_for_byte() {
    let metrics = metrics();
    record_all(&metrics, "azure");
    let text = metrics.encode();
    let scope =
        "otel_scope_name=\"sigs.k8s.io/secrets-store-csi-driver\",otel_scope_version=\"\",otel_scope_schema_url=\"\"";
    let os = std::env::consts::OS;
    for line in [
        "node_publish_total{SCOPE,provider=\"azure\"} 1",
        "node_publish_error_total{SCOPE,provider=\"azure\",error_type=\"Unknown\"} 1",
        "node_unpublish_total{SCOPE} 1",
        "node_unpublish_error_total{SCOPE} 1",
        "rotation_reconcile_total{SCOPE,provider=\"azure\",rotated=\"true\"} 1",
        "rotation_reconcile_error_total{SCOPE,provider=\"azure\",error_type=\"Unavailable\",rotated=\"false\"} 1",
        "sync_k8s_secret_total{SCOPE,provider=\"azure\"} 1",
        "k8s_secret_duration_sec_count{SCOPE} 1",
        "rotation_reconcile_duration_sec_sum{SCOPE} 1.0",
        "rotation_reconcile_duration_sec_count{SCOPE} 1",
        "rotation_reconcile_duration_sec_bucket{le=\"+Inf\",SCOPE} 1",
        "# TYPE rotation_reconcile_duration_sec histogram",
    ] {
        let line = line.replace("SCOPE", &format!("{scope},os_type=\"{os}\""));
        let found = text.lines().any(|found| {
            found == line || (!found.starts_with('#') && !line.starts_with('#') && parse(found) == parse(&line))
        });
        assert!(found, "{line}\n{text}");
    }
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let metrics = metrics();
    record_all(&metrics, "azure");
    let text = metrics.encode_plain();
    let mut exposed = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        exposed.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
    }
    for Sample { name, labels, .. } in samples(&text) {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = bare.filter(|bare| exposed.contains_key(*bare)).unwrap_or(&name).to_owned();
        let labels = labels.into_keys().filter(|key| key != "le" && !key.starts_with("otel_scope_"));
        exposed.get_mut(&name).unwrap().1.extend(labels);
    }
    assert_eq!(documented(), exposed);
}

/// Name, type and labels from the tables below `## Metrics`.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|row| {
        let labels = row[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (row[1].clone(), (row[2].clone(), labels))
    })
    .collect()
}

#[test]
fn neither_names_nor_numbers_of_others_make_new_series() {
    let metrics = metrics();
    let count = || samples(&metrics.encode()).len();
    record_all(&metrics, "azure");
    record_all(&metrics, "");
    record_all(&metrics, "no such provider");
    let before = count();
    for number in 100..1_100_u16 {
        record_all(&metrics, &format!("azure{number}\"}} 1\nfake_total{{x=\""));
        metrics.api("get", "secretproviderclasses", &format!("{number}\n"));
        metrics.api("get", "secretproviderclasses", "error");
        let invented = format!("GET https://{number}/");
        let records = [record(Some(&invented), Ending::Status(number)), record(Some(RULE), Ending::Status(number))];
        metrics.called("azure", "ok", &usage(), &records);
    }
    // Ten labels of statuses for two rules, of which one had 2xx before and the other 5xx; and `error` of the API.
    assert_eq!(count() - before, 2 * 9 + 1);
    let text = metrics.encode();
    assert!(!text.contains("fake") && !text.contains("name-of-a-secret") && !text.contains("kv.vault"), "{text}");
}

#[test]
fn names_from_the_configuration_cannot_break_the_format() {
    let name = "a\"b\\c\nd";
    let metrics = Metrics::with_rules([(name.to_owned(), vec![RULE.to_owned()])]);
    record_all(&metrics, name);
    let samples = samples(&metrics.encode());
    let egress: Vec<_> = samples.iter().filter(|sample| sample.name == "coffer_egress_requests_total").collect();
    assert_eq!(egress.len(), 3);
    let rules: BTreeSet<_> = egress.iter().map(|sample| sample.labels["rule"].as_str()).collect();
    assert_eq!(rules, BTreeSet::from([RULE, "other", ""]));
    assert!(egress.iter().all(|sample| sample.labels["provider"] == "a\"b\\c d"), "{egress:?}");
}

#[test]
fn what_is_not_configured_is_unknown_and_what_is_not_known_yet_is_empty() {
    let metrics = Metrics::new(["azure".to_owned()]);
    for provider in ["azure", "vault", "gcp", ""] {
        metrics.published(provider);
    }
    let published = samples(&metrics.encode());
    let published = published.iter().filter(|sample| sample.name == "node_publish_total");
    let published: BTreeMap<_, _> = published.map(|sample| (sample.labels["provider"].clone(), sample.value)).collect();
    let expected = [("azure", 1.0), ("unknown", 2.0), ("", 1.0)].map(|(name, value)| (name.to_owned(), value));
    assert_eq!(published, BTreeMap::from(expected));
}

#[test]
fn an_egress_request_counts_by_rule_and_by_what_came_of_it() {
    let metrics = metrics();
    let endings = [
        (Ending::Status(200), "2xx"),
        (Ending::Status(302), "3xx"),
        (Ending::Status(400), "4xx"),
        (Ending::Status(401), "401"),
        (Ending::Status(403), "403"),
        (Ending::Status(404), "404"),
        (Ending::Status(429), "429"),
        (Ending::Status(503), "5xx"),
        (Ending::Status(0), "other"),
        (Ending::Failed(Error::Timeout), "timeout"),
    ];
    for (ending, status) in endings {
        metrics.called("azure", "ok", &usage(), &[record(Some(RULE), ending)]);
        let found = samples(&metrics.encode());
        assert!(
            found.iter().any(|sample| sample.labels.get("status").is_some_and(|found| found == status)),
            "{status}"
        );
    }
}

#[test]
fn openmetrics_ends_with_eof_and_the_older_format_has_total_in_the_names_of_counters() {
    let metrics = metrics();
    record_all(&metrics, "azure");
    let (new, old) = (metrics.encode(), metrics.encode_plain());
    assert!(new.ends_with("\n# EOF\n") && new.contains("# TYPE node_publish counter\n"), "{new}");
    assert!(!old.contains("EOF") && old.contains("# TYPE node_publish_total counter\n"), "{old}");
    assert!(old.contains("# HELP node_publish_total Total number of node publish calls.\n"), "{old}");
    assert!(old.contains("# TYPE process_cpu_seconds_total counter\n"), "{old}");
    assert!(old.contains("# TYPE coffer_volumes gauge\n"), "{old}");
    assert_eq!(samples(&new).len(), samples(&old).len());
}

#[test]
fn buckets_reach_beyond_what_kubelet_waits() {
    let metrics = metrics();
    record_all(&metrics, "azure");
    let bounds = |name: &str| {
        let samples = samples(&metrics.encode());
        let of_it = samples.iter().filter(|sample| sample.name == format!("{name}_bucket"));
        of_it.filter_map(|sample| sample.labels["le"].parse::<f64>().ok()).filter(|bound| bound.is_finite()).collect()
    };
    let rotation: Vec<f64> = bounds("rotation_reconcile_duration_sec");
    assert_eq!((rotation.first(), rotation.last(), rotation.len()), (Some(&0.005), Some(&163.84), 16));
    let stage: Vec<f64> = bounds("coffer_publish_stage_seconds");
    assert_eq!((stage.first(), stage.last()), (Some(&0.001), Some(&131.072)));
}

#[test]
fn volumes_and_their_age_are_those_of_the_scrape() {
    let metrics = metrics();
    let value = |name: &str| samples(&metrics.encode()).into_iter().find(|s| s.name == name).map(|s| s.value);
    assert_eq!((value("coffer_volumes"), value("coffer_refresh_age_seconds")), (Some(0.0), None));
    metrics.set_source(|| Volumes { count: 3, oldest_check: Some(Duration::from_secs(12)), offline: 0 });
    assert_eq!((value("coffer_volumes"), value("coffer_refresh_age_seconds")), (Some(3.0), Some(12.0)));
    metrics.set_source(|| Volumes { count: 2, oldest_check: None, offline: 0 });
    assert_eq!((value("coffer_volumes"), value("coffer_refresh_age_seconds")), (Some(2.0), None));
}

#[test]
fn the_process_is_described_by_what_the_kernel_says() {
    let samples = samples(&metrics().encode());
    let value = |name: &str| samples.iter().find(|sample| sample.name == name).unwrap().value;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = value("process_start_time_seconds");
    // The boot time is in whole seconds, and a test runs for less than an hour.
    assert!(started < now + 2.0 && started > now - 3_600.0, "{started} {now}");
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_cpu_seconds_total") > 0.0);
    let build = samples.iter().find(|sample| sample.name == "coffer_build_info").unwrap();
    assert_eq!((build.value, build.labels["version"].as_str()), (1.0, env!("CARGO_PKG_VERSION")));
}
