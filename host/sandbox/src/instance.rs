//! One call of a provider: a fresh instance, stopped when it exceeds a limit, dropped afterwards.
//!
//! Nothing of one call survives in guest memory for the next. What the guest answers is bounded and cleaned here,
//! before anybody else sees it; whether its paths and modes make sense is for the volume writer to say.
//! [`crate::store::Ready`] is the only caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{ResourceLimiter, Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::bindings::{self, HttpError, HttpHost, Level, LogHost, Provider, types};
use crate::egress::{ClosedDoor, Outbound};
use crate::error::{Cause, Error, Stage};
use crate::limits::Limits;
use crate::meter::{Meter, metered};
use crate::provider::{Checked, Failure, Mounted, ObjectVersion, Outcome, Parameters, Pod, Request};
use crate::redact::Redactor;
use crate::store::Ready;
use crate::wasi::Wasi;

/// What a call has around it.
pub struct Call {
    /// Where its HTTP requests go.
    pub outbound: Arc<dyn Outbound>,
    /// What must not be seen; learns the secrets of the request.
    pub redactor: Redactor,
    /// When it has to be over, waiting included.
    pub deadline: Instant,
}

/// What a call used, whatever its result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// From the call to its answer.
    pub duration: Duration,
    /// Waiting for a free instance.
    pub queued: Duration,
    /// Waiting for HTTP.
    pub http: Duration,
    /// Processor time of the guest and of the host functions it called.
    pub cpu: Duration,
    /// The largest linear memory, in bytes.
    pub memory: usize,
    /// Log lines over the limit.
    pub log_lines_dropped: usize,
}

/// A result and what it took.
#[derive(Debug)]
pub struct Called<T> {
    /// The answer.
    pub result: Result<T, Error>,
    /// What it took.
    pub usage: Usage,
}

/// Runs `check` of a plugin: without HTTP and without a secret.
pub(crate) async fn check(ready: &Ready, parameters: &Parameters, deadline: Instant) -> Called<Checked> {
    let limits = ready.limits();
    let call = Call { outbound: Arc::new(ClosedDoor), redactor: Redactor::default(), deadline };
    let mut runner = Runner::new(ready, Stage::Check, call, &Pod::default(), None);
    let result = runner
        .run(async |provider, store| provider.call_check(store, &bindings::parameters(parameters)).await)
        .await
        .and_then(|answer| match answer {
            Ok(checked) => bound_checked(bindings::checked(checked), &runner.redactor, limits),
            Err(failure) => Err(Cause::Failure(clean_failure(failure, &runner.redactor, limits))),
        });
    runner.finish(result)
}

/// Runs `mount` of a plugin.
pub(crate) async fn mount(ready: &Ready, request: &Request, call: Call) -> Called<Outcome> {
    let limits = ready.limits();
    learn(request, &call.redactor);
    let mut runner = Runner::new(ready, Stage::Mount, call, &request.pod, Some(request));
    let lowered = bindings::request(request);
    let result =
        runner.run(async |provider, store| provider.call_mount(store, &lowered).await).await.and_then(|answer| {
            match answer {
                Ok(outcome) => bound_outcome(bindings::outcome(outcome), request, &runner.redactor, limits),
                Err(failure) => Err(Cause::Failure(clean_failure(failure, &runner.redactor, limits))),
            }
        });
    runner.finish(result)
}

fn learn(request: &Request, redactor: &Redactor) {
    request.secrets.values().for_each(|secret| redactor.learn(secret.expose()));
    request.tokens.iter().for_each(|token| redactor.learn(token.token.expose()));
    request.session.iter().for_each(|session| redactor.learn(session.expose()));
}

/// One call on its way.
struct Runner<'a> {
    ready: &'a Ready,
    stage: Stage,
    redactor: Redactor,
    deadline: Instant,
    started: Instant,
    state: Option<State>,
    usage: Usage,
}

impl<'a> Runner<'a> {
    fn new(ready: &'a Ready, stage: Stage, call: Call, pod: &Pod, request: Option<&Request>) -> Self {
        let limits = ready.limits();
        let log = Arc::new(GuestLog::new(ready, pod, call.redactor.clone()));
        let state = State {
            outbound: call.outbound,
            log,
            limiter: Limiter::new(limits),
            meter: Arc::new(Meter::new(limits.cpu)),
            http: Duration::ZERO,
            clock: request.map_or((std::time::SystemTime::UNIX_EPOCH, [0; 32]), |r| (r.now, r.entropy)),
            wasi: None,
        };
        Self {
            ready,
            stage,
            redactor: call.redactor,
            deadline: call.deadline,
            started: Instant::now(),
            state: Some(state),
            usage: Usage::default(),
        }
    }

    /// Waits for a free instance, makes it, and calls it, all before the deadline.
    async fn run<T>(
        &mut self,
        call: impl AsyncFnOnce(&Provider, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, Cause> {
        let engine = self.ready.engine().clone();
        let waited = tokio::time::timeout_at(self.deadline, engine.calls.acquire()).await;
        self.usage.queued = self.started.elapsed();
        let Ok(Ok(_permit)) = waited else { return Err(Cause::Busy { limit: self.limit() }) };
        let _ticking = engine.tick().map_err(|error| Cause::Engine { message: error.to_string() })?;
        let Some(state) = self.state.take() else {
            return Err(Cause::Engine { message: "a call ran twice".into() });
        };

        let meter = state.meter.clone();
        let mut store = self.store(&engine.inner, state);
        let pre = self.ready.pre();
        let calling = async {
            let provider = pre.instantiate_async(&mut store).await?;
            call(&provider, &mut store).await
        };
        let ended = tokio::time::timeout_at(self.deadline, metered(calling, &meter)).await;
        self.account(store.data());
        match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(&error, store.data())),
            Err(_) => Err(Cause::Deadline { limit: self.limit() }),
        }
    }

    fn store(&self, engine: &wasmtime::Engine, state: State) -> Store<State> {
        let meter = state.meter.clone();
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(self.ready.limits().transfer());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_: StoreContextMut<'_, State>| match meter.exceeded() {
            true => Err(OutOfTime.into()),
            false => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
        });
        store
    }

    fn account(&mut self, state: &State) {
        self.usage.http = state.http;
        self.usage.cpu = state.meter.used();
        self.usage.memory = state.limiter.peak;
        self.usage.log_lines_dropped = state.log.finish();
    }

    /// The time that the call had, as whoever set it would write it: what passed before it was started is a part of it.
    fn limit(&self) -> Duration {
        let exact = self.deadline.duration_since(self.started) + Duration::from_micros(500);
        Duration::from_millis(u64::try_from(exact.as_millis()).unwrap_or(u64::MAX))
    }

    fn finish<T>(mut self, result: Result<T, Cause>) -> Called<T> {
        self.usage.duration = self.started.elapsed();
        let error = |cause| Error { plugin: self.ready.name().to_owned(), stage: self.stage, cause };
        Called { result: result.map_err(error), usage: self.usage }
    }

    /// Why the engine stopped the guest.
    fn explain(&self, error: &wasmtime::Error, state: &State) -> Cause {
        let limits = self.ready.limits();
        if error.downcast_ref::<OutOfTime>().is_some() {
            return Cause::Limit { limit: format!("{:?} of processor time", limits.cpu), setting: "cpu" };
        }
        if let Some(denied) = state.limiter.denied {
            return denied.cause(limits);
        }
        let clean = |text: String| self.redactor.clean(&text, limits.message);
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Cause::Trap { message: "its call stack is exhausted".into() },
            Some(trap) => Cause::Trap { message: clean(trap.to_string()) },
            None if error.root_cause().to_string().contains("fuel allocated for hostcalls") => {
                Cause::Limit { limit: format!("{} bytes handed over at once", limits.transfer()), setting: "fileBytes" }
            }
            // A host function refused what the guest asked of it; where in the guest that was helps nobody here.
            None if error.downcast_ref::<WasmBacktrace>().is_some() => {
                Cause::Trap { message: clean(error.root_cause().to_string()) }
            }
            None => Cause::Answer { message: clean(format!("{error:#}")) },
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("out of processor time")]
struct OutOfTime;

/// What the host functions of one call work with.
pub(crate) struct State {
    outbound: Arc<dyn Outbound>,
    log: Arc<GuestLog>,
    limiter: Limiter,
    meter: Arc<Meter>,
    http: Duration,
    clock: (std::time::SystemTime, [u8; 32]),
    wasi: Option<Box<Wasi>>,
}

impl HttpHost for State {
    async fn send(&mut self, requests: Vec<bindings::Request>) -> Vec<Result<bindings::Response, HttpError>> {
        let started = Instant::now();
        let requests = requests.into_iter().map(bindings::outgoing).collect();
        let answers = self.outbound.send(requests).await;
        self.http += started.elapsed();
        answers.into_iter().map(bindings::incoming).collect()
    }
}

impl LogHost for State {
    async fn write(&mut self, level: Level, message: String) {
        self.log.write(level, &message);
    }
}

impl types::Host for State {}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { wasi, clock: (now, entropy), log, .. } = self;
        let wasi = wasi.get_or_insert_with(|| Box::new(Wasi::inert(*now, *entropy, log)));
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// The log lines of one guest: cleaned, with plugin and pod, and not more than the grant allows.
pub(crate) struct GuestLog {
    plugin: String,
    digest: String,
    pod: Pod,
    redactor: Redactor,
    message: usize,
    lines: u64,
    written: AtomicU64,
}

impl GuestLog {
    fn new(ready: &Ready, pod: &Pod, redactor: Redactor) -> Self {
        let limits = ready.limits();
        Self {
            plugin: ready.name().to_owned(),
            digest: ready.digest().to_string(),
            pod: pod.clone(),
            redactor,
            message: limits.message,
            lines: limits.log_lines as u64,
            written: AtomicU64::new(0),
        }
    }

    pub(crate) fn write(&self, level: Level, message: &str) {
        if self.written.fetch_add(1, Ordering::Relaxed) >= self.lines {
            return;
        }
        let Self { plugin, digest, pod: Pod { namespace, name: pod, .. }, .. } = self;
        let message = self.redactor.clean(message, self.message);
        macro_rules! emit {
            ($level:ident) => {
                tracing::$level!(target: "coffer::provider", plugin, digest, namespace, pod, "{message}")
            };
        }
        match level {
            Level::Debug => emit!(debug),
            Level::Info => emit!(info),
            Level::Warn => emit!(warn),
            Level::Error => emit!(error),
        }
    }

    /// Says how many lines were dropped.
    fn finish(&self) -> usize {
        let dropped = self.written.load(Ordering::Relaxed).saturating_sub(self.lines);
        if dropped > 0 {
            let Self { plugin, pod: Pod { namespace, name: pod, .. }, lines, .. } = self;
            tracing::warn!(target: "coffer::provider", plugin, namespace, pod, dropped, lines, "log lines over the limit were dropped");
        }
        usize::try_from(dropped).unwrap_or(usize::MAX)
    }
}

/// Bounds memories and tables, and remembers what it refused: the guest only sees that it got nothing.
struct Limiter {
    memory: usize,
    table_elements: usize,
    memory_used: usize,
    table_elements_used: usize,
    peak: usize,
    denied: Option<Denied>,
}

#[derive(Clone, Copy)]
enum Denied {
    Memory,
    Table,
}

impl Denied {
    fn cause(self, limits: &Limits) -> Cause {
        match self {
            Self::Memory => Cause::Limit { limit: format!("{} of memory", size(limits.memory)), setting: "memory" },
            Self::Table => {
                Cause::Limit { limit: format!("{} table elements", limits.table_elements), setting: "tableElements" }
            }
        }
    }
}

impl Limiter {
    fn new(limits: &Limits) -> Self {
        let Limits { memory, table_elements, .. } = *limits;
        Self { memory, table_elements, memory_used: 0, table_elements_used: 0, peak: 0, denied: None }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_used.saturating_sub(current).saturating_add(desired);
        if total > self.memory || maximum.is_some_and(|maximum| desired > maximum) {
            self.denied = Some(Denied::Memory);
            return Ok(false);
        }
        self.memory_used = total;
        self.peak = self.peak.max(total);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements_used.saturating_sub(current).saturating_add(desired);
        if total > self.table_elements || maximum.is_some_and(|maximum| desired > maximum) {
            self.denied = Some(Denied::Table);
            return Ok(false);
        }
        self.table_elements_used = total;
        Ok(true)
    }
}

fn bound_checked(checked: Checked, redactor: &Redactor, limits: &Limits) -> Result<Checked, Cause> {
    let Checked { scope, session_key, remarks } = checked;
    let (length, limit) = (session_key.len(), limits.message);
    if length > limit {
        return Err(Cause::Answer { message: format!("its session key has {length} bytes, more than {limit}") });
    }
    let remarks = remarks.iter().take(limits.log_lines).map(|remark| redactor.clean(remark, limit)).collect();
    Ok(Checked { scope, session_key, remarks })
}

fn clean_failure(failure: types::Failure, redactor: &Redactor, limits: &Limits) -> Failure {
    let Failure { kind, message } = bindings::failure(failure);
    let message = redactor.clean_lines(&message, limits.message);
    Failure { kind, message: if message.is_empty() { "the provider gave no reason".into() } else { message } }
}

fn bound_outcome(outcome: Outcome, request: &Request, redactor: &Redactor, limits: &Limits) -> Result<Outcome, Cause> {
    let Outcome { mounted, session } = outcome;
    let mounted = match mounted {
        None if request.mounted.is_empty() => {
            return Err(Cause::Answer { message: "`unchanged` for a volume that has nothing in it yet".into() });
        }
        None => None,
        Some(mounted) => Some(bound_mounted(mounted, redactor, limits)?),
    };
    if let Some(session) = &session {
        within(session.state.len(), limits.session, "bytes of session", "session")?;
        redactor.learn(session.state.expose());
    }
    Ok(Outcome { mounted, session })
}

fn bound_mounted(mounted: Mounted, redactor: &Redactor, limits: &Limits) -> Result<Mounted, Cause> {
    let Mounted { files, objects } = mounted;
    within(files.len(), limits.files, "files", "files")?;
    within(objects.len(), limits.objects, "object versions", "objects")?;
    let bytes = files.iter().fold(0_usize, |sum, file| sum.saturating_add(file.contents.len()));
    within(bytes, limits.file_bytes, "bytes of file contents", "fileBytes")?;
    // A path cannot be cleaned like a message: another path would be another file.
    if files.iter().any(|file| redactor.finds(&file.path)) {
        return Err(Cause::Answer { message: "the path of a file contains a secret of the request".into() });
    }
    let clean = |text: String| redactor.clean(&text, limits.message);
    let objects = objects
        .into_iter()
        .map(|ObjectVersion { id, version }| ObjectVersion { id: clean(id), version: clean(version) });
    Ok(Mounted { files, objects: objects.collect() })
}

/// As the configuration writes sizes, where it comes out even.
fn size(bytes: usize) -> String {
    match bytes % (1 << 20) {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

fn within(found: usize, limit: usize, what: &str, setting: &'static str) -> Result<(), Cause> {
    match found > limit {
        true => Err(Cause::Limit { limit: format!("{limit} {what} with {found}"), setting }),
        false => Ok(()),
    }
}
