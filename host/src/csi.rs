//! kubelet's door: the services that kubelet calls over Unix sockets.

pub mod proto;
pub mod status;
pub mod volumes;
