//! One fuzz target, which the environment names: under libFuzzer where `make fuzz` built it, else over given files.
//!
//! As a fuzzer it takes libFuzzer's arguments; `FUZZ_TARGET` says which target, and `FUZZ_SEEDS` a folder that gets the
//! seeds of it. Without `FUZZ_TARGET` it prints the names of all. As an ordinary program it replays inputs, in a debugger
//! for example: `FUZZ_TARGET=pfx cargo run --package coffer-fuzz -- FILE...`.

#![cfg_attr(fuzzing, no_main)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a tool for developers, which talks and ends"
)]
#![cfg_attr(fuzzing, allow(unsafe_code, reason = "libFuzzer calls exported C functions"))]

use coffer_fuzz::{TARGETS, Target};

/// The target that the environment names; without one, its names are printed and the program ends.
fn chosen() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(if name.is_empty() { 0 } else { 2 })
    })
}

#[cfg(not(fuzzing))]
fn main() {
    let target = chosen();
    for file in std::env::args_os().skip(1) {
        eprintln!("{}: {}", target.name, file.display());
        (target.run)(&std::fs::read(file).unwrap());
    }
}

#[cfg(fuzzing)]
static RUN: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: {
        let target = chosen();
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS").map(std::path::PathBuf::from) {
            for (index, (_, seed)) in target.seeds().unwrap().into_iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
            }
        }
        let _ = RUN.set(target.run);
    },
    |input: &[u8]| {
        if let Some(run) = RUN.get() {
            run(input);
        }
    }
);
