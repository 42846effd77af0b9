//! What somebody sees who made a mistake, and that correcting it is enough.

use anyhow::Result;

use crate::cluster::{PATIENCE, until};
use crate::pod;
use crate::world::World;

const NAME: &str = "mistakes";

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    world.stage(NAME, "right").await?;
    let absent = pod::class(NAME, "absent", &["there-is-no-such-secret"], &[]);
    cluster.apply(&absent.to_string()).await?;
    let elsewhere = pod::class(NAME, "elsewhere", &[NAME], &[("keyvaultName", "vault-of-nobody")]);
    cluster.apply(&elsewhere.to_string()).await?;

    cluster.create(NAME, pod::with_volume("no-class", "forgotten")).await?;
    cluster.create(NAME, pod::with_volume("no-secret", "absent")).await?;
    cluster.create(NAME, pod::without_secret("no-credentials", "secrets", "default")).await?;
    cluster.create(NAME, pod::with_volume("no-vault", "elsewhere")).await?;
    // kubelet waits longer and longer between its tries, so what is to be mended is mended first.
    assert_told(world, "no-class", &["FailedMount", "mistakes/forgotten", "create it there"]).await?;
    assert_told(world, "no-secret", &["FailedMount", "there-is-no-such-secret", "check objectName"]).await?;
    cluster.apply(&pod::class(NAME, "forgotten", &[NAME], &[]).to_string()).await?;
    world.vault.secret("there-is-no-such-secret").set("now there is");
    cluster.running(NAME, "no-class").await?;
    cluster.running(NAME, "no-secret").await?;
    cluster.file_becomes(NAME, "no-class", &format!("{}/{NAME}", pod::FOLDER), "right").await?;

    assert_told(world, "no-credentials", &["FailedMount", "nodePublishSecretRef"]).await?;
    assert_told(world, "no-vault", &["FailedMount", "vault-of-nobody"]).await?;
    cluster.delete_pods(NAME).await
}

/// What `kubectl describe pod` says under Events.
async fn assert_told(world: &World, name: &str, words: &[&str]) -> Result<()> {
    let cluster = &world.cluster;
    let mut told = String::new();
    let is_told = async || {
        told = cluster.kubectl(&["describe", "pod", name, "-n", NAME]).await?;
        let (_, events) = told.split_once("\nEvents:").unwrap_or_default();
        Ok(words.iter().all(|word| events.contains(word)))
    };
    let waited = until(&format!("{words:?} of pod {name}"), PATIENCE, is_told).await;
    waited.map_err(|error| error.context(format!("`kubectl describe pod` says\n{told}")))
}
