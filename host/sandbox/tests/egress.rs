//! Egress at the wire: requests through a gate to servers, proxies and resolvers that the tests run themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails; clippy exempts test functions only, not what they share"
)]

#[path = "egress/world.rs"]
mod world;

#[path = "egress/audit.rs"]
mod audit;
#[path = "egress/budgets.rs"]
mod budgets;
#[path = "egress/connections.rs"]
mod connections;
#[path = "egress/names.rs"]
mod names;
#[path = "egress/proxies.rs"]
mod proxies;
#[path = "egress/responses.rs"]
mod responses;
