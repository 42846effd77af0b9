//! What a mount is made of: plan → fetch → write.
//!
//! [`plan`] decides everything that can be decided beforehand; after it nothing is looked up. [`fetch`] asks the
//! provider and checks what it hands back. Writing is `volume`'s. The callers are `commands`.

pub mod error;
pub mod fetch;
pub mod plan;
pub mod request;

pub use error::Error;
