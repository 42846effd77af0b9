//! Every metric that the dashboard and the alerts use is in a real scrape, once something of every kind has happened.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::cluster::{PATIENCE, until};
use crate::driver::NAMESPACE;
use crate::pod;
use crate::world::World;

const NAME: &str = "dashboard";
/// How the names of metrics begin; `make chart` makes sure that no query uses another one.
const BEGINNINGS: [&str; 7] =
    ["coffer_", "node_publish", "node_unpublish", "rotation_", "sync_k8s_", "k8s_secret_", "process_"];
const ENDS: [&str; 4] = ["_bucket", "_sum", "_count", "_total"];

pub(crate) async fn run(world: &World) -> Result<()> {
    let (cluster, driver) = (&world.cluster, &world.driver);
    let chart = &driver.chart;
    world.stage(NAME, "value").await?;
    // What is equal is fetched once for both.
    cluster.create(NAME, pod::with_volume("web", "secrets")).await?;
    cluster.create(NAME, pod::with_volume("twin", "secrets")).await?;
    cluster.create(NAME, pod::with_volume("wrong", "forgotten")).await?;
    cluster.running(NAME, "web").await?;
    cluster.running(NAME, "twin").await?;
    let name = driver.pod(cluster).await?.name;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8095/proxy/metrics");
    let scrape = async || cluster.kubectl(&["get", "--raw", &path]).await;
    let happened = async |name: &str| {
        until(&format!("{name} in the metrics"), PATIENCE, async || {
            let text = scrape().await?;
            Ok(text.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0")))
        })
        .await
    };
    happened("node_publish_error_total").await?;
    happened("rotation_reconcile_total").await?;
    world.vault.firewalled(true);
    happened("rotation_reconcile_error_total").await?;
    world.vault.firewalled(false);
    let before = scrape().await?;
    cluster.delete_pods(NAME).await?;

    let text = before + &scrape().await?;
    let there: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(stem)
        .collect();
    let shown = chart.display().to_string();
    // Rules need a definition that the cluster does not have.
    let rules = ["template", "coffer", &shown, "--set", "prometheusRule.enabled=true"];
    let rules = [&rules[..], &["--kube-version", "1.35", "--api-versions", "monitoring.coreos.com/v1"]].concat();
    let rules = cluster.command("helm", &rules, "").await?.ok()?;
    let dashboard = std::fs::read_to_string(chart.join("dashboards/coffer.json"))?;
    let expressions =
        |text: &str| -> Vec<String> { text.lines().filter(|line| line.contains("expr")).map(str::to_owned).collect() };
    let used = [expressions(&rules), expressions(&dashboard)].concat().join("\n");
    let words = used.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let used: BTreeSet<&str> =
        words.filter(|word| BEGINNINGS.iter().any(|beginning| word.starts_with(beginning))).map(stem).collect();
    ensure!(used.len() > 15, "dashboard and rules use only {used:?}");
    let missing: Vec<_> = used.difference(&there).collect();
    ensure!(missing.is_empty(), "dashboard or rules use what nobody has: {missing:?}; there is {there:?}");
    world.figures.tell("metrics of dashboard and alerts, found in a scrape", used.len().to_string());
    Ok(())
}

fn stem(name: &str) -> &str {
    ENDS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}
