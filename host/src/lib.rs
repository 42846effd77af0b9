//! Coffer mounts secrets into Kubernetes pods; this is the program, as a library that `main` and the tests call.

pub mod api;
pub mod config;
pub mod manifest;
pub mod mistake;
pub mod nearest;
pub mod units;
pub mod volume;
pub mod yaml;
