//! Stand-ins for the neighbours of Coffer, over real sockets and real TLS on loopback.
//!
//! [`Emulator`] is Microsoft Entra's token endpoint and Azure Key Vault in one HTTPS listener. It checks what the
//! services check, so that a client that would fail there fails here too, and it misbehaves on demand. It must never
//! print or log a secret, a token or a value of a query, and must never listen on anything but loopback.

pub mod authority;
pub mod clock;
pub mod cloud;
pub mod emulator;
pub mod entra;
pub mod faults;
pub mod log;
pub mod state;
pub mod vault;

mod answer;
mod server;
mod wire;

pub use answer::Answer;
pub use cloud::Cloud;
pub use emulator::{Emulator, Settings, StartError};
pub use faults::{Fault, Gate, Matcher, RetryAfter, Times, TlsFault};
pub use log::{Counters, Entry, Kind};
pub use vault::{Action, Collection, NextLink};
