//! The WebAssembly engine: its configuration, the clock that interrupts guests, and the bound on running instances.
//!
//! One engine serves all plugins of a process. The same configuration, without the instance pool, drives the compiling
//! child (`store::child`): both must agree, or compiled code would not load. The ticker thread lives only while an
//! instance does, so an idle driver does not wake up.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use wasmtime::{Config, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How long a guest computes before it is looked at: it yields to other calls, and its limits are checked.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// The stack of a guest, in bytes.
const GUEST_STACK: usize = 512 << 10;

/// The stack of the fiber that runs a guest and the host functions it calls, in bytes.
const FIBER_STACK: usize = 1 << 20;

/// How large the pool of instances is.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Calls at the same time, over all plugins; further ones wait.
    pub calls: u32,
    /// The largest linear memory that a grant may give to one call, in bytes.
    pub memory: usize,
    /// The largest table, in elements.
    pub table_elements: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self { calls: 64, memory: 256 << 20, table_elements: 100_000 }
    }
}

/// The engine that runs compiled components.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: wasmtime::Engine,
    pub(crate) calls: Arc<Semaphore>,
    ticker: Arc<Ticker>,
}

impl Engine {
    /// Reserves address space for the pool; costs no memory until instances run.
    ///
    /// # Errors
    /// The engine's own words when the machine cannot run it, which are for whoever operates the node.
    pub fn new(pool: Pool) -> Result<Self, String> {
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
        let inner = wasmtime::Engine::new(&config).map_err(|error| format!("{error:#}"))?;
        let ticker = Arc::new(Ticker::default());
        Ok(Self { inner, calls: Arc::new(Semaphore::new(pool.calls as usize)), ticker })
    }

    /// A digest of everything that decides whether compiled code fits this engine, in hexadecimal.
    #[must_use]
    pub fn compatibility(&self) -> String {
        compatibility(&self.inner)
    }

    /// Keeps the ticker running as long as the answer lives. Fails when the system gives no thread: a guest must not
    /// run without it, nothing else could stop it.
    pub(crate) fn tick(&self) -> std::io::Result<Ticking> {
        Ticker::start(&self.ticker, &self.inner)
    }
}

/// The engine of the compiling child: it compiles and never runs anything.
pub(crate) fn compiler() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config())
}

pub(crate) fn compatibility(engine: &wasmtime::Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    // Half of it names a file well enough.
    hasher.0.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that compiled code depends on. The target is named, so an image built on a new processor runs on an old
/// one: without a name the compiler takes the features of the machine it runs on.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(FIBER_STACK)
        .async_stack_zeroing(true)
        .wasm_component_model(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8));
    // The name of the machine's own architecture without its features cannot be unknown.
    let _ = config.target(TARGET);
    config
}

const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

fn pooling(pool: Pool) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(pool.calls)
        .total_core_instances(pool.calls * 8)
        .total_memories(pool.calls)
        .total_tables(pool.calls * 8)
        .total_stacks(pool.calls)
        .max_core_instances_per_component(8)
        .max_memories_per_component(1)
        .max_tables_per_component(8)
        .max_memory_size(pool.memory)
        .table_elements(pool.table_elements)
        // What a guest touched goes back to the kernel at once: nothing of one pod stays for the next, and an idle
        // driver holds no memory of guests.
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .async_stack_keep_resident(0)
        .max_unused_warm_slots(0)
        .decommit_batch_size(1);
    pooling
}

struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        0 // The digest is read from the field.
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// Advances the engine's epoch every [`SLICE`] while somebody needs it.
#[derive(Default)]
struct Ticker {
    state: Mutex<TickerState>,
    idle: Condvar,
}

#[derive(Default)]
struct TickerState {
    /// Calls that run now.
    users: usize,
    /// Whether the thread exists.
    running: bool,
    /// Whether the thread waits for a call. Between calls that follow each other closely it does not, and nobody has
    /// to wake it.
    parked: bool,
}

impl Ticker {
    fn start(this: &Arc<Self>, engine: &wasmtime::Engine) -> std::io::Result<Ticking> {
        let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.running {
            let (ticker, engine) = (Arc::downgrade(this), engine.weak());
            std::thread::Builder::new().name("epoch-ticker".into()).spawn(move || run(&ticker, &engine))?;
            state.running = true;
        } else if state.parked {
            this.idle.notify_one();
        }
        state.users += 1;
        Ok(Ticking(this.clone()))
    }
}

/// Ends when nobody ran for [`LINGER`], and so also after the engine is gone.
fn run(ticker: &Weak<Ticker>, engine: &EngineWeak) {
    while let (Some(ticker), Some(engine)) = (ticker.upgrade(), engine.upgrade()) {
        let mut state = ticker.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.users > 0 {
            let (_state, _) = ticker.idle.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner);
            engine.increment_epoch();
            continue;
        }
        // Nobody runs: stay for a moment, then end. The next call starts a new thread.
        state.parked = true;
        let (mut state, _) = ticker.idle.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
        state.parked = false;
        if state.users == 0 {
            state.running = false;
            return;
        }
    }
}

/// How long the ticker waits for a next call before its thread ends.
const LINGER: Duration = Duration::from_secs(2);

/// Somebody needs ticks.
pub(crate) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.users = state.users.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiling_engine_and_the_running_one_agree() {
        let running = Engine::new(Pool::default()).unwrap();
        assert_eq!(running.compatibility(), compatibility(&compiler().unwrap()));
    }
}
