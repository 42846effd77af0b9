//! What `build.rs` makes of `host/proto`.
#![allow(missing_docs, reason = "generated; the specification documents it")]
#![allow(unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated")]

/// The Container Storage Interface.
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// kubelet's plugin registration.
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
