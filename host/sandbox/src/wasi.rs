//! The WASI that does nothing: for components whose standard library imports it.
//!
//! No preopened folders, an empty environment, no arguments, sockets and name lookup off; the wall clock stands at the
//! `now` of the request, randomness comes from its `entropy`, the monotonic clock is real (runtimes of other languages
//! hang without one), and output goes to the log. Made when a guest first asks for it; providers in Rust never do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder};

use crate::bindings::Level;
use crate::instance::GuestLog;

/// How much a guest may write to its output at once, in bytes.
const WRITE: usize = 4 << 10;

/// How many random bytes one call may ask for.
const RANDOM: u64 = 64 << 10;

/// How many resources (streams, pollables) a guest may hold.
const RESOURCES: usize = 1_000;

/// The inert WASI of one call.
pub(crate) struct Wasi {
    pub(crate) context: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl Wasi {
    pub(crate) fn inert(now: SystemTime, entropy: [u8; 32], log: &Arc<GuestLog>) -> Self {
        let [seed_secure, seed_insecure] = [1, 2].map(|domain| separate(entropy, domain));
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .wall_clock(Stopped(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
            .secure_random(StdRng::from_seed(seed_secure))
            .insecure_random(StdRng::from_seed(seed_insecure))
            .insecure_random_seed(u128::from_le_bytes(*first_half(&separate(entropy, 3))))
            .max_random_size(RANDOM)
            .stdout(Output(log.clone(), Level::Info))
            .stderr(Output(log.clone(), Level::Warn));
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self { context: builder.build(), table }
    }
}

/// Different bytes for every use of the one entropy.
fn separate(entropy: [u8; 32], domain: u8) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::new().chain_update(entropy).chain_update([domain]).finalize().into()
}

fn first_half(bytes: &[u8; 32]) -> &[u8; 16] {
    bytes.first_chunk().unwrap_or(&[0; 16])
}

struct Stopped(Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.0.as_secs())
    }
}

/// Standard output or error of a guest: lines of the log, under its limits.
struct Output(Arc<GuestLog>, Level);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink()) // Only WASI 0.3 asks for this one, and that is not linked.
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(self.0.clone(), self.1))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
            self.0.write(self.1, line);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}
