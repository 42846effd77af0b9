//! From what kubelet said and the class to the content of the volume: plan → identity → share → fetch.
//!
//! Who is asking decides what may be shared: an identity is the plugin, the namespace, the service account and the content
//! of the pod's Secret, and the pod itself where the store authenticates pods. A result is shared only between equal
//! identities with equal parameters, granted files and default mode; a session only between equal identities with the
//! same session key. `pipeline` is the caller.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use coffer_sandbox::egress::Lane;
use coffer_sandbox::provider::{Checked, ObjectVersion, Scope, ServiceAccountToken};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Error;
use super::fetch::{Before, Fetched, fetch};
use super::fingerprint::{Fingerprint, Fingerprints};
use super::offline::{Asked, Offline, StandIn};
use super::plan::{Plan, Wish, find_grant, plan};
use super::plugins::Plugins;
use super::registry::Inputs;
use super::request::TokenOrigin;
use super::sessions::Sessions;
use super::share::{Part, Share};
use super::tokens;
use crate::api::class::SecretProviderClass;
use crate::app::Plugin;
use crate::config::Config;
use crate::kube::driver::DriverObject;
use crate::telemetry::metrics::Metrics;

/// The mode of files for which the provider says none; the reference's.
const DEFAULT_MODE: u32 = 0o644;
/// How many answers of `check` are kept.
const MOST_CHECKS: usize = 4_096;
/// Refreshes that call a provider at the same time: half of all calls, so that one that waits for a throttled store does not
/// keep a pod from starting.
const REFRESHES: usize = 16;
/// Keys of the volume context that are no parameters: kubelet's own, and the class's name.
const KUBELETS: &str = "csi.storage.k8s.io/";
const CLASS: &str = "secretProviderClass";

/// Everything that content is obtained with.
pub struct Source {
    config: Arc<Config>,
    plugins: Arc<Plugins>,
    share: Share<Fetched, Error>,
    sessions: Arc<Sessions>,
    refreshes: Arc<Semaphore>,
    checks: Mutex<HashMap<Fingerprint, Arc<Checked>>>,
    fingerprints: Fingerprints,
    offline: Arc<Offline>,
    metrics: Metrics,
}

/// What somebody wants to have.
#[derive(Clone, Copy)]
pub struct Want<'a> {
    /// What is in the volume; empty where all of it is wanted, whatever its version.
    pub mounted: &'a [ObjectVersion],
    /// The annotation, or the command, by which somebody asked for a look now.
    pub asked: Option<&'a str>,
    /// Whether nothing is mounted yet: then a kept result may stand in.
    pub is_first: bool,
    /// The greatest age of such a result; none where the class does not ask for any.
    pub offline: Option<Duration>,
}

/// The content of a volume, and how it was come by.
pub struct Obtained {
    /// What was fetched, perhaps for somebody else.
    pub fetched: Arc<Fetched>,
    /// Whether it was for somebody else.
    pub part: Part,
    /// Why and since when it stands in for what the store has, if it does.
    pub stand_in: Option<StandIn>,
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Parameters of the class that the pod's attributes replaced.
    pub overridden: Vec<String>,
}

impl Source {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        plugins: Arc<Plugins>,
        share: Share<Fetched, Error>,
        offline: Arc<Offline>,
        metrics: Metrics,
    ) -> Self {
        Self {
            config,
            plugins,
            share,
            sessions: Arc::default(),
            refreshes: Arc::new(Semaphore::new(REFRESHES)),
            checks: Mutex::default(),
            fingerprints: Fingerprints::default(),
            offline,
            metrics,
        }
    }

    /// The content of a volume.
    ///
    /// # Errors
    ///
    /// Every [`Error`] but those of classes, mounts and writing.
    pub async fn obtain(
        &self,
        inputs: &Inputs,
        class: &SecretProviderClass,
        driver: Option<DriverObject>,
        want: Want<'_>,
        deadline: Instant,
    ) -> Result<Obtained, Arc<Error>> {
        let grant = complete(class).and_then(|()| find_grant(&self.config, class, None))?;
        let waited = Instant::now();
        let plugin = self.plugins.get(&class.provider, deadline).await?;
        self.metrics.stage(crate::telemetry::metrics::Stage::Plugin, waited.elapsed());
        let tokens = read_tokens(inputs, driver)?;
        let plan = plan(&self.config, wish(inputs, class, tokens))?;
        let checked = self.check(&plugin, &plan, deadline.min(Instant::now() + grant.limits.deadline)).await?;
        let overridden = plan.overridden.clone();
        let kept = self.kept(&plugin, &plan, &checked, want);
        // Nobody but the store can say what is kept for those who come while it is away.
        let is_missing = kept.is_some_and(|kept| !self.offline.has(kept.key, want.mounted));
        let want = if is_missing { Want { mounted: &[], ..want } } else { want };
        let landed = self.fetch_shared(&plugin, Arc::new(plan), &checked, want, deadline).await;
        let (fetched, part, stand_in) = match landed {
            Ok((fetched, part)) => {
                if let Some(kept) = kept {
                    self.offline.keep(kept, &fetched);
                }
                (fetched, part, None)
            }
            Err(error) => {
                let stand_in = self.stand_in(kept, &error, want.is_first).ok_or(error)?;
                return Ok(Obtained {
                    fetched: stand_in.fetched.clone(),
                    part: Part::Followed,
                    stand_in: Some(stand_in),
                    plugin,
                    overridden,
                });
            }
        };
        if part == Part::Followed {
            self.metrics.shared(&class.provider);
        }
        Ok(Obtained { fetched, part, stand_in, plugin, overridden })
    }

    /// Which result is kept for this class, if it wants one to be. One of a store that authenticates pods is of no use to
    /// another pod, so none is.
    fn kept(&self, plugin: &Plugin, plan: &Plan, checked: &Checked, want: Want<'_>) -> Option<Asked> {
        let is_wanted = want.offline.is_some() || !self.offline.is_empty();
        if !self.offline.is_allowed() || checked.scope != Scope::ServiceAccount || !is_wanted {
            return None;
        }
        let what = self.what(self.identity(plugin, plan, checked.scope), plan, None);
        // With the class: what one asks to be kept is not kept for another that does not.
        let key = self.fingerprints.begin("kept result").with(what.bytes()).with(plan.class.as_bytes()).end();
        if want.offline.is_none() {
            // The class may have asked once.
            self.offline.forget(key);
        }
        want.offline.map(|longest| Asked { key, longest })
    }

    /// What stands in for a result that could not be had; a refusal drops it.
    fn stand_in(&self, kept: Option<Asked>, error: &Arc<Error>, is_first: bool) -> Option<StandIn> {
        let kept = kept?;
        if error.is_refusal() {
            self.offline.forget(kept.key);
        }
        if is_first && error.is_unreachable() { self.offline.find(kept, error) } else { None }
    }

    /// What the provider says about the parameters; asked once for each set of them.
    async fn check(&self, plugin: &Plugin, plan: &Plan, deadline: Instant) -> Result<Arc<Checked>, Error> {
        let taking = self.fingerprints.begin("check").with(plugin.ready.digest().to_string().as_bytes());
        let key = taking.with_map(&plan.parameters, String::as_bytes).end();
        if let Some(checked) = self.checks.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(checked.clone());
        }
        let called = plugin.ready.check(&plan.parameters, deadline).await;
        let checked = called.result.map_err(|source| Error::Provider {
            class: plan.class.clone(),
            source: Box::new(source),
            records: Vec::new(),
            usage: Box::new(called.usage),
        })?;
        for remark in &checked.remarks {
            tracing::warn!(class = plan.class, namespace = plan.pod.namespace, "SecretProviderClass: {remark}");
        }
        // They have been told.
        let checked = Arc::new(Checked { remarks: Vec::new(), ..checked });
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.len() >= MOST_CHECKS {
            checks.clear();
        }
        checks.insert(key, checked.clone());
        Ok(checked)
    }

    async fn fetch_shared(
        &self,
        plugin: &Arc<Plugin>,
        plan: Arc<Plan>,
        checked: &Checked,
        want: Want<'_>,
        deadline: Instant,
    ) -> Result<(Arc<Fetched>, Part), Arc<Error>> {
        let identity = self.identity(plugin, &plan, checked.scope);
        let key = self.what(identity, &plan, want.asked);
        let session = self.session(identity, &plan, checked);
        // `unchanged` says something only to whoever has the same in its volume.
        let fits = |fetched: &Fetched| fetched.files.is_some() || fetched.mounted == want.mounted;
        let mut tried_by_somebody_else = false;
        loop {
            let flight = |lane| {
                let (plan, mounted) = (plan.clone(), want.mounted.to_vec());
                let until = deadline.min(Instant::now() + plan.deadline);
                let flight = Flight { plugin: plugin.clone(), metrics: self.metrics.clone(), plan, lane, until };
                flight.fly(mounted, session, self.sessions.clone(), self.refreshes.clone())
            };
            let landed = timeout_at(deadline, self.share.get(key, want.is_first, fits, flight)).await;
            let landed = landed.map_err(|_| Error::Deadline { what: "fetching the secrets" })?;
            match landed.map_err(|_| Error::Lost { what: "fetching the secrets" })? {
                (Ok(fetched), part) => return Ok((fetched, part)),
                // The other one's token, or its deadline, may have been the reason.
                (Err(error), Part::Followed)
                    if !tried_by_somebody_else && (error.is_unauthenticated() || error.is_deadline()) =>
                {
                    tried_by_somebody_else = true;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Who is asking.
    fn identity(&self, plugin: &Plugin, plan: &Plan, scope: Scope) -> Fingerprint {
        let pod = &plan.pod;
        let taking = self.fingerprints.begin("identity").with(plugin.ready.digest().to_string().as_bytes());
        let taking = taking.with(pod.namespace.as_bytes()).with(pod.service_account.as_bytes());
        let taking = taking.with_map(&plan.secrets, |value| value.expose());
        match scope {
            Scope::ServiceAccount => taking.end(),
            Scope::Pod => taking.with(pod.uid.as_bytes()).end(),
        }
    }

    /// Who is asking, and for what. `asked` is the annotation by which somebody asked for something newer than what may
    /// be kept.
    fn what(&self, identity: Fingerprint, plan: &Plan, asked: Option<&str>) -> Fingerprint {
        let taking = self.fingerprints.begin("result").with(identity.bytes()).with(plan.provider.as_bytes());
        let taking = taking.with_map(&plan.parameters, String::as_bytes).with_map(&plan.config, Vec::as_slice);
        let taking = taking.with(&plan.default_mode.to_be_bytes());
        match asked {
            Some(asked) => taking.with(asked.as_bytes()).end(),
            None => taking.end(),
        }
    }

    /// Whose session it is. A provider of the same component with another grant, or with another description of a cloud,
    /// signs in for itself.
    fn session(&self, identity: Fingerprint, plan: &Plan, checked: &Checked) -> Fingerprint {
        let taking = self.fingerprints.begin("session").with(identity.bytes()).with(plan.provider.as_bytes());
        taking.with_map(&plan.config, Vec::as_slice).with(checked.session_key.as_bytes()).end()
    }
}

/// One call of the provider for everybody who waits for it.
struct Flight {
    plugin: Arc<Plugin>,
    plan: Arc<Plan>,
    metrics: Metrics,
    lane: Lane,
    until: Instant,
}

impl Flight {
    /// A session that the store no longer accepts is dropped, and the call made once more without it.
    async fn fly(
        self,
        mounted: Vec<ObjectVersion>,
        key: Fingerprint,
        sessions: Arc<Sessions>,
        refreshes: Arc<Semaphore>,
    ) -> Result<Fetched, Error> {
        let _place = tokio::select! {
            biased;
            // It needs no place among refreshes, or not any more.
            () = self.lane.hurried() => None,
            place = timeout_at(self.until, refreshes.acquire()) => match place {
                Ok(place) => place.ok(),
                Err(_) => return Err(Error::Deadline { what: "waiting for other refreshes" }),
            },
        };
        let session = sessions.find(key);
        let had_session = session.is_some();
        let mut result = self.fetch(Before { mounted: mounted.clone(), session }).await;
        if had_session && result.as_ref().is_err_and(Error::is_unauthenticated) {
            sessions.forget(key);
            result = self.fetch(Before { mounted, session: None }).await;
        }
        let mut fetched = result?;
        // They have been counted, and a result may be kept for long.
        fetched.records = Vec::new();
        match fetched.session.take() {
            Some(session) => sessions.keep(key, session),
            None => sessions.forget(key),
        }
        Ok(fetched)
    }

    async fn fetch(&self, before: Before) -> Result<Fetched, Error> {
        let Self { plugin, plan, metrics, lane, until } = self;
        // The one place where the node looks at the clock for a provider.
        let result = fetch(plugin, plan, before, SystemTime::now(), lane.clone(), *until).await;
        match &result {
            Ok(fetched) => metrics.called(&plan.provider, "ok", &fetched.usage, &fetched.records),
            Err(error @ Error::Provider { usage, records, .. }) => {
                metrics.called(&plan.provider, error.reason(), usage, records);
            }
            Err(_) => {}
        }
        result
    }
}

/// What the reference refuses too.
fn complete(class: &SecretProviderClass) -> Result<(), Error> {
    let what = match class {
        class if class.provider.is_empty() => "provider",
        class if class.parameters.is_empty() => "parameters",
        _ => return Ok(()),
    };
    Err(Error::Incomplete { class: class.name.clone(), what })
}

fn wish<'a>(inputs: &Inputs, class: &'a SecretProviderClass, tokens: Vec<ServiceAccountToken>) -> Wish<'a> {
    let is_parameter = |key: &str| key != CLASS && !key.starts_with(KUBELETS);
    let attributes = inputs.attributes.iter().filter(|(key, _)| is_parameter(key));
    Wish {
        class,
        provider_position: None,
        pod: inputs.pod.clone(),
        attributes: attributes.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>(),
        secrets: inputs.secrets.iter().map(|(key, value)| (key.clone(), value.duplicate())).collect(),
        tokens,
        default_mode: DEFAULT_MODE,
        timeout: None,
    }
}

/// The tokens, if they are kubelet's. A pod's author can write the volume context, and kubelet overwrites this key only
/// when the CSIDriver object asks for tokens there.
fn read_tokens(inputs: &Inputs, driver: Option<DriverObject>) -> Result<Vec<ServiceAccountToken>, Error> {
    let Some(written) = &inputs.tokens else { return Ok(Vec::new()) };
    // Where nobody knows, after a restart without an API server, nobody vouches either.
    let is_forged = written.origin == TokenOrigin::Context
        && driver.is_none_or(|driver| !driver.tokens || driver.tokens_in_secrets);
    if is_forged {
        let (namespace, pod) = (&inputs.pod.namespace, &inputs.pod.name);
        tracing::warn!(
            namespace,
            pod,
            "the volume attributes of the pod hold tokens that are not kubelet's (see tokenRequests of the CSIDriver \
             object); they are ignored"
        );
        return Ok(Vec::new());
    }
    Ok(tokens::read(&written.json)?)
}
