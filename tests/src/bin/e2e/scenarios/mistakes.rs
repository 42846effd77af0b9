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
    for (name, words) in [
        ("no-class", &["FailedMount", "forgotten", "SecretProviderClass"][..]),
        ("no-secret", &["FailedMount", "there-is-no-such-secret"]),
        ("no-credentials", &["FailedMount", "nodePublishSecretRef"]),
        ("no-vault", &["FailedMount", "vault-of-nobody"]),
    ] {
        let mut told = String::new();
        let is_told = async || {
            told = cluster.kubectl(&["describe", "pod", name, "-n", NAME]).await?;
            let (_, events) = told.split_once("\nEvents:").unwrap_or_default();
            Ok(words.iter().all(|word| events.contains(word)))
        };
        let waited = until(&format!("{words:?} of pod {name}"), PATIENCE, is_told).await;
        waited.map_err(|error| error.context(format!("`kubectl describe pod` says\n{told}")))?;
    }

    cluster.apply(&pod::class(NAME, "forgotten", &[NAME], &[]).to_string()).await?;
    world.vault.secret("there-is-no-such-secret").set("now there is");
    cluster.running(NAME, "no-class").await?;
    cluster.running(NAME, "no-secret").await?;
    cluster.file_becomes(NAME, "no-class", &format!("{}/{NAME}", pod::FOLDER), "right").await?;
    cluster.delete_pods(NAME).await
}
