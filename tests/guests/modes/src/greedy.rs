//! Modes that want more time, memory or space than a call has.

use std::hint::black_box;

use crate::contract::coffer::provider::log;
use crate::contract::coffer::provider::types::{
    Explanation, Failure, File, Mounted, ObjectVersion, Outcome, Request, Session,
};
use crate::{Answer, asking, file, files, parameter, version};

const MEBIBYTE: usize = 1 << 20;
const MANY: usize = 100_000;

/// With a parameter `url` it asks there first, so that whoever answers knows that it is about to loop.
pub(crate) fn loops_for_ever(request: &Request) -> Answer {
    if parameter(&request.parameters, "url").is_some() {
        black_box(asking::first_answer(&request.parameters));
    }
    spin_for_ever()
}

/// `check` does the looping; a test that gets here has found a hole.
pub(crate) fn loops_for_ever_in_check(request: &Request) -> Answer {
    crate::honest::behaves(request)
}

pub(crate) fn spin_for_ever() -> ! {
    let mut n: u64 = 1;
    loop {
        n = black_box(spin(n, 1 << 20));
    }
}

pub(crate) fn loops_between_requests(request: &Request) -> Answer {
    let mut n: u64 = 1;
    loop {
        n = black_box(spin(n, 1 << 22));
        black_box(asking::first_answer(&request.parameters));
    }
}

/// Work that the compiler cannot shorten.
fn spin(mut n: u64, rounds: u32) -> u64 {
    for _ in 0..rounds {
        n ^= n << 13;
        n ^= n >> 7;
        n ^= n << 17;
    }
    n
}

pub(crate) fn recurses_without_end(request: &Request) -> Answer {
    files(vec![file("file", descend(request.now).to_string().into_bytes())])
}

/// Two calls of itself, the second with the result of the first, so that neither can become a loop. It takes no
/// address of a local, so it eats the stack of the machine and not the one that Rust keeps in linear memory.
#[inline(never)]
fn descend(n: u64) -> u64 {
    if n == u64::MAX {
        return 0;
    }
    let below = descend(n + 1);
    below ^ descend(below | 1)
}

pub(crate) fn hoards_memory(_: &Request) -> Answer {
    let mut hoard = Vec::new();
    loop {
        // Written to, so that it is memory and not a promise of it.
        hoard.push(black_box(vec![0xa5_u8; MEBIBYTE]));
    }
}

pub(crate) fn returns_a_hundred_mebibytes(_: &Request) -> Answer {
    files((0..100).map(|n| file(&format!("file-{n}"), vec![0xa5; MEBIBYTE])).collect())
}

/// Costs the guest one buffer, and a host that copies without counting 100 GiB.
#[allow(unsafe_code, reason = "no safe value shows the same memory twice")]
pub(crate) fn returns_one_mebibyte_many_times(_: &Request) -> Answer {
    let buffer = vec![0xa5_u8; MEBIBYTE].leak();
    let files = (0..MANY)
        .map(|n| {
            // SAFETY: not sound, on purpose: all these vectors own one buffer. They are only ever read, by the host,
            // which drops the instance before anything could free them.
            let contents = unsafe { Vec::from_raw_parts(buffer.as_mut_ptr(), MEBIBYTE, MEBIBYTE) };
            file(&n.to_string(), contents)
        })
        .collect::<Vec<File>>();
    self::files(files)
}

pub(crate) fn returns_a_hundred_thousand_versions(_: &Request) -> Answer {
    let objects = (0..MANY).map(|n| ObjectVersion { id: n.to_string(), version: "1".to_owned() }).collect();
    Ok(Outcome::Files(Mounted { files: vec![file("file", b"hello".into())], objects, session: None }))
}

pub(crate) fn returns_a_session_of_a_mebibyte(_: &Request) -> Answer {
    Ok(Outcome::Files(Mounted {
        files: vec![file("file", b"hello".into())],
        objects: vec![version("1")],
        session: Some(Session { state: vec![0xa5; MEBIBYTE], expires_in_seconds: 60 }),
    }))
}

pub(crate) fn traps_half_way(request: &Request) -> Answer {
    black_box(asking::first_answer(&request.parameters));
    std::process::abort()
}

pub(crate) fn floods_the_log(request: &Request) -> Answer {
    for n in 0..MANY {
        log::write(log::Level::Error, &format!("line {n}"));
    }
    crate::honest::behaves(request)
}

pub(crate) fn logs_a_mebibyte(request: &Request) -> Answer {
    log::write(log::Level::Error, &"x".repeat(MEBIBYTE));
    crate::honest::behaves(request)
}

pub(crate) fn fails_with_a_mebibyte(_: &Request) -> Answer {
    Err(Failure::Internal(Explanation { message: "x".repeat(MEBIBYTE) }))
}

pub(crate) fn forges_a_log_line(_: &Request) -> Answer {
    let message = "oh\r\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{202e}".to_owned();
    log::write(log::Level::Error, &message);
    Err(Failure::Internal(Explanation { message }))
}
