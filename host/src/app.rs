//! Wires: configuration → engine, compiler and cache → plugins that can be called.
//!
//! The only place that knows how these fit together. It decides nothing about a class. `commands` are the callers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_sandbox::egress::{Egress, Pace, Settings, SetupError};
use coffer_sandbox::engine::{Engine, Pool};
use coffer_sandbox::store::{Cache, Compiler, Ready, Source};

use crate::config::{Config, Grant};

/// The hidden subcommand that makes this program the compiling child.
pub const COMPILE: &str = "compile-component";

/// A plugin with its way out.
pub struct Plugin {
    /// The component, callable.
    pub ready: Ready,
    /// Its rules and connections.
    pub egress: Arc<Egress>,
}

/// What all plugins of a process share.
pub struct App {
    config: Config,
    engine: Engine,
    compiler: Compiler,
    pace: Pace,
}

/// Why a plugin cannot be made callable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine cannot run WebAssembly as we want it.
    #[error("the WebAssembly engine cannot be started: {0}")]
    Engine(String),
    /// This program's file is gone.
    #[error("this program's own file cannot be found, so it cannot start the compiler")]
    Program(#[source] std::io::Error),
    /// The plugin itself.
    #[error(transparent)]
    Plugin(#[from] coffer_sandbox::error::Error),
    /// Its grant.
    #[error("the egress settings of provider `{provider}` cannot be used")]
    Egress {
        /// The provider.
        provider: String,
        /// Why not.
        source: SetupError,
    },
}

impl App {
    /// Starts the engine. A cache that cannot be used costs time, not the mount.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] and [`Error::Program`].
    pub fn new(config: Config, calls: u32) -> Result<Self, Error> {
        let engine = Engine::new(pool(&config, calls)).map_err(Error::Engine)?;
        let cache = match Cache::open(&config.cache) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(cause = cause(&error), "{error}; compiling without a cache");
                None
            }
        };
        let program = program().map_err(Error::Program)?;
        let compiler = Compiler { program, arguments: vec![OsString::from(COMPILE)], cache };
        Ok(Self { config, engine, compiler, pace: Pace::default() })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is known of the hosts that the plugins ask.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Makes a provider's plugin callable: reads, verifies, compiles and links it.
    ///
    /// # Errors
    ///
    /// [`Error::Plugin`] and [`Error::Egress`].
    pub async fn load(&self, provider: &str, grant: &Grant) -> Result<Plugin, Error> {
        let settings = Settings {
            ca: self.config.ca.clone(),
            proxy: self.config.proxy.clone(),
            user_agent_suffix: grant.user_agent_suffix.clone(),
            pace: self.pace.clone(),
            ..Settings::default()
        };
        let egress = Egress::new(grant.rules.clone(), settings)
            .map_err(|source| Error::Egress { provider: provider.to_owned(), source })?;
        let ready = Source::file(provider, &grant.file, grant.limits.clone())?
            .verify(grant.digest.as_ref())?
            .compile(&self.engine, &self.compiler)
            .await?
            .ready(&self.engine)?;
        tracing::debug!(provider, digest = %ready.digest(), "plugin is ready");
        Ok(Plugin { ready, egress })
    }
}

/// As many instances as calls, each as large as the largest grant allows.
fn pool(config: &Config, calls: u32) -> Pool {
    let grants = || config.providers.values();
    let memory = grants().map(|grant| grant.limits.memory).max().unwrap_or_default();
    let tables = grants().map(|grant| grant.limits.table_elements).max().unwrap_or_default();
    let least = Pool::default();
    Pool { calls, memory: memory.max(least.memory), table_elements: tables.max(least.table_elements) }
}

/// This program's own file, even if another one has taken its name meanwhile.
fn program() -> std::io::Result<PathBuf> {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { Ok(itself) } else { std::env::current_exe() }
}

fn cause(error: &dyn std::error::Error) -> Option<String> {
    error.source().map(ToString::to_string)
}
