//! A secret changes in the vault, then the class changes, then the vault cannot be reached.

use anyhow::{Result, ensure};
use coffer_tests::harness::Kind;

use crate::cluster::{PATIENCE, until};
use crate::pod;
use crate::world::World;

const NAME: &str = "rotation";

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    world.stage(NAME, "before").await?;
    cluster.create(NAME, pod::with_volume("web", "secrets")).await?;
    cluster.running(NAME, "web").await?;
    let file = format!("{}/{NAME}", pod::FOLDER);
    cluster.file_becomes(NAME, "web", &file, "before").await?;

    world.vault.secret(NAME).set("after");
    cluster.file_becomes(NAME, "web", &file, "after").await?;

    world.vault.secret("rotation-second").set("of the edited class");
    let edited = pod::class(NAME, "secrets", &[NAME, "rotation-second"], &[]);
    cluster.apply(&edited.to_string()).await?;
    let second = format!("{}/rotation-second", pod::FOLDER);
    until("a file of the edited class", PATIENCE, async || {
        Ok(cluster.exec(NAME, "web", &["ls", pod::FOLDER]).await?.contains("rotation-second"))
    })
    .await?;
    cluster.file_becomes(NAME, "web", &second, "of the edited class").await?;

    world.vault.firewalled(true);
    world.vault.secret(NAME).set("behind the firewall");
    let told = until("the event MountRotationFailed", PATIENCE, async || {
        Ok(cluster.kubectl(&["describe", "pod", "web", "-n", NAME]).await?.contains("MountRotationFailed"))
    });
    told.await?;
    cluster.file_becomes(NAME, "web", &file, "after").await?;
    world.vault.firewalled(false);
    cluster.file_becomes(NAME, "web", &file, "behind the firewall").await?;

    ensure!(world.emulator.counters().of(Kind::GetSecret) > 2, "the vault was hardly asked");
    cluster.delete_pods(NAME).await
}
