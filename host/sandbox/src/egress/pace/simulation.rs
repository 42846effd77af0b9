//! An hour of one vault under a paused clock: a quota that is too small, an outage, answers that are slow. What is asserted
//! is how many requests got there, and what came of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
/// How long a call of a provider takes at most.
const CALL: Duration = Duration::from_secs(30);

/// What the vault does now.
#[derive(Clone, Copy)]
enum Mood {
    /// Answers so many requests in a window, and says when to come again, or not.
    Answers { quota: u32, says_when: bool, takes: Duration },
    /// Refuses connections.
    Dead,
}

/// The vault, with what it saw.
struct Vault {
    mood: Mutex<Mood>,
    window: Mutex<(Option<Instant>, u32)>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    answered: u32,
    throttled: u32,
    failed: u32,
}

impl Vault {
    fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self { mood: Mutex::new(mood), window: Mutex::default(), seen: Mutex::default() })
    }

    fn becomes(&self, mood: Mood) -> Seen {
        *lock(&self.mood) = mood;
        std::mem::take(&mut *lock(&self.seen))
    }

    async fn ask(&self) -> Verdict {
        let mood = *lock(&self.mood);
        let Mood::Answers { quota, says_when, takes } = mood else {
            lock(&self.seen).failed += 1;
            return Verdict::Failed("connection refused".to_owned());
        };
        let now = Instant::now();
        let verdict = {
            let mut window = lock(&self.window);
            let begun = window.0.filter(|begun| now - *begun < WINDOW).unwrap_or_else(|| {
                window.1 = 0;
                now
            });
            *window = (Some(begun), window.1 + 1);
            // In whole seconds, rounded up, as the header has it.
            let seconds = (begun + WINDOW - now).as_secs_f64().ceil() as u64;
            match window.1 > quota {
                true => Verdict::Throttled(says_when.then(|| Duration::from_secs(seconds))),
                false => Verdict::Answered,
            }
        };
        match verdict {
            Verdict::Answered => lock(&self.seen).answered += 1,
            _ => lock(&self.seen).throttled += 1,
        }
        sleep(takes).await;
        verdict
    }
}

/// A volume that wants so many objects, and tries again as kubelet does until it has them all.
async fn mount(pace: Pace, vault: Arc<Vault>, volume: usize, objects: usize) {
    let mut absence = Duration::from_millis(500);
    loop {
        if fetch(&pace, &vault, volume, objects).await {
            return;
        }
        sleep(absence).await;
        absence = (absence * 2).min(Duration::from_secs(122));
    }
}

/// One call: all objects, or none. A "slow down" is waited for, a failure ends it.
async fn fetch(pace: &Pace, vault: &Vault, volume: usize, objects: usize) -> bool {
    let deadline = Instant::now() + CALL;
    let (since, call) = (Instant::now(), Call::new());
    for left in (1..=objects).rev() {
        let mut requests = left;
        loop {
            let place = Place {
                namespace: format!("n{}", volume % 3).into(),
                class: format!("c{volume}").into(),
                lane: Lane::first(),
                call: call.clone(),
                since,
                requests,
            };
            let origin = Origin { scheme: Scheme::Https, host: "vault".to_owned(), port: 443 };
            let ask = Ask { origin, shown: "vault".to_owned(), way: Way::PLAIN, place, deadline };
            let Ok(pass) = pace.enter(&ask).await else { return false };
            let verdict = vault.ask().await;
            pass.settle(&verdict);
            match verdict {
                Verdict::Answered => break,
                Verdict::Throttled(_) => requests = 1,
                Verdict::Failed(_) => return false,
            }
        }
    }
    true
}

fn answers(quota: u32, says_when: bool) -> Mood {
    Mood::Answers { quota, says_when, takes: Duration::from_millis(20) }
}

/// `volumes` that want 10 objects each, one after the other over a minute; says how long until the last one had them.
async fn crowd(pace: &Pace, vault: &Arc<Vault>, volumes: usize) -> Duration {
    let begun = Instant::now();
    let all: Vec<_> = (0..volumes)
        .map(|volume| {
            let (pace, vault) = (pace.clone(), vault.clone());
            tokio::spawn(async move {
                sleep_until(begun + Duration::from_secs(60).mul_f64(volume as f64 / volumes as f64)).await;
                mount(pace, vault, volume, 10).await;
            })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn with_half_of_the_quota_that_is_needed_every_volume_is_mounted_and_the_quota_is_used() {
    for says_when in [true, false] {
        let (pace, vault) = (Pace::default(), Vault::new(answers(200, says_when)));
        // 2400 requests in a minute, of which 1200 are answered.
        let took = crowd(&pace, &vault, 240).await;
        let seen = vault.becomes(Mood::Dead);
        let all = seen.answered + seen.throttled;
        assert!(seen.throttled * 20 <= all, "{seen:?}");
        assert!(seen.answered < 2_500, "work was done twice: {seen:?}");
        let goodput = 2_400.0 / took.as_secs_f64() / 20.0;
        assert!(goodput > 0.85, "{goodput} of the quota in {took:?}, {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_with_everything_that_can_go_wrong() {
    let (pace, vault) = (Pace::default(), Vault::new(answers(2_000, true)));
    let quick = crowd(&pace, &vault, 240).await;
    assert!(quick < 62 * SECOND, "{quick:?}");
    assert_eq!(vault.becomes(answers(200, true)), Seen { answered: 2_400, throttled: 0, failed: 0 });

    crowd(&pace, &vault, 240).await;
    let seen = vault.becomes(Mood::Dead);
    assert!(seen.throttled * 10 <= seen.answered + seen.throttled, "{seen:?}");

    // Ten minutes without the vault: one request at a time finds out.
    let lost = {
        let (pace, vault) = (pace.clone(), vault.clone());
        tokio::spawn(async move { crowd(&pace, &vault, 110).await })
    };
    sleep(10 * 60 * SECOND).await;
    let seen = vault.becomes(Mood::Answers { quota: 2_000, says_when: true, takes: SECOND });
    assert_eq!((seen.answered, seen.throttled), (0, 0));
    assert!((10..=40).contains(&seen.failed), "{seen:?}");
    assert!(!lost.is_finished());
    // Slow, but there.
    lost.await.unwrap();
    let seen = vault.becomes(answers(2_000, true));
    assert_eq!((seen.answered, seen.throttled, seen.failed), (1_100, 0, 0));

    // Half an hour later nothing of it is left.
    sleep(30 * 60 * SECOND).await;
    let quick = crowd(&pace, &vault, 240).await;
    assert!(quick < 62 * SECOND, "{quick:?}");
    assert_eq!(pace.look(), Paced::default());
}
