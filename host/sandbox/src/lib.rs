//! Runs providers: WebAssembly components that talk to a secret store and can do nothing else.
//!
//! In the order in which a provider meets them:
//!
//! * [`store`]: from a file to something callable, `Source → Verified → Compiled → Ready`, each a type of its own.
//! * [`limits`]: what one call may use.
//! * [`instance`]: one call in a fresh instance, stopped when it exceeds a limit.
//! * [`egress`]: the only way out. Rules, addresses, connections, retries, one audit record per request.
//! * [`provider`]: what goes in and what comes out, in types of this crate.
//! * [`error`]: every way to fail, with plugin, stage and who is at fault.
//!
//! This crate knows neither Kubernetes objects nor gRPC, and writes no file but those of its compilation cache. The
//! program `coffer` is its caller. No log line, error or `Debug` output of this crate holds a secret.

mod bindings;
pub mod egress;
pub mod engine;
pub mod error;
pub mod instance;
pub mod limits;
mod meter;
pub mod provider;
pub mod redact;
pub mod secret;
pub mod store;
mod wasi;
