//! What is known about the driver: seen in time, told with what to do, and kept while nobody can be asked.

use std::time::Duration;

use coffer::kube::driver::{self, DriverObject, Facts};
use coffer_tests::harness::Times;
use coffer_tests::harness::apiserver::{Fault, Matcher, Resource};
use serde_json::json;
use tokio::sync::watch::Receiver;

use super::{World, pass, soon};

const DRIVER: &str = "secrets-store.csi.k8s.io";
const NODE: &str = "node-1";
/// Longer than any pause while something is wrong.
const A_MINUTE: Duration = Duration::from_secs(61);
/// Longer than any pause.
const TEN_MINUTES: Duration = Duration::from_secs(601);

impl World {
    fn facts(&self) -> Receiver<Facts> {
        driver::watch(self.client.clone(), DRIVER.into(), NODE.into(), &self.tasks)
    }

    /// Waits until it has been looked at everything so many times.
    async fn looked(&self, times: u64) {
        self.called("get csinodes", times).await;
    }
}

async fn until(facts: &mut Receiver<Facts>, right: impl Fn(&Facts) -> bool) -> Facts {
    soon("the facts", facts.wait_for(|facts| right(facts))).await.unwrap().clone()
}

/// Everything as it should be.
async fn well() -> (World, Receiver<Facts>) {
    let world = World::new().await;
    world.server.set_csi_node(NODE, &["other.example.com", DRIVER]);
    let mut facts = world.facts();
    until(&mut facts, |facts| facts.crds).await;
    (world, facts)
}

fn is_wrong(facts: &Facts) -> bool {
    !facts.wrong.is_empty()
}

#[tokio::test]
async fn when_all_is_well_three_cached_reads_tell_so_every_ten_minutes() {
    let (world, mut facts) = well().await;
    let driver = DriverObject { pod_info: true, tokens: true, tokens_in_secrets: false, republish: true };
    let known = Facts { driver: Some(driver), crds: true, wrong: vec![], lost: 0 };
    assert_eq!(*facts.borrow_and_update(), known);
    pass(A_MINUTE).await;
    world.looked(1).await;
    assert_eq!(world.server.counters().total(), 3);
    pass(TEN_MINUTES).await;
    world.looked(2).await;
    assert_eq!(world.server.counters().total(), 6);
    assert!(world.server.entries().iter().all(|e| e.cached || e.target.resource == Resource::Discovery));
    assert!(!facts.has_changed().unwrap());
}

#[tokio::test]
async fn a_missing_csidriver_is_told_and_its_arrival_is_seen() {
    let world = World::new().await;
    world.server.remove_csi_driver();
    let mut facts = world.facts();
    let known = until(&mut facts, is_wrong).await;
    assert_eq!((known.driver, known.wrong.len()), (None, 1));
    assert!(known.wrong[0].contains(DRIVER) && known.wrong[0].contains("kubectl apply -f deploy/csidriver.yaml"));
    world.server.set_csi_driver(&json!({"podInfoOnMount": false, "serviceAccountTokenInSecrets": true}));
    pass(A_MINUTE).await;
    let known = until(&mut facts, |facts| facts.driver.is_some()).await;
    let driver = DriverObject { tokens_in_secrets: true, ..DriverObject::default() };
    assert_eq!(known.driver, Some(driver));
    assert!(known.wrong[0].contains("podInfoOnMount false"), "{:?}", known.wrong);
    world.server.set_csi_driver(&json!({"podInfoOnMount": true}));
    pass(A_MINUTE).await;
    let known = until(&mut facts, |facts| !is_wrong(facts)).await;
    assert_eq!(known.driver, Some(DriverObject { pod_info: true, ..DriverObject::default() }));
}

#[tokio::test]
async fn missing_definitions_are_told_and_their_arrival_is_seen() {
    let world = World::new().await;
    world.server.define(Resource::Classes, false);
    world.server.define(Resource::PodStatuses, false);
    let mut facts = world.facts();
    let known = until(&mut facts, is_wrong).await;
    assert!(!known.crds && known.wrong[0].contains("coffer crds | kubectl apply -f -"), "{known:?}");
    world.server.define(Resource::Classes, true);
    world.looked(1).await;
    pass(A_MINUTE).await;
    world.looked(2).await;
    assert!(!facts.borrow().crds, "one of two is not enough");
    world.server.define(Resource::PodStatuses, true);
    pass(A_MINUTE).await;
    until(&mut facts, |facts| facts.crds && !is_wrong(facts)).await;
}

#[tokio::test]
async fn a_missing_right_is_told_by_verb_and_resource() {
    let world = World::new().await;
    world.server.inject(Matcher::on(Resource::CsiDrivers), Fault::Forbidden, Times::Always);
    world.server.inject(Matcher::on(Resource::CsiNodes), Fault::Forbidden, Times::Always);
    let known = until(&mut world.facts(), is_wrong).await;
    assert_eq!(known.wrong.len(), 1, "CSINode is not needed: {:?}", known.wrong);
    assert!(known.wrong[0].contains("grant `get` on csidrivers"), "{:?}", known.wrong);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told_until_it_comes_back() {
    let world = World::new().await;
    world.server.go_away().await;
    let mut facts = world.facts();
    let known = until(&mut facts, is_wrong).await;
    assert!(known.wrong.iter().all(|wrong| wrong.contains("check that the API server is up")), "{known:?}");
    world.server.come_back().unwrap();
    pass(A_MINUTE).await;
    until(&mut facts, |facts| facts.crds && facts.driver.is_some() && !is_wrong(facts)).await;
}

#[tokio::test]
async fn what_was_known_stays_known_while_nobody_can_be_asked() {
    let (world, mut facts) = well().await;
    facts.mark_unchanged();
    world.server.inject(Matcher::any(), Fault::failing(503, None), Times::Always);
    world.looked(1).await;
    pass(TEN_MINUTES).await;
    world.looked(2).await;
    pass(A_MINUTE).await;
    world.looked(3).await;
    assert!(!facts.has_changed().unwrap());
}

#[tokio::test]
async fn a_driver_that_kubelet_lost_is_noticed() {
    let (world, mut facts) = well().await;
    world.looked(1).await;
    world.server.set_csi_node(NODE, &["other.example.com"]);
    pass(TEN_MINUTES).await;
    until(&mut facts, |facts| facts.lost == 1).await;
    world.looked(2).await;
    // It is looked for sooner now, and registered again when it stays away.
    pass(A_MINUTE).await;
    world.looked(3).await;
    pass(A_MINUTE).await;
    let known = until(&mut facts, |facts| facts.lost == 2).await;
    assert!(!is_wrong(&known));
}

#[tokio::test]
async fn nothing_is_looked_at_after_the_end() {
    let (world, _facts) = well().await;
    assert_eq!(soon("the end", world.tasks.drain(super::PATIENCE)).await, 0);
}
