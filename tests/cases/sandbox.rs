//! Guests on the bench: a component from `target/components`, an engine with room for one call, a way out, and
//! everything that a call left behind.
//!
//! The engine of a bench holds exactly one instance. So when a hostile call keeps its place, the honest call after it
//! finds none, and the test fails for certain. Used by every test of `hostile`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use coffer_sandbox::egress::{Answers, Outbound, Request as HttpRequest, Response};
use coffer_sandbox::engine::{Engine, Pool};
use coffer_sandbox::error::Error;
use coffer_sandbox::instance::{Call, Called};
use coffer_sandbox::limits::Limits;
use coffer_sandbox::provider::{Checked, Outcome, Parameters, Pod, Request, ServiceAccountToken};
use coffer_sandbox::redact::Redactor;
use coffer_sandbox::store::{Cache, Compiler, Ready, Source};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The pod's token: a canary, nobody may ever see it.
pub const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.canary-of-the-token.c2lnbmF0dXJl";

/// A guest that is ready to be called.
pub struct Bench {
    pub ready: Ready,
    pub log: Log,
    _quiet: DefaultGuard,
}

impl Bench {
    /// The guest `target/components/NAME.wasm`, with these limits.
    pub async fn new(name: &str, limits: Limits) -> Self {
        let path = components().join(format!("{name}.wasm"));
        assert!(path.exists(), "{} is not there; run `make guests`", path.display());
        Self::load(&path, limits, &engine()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// The component in a file.
    pub async fn load(path: &Path, limits: Limits, engine: &Engine) -> Result<Self, Error> {
        let (log, quiet) = Log::capture();
        let ready = ready(path, limits, engine).await?;
        Ok(Self { ready, log, _quiet: quiet })
    }

    /// Calls `check` in this mode.
    pub async fn check(&self, mode: &str, more: &[(&str, &str)]) -> Called<Checked> {
        self.ready.check(&parameters(mode, more), self.deadline()).await
    }

    /// Calls `mount` in this mode, with every request answered by [`Friendly`].
    pub async fn mount(&self, mode: &str, more: &[(&str, &str)]) -> Called<Outcome> {
        self.send(&request(mode, more), Arc::new(Friendly)).await
    }

    /// Calls `mount` with a request and a way out of the test's choice.
    pub async fn send(&self, request: &Request, outbound: Arc<dyn Outbound>) -> Called<Outcome> {
        self.send_with(request, outbound, Redactor::default()).await
    }

    /// The same with a redactor that the way out knows as well.
    pub async fn send_with(
        &self,
        request: &Request,
        outbound: Arc<dyn Outbound>,
        redactor: Redactor,
    ) -> Called<Outcome> {
        self.ready.mount(request, Call { outbound, redactor, deadline: self.deadline() }).await
    }

    /// An honest call works, within little memory.
    pub async fn is_well(&self) {
        let Called { result, usage } = self.mount("behaves", &[]).await;
        assert_eq!(contents(&result.unwrap()), "hello");
        assert!(usage.memory <= 4 << 20, "an honest call took {} bytes", usage.memory);
    }

    pub fn deadline(&self) -> Instant {
        Instant::now() + self.ready.limits().deadline
    }
}

/// An engine with room for one call at a time.
pub fn engine() -> Engine {
    Engine::new(Pool { calls: 1, ..Pool::default() }).unwrap()
}

/// Where `make guests` puts components.
pub fn components() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/components")
}

/// From a file to something callable. Native code is kept between runs; the compiler runs once for each component.
pub async fn ready(path: &Path, limits: Limits, engine: &Engine) -> Result<Ready, Error> {
    static COMPILER: LazyLock<Compiler> = LazyLock::new(compiler);
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let verified = Source::file("guest", path, limits)?.verify(None)?;
    let compiled = {
        let _turn = ONE_AT_A_TIME.lock().await;
        verified.compile(engine, &COMPILER).await?
    };
    compiled.ready(engine)
}

/// The cache is particular about its parents; where the checkout is writable for a group, it takes `/tmp`.
fn compiler() -> Compiler {
    let cache = [Path::new(env!("CARGO_TARGET_TMPDIR")).join("native-code"), std::env::temp_dir().join("coffer-tests")]
        .iter()
        .find_map(|folder| Cache::open(folder).ok());
    Compiler { program: env!("CARGO_BIN_EXE_coffer-test-compiler").into(), arguments: Vec::new(), cache }
}

/// A request of one pod, with the mode and more parameters.
pub fn request(mode: &str, more: &[(&str, &str)]) -> Request {
    let token = ServiceAccountToken {
        audience: "api://store".to_owned(),
        token: TOKEN.to_owned().into(),
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
    };
    Request {
        pod: Pod {
            name: "web-0".to_owned(),
            namespace: "shop".to_owned(),
            uid: "11111111-2222-3333-4444-555555555555".to_owned(),
            service_account: "web".to_owned(),
        },
        parameters: parameters(mode, more),
        secrets: BTreeMap::new(),
        tokens: vec![token],
        config: BTreeMap::new(),
        default_mode: 0o644,
        mounted: Vec::new(),
        session: None,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        entropy: [7; 32],
    }
}

pub fn parameters(mode: &str, more: &[(&str, &str)]) -> Parameters {
    more.iter().chain([&("mode", mode)]).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The only file of an outcome, as text.
pub fn contents(outcome: &Outcome) -> &str {
    let [file] = outcome.mounted.as_ref().unwrap().files.as_slice() else { panic!("not one file: {outcome:?}") };
    std::str::from_utf8(file.contents.expose()).unwrap()
}

/// What an operator would read: the error and its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A way out where every request is answered with 200 and `hello`.
pub struct Friendly;

impl Outbound for Friendly {
    fn send(&self, requests: Vec<HttpRequest>) -> Answers<'_> {
        let hello = |_| Ok(Response { status: 200, headers: Vec::new(), body: b"hello".to_vec() });
        Box::pin(std::future::ready(requests.into_iter().map(hello).collect()))
    }
}

/// Everything that this thread logs.
#[derive(Clone, Default)]
pub struct Log {
    /// As an operator would read it: events with all their fields and spans.
    text: Arc<Mutex<Vec<u8>>>,
    /// Level and message of the lines of providers.
    guest: Arc<Mutex<Vec<(String, String)>>>,
}

impl Log {
    fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let readable = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(readable).with(log.clone());
        (log, subscriber.set_default())
    }

    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8(locked(&self.text).clone()).unwrap()
    }

    /// Level and message of the lines that the guest wrote.
    pub fn guest(&self) -> Vec<(String, String)> {
        locked(&self.guest).clone()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "coffer::provider" {
            let mut message = Message::default();
            event.record(&mut message);
            locked(&self.guest).push((event.metadata().level().to_string(), message.0));
        }
    }
}

/// Picks the message out of an event's fields.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        locked(&self.text).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
