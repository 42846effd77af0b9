//! The Kubernetes objects that Coffer reads, as types.
pub mod class;
