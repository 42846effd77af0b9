//! What the API server knows about this driver: the CSIDriver object, the CustomResourceDefinitions, CSINode.
//!
//! Three reads per look, all from the API server's cache: 432 a day and node when all is well, one look every ten minutes.
//! Nothing here is needed for a mount; readiness and whoever registers with kubelet listen. What was known stays known while
//! the API server cannot be asked. The caller is `commands::node`.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::call::{Failure, Freshness, Kind, Resource};
use super::client::Client;
use super::pause::Pauses;
use crate::tasks::Tasks;

/// How soon to look again while something is missing.
const SOON: Pauses = Pauses { first: Duration::from_secs(5), longest: Duration::from_secs(60) };
/// How soon to look again when all is well.
const LATER: Pauses = Pauses { first: Duration::from_secs(600), longest: Duration::from_secs(600) };
/// So many looks in a row at a CSINode without the driver mean that kubelet does not know it.
const LOOKS_WITHOUT: u32 = 2;

/// What makes the CSIDriver object right.
const REPAIR: &str = "`helm upgrade` of the chart makes it right, or kubectl apply -f deploy/csidriver.yaml";

/// What is known so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The CSIDriver object; none until it was read.
    pub driver: Option<DriverObject>,
    /// Whether both CRDs are served.
    pub crds: bool,
    /// What is wrong, with what to do, for readiness; empty when all is well.
    pub wrong: Vec<String>,
    /// How often CSINode was seen without the driver; who registers with kubelet tries again when it changes.
    pub lost: u64,
}

/// The parts of `spec` of the CSIDriver object that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverObject {
    /// `podInfoOnMount`.
    pub pod_info: bool,
    /// Whether `tokenRequests` has any.
    pub tokens: bool,
    /// `serviceAccountTokenInSecrets`.
    pub tokens_in_secrets: bool,
    /// `requiresRepublish`.
    pub republish: bool,
}

/// Reads now and again, sooner while something is missing, until `tasks` stops.
pub fn watch(client: Client, driver: String, node: String, tasks: &Tasks) -> watch::Receiver<Facts> {
    let (sender, receiver) = watch::channel(Facts::default());
    let stop = tasks.stopping();
    let mut observer = Observer { client, driver, node, facts: Facts::default(), registered: Registered::default() };
    tasks.spawn("driver facts", async move {
        let mut looks = 0;
        loop {
            let well = tokio::select! {
                well = observer.look() => well,
                () = stop.cancelled() => return,
            };
            observer.tell(&sender);
            looks = if well { 0 } else { looks + 1 };
            let pause = if well { LATER.after(1, None) } else { SOON.after(looks, None) };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    });
    receiver
}

struct Observer {
    client: Client,
    driver: String,
    node: String,
    facts: Facts,
    registered: Registered,
}

impl Observer {
    /// Looks at everything once; says whether there is no reason to look again soon.
    async fn look(&mut self) -> bool {
        let mut wrong = Vec::new();
        let driver = self.look_at_driver(&mut wrong).await;
        let crds = self.look_at_definitions(&mut wrong).await;
        let node = self.look_at_node().await;
        self.facts.wrong = wrong;
        driver && crds && node
    }

    /// Sends the facts where they are new, and logs what is new in them.
    fn tell(&self, sender: &watch::Sender<Facts>) {
        sender.send_if_modified(|known| {
            if *known == self.facts {
                return false;
            }
            let before: BTreeSet<&String> = known.wrong.iter().collect();
            for wrong in self.facts.wrong.iter().filter(|wrong| !before.contains(wrong)) {
                tracing::warn!(target: "coffer::kube", "{wrong}");
            }
            if self.facts.wrong.is_empty() && !known.wrong.is_empty() {
                tracing::info!(target: "coffer::kube", "the CSIDriver object and the CustomResourceDefinitions are right");
            }
            let lacks_republish = |facts: &Facts| facts.driver.is_some_and(|driver| !driver.republish);
            if lacks_republish(&self.facts) && !lacks_republish(known) {
                let driver = &self.driver;
                tracing::warn!(
                    target: "coffer::kube",
                    "CSIDriver {driver} has requiresRepublish false: kubelet will never bring fresh tokens, and volumes are \
                     refreshed only as long as those of the first mount are valid; {REPAIR}"
                );
            }
            known.clone_from(&self.facts);
            true
        });
    }

    async fn look_at_driver(&mut self, wrong: &mut Vec<String>) -> bool {
        let name = &self.driver;
        let read: Result<CsiDriver, Failure> = self.client.get(Resource::CsiDrivers, "", name, Freshness::Cached).await;
        let what = format!("CSIDriver {name}");
        match read {
            Ok(driver) => {
                let spec = driver.spec;
                if !spec.pod_info_on_mount {
                    wrong.push(format!(
                        "{what} has podInfoOnMount false, so kubelet does not say which pod a volume is for; {REPAIR}"
                    ));
                }
                let well = spec.pod_info_on_mount;
                self.facts.driver = Some(spec.into());
                return well;
            }
            Err(failure) if failure.kind == Kind::NotFound => {
                self.facts.driver = None;
                wrong.push(format!("{what} is missing; {REPAIR}"));
            }
            // What was read before is still the best that is known.
            Err(failure) if self.facts.driver.is_some() && failure.is_transient() => {
                tracing::debug!(target: "coffer::kube", "{what} cannot be read: {}", failure.message);
            }
            Err(failure) => wrong.push(unreadable(&what, "csidrivers", &failure)),
        }
        false
    }

    async fn look_at_definitions(&mut self, wrong: &mut Vec<String>) -> bool {
        let what = "the list of SecretProviderClass resources";
        match self.client.discover::<APIResourceList>().await {
            Ok(list) => {
                let serves = |resource: Resource| list.resources.iter().any(|one| one.name == resource.name());
                self.facts.crds = serves(Resource::Classes) && serves(Resource::PodStatuses);
            }
            Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Undefined) => self.facts.crds = false,
            Err(failure) if self.facts.crds && failure.is_transient() => {
                tracing::debug!(target: "coffer::kube", "{what} cannot be read: {}", failure.message);
                return false;
            }
            Err(failure) => {
                wrong.push(unreadable(what, "", &failure));
                return false;
            }
        }
        if !self.facts.crds {
            wrong.push(
                "the CustomResourceDefinitions of SecretProviderClass and SecretProviderClassPodStatus are not both \
                 installed; `helm upgrade` of the chart brings them back, or coffer crds | kubectl apply -f -"
                    .to_owned(),
            );
        }
        self.facts.crds
    }

    /// CSINode is for noticing that kubelet lost the driver; not to know it is no reason to be unready.
    async fn look_at_node(&mut self) -> bool {
        let read: Result<CsiNode, Failure> =
            self.client.get(Resource::CsiNodes, "", &self.node, Freshness::Cached).await;
        match read {
            Ok(node) => {
                let here = node.spec.drivers.iter().any(|driver| driver.name == self.driver);
                if self.registered.is_lost(here) {
                    self.facts.lost += 1;
                    let (node, driver) = (&self.node, &self.driver);
                    tracing::warn!(target: "coffer::kube", "CSINode {node} does not list {driver}; registering again");
                }
                here
            }
            Err(failure) => {
                let what = format!("CSINode {}", self.node);
                tracing::debug!(target: "coffer::kube", "{}", unreadable(&what, "csinodes", &failure));
                // Without the right, or without such a node, looking sooner would not help.
                !failure.is_transient()
            }
        }
    }
}

/// Whether kubelet knows the driver, as far as CSINode says.
#[derive(Debug, Default)]
struct Registered {
    was_here: bool,
    without: u32,
}

impl Registered {
    /// Takes one look; says whether to register again.
    fn is_lost(&mut self, here: bool) -> bool {
        let was_here = std::mem::replace(&mut self.was_here, here);
        self.without = if here { 0 } else { self.without + 1 };
        let lost = was_here && !here || self.without >= LOOKS_WITHOUT;
        if lost {
            self.without = 0;
        }
        lost
    }
}

fn unreadable(what: &str, resource: &str, failure: &Failure) -> String {
    let message = &failure.message;
    match failure.kind {
        Kind::Forbidden if resource.is_empty() => format!(
            "{what} cannot be read: {message}; bind the ClusterRole system:discovery to Coffer's service account"
        ),
        Kind::Forbidden => format!(
            "{what} cannot be read: {message}; grant `get` on {resource} to Coffer's service account, as deploy/rbac.yaml does"
        ),
        Kind::Unauthorized => format!("{what} cannot be read: {message}; check Coffer's service account or kubeconfig"),
        _ => format!("{what} cannot be read: {message}; check that the API server is up and reachable"),
    }
}

#[derive(Deserialize)]
struct CsiDriver {
    #[serde(default)]
    spec: CsiDriverSpec,
}

/// Read here and not with the types of `k8s-openapi`: those do not know the newest of these fields yet.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CsiDriverSpec {
    pod_info_on_mount: bool,
    token_requests: Option<Vec<serde::de::IgnoredAny>>,
    service_account_token_in_secrets: Option<bool>,
    requires_republish: Option<bool>,
}

impl From<CsiDriverSpec> for DriverObject {
    fn from(spec: CsiDriverSpec) -> Self {
        Self {
            pod_info: spec.pod_info_on_mount,
            tokens: spec.token_requests.is_some_and(|requests| !requests.is_empty()),
            tokens_in_secrets: spec.service_account_token_in_secrets.unwrap_or_default(),
            republish: spec.requires_republish.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct CsiNode {
    #[serde(default)]
    spec: CsiNodeSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CsiNodeSpec {
    drivers: Vec<CsiNodeDriver>,
}

#[derive(Deserialize)]
struct CsiNodeDriver {
    #[serde(default)]
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_lost_when_it_was_there_or_is_away_twice_in_a_row() {
        let looks = |here: &[bool]| {
            let mut registered = Registered::default();
            here.iter().map(|here| registered.is_lost(*here)).collect::<Vec<bool>>()
        };
        assert_eq!(looks(&[false, true, true]), [false, false, false], "kubelet is about to write it");
        assert_eq!(looks(&[true, false, false, false]), [false, true, false, true]);
        assert_eq!(looks(&[false, false, false, false]), [false, true, false, true]);
    }

    #[test]
    fn what_an_old_api_server_does_not_say_is_off() {
        let read = |text: &str| DriverObject::from(serde_json::from_str::<CsiDriver>(text).unwrap().spec);
        assert_eq!(read("{}"), DriverObject::default());
        let all = r#"{"spec": {"podInfoOnMount": true, "tokenRequests": [{"audience": "a"}], "unheard": 1,
            "serviceAccountTokenInSecrets": true, "requiresRepublish": true}}"#;
        let yes = DriverObject { pod_info: true, tokens: true, tokens_in_secrets: true, republish: true };
        assert_eq!(read(all), yes);
        assert_eq!(read(r#"{"spec": {"podInfoOnMount": false, "tokenRequests": null}}"#), DriverObject::default());
    }

    #[test]
    fn the_shipped_object_is_right() {
        let shipped: CsiDriver = serde_saphyr::from_str(include_str!("../../../deploy/csidriver.yaml")).unwrap();
        let wanted = DriverObject { pod_info: true, tokens: true, tokens_in_secrets: false, republish: true };
        assert_eq!(DriverObject::from(shipped.spec), wanted);
    }
}
