//! Stand-ins for the neighbours of Coffer, over real sockets and real TLS on loopback.
//!
//! [`Emulator`] is Microsoft Entra's token endpoint, AD FS, the token proxy of a cluster and Azure Key Vault in one HTTPS
//! listener, and a node's metadata service and NMI in one without TLS. It checks what the
//! services check, so that a client that would fail there fails here too, and it misbehaves on demand. It must never
//! print or log a secret, a token or a value of a query, and listens on loopback only, unless its caller has a network
//! namespace of its own.

pub mod apiserver;
pub mod authority;
pub mod clock;
pub mod cloud;
pub mod emulator;
pub mod entra;
pub mod faults;
pub mod kubelet;
pub mod log;
pub mod metadata;
pub mod node;
pub mod state;
pub mod vault;

mod answer;
mod server;
mod wire;

pub use answer::Answer;
pub use cloud::Cloud;
pub use emulator::{Emulator, Settings, StartError};
pub use faults::{Fault, Gate, Matcher, Quota, RetryAfter, Times, TlsFault};
pub use log::{Counters, Entry, Kind};
pub use vault::{Action, Collection, NextLink};
