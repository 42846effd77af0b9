//! What guests try, and what becomes of it: each mode of each guest has the test of its name.
//!
//! A test asserts the exact error and that the next, honest call works. `memory` is about what stays behind, `crowd`
//! about many at once.

mod asking;
mod crowd;
mod greedy;
mod honest;
mod leaking;
mod memory;
mod text;
mod wasi;
mod world;
mod writing;

#[macro_use]
#[path = "../guests/modes/modes.rs"]
mod modes;

#[macro_use]
#[path = "../guests/wasi/modes.rs"]
mod wasi_modes;

/// Every mode has a test: this does not compile without one.
macro_rules! assert_a_test_exists {
    ($($(#[doc = $about:literal])+ $mode:ident,)+) => {
        $(
            #[allow(unused_imports, reason = "naming it is the test")]
            use self::the_tests::$mode as _;
        )+
    };
}
for_each_mode!(assert_a_test_exists);
for_each_wasi_mode!(assert_a_test_exists);

mod the_tests {
    pub(super) use super::asking::*;
    pub(super) use super::greedy::*;
    pub(super) use super::honest::*;
    pub(super) use super::leaking::*;
    pub(super) use super::wasi::*;
    pub(super) use super::writing::*;
}
