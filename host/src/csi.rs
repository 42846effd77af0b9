//! kubelet's door: the services that kubelet calls over Unix sockets.
//!
//! Turns RPCs into requests of our own types and refusals into gRPC codes. It must never look anything up, and never
//! log a request. `commands::node` starts it; what it calls stands behind [`volumes::Volumes`].
//!
//! The oldest kubelet is 1.29. All of them name the path of the registration socket as `:authority`, percent-encoded, which
//! HTTP allows before an `@` and not in a host; so there is an `@` in the socket's name. Those before 1.29 send the path as
//! it is: every call is answered with a reset (`PROTOCOL_ERROR`) before anything of ours sees it.

mod call;
mod identity;
mod node;
pub mod proto;
pub mod registration;
mod request;
pub mod server;
pub mod status;
pub mod volumes;
