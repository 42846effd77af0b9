//! What the Azure provider 1.8.2 does, row by row, and what becomes of each row here: `quirks` are its oddities, `errors`
//! its catalogue of failures, `parameters` what a class can say.
//!
//! A row names the tests that show it. The tests here hold the tables against the code: each named test exists, each
//! message is printed, no row is missing.

mod errors;
mod parameters;
mod quirks;

use crate::sources::has_test;

/// A test: the end of its file's path without `.rs`, and its name.
type Test = (&'static str, &'static str);

/// Asserts that a row names tests and that each of them exists.
fn assert_shown(row: &str, tests: &[Test]) {
    assert!(!tests.is_empty(), "no test shows {row}");
    for (place, name) in tests {
        assert!(has_test(place, name), "{row}: there is no test `{name}` in a file …/{place}.rs");
    }
}
