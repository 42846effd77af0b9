//! One plugin's way out, and one call's view of it: the order in which a request is checked, sent and recorded.
//!
//! `app` makes an [`Egress`] per plugin, `instance` sends through a [`Gate`] per call. A request costs one of the call's
//! requests whether it is allowed or not, so a hostile batch ends with the budget: what comes after is counted and
//! refused, without a record, a line or an allocation of its own.
//!
//! It must never spawn: dropping the future of a batch ends everything in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::audit::{self, Entry, Ledger};
use super::client::{Pool, Progress, Sender};
use super::connector::Route;
use super::pace::{Ask, Call, Origin, Pace, Place, Way};
use super::proxy::Proxies;
use super::request::{Content, learn_credentials, size_of_request};
use super::retry::{Budget, Policy, run};
use super::rules::{FillError, Values, check_condition, explain};
use super::target::Target;
use super::tls::{SystemRoots, Trust, check_authorities};
use super::{
    Answers, Caller, Ending, Error, Outbound, Record, Request, Response, RuleSettings, Scheme, Settings, SetupError,
    UserAgentSuffix,
};

/// Connections that one plugin may keep open; further ones serve one request each.
const KEPT_CONNECTIONS: usize = 256;

/// How long an error may be.
const LONGEST_ERROR: usize = 2 << 10;

/// The rules of one plugin and the connections made under them.
pub struct Egress {
    /// In the order in which they are tried.
    pools: Vec<Pool>,
    /// For each pool the parameter that has to be true.
    conditions: Vec<Option<String>>,
    user_agent_suffix: Option<UserAgentSuffix>,
    pace: Pace,
}

impl Egress {
    /// Makes the way out of a plugin with these rules; without any, it leads nowhere. The first rule that allows a request
    /// decides how it is sent.
    ///
    /// # Errors
    ///
    /// When certificates or proxies are not usable, or parts of a rule contradict each other.
    pub fn new(rules: Vec<RuleSettings>, settings: Settings) -> Result<Arc<Self>, SetupError> {
        check_authorities(&settings.ca, "the egress settings")?;
        let system = Arc::new(SystemRoots::default());
        let kept = Arc::new(Semaphore::new(KEPT_CONNECTIONS));
        let conditions = rules.iter().map(|rule| rule.when.clone()).collect();
        let pools = rules.into_iter().map(|rule| {
            check_rule(&rule)?;
            let proxies = choose_proxies(&rule, &settings)?;
            let trusted = settings.ca.iter().chain(&rule.ca).cloned().collect();
            let way = if has_way_of_its_own(&rule) { Way::own() } else { Way::PLAIN };
            Ok(Pool::new(Route {
                rule: rule.rule,
                connect: rule.connect,
                server_name: rule.server_name,
                trust: Trust::new(Arc::clone(&system), trusted),
                proxies,
                resolver: Arc::clone(&settings.resolver),
                kept: Arc::clone(&kept),
                way,
            }))
        });
        let pools = pools.collect::<Result<_, _>>()?;
        let pace = settings.pace.clone();
        Ok(Arc::new(Self { pools, conditions, user_agent_suffix: settings.user_agent_suffix, pace }))
    }

    /// Opens a gate for one call.
    #[must_use]
    pub fn open(self: &Arc<Self>, caller: Caller) -> Gate {
        Gate {
            values: self.values(&caller),
            namespace: caller.pod.namespace.as_str().into(),
            call: Call::new(),
            budget: Budget::new(&caller.limits),
            slots: Semaphore::new(caller.limits.concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            ledger: Ledger::default(),
            taken: AtomicUsize::new(0),
            unrecorded: AtomicU64::new(0),
            egress: Arc::clone(self),
            caller,
        }
    }
}

impl Egress {
    /// What each rule's references stand for in this call, or why the rule does not hold in it.
    fn values(&self, caller: &Caller) -> Vec<Result<Values, FillError>> {
        let parameters = &caller.parameters;
        let fill = |(pool, when): (&Pool, &Option<String>)| {
            check_condition(when.as_deref(), parameters)?;
            pool.rule().fill(parameters)
        };
        self.pools.iter().zip(&self.conditions).map(fill).collect()
    }
}

fn check_rule(rule: &RuleSettings) -> Result<(), SetupError> {
    let text = rule.rule.text();
    check_authorities(&rule.ca, &format!("rule `{text}`"))?;
    if rule.rule.scheme() == Scheme::Http && (rule.server_name.is_some() || !rule.ca.is_empty()) {
        return Err(SetupError::TlsOfHttp(Arc::clone(text)));
    }
    Ok(())
}

/// Whether a failure to reach a host may be that of the rule.
fn has_way_of_its_own(rule: &RuleSettings) -> bool {
    rule.connect.is_some() || rule.server_name.is_some() || rule.proxy.is_some() || !rule.ca.is_empty()
}

fn choose_proxies(rule: &RuleSettings, settings: &Settings) -> Result<Proxies, SetupError> {
    let text = rule.rule.text();
    match &rule.proxy {
        Some(proxy) => {
            let proxies = Proxies::of_rule(proxy, text)?;
            if rule.connect.is_some() && rule.rule.scheme() == Scheme::Http && proxies.may_intercept(Scheme::Http) {
                return Err(SetupError::ConnectBehindProxy(Arc::clone(text)));
            }
            Ok(proxies)
        }
        // `connect` says where to dial; a proxy of the settings would dial something else.
        None if rule.connect.is_some() => Ok(Proxies::none()),
        None => Proxies::of_settings(&settings.proxy),
    }
}

/// One call's view of an [`Egress`].
pub struct Gate {
    egress: Arc<Egress>,
    caller: Caller,
    /// One for each rule.
    values: Vec<Result<Values, FillError>>,
    /// The pod's.
    namespace: Arc<str>,
    call: Call,
    budget: Budget,
    slots: Semaphore,
    ledger: Ledger,
    /// How many requests have a record.
    taken: AtomicUsize,
    unrecorded: AtomicU64,
}

impl Gate {
    /// What was asked and answered so far, in the order of the requests. At most as many as the call may send requests.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.ledger.records()
    }

    /// How many requests were refused without a record, because the call had used up its requests before.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded.load(Ordering::Relaxed)
    }

    async fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        let mut answers: Vec<_> = requests.iter().map(|_| Err(Error::Timeout)).collect();
        let mut waiting = requests.into_iter().enumerate();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.caller.limits.concurrent.max(1) {
                let Some((index, request)) = waiting.next() else { break };
                let left = waiting.len() + 1;
                match self.admit(&request) {
                    Ok(number) => running.push(async move { (index, self.answer(number, request, left).await) }),
                    Err(error) => place(&mut answers, index, Err(error)),
                }
            }
            match running.next().await {
                Some((index, answer)) => place(&mut answers, index, answer),
                None => return answers,
            }
        }
    }

    /// Takes a request out of the budget, and gives it its number.
    fn admit(&self, request: &Request) -> Result<usize, Error> {
        if !self.budget.take_request() {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
            return Err(exhausted("requests", self.caller.limits.requests));
        }
        learn_credentials(&request.headers, &self.caller.redactor);
        Ok(self.taken.fetch_add(1, Ordering::Relaxed))
    }

    /// `left` is how many requests of the batch were not sent yet, this one included.
    async fn answer(&self, number: usize, request: Request, left: usize) -> Result<Response, Error> {
        let target = Target::parse(&request.url);
        let mut entry = Entry {
            caller: &self.caller,
            ledger: &self.ledger,
            number,
            started: Instant::now(),
            rule: None,
            method: request.method.clone(),
            host: target.as_ref().map(Target::authority).unwrap_or_default(),
            path: target.as_ref().map(|target| target.path.clone()).unwrap_or_default(),
            progress: Progress::default(),
            ending: None,
        };
        let answer = self.check_and_send(request, target, left, &mut entry).await;
        let answer = answer.map_err(|error| error.map_text(|text| self.caller.redactor.clean(&text, LONGEST_ERROR)));
        entry.close(match &answer {
            Ok(response) => Ending::Status(response.status),
            Err(error) => Ending::Failed(error.clone()),
        });
        answer
    }

    async fn check_and_send(
        &self,
        mut request: Request,
        target: Result<Target, String>,
        left: usize,
        entry: &mut Entry<'_>,
    ) -> Result<Response, Error> {
        if !self.budget.take_bytes_out(size_of_request(&request)) {
            return Err(exhausted("bytesOut", self.caller.limits.bytes_out));
        }
        let target = target.map_err(Error::Protocol)?;
        let content = Content::take(&mut request, self.egress.user_agent_suffix.as_ref()).map_err(Error::Protocol)?;
        let pool = self.choose(&target, content.method.as_str())?;
        entry.rule = Some(Arc::clone(pool.rule().text()));
        let policy = Policy::new(&content.method, &request.options);
        let mut sender = Sender {
            pool,
            target: &target,
            content: &content,
            budget: &self.budget,
            progress: &entry.progress,
            most: self.caller.limits.response,
            time: request.options.timeout,
            until: None,
            pace: &self.egress.pace,
            ask: self.ask(pool.way(), &target, left),
            pass: None,
        };
        let deadline = self.caller.deadline;
        if deadline <= Instant::now() {
            return Err(Error::Timeout);
        }
        let sending = async {
            let _slot = self.slots.acquire().await;
            run(&mut sender, &policy, deadline).await
        };
        timeout_at(deadline, sending).await.unwrap_or(Err(Error::Timeout))
    }

    fn ask(&self, way: Way, target: &Target, requests: usize) -> Ask {
        let Caller { class, lane, deadline, .. } = &self.caller;
        Ask {
            origin: Origin { scheme: target.scheme, host: target.host.to_string(), port: target.port },
            shown: target.authority(),
            way,
            place: Place {
                namespace: self.namespace.clone(),
                class: class.clone(),
                lane: lane.clone(),
                call: self.call.clone(),
                since: Instant::now(),
                requests,
            },
            deadline: *deadline,
        }
    }

    /// The pool of the first rule that allows the request.
    fn choose(&self, target: &Target, method: &str) -> Result<&Pool, Error> {
        let mut rules = self.egress.pools.iter().zip(&self.values);
        let allowed = rules.find(|(pool, values)| {
            values.as_ref().is_ok_and(|values| pool.rule().compare(values, method, target).is_none())
        });
        let Some((pool, _)) = allowed else {
            let rules = self.egress.pools.iter().map(Pool::rule).zip(&self.values);
            return Err(Error::Denied(explain(&self.caller.plugin, rules, method, target)));
        };
        if !self.caller.node_identity && pool.asks_the_platform() {
            return Err(Error::Denied(format!(
                "the rule `{}` hands out the node's own identity, which namespace `{}` may not use; \
                 add the namespace to `nodeIdentity.namespaces` if it may",
                pool.rule().text(),
                self.caller.pod.namespace
            )));
        }
        Ok(pool)
    }
}

impl Outbound for Gate {
    fn send(&self, requests: Vec<Request>) -> Answers<'_> {
        Box::pin(self.send_all(requests))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let unrecorded = self.unrecorded();
        if unrecorded > 0 {
            audit::write_unrecorded(&self.caller, unrecorded);
        }
    }
}

fn place(answers: &mut [Result<Response, Error>], index: usize, answer: Result<Response, Error>) {
    if let Some(slot) = answers.get_mut(index) {
        *slot = answer;
    }
}

fn exhausted(limit: &str, most: impl std::fmt::Display) -> Error {
    Error::Exhausted(format!("the call has used up `{limit}` of the grant ({most})"))
}
