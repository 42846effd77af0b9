use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// One host, and those who want something of it.
struct World {
    pace: Pace,
}

impl World {
    fn new() -> Self {
        Self { pace: Pace::default() }
    }

    /// A host that was told to be asked less, for so many seconds.
    async fn throttled(seconds: u32) -> Self {
        let world = Self::new();
        let pass = world.pace.enter(&ask("a", Lane::first(), 60)).await.unwrap();
        pass.settle(&Verdict::Throttled(Some(seconds * SECOND)));
        world
    }

    /// A host that is out of order.
    async fn dead() -> Self {
        let world = Self::new();
        for _ in 0..5 {
            let pass = world.pace.enter(&ask("a", Lane::first(), 60)).await.unwrap();
            tokio::time::advance(SECOND).await;
            pass.settle(&Verdict::Failed("connection refused".to_owned()));
        }
        world
    }

    fn enter(&self, ask: Ask) -> JoinHandle<Result<Pass, Refusal>> {
        let pace = self.pace.clone();
        tokio::spawn(async move { pace.enter(&ask).await })
    }
}

fn ask(namespace: &str, lane: Lane, seconds: u32) -> Ask {
    let (namespace, class, since) = (namespace.into(), "c".into(), Instant::now());
    let place = Place { namespace, class, lane, call: Call::new(), since, requests: 1 };
    let origin = Origin { scheme: Scheme::Https, host: "vault".to_owned(), port: 443 };
    let deadline = Instant::now() + seconds * SECOND;
    Ask { origin, shown: "vault".to_owned(), way: Way::PLAIN, place, deadline }
}

/// Lets everything run that can, without a step of the clock.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_without_trouble_is_never_waited_for_and_remembers_no_limit() {
    let world = World::new();
    let begun = Instant::now();
    for _ in 0..1_000 {
        world.pace.enter(&ask("a", Lane::refresh(), 1)).await.unwrap().settle(&Verdict::Answered);
    }
    assert_eq!((Instant::now(), world.pace.look()), (begun, Paced::default()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_let_go_when_the_pause_is_over_one_first_and_the_others_when_it_is_answered() {
    let world = World::throttled(5).await;
    let begun = Instant::now();
    let mut waiting: Vec<_> = (0..3).map(|_| world.enter(ask("a", Lane::first(), 60))).collect();
    settle().await;
    assert_eq!(world.pace.look(), Paced { throttled: 1, unavailable: 0, waiting: 3 });
    tokio::time::sleep(6 * SECOND).await;
    let done = waiting.iter().filter(|task| task.is_finished()).count();
    assert_eq!(done, 1, "one probe, and nobody beside it");
    let position = waiting.iter().position(JoinHandle::is_finished).unwrap();
    let probe = waiting.remove(position).await.unwrap().unwrap();
    assert!(probe.sent - begun >= 5 * SECOND);
    probe.settle(&Verdict::Answered);
    for task in waiting {
        task.await.unwrap().unwrap().settle(&Verdict::Answered);
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_come_too_late_is_refused_at_once_and_told_when_to_come_again() {
    let world = World::throttled(20).await;
    let begun = Instant::now();
    let refusal = world.pace.enter(&ask("a", Lane::first(), 10)).await.unwrap_err();
    assert_eq!(Instant::now(), begun, "nobody waits in vain");
    let Error::Throttled { text, retry_after } = Error::from(refusal) else { panic!("another error") };
    assert!((20..=21).contains(&retry_after.as_secs()), "{retry_after:?}");
    assert!(text.starts_with("vault asks for fewer requests"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_the_last_would_come_too_late_is_refused_whole() {
    let world = World::throttled(1).await;
    world.enter(ask("a", Lane::first(), 60)).await.unwrap().unwrap().settle(&Verdict::Answered);
    // Five in a second are believed of a host of which nothing else is known.
    let batch = |requests| {
        let ask = ask("a", Lane::first(), 10);
        Ask { place: Place { requests, ..ask.place.clone() }, ..ask }
    };
    assert!(world.pace.would_let(&batch(20)));
    assert!(matches!(world.pace.enter(&batch(200)).await, Err(Refusal::Throttled { .. })));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_no_gap_and_somebody_else_keeps_watch() {
    let world = World::throttled(5).await;
    let mut waiting: Vec<_> = (0..4).map(|_| world.enter(ask("a", Lane::first(), 60))).collect();
    settle().await;
    // The first of them wakes up for all, until now.
    waiting.remove(0).abort();
    settle().await;
    assert_eq!(world.pace.look().waiting, 3);
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(waiting.iter().filter(|task| task.is_finished()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_call_is_given_up_passes_its_place_on() {
    let world = World::throttled(5).await;
    let (first, second) = (world.enter(ask("a", Lane::first(), 60)), world.enter(ask("b", Lane::first(), 60)));
    tokio::time::sleep(6 * SECOND).await;
    drop(first.await.unwrap().unwrap());
    second.await.unwrap().unwrap().settle(&Verdict::Answered);
    assert_eq!(world.pace.look().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn pods_that_wait_come_before_refreshes_that_came_earlier() {
    let world = World::throttled(5).await;
    let refresh = world.enter(ask("a", Lane::refresh(), 60));
    settle().await;
    let first = world.enter(ask("b", Lane::first(), 60));
    tokio::time::sleep(6 * SECOND).await;
    assert!(first.is_finished() && !refresh.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_is_not_asked_but_by_one_probe_at_a_time_and_says_since_when_and_why() {
    let world = World::dead().await;
    let refusal = world.pace.enter(&ask("a", Lane::first(), 60)).await.unwrap_err();
    let text = Error::from(refusal).to_string();
    assert!(text.starts_with("unavailable: vault has not answered since "), "{text}");
    assert!(text.ends_with("the last failure was: connection refused"), "{text}");
    assert_eq!(world.pace.look().unavailable, 1);

    tokio::time::advance(SECOND).await;
    let probe = world.pace.enter(&ask("a", Lane::first(), 60)).await.unwrap();
    assert!(world.pace.enter(&ask("b", Lane::first(), 60)).await.is_err(), "a second one beside the probe");
    let returned = world.pace.returned();
    probe.settle(&Verdict::Answered);
    assert!(returned.has_changed().unwrap(), "nobody is told that the host is back");
    world.pace.enter(&ask("b", Lane::first(), 60)).await.unwrap().settle(&Verdict::Answered);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_host_that_dies_meanwhile_is_told_at_once() {
    let world = World::throttled(30).await;
    let waiting = world.enter(ask("a", Lane::first(), 60));
    settle().await;
    let host = world.pace.host(&ask("a", Lane::first(), 60));
    for failure in 0..5 {
        let pass = Pass {
            host: host.clone(),
            way: Way::PLAIN,
            sent: Instant::now(),
            deadline: Instant::now() + SECOND,
            ends_pause: false,
            is_probe: false,
            is_settled: false,
        };
        tokio::time::advance(Duration::from_millis(200)).await;
        pass.settle(&Verdict::Failed(format!("failure {failure}")));
    }
    settle().await;
    assert!(waiting.is_finished());
    assert!(matches!(waiting.await.unwrap(), Err(Refusal::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_rule_does_not_keep_the_requests_of_others_back() {
    let (world, way) = (World::new(), Way::own());
    let wrong = || Ask { way, ..ask("a", Lane::first(), 60) };
    for _ in 0..5 {
        let pass = world.pace.enter(&wrong()).await.unwrap();
        tokio::time::advance(SECOND).await;
        pass.settle(&Verdict::Failed("certificate of somebody else".to_owned()));
    }
    assert!(world.pace.enter(&wrong()).await.is_err());
    world.pace.enter(&ask("a", Lane::first(), 60)).await.unwrap().settle(&Verdict::Answered);
}

#[tokio::test(start_paused = true)]
async fn no_answer_until_the_deadline_is_a_failure_and_a_call_that_is_given_up_says_nothing() {
    let world = World::new();
    for given_up_after in [1, 61] {
        for _ in 0..5 {
            let pass = world.pace.enter(&ask("a", Lane::first(), 60)).await.unwrap();
            tokio::time::advance(given_up_after * SECOND).await;
            drop(pass);
        }
        assert_eq!(world.pace.look().unavailable, usize::from(given_up_after == 61));
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_what_may_wait_the_next_is_refused() {
    let world = World::throttled(5).await;
    world.enter(ask("a", Lane::first(), 60)).await.unwrap().unwrap().settle(&Verdict::Answered);
    let waiting: Vec<_> = (0..MOST_WAITING).map(|_| world.enter(ask("a", Lane::first(), 3_600))).collect();
    settle().await;
    let full = world.pace.look().waiting;
    assert!((MOST_WAITING - 1..=MOST_WAITING).contains(&full), "{full}");
    let more: Vec<_> = (0..2).map(|_| world.enter(ask("a", Lane::first(), 3_600))).collect();
    settle().await;
    assert!(more.iter().any(JoinHandle::is_finished) && world.pace.look().waiting <= MOST_WAITING);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn the_quietest_host_without_trouble_is_forgotten_when_there_are_too_many() {
    let world = World::throttled(50).await;
    for number in 0..2 * MOST_HOSTS {
        let mut ask = ask("a", Lane::first(), 60);
        ask.origin.host = format!("vault-{number}");
        world.pace.enter(&ask).await.unwrap().settle(&Verdict::Answered);
    }
    assert!(lock(&world.pace.0.by_origin).len() <= MOST_HOSTS);
    assert_eq!(world.pace.look().throttled, 1, "the one that has a limit is forgotten");
}
