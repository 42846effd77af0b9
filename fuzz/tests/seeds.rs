//! Every seed of every fuzz target, run once: the promises hold for them, and the targets stay sound without `make fuzz`.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use coffer_fuzz::TARGETS;

#[test]
fn every_seed_keeps_the_promises_of_its_target() {
    for target in &TARGETS {
        let seeds = target.seeds().unwrap();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for (path, seed) in seeds {
            println!("{}: {}", target.name, path.display());
            (target.run)(&seed);
        }
    }
}
