//! Workload identity: no Secret at all; kubelet's token of the pod's service account is exchanged for one of the vault.
//!
//! The token is one that the cluster's API server signed. The emulator checks issuer, subject, audience and expiry.

use anyhow::{Result, ensure};
use coffer_tests::harness::Action;
use coffer_tests::harness::Collection;
use serde_json::json;

use crate::cluster::{PATIENCE, until};
use crate::pod;
use crate::world::World;

const NAME: &str = "identity";
const CLIENT: &str = "0b1f6b0e-1111-4f0b-a9a1-3f6f7d1f4b13";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIENCE: &str = "api://AzureADTokenExchange";

pub(crate) async fn run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    cluster.namespace(NAME).await?;
    let subject = format!("system:serviceaccount:{NAME}:shop");
    world.tenant.app(CLIENT).federate_unchecked(ISSUER, &subject, AUDIENCE);
    world.vault.allow(CLIENT, Collection::Secrets, &[Action::Get]);
    world.vault.secret(NAME).set("for the shop");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shop", "namespace": NAME}});
    cluster.apply(&account.to_string()).await?;
    cluster.apply(&pod::class(NAME, "secrets", &[NAME], &[("clientID", CLIENT)]).to_string()).await?;

    cluster.create(NAME, pod::without_secret("shop", "secrets", "shop")).await?;
    cluster.running(NAME, "shop").await?;
    cluster.file_becomes(NAME, "shop", &format!("{}/{NAME}", pod::FOLDER), "for the shop").await?;

    // Another service account of the namespace is nobody to the vault.
    cluster.create(NAME, pod::without_secret("other", "secrets", "default")).await?;
    until("that the other pod is refused", PATIENCE, async || {
        let told = cluster.kubectl(&["describe", "pod", "other", "-n", NAME]).await?;
        Ok(told.contains("FailedMount") && told.contains("AADSTS"))
    })
    .await?;
    let log = world.driver.log(cluster).await?;
    ensure!(!log.contains("eyJ"), "the driver's log holds a token");
    cluster.delete_pods(NAME).await
}
