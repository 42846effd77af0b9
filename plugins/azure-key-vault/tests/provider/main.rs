//! The provider from outside: whole mounts over an HTTP that is a list of expected requests and their answers.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests: a panic is a failed test")]

mod arc_page;
mod classes;
mod failures;
mod keys;
mod strange;
mod tokens;
mod wire;
