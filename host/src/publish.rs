//! What a mount is made of: plan → fetch → write → record.
//!
//! [`plan`] decides everything that can be decided beforehand; after it nothing is looked up. [`fetch`] asks the provider
//! and checks what it hands back. Writing is `volume`'s. `coffer mount` calls these directly; for the node [`pipeline`]
//! puts them together, with [`share`] so that what is equal is fetched once, [`sessions`] and [`plugins`] between them,
//! [`registry`] for what is known of each volume, [`timer`] for volumes that are due, and [`record`] at the end.

pub mod error;
pub mod fetch;
pub mod fingerprint;
pub mod looks;
pub mod obtain;
pub mod offline;
pub mod pipeline;
pub mod plan;
pub mod plugins;
pub mod record;
pub mod registry;
pub mod request;
pub mod sessions;
pub mod share;
pub mod status;
pub mod timer;
pub mod tokens;

pub use error::Error;
