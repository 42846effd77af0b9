//! What a cluster has to show, one file for each thing that a user does. The order is that of [`ALL`].

mod chart;
mod crowd;
mod dashboard;
mod identity;
mod install;
mod manifests;
mod migration;
mod mistakes;
mod reinstall;
mod restarts;
mod rotation;
mod sanity;
mod start;
mod sync;
mod upgrade;
mod walk_through;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use super::world::World;

/// What a scenario is while it runs.
type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

pub(crate) struct Scenario {
    /// For the command line and for folders.
    pub(crate) name: &'static str,
    pub(crate) sentence: &'static str,
    /// Without it no other makes sense.
    pub(crate) needed: bool,
    pub(crate) run: fn(&World) -> Running<'_>,
}

macro_rules! scenario {
    ($name:literal, $sentence:literal, $needed:literal, $run:path) => {
        Scenario { name: $name, sentence: $sentence, needed: $needed, run: |world| Box::pin($run(world)) }
    };
}

pub(crate) const ALL: &[Scenario] = &[
    scenario!("install", "It is installed and ready, and kubelet knows it", true, install::run),
    scenario!(
        "walk-through",
        "The walk-through for Arc-enabled Kubernetes works word for word",
        false,
        walk_through::run
    ),
    scenario!("rotation", "A running pod sees a secret that changed in the vault", false, rotation::run),
    scenario!("sync", "Files become a Secret that the same pod reads as an environment variable", false, sync::run),
    scenario!("identity", "A pod gets its secrets with nothing but its service account", false, identity::run),
    scenario!(
        "mistakes",
        "`kubectl describe pod` says what is wrong, and the pod starts once it is right",
        false,
        mistakes::run
    ),
    scenario!(
        "driver-killed",
        "The driver is killed and its pod deleted; volumes stay and go on",
        false,
        restarts::driver
    ),
    scenario!(
        "kubelet-restarted",
        "kubelet is killed and starts again; volumes stay and go on",
        false,
        restarts::kubelet
    ),
    scenario!("reinstall", "It is uninstalled and installed while pods run", false, reinstall::run),
    scenario!("manifests", "The manifests of deploy/ are enough, too, and take over what runs", false, manifests::run),
    scenario!(
        "migration",
        "A volume of the Secrets Store CSI Driver is taken over while its pod runs",
        false,
        migration::run
    ),
    scenario!("upgrade", "The chart's next version is rolled out while a pod runs", false, upgrade::run),
    scenario!("chart", "A second release is refused, and a deleted definition comes back", false, chart::run),
    scenario!("dashboard", "Every metric of the dashboard and the alerts is there", false, dashboard::run),
    scenario!("start", "What the volume adds to the start of a pod is measured", false, start::run),
    scenario!("crowd", "Thirty pods at once get their secrets", false, crowd::run),
    scenario!("sanity", "csi-sanity is content, the specs of publishing included", false, sanity::run),
];
