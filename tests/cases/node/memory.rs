//! What is left of a secret in the memory of the driver when its volume is gone: nothing.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use coffer_tests::harness::kubelet::{Pod, Volume};

use super::patience::eventually;
use super::world::{CLASS, CLIENT_ID, SECRET, Setup, World};

/// No secret of another test, and long enough to be found by no accident.
const VALUE: &str = "canary that nobody may find in any memory";
const CLIENT_SECRET: &str = "canary~client~secret~that~is~looked~for";
/// Not more than this is looked at in one piece.
const WINDOW: usize = 1 << 20;

/// How often the bytes stand in the memory that a process can write and has touched.
fn count(process: u32, needle: &[u8]) -> usize {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    touched(&maps).map(|range| count_in(&memory, range, needle)).sum()
}

/// The ranges that can be written and of which some page is there.
fn touched(maps: &str) -> impl Iterator<Item = Range<u64>> {
    let mut writable = None;
    maps.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?) {
            ("Rss:", "0") => None,
            ("Rss:", _) => writable.take(),
            (range, rights) => {
                if let Some((from, to)) = range.split_once('-') {
                    let address = |text| u64::from_str_radix(text, 16).unwrap();
                    writable = rights.starts_with("rw").then(|| address(from)..address(to));
                }
                None
            }
        }
    })
}

fn count_in(memory: &File, range: Range<u64>, needle: &[u8]) -> usize {
    let (mut found, mut buffer) = (0, vec![0; WINDOW + needle.len()]);
    for start in range.step_by(WINDOW) {
        // Some cannot be read, such as those that the kernel keeps for itself.
        let Ok(read) = memory.read_at(&mut buffer, start) else { break };
        let seen = buffer[..read].split_inclusive(|byte| *byte == needle[0]).map(<[u8]>::len);
        let mut at = 0;
        for length in seen {
            at += length;
            found += usize::from(at <= WINDOW && buffer[at - 1..read].starts_with(needle));
        }
    }
    found
}

#[tokio::test]
async fn of_a_volume_that_is_gone_no_secret_is_left() {
    // Where rotation is on, the timer needs kubelet's last words as long as the volume lives.
    let world = World::with(Setup::rotating("1h")).await;
    let app = world.emulator.tenant(super::world::TENANT).app(CLIENT_ID);
    app.secret(CLIENT_SECRET);
    world.vault.secret(SECRET).set(VALUE);
    let secret = [("clientid", CLIENT_ID), ("clientsecret", CLIENT_SECRET)];
    let pod = Pod::new("web").volume(Volume::new("secrets", CLASS).secret(&secret));
    world.publish(&pod).await;
    let process = world.driver().id();
    assert!(count(process, CLIENT_SECRET.as_bytes()) > 0, "kubelet's last words are kept while the volume lives");
    world.unpublish(&pod).await;
    // What may be given to others for a while is given up after it, and so are connections, which keep what they read last.
    for _ in 0..10 {
        world.advance(30);
    }
    for (what, needle) in [("the client secret", CLIENT_SECRET), ("the secret", VALUE)] {
        let gone = || (count(process, needle.as_bytes()) == 0).then_some(());
        eventually(&format!("{what} to leave the memory of the driver"), gone).await;
    }
}
