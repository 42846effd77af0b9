//! What all scenarios have in common: the cluster, the driver, a vault behind the emulator.

use std::net::Ipv4Addr;

use anyhow::Result;
use coffer_tests::harness::entra::Tenant;
use coffer_tests::harness::vault::Vault;
use coffer_tests::harness::{Emulator, Settings};

use super::Args;
use super::cluster::Cluster;
use super::driver::Driver;
use super::figures::Figures;
use super::pod;

pub(crate) const VAULT: &str = "contoso-e2e";
pub(crate) const TENANT: &str = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be011";
pub(crate) const CLIENT_ID: &str = "5c1b6f0e-88a4-4f0b-a9a1-3f6f7d1f4b12";
pub(crate) const CLIENT_SECRET: &str = "e2e~client~secret~of~nobody";
/// The bridge of the cluster, which pods reach.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) driver: Driver,
    pub(crate) emulator: Emulator,
    pub(crate) tenant: Tenant,
    pub(crate) vault: Vault,
    pub(crate) figures: Figures,
}

impl World {
    pub(crate) async fn new(args: &Args) -> Result<Self> {
        let cluster = Cluster::connect(&args.state, &args.programs, &args.repository).await?;
        let emulator = Emulator::start(Settings { host: NODE, ..Settings::default() }).await?;
        let tenant = emulator.tenant(TENANT);
        tenant.app(CLIENT_ID).secret(CLIENT_SECRET);
        let vault = tenant.vault(VAULT);
        vault.allow_all(CLIENT_ID).secret("DemoSecret").set("MyExampleSecret");
        let driver = Driver::new(
            args.image.clone(),
            args.repository.join("charts/coffer"),
            emulator.address(),
            emulator.ca_pem(),
        );
        Ok(Self { cluster, driver, emulator, tenant, vault, figures: Figures::default() })
    }

    /// A namespace with the service principal's Secret, and a class `secrets` with one secret of the vault, of the same
    /// name as the namespace.
    pub(crate) async fn stage(&self, namespace: &str, value: &str) -> Result<()> {
        self.cluster.namespace(namespace).await?;
        self.cluster.apply(&pod::credentials(namespace)).await?;
        self.vault.secret(namespace).set(value);
        self.cluster.apply(&pod::class(namespace, "secrets", &[namespace], &[]).to_string()).await
    }
}
