//! `coffer mount` and `coffer check` as a user runs them: the real program, the real Azure component, real TLS, and the
//! emulator for Microsoft Entra and Key Vault.
//!
//! What every run must keep to is asserted where it runs, in `world`: no secret in any output, one message that does
//! not repeat itself, and a target that a failure leaves as it was.

mod arc_page;
mod cache;
mod identities;
mod mistakes;
mod network;
mod objects;
mod output;
mod refusals;
mod size;
mod world;

use world::World;
