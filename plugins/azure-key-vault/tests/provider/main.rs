//! The provider from outside: whole mounts over an HTTP that is a list of expected requests and their answers.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

mod arc_page;
mod certificates;
mod classes;
mod clouds;
mod documentation;
mod failover;
mod failures;
mod history;
mod identities;
mod keys;
mod ledger;
mod openssl;
mod parts;
mod pfx;
mod sources;
mod strange;
mod tokens;
mod wire;
