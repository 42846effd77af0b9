//! The few calls to the Kubernetes API, each in one place.
//!
//! The callers are `publish`, `sync` and `commands::node`. No list, no watch, and nothing that a mount has to wait for but the
//! class.

mod call;
pub mod classes;
pub mod client;
pub mod driver;
pub mod events;
mod names;
mod pause;
pub mod pod_statuses;
pub mod secrets;
pub mod startup_taint;

pub(crate) use call::{Failure, Freshness, Kind};
pub(crate) use names::{hex, is_name};
pub(crate) use pause::Pauses;
