//! `coffer node` as kubelet, the API server, an administrator and an attacker on the node meet it: the real program, the
//! real Azure component, real mounts in a mount namespace of each test.
//!
//! What every test must keep to is asserted where its world ends, in `world`. No test waits for time to pass: the clocks
//! of the driver are moved, see `clock`.

mod adoption;
mod api_server;
mod canary;
mod clock;
mod clocks;
mod crashes;
mod edits;
mod failures;
mod forged;
mod load;
mod memory;
mod namespace;
mod offline;
mod operations;
mod patience;
mod plugins;
mod privileges;
mod process;
mod publish;
mod races;
mod refresh;
mod registration;
mod restart;
mod sharing;
mod shutdown;
mod simulator;
mod space;
mod sync;
mod told;
mod unpublish;
mod world;
