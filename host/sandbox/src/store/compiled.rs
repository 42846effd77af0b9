//! The third step: native code, from the cache or from the compiling child.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::engine::Engine;
use crate::error::{Cause, Error, Stage};
use crate::limits::Limits;
use crate::store::cache::Key;
use crate::store::{Cache, Digest, Ready, Verified};

/// The largest code that is taken from the child, in bytes; about a hundred times the largest component that is sane.
const LARGEST_CODE: u64 = 512 << 20;

/// How much of the child's words is kept, in bytes.
const MESSAGE: u64 = 4 << 10;

/// How to start the compiling child, and where to keep what it makes.
pub struct Compiler {
    /// The program: this one, usually.
    pub program: PathBuf,
    /// The arguments that make it the child; the limits are appended as `--address-space BYTES --cpu-seconds SECONDS`.
    pub arguments: Vec<OsString>,
    /// Where compiled code is kept; none to compile every time.
    pub cache: Option<Cache>,
}

/// Where native code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was compiled before.
    Cache,
    /// It was compiled now.
    Compiler,
}

/// A component in native code that this Coffer made.
pub struct Compiled {
    pub(super) plugin: String,
    pub(super) digest: Digest,
    pub(super) code: Vec<u8>,
    pub(super) limits: Limits,
    origin: Origin,
}

impl Verified {
    /// Takes the native code from the cache or has it made.
    ///
    /// A cache that cannot be written is a warning, not an error.
    ///
    /// # Errors
    /// [`Cause::Compiler`], [`Cause::CompileDeadline`] and [`Cause::CompileRefused`].
    pub async fn compile(self, engine: &Engine, compiler: &Compiler) -> Result<Compiled, Error> {
        let key = Key { digest: self.digest, engine: engine.compatibility() };
        let cached = compiler.cache.as_ref().and_then(|cache| cache.read(&key));
        let (code, origin) = match cached {
            Some(code) => (code, Origin::Cache),
            None => (self.compile_anew(compiler, &key).await?, Origin::Compiler),
        };
        let Self { plugin, digest, limits, .. } = self;
        Ok(Compiled { plugin, digest, code, limits, origin })
    }

    async fn compile_anew(&self, compiler: &Compiler, key: &Key) -> Result<Vec<u8>, Error> {
        let limit = self.limits.compile_time;
        let code = match tokio::time::timeout(limit, compiler.run(self.bytes.clone(), &self.limits)).await {
            Ok(result) => result,
            Err(_) => Err(Cause::CompileDeadline { limit }),
        };
        let code = code.map_err(|cause| Error { plugin: self.plugin.clone(), stage: Stage::Compile, cause })?;
        if let Some(Err(error)) = compiler.cache.as_ref().map(|cache| cache.write(key, &code)) {
            tracing::warn!(plugin = self.plugin, %error, "the compiled plugin cannot be cached, the next start compiles it again");
        }
        Ok(code)
    }
}

impl Compiled {
    /// Where the code came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The size of the native code in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.code.len()
    }

    /// Loads the code and links it to the contract.
    ///
    /// # Errors
    /// [`Cause::ForeignImport`], [`Cause::ForeignContract`], [`Cause::Mismatch`] and [`Cause::Engine`].
    pub fn ready(self, engine: &Engine) -> Result<Ready, Error> {
        Ready::new(self, engine)
    }
}

impl Compiler {
    async fn run(&self, component: Arc<[u8]>, limits: &Limits) -> Result<Vec<u8>, Cause> {
        let mut child = self.start(limits).map_err(failed("it cannot be started"))?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async move {
            // A child that ended early closes the pipe; its status says why.
            if let Some(mut input) = input {
                let _ = input.write_all(&component).await;
            }
        };
        let ((), code, message) = tokio::join!(feed, read(output, LARGEST_CODE), read(errors, MESSAGE));
        let status = child.wait().await.map_err(failed("waiting for it"))?;
        let code = code.map_err(failed("reading its code"))?;
        match status.success() && !code.is_empty() {
            true => Ok(code),
            false => Err(Cause::CompileRefused { message: explain(status, &message.unwrap_or_default(), limits) }),
        }
    }

    fn start(&self, limits: &Limits) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .arg("--address-space")
            .arg(limits.compile_memory.to_string())
            .arg("--cpu-seconds")
            .arg(limits.compile_time.as_secs().max(1).to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Cause {
    move |source| Cause::Compiler { what, source }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn explain(status: ExitStatus, message: &[u8], limits: &Limits) -> String {
    use std::os::unix::process::ExitStatusExt;
    let message = crate::redact::Redactor::default().clean(&String::from_utf8_lossy(message), MESSAGE as usize);
    match status.signal() {
        Some(signal) => format!(
            "the compiling process was ended by signal {signal}; it may use {} bytes of memory and {:?}, raise \
             `limits.compileMemory` or `limits.compileTime` for a large component. {message}",
            limits.compile_memory, limits.compile_time,
        ),
        None if message.is_empty() => format!("the compiling process ended with {status} and said nothing"),
        None => message,
    }
}
