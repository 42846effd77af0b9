//! kubelet's door: the services that kubelet calls over Unix sockets.
//!
//! Turns RPCs into requests of our own types and refusals into gRPC codes. It must never look anything up, and never
//! log a request. `commands::node` starts it; what it calls stands behind [`volumes::Volumes`].
//!
//! The oldest kubelet is 1.26. Those before it name the socket's path as `:authority`, percent-encoded, which HTTP does
//! not allow in a host: the connection stays, but every call on it is answered with a reset (`PROTOCOL_ERROR`) before
//! anything of ours sees it.

mod call;
mod identity;
mod node;
pub mod proto;
pub mod registration;
mod request;
pub mod server;
pub mod status;
pub mod volumes;
