//! A write that stops after each of its steps, as if its process had died there, and the write that comes next.

use super::*;

use std::os::fd::AsFd;

use crate::volume::plan::Plan;
use crate::volume::step::Runner;
use crate::volume::writer;

fn plan(target: &Path, files: &FileSet) -> Plan {
    writer::plan(&Volume::open(target).unwrap(), files, now()).unwrap()
}

fn count(plan: &Plan) -> usize {
    plan.build.len() + plan.finish.len()
}

/// Takes the first `count` steps of `plan` and drops the rest.
fn take(target: &Path, files: &FileSet, plan: &Plan, count: usize) {
    let volume = Volume::open(target).unwrap();
    let mut runner = Runner::new(volume.folder.as_fd(), files);
    for step in plan.build.iter().chain(&plan.finish).take(count) {
        runner.take(step).unwrap();
    }
}

/// For every number of steps: makes a volume with `start`, takes so many steps towards `to`, hands it to `check`.
fn stop_after_every_step(start: &dyn Fn() -> TempDir, to: &FileSet, check: &mut dyn FnMut(&Path, usize, &Plan)) {
    let steps = count(&plan(start().path(), to));
    assert!(steps > 5, "this shows nothing");
    for stop in 0..=steps {
        let target = start();
        let plan = plan(target.path(), to);
        assert_eq!(count(&plan), steps);
        take(target.path(), to, &plan, stop);
        check(target.path(), stop, &plan);
    }
}

fn empty() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn the_next_write_repairs_what_a_first_write_left() {
    for next in [OLD, OTHER, &[]] {
        stop_after_every_step(&empty, &files(OLD), &mut |target, _, _| {
            replace(target, &files(next));
            assert_holds(target, &files(next));
            assert_eq!(replace(target, &files(next)), Change::Unchanged);
        });
    }
}

#[test]
fn the_next_write_repairs_what_a_later_write_left() {
    for next in [OLD, NEW, OTHER] {
        stop_after_every_step(&|| volume_with(OLD), &files(NEW), &mut |target, _, _| {
            replace(target, &files(next));
            assert_holds(target, &files(next));
            assert_eq!(replace(target, &files(next)), Change::Unchanged);
        });
    }
}

#[test]
fn the_next_write_repairs_even_if_the_contents_are_right_and_says_so() {
    let mut repaired = 0;
    stop_after_every_step(&|| volume_with(OLD), &files(NEW), &mut |target, stop, plan| {
        let in_force = if stop < plan.build.len() { OLD } else { NEW };
        let change = replace(target, &files(in_force));
        let untouched = stop == 0 || stop == count(plan);
        assert_eq!(change, if untouched { Change::Unchanged } else { Change::Repaired }, "after {stop} steps");
        assert_holds(target, &files(in_force));
        repaired += usize::from(!untouched);
    });
    assert!(repaired > 5);
}

#[test]
fn two_crashes_in_a_row_are_repaired() {
    let small: [Content<'_>; 3] = [
        &[("gone", 0o644, "1"), ("turns", 0o644, "1")],
        &[("turns/b", 0o644, "2")],
        &[("new", 0o644, "3"), ("turns", 0o644, "3")],
    ];
    let [first, second, third] = small.map(files);
    let steps = count(&plan(volume_with(small[0]).path(), &second));
    for stop in 0..=steps {
        let crashed = || {
            let target = volume_with(small[0]);
            take(target.path(), &second, &plan(target.path(), &second), stop);
            target
        };
        stop_after_every_step(&crashed, &third, &mut |target, _, _| {
            let next = if stop % 2 == 0 { &first } else { &second };
            replace(target, next);
            assert_holds(target, next);
        });
    }
}

#[test]
fn a_crash_among_strangers_is_repaired() {
    let start = || {
        let target = volume_with(OLD);
        litter(target.path());
        target
    };
    stop_after_every_step(&start, &files(NEW), &mut |target, _, _| {
        replace(target, &files(NEW));
        assert!(shows(target, &files(NEW)));
        for name in files(NEW).top_level_names() {
            assert_eq!(std::fs::read_link(target.join(name)).unwrap(), Path::new(DATA).join(name));
        }
        assert_eq!(replace(target, &files(NEW)), Change::Unchanged);
    });
}

#[test]
fn after_every_step_a_reader_sees_the_old_version_or_the_new_one() {
    let (old, new) = (files(OLD), files(NEW));
    stop_after_every_step(&|| volume_with(OLD), &new, &mut |target, stop, plan| {
        let in_force = if stop < plan.build.len() { &old } else { &new };
        assert!(shows(target, in_force), "after {stop} steps");
        for file in in_force.iter() {
            // Through the links of the top level as well.
            let seen = std::fs::read(target.join(file.path())).unwrap();
            assert_eq!(seen, file.expose(), "{} after {stop} steps", file.path());
        }
    });
}

#[test]
fn after_every_step_a_reader_among_strangers_sees_the_old_version_or_the_new_one() {
    let start = || {
        let target = volume_with(OLD);
        litter(target.path());
        target
    };
    stop_after_every_step(&start, &files(NEW), &mut |target, stop, plan| {
        let in_force = if stop < plan.build.len() { OLD } else { NEW };
        assert!(shows(target, &files(in_force)), "after {stop} steps");
    });
}
