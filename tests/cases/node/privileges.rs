//! What the driver may still do when it runs: mount, change owners, read files of any mode; and nothing else.

use std::fs;

use super::namespace::skip_without_root;
use super::world::{World, pod};

/// `CAP_CHOWN`, `CAP_DAC_READ_SEARCH`, `CAP_SYS_ADMIN`.
const NEEDED: u64 = 1 << 0 | 1 << 2 | 1 << 21;

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.split(':').next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} is not in {status}")).split_once(':').unwrap().1.trim()
}

fn capabilities(status: &str, set: &str) -> u64 {
    u64::from_str_radix(field(status, set), 16).unwrap()
}

#[tokio::test]
async fn no_thread_has_more_than_it_needs_and_none_can_get_more() {
    let world = World::new().await;
    // By now there are threads of the runtime, and those that block.
    world.publish(&pod("web")).await;
    let statuses = world.driver().statuses();
    assert!(statuses.len() >= 2, "{}", statuses.len());
    for status in &statuses {
        let thread = field(status, "Name");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(capabilities(status, set), NEEDED, "{thread}: {set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(capabilities(status, set), 0, "{thread}: {set}");
        }
        assert_eq!(field(status, "NoNewPrivs"), "1", "{thread}");
    }
}

#[tokio::test]
async fn the_process_leaves_no_core_dump() {
    let world = World::new().await;
    let id = world.driver().id();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let numbers: Vec<&str> = core.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
}

#[tokio::test]
async fn with_what_it_has_it_can_do_everything_it_has_to() {
    let world = World::new().await;
    let group = if skip_without_root("another group") { None } else { Some(4321) };
    let pod = group.map_or_else(|| pod("web"), |group| pod("web").fs_group(group));
    world.publish(&pod).await;
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}
