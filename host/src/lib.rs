//! Coffer mounts secrets into Kubernetes pods; this is the program, as a library that `main` and the tests call.

pub mod api;
pub mod app;
pub mod args;
pub mod commands;
pub mod config;
pub mod csi;
pub mod error;
pub mod exit;
pub mod failure;
pub mod kube;
pub mod manifest;
pub mod mistake;
pub mod nearest;
pub mod privilege;
pub mod publish;
pub mod refresh;
pub mod socket;
pub mod sync;
pub mod tasks;
pub mod telemetry;
pub mod units;
pub mod volume;
pub mod yaml;
