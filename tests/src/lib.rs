//! What the tests of more than one crate stand on: stand-ins for the services that Coffer talks to.
//!
//! The library exists so that the test binary and the programs under `src/bin` share one implementation. Nothing
//! here ships with Coffer, and nothing here may be reached by anything that does.

pub mod harness;
