//! What is equal is fetched once: one flight for everybody who asks while it is in the air, and its result for a short
//! while after it has landed.
//!
//! A flight is a task of its own: nobody who waits can end it for the others, and it ends when nobody waits any more. A
//! failure is told to those who waited and never kept. Equality is the caller's: who is asking and for what go into the
//! [`Fingerprint`], so no pod gets what its own identity could not fetch. `obtain` is the caller.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_sandbox::egress::Lane;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fingerprint::Fingerprint;
use crate::tasks::Tasks;

/// How many flights and kept results there are at most; beyond that nothing is shared.
const MOST: usize = 1_024;

/// What came of a flight.
pub type Landed<T, E> = Result<Arc<T>, Arc<E>>;

/// Flights by what they fetch.
pub struct Share<T, E> {
    flights: Arc<Mutex<HashMap<Fingerprint, Flight<T, E>>>>,
    /// How long a result is kept.
    window: Duration,
    tasks: Tasks,
}

struct Flight<T, E> {
    /// Tells flights for the same thing apart.
    number: u64,
    landed: watch::Receiver<Option<Landed<T, E>>>,
    crew: Arc<Crew>,
}

/// Those who wait for a flight, whether it is in the map or not. Counted under the map's lock.
#[derive(Default)]
struct Crew {
    waiting: AtomicUsize,
    /// Ends the flight when nobody waits.
    abandon: CancellationToken,
    /// Whether a pod waits for it.
    lane: Lane,
}

/// How a result was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// This caller's own flight.
    Led,
    /// Somebody else's.
    Followed,
}

/// The flight ended without a result: its task panicked.
#[derive(Debug)]
pub struct Lost;

impl<T: Send + Sync + 'static, E: Send + Sync + 'static> Share<T, E> {
    /// Keeps results for `window`; with none only what is in the air is shared.
    #[must_use]
    pub fn new(window: Duration, tasks: Tasks) -> Self {
        Self { flights: Arc::default(), window, tasks }
    }

    /// The result of `fetch`, or of an equal one. `is_first` says whether a pod waits for it: a flight for which one does is
    /// in that lane from then on. `fits` says whether a result that somebody else asked for will do; where it does not, the
    /// caller's own `fetch` is run.
    pub async fn get<F>(
        &self,
        key: Fingerprint,
        is_first: bool,
        fits: impl Fn(&T) -> bool,
        fetch: impl FnOnce(Lane) -> F,
    ) -> Result<(Landed<T, E>, Part), Lost>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut fetch = Some(fetch);
        // The second time somebody else may lead whose result fits; the third time it is for oneself alone.
        for alone in [false, false, true] {
            let (seat, part) = self.seat(key, is_first, &fits, &mut fetch, alone);
            match seat.wait().await? {
                Ok(result) if part == Part::Followed && !fits(&result) => {}
                landed => return Ok((landed, part)),
            }
        }
        Err(Lost)
    }

    /// A seat in an equal flight, or in one of one's own that begins now. Under one lock, so that two who ask at the same
    /// time never both lead.
    fn seat<F>(
        &self,
        key: Fingerprint,
        is_first: bool,
        fits: &impl Fn(&T) -> bool,
        fetch: &mut Option<impl FnOnce(Lane) -> F>,
        alone: bool,
    ) -> (Seat<T, E>, Part)
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        let lands_elsewhere =
            |flight: &&Flight<T, E>| matches!(&*flight.landed.borrow(), Some(Ok(result)) if !fits(result));
        if let Some(flight) = flights.get(&key).filter(|flight| !alone && !lands_elsewhere(flight)) {
            if is_first {
                flight.crew.lane.hurry();
            }
            return (self.board(key, flight), Part::Followed);
        }
        let (sender, landed) = watch::channel(None);
        let lane = if is_first { Lane::first() } else { Lane::refresh() };
        let flight = Flight { number: rand::random(), landed, crew: Arc::new(Crew { lane, ..Crew::default() }) };
        let seat = self.board(key, &flight);
        let (number, crew) = (flight.number, flight.crew.clone());
        if flights.len() < MOST || flights.contains_key(&key) {
            flights.insert(key, flight);
        }
        drop(flights);
        if let Some(fetch) = fetch.take() {
            self.launch(key, number, fetch(crew.lane.clone()), sender, crew);
        }
        (seat, Part::Led)
    }

    fn board(&self, key: Fingerprint, flight: &Flight<T, E>) -> Seat<T, E> {
        flight.crew.waiting.fetch_add(1, Ordering::Relaxed);
        let (number, landed, crew) = (flight.number, flight.landed.clone(), flight.crew.clone());
        Seat { flights: self.flights.clone(), key, number, landed, crew }
    }

    fn launch<F>(
        &self,
        key: Fingerprint,
        number: u64,
        fetch: F,
        sender: watch::Sender<Option<Landed<T, E>>>,
        crew: Arc<Crew>,
    ) where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (flights, window, stopping) = (self.flights.clone(), self.window, self.tasks.stopping());
        self.tasks.spawn("fetch", async move {
            let landed = tokio::select! {
                landed = fetch => landed,
                () = crew.abandon.cancelled() => return,
            };
            let is_kept = landed.is_ok() && !window.is_zero();
            if !is_kept {
                remove(&flights, key, number);
            }
            sender.send_replace(Some(landed.map(Arc::new).map_err(Arc::new)));
            if is_kept {
                tokio::select! {
                    () = tokio::time::sleep(window) => {}
                    () = stopping.cancelled() => {}
                }
                remove(&flights, key, number);
            }
        });
    }
}

/// Somebody waits for a flight.
struct Seat<T, E> {
    flights: Arc<Mutex<HashMap<Fingerprint, Flight<T, E>>>>,
    key: Fingerprint,
    number: u64,
    landed: watch::Receiver<Option<Landed<T, E>>>,
    crew: Arc<Crew>,
}

impl<T, E> Seat<T, E> {
    async fn wait(mut self) -> Result<Landed<T, E>, Lost> {
        let landed = self.landed.wait_for(Option::is_some).await;
        landed.ok().and_then(|landed| (*landed).clone()).ok_or(Lost)
    }
}

impl<T, E> Drop for Seat<T, E> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        let is_last = self.crew.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && self.landed.borrow().is_none() {
            self.crew.abandon.cancel();
            if flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
                flights.remove(&self.key);
            }
        }
    }
}

fn remove<T, E>(flights: &Mutex<HashMap<Fingerprint, Flight<T, E>>>, key: Fingerprint, number: u64) {
    let mut flights = lock(flights);
    if flights.get(&key).is_some_and(|flight| flight.number == number) {
        flights.remove(&key);
    }
}

fn lock<T, E>(
    flights: &Mutex<HashMap<Fingerprint, Flight<T, E>>>,
) -> MutexGuard<'_, HashMap<Fingerprint, Flight<T, E>>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    use super::super::fingerprint::Fingerprints;
    use super::*;

    /// Counts fetches and lets each of them end when it is told to.
    struct World {
        tasks: Tasks,
        share: Arc<Share<usize, String>>,
        key: Fingerprint,
        begun: Arc<AtomicUsize>,
        may_end: Arc<Semaphore>,
    }

    impl World {
        fn new(window: u64) -> Self {
            let tasks = Tasks::default();
            let share = Share::new(Duration::from_secs(window), tasks.clone());
            let key = Fingerprints::default().begin("test").end();
            Self { tasks, share: Arc::new(share), key, begun: Arc::default(), may_end: Arc::new(Semaphore::new(0)) }
        }

        fn ask(&self, fails: bool) -> JoinHandle<(Landed<usize, String>, Part)> {
            let (share, key) = (self.share.clone(), self.key);
            let (begun, may_end) = (self.begun.clone(), self.may_end.clone());
            self.tasks.spawn("ask", async move {
                let fetch = |_| async move {
                    let number = begun.fetch_add(1, Ordering::SeqCst);
                    may_end.acquire().await.unwrap().forget();
                    if fails { Err(format!("failure {number}")) } else { Ok(number) }
                };
                share.get(key, false, |_| true, fetch).await.unwrap()
            })
        }

        async fn settle(&self) {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_while_a_flight_is_in_the_air_gets_its_result() {
        let world = World::new(0);
        let asked: Vec<_> = (0..10).map(|_| world.ask(false)).collect();
        world.settle().await;
        world.may_end.add_permits(1);
        let mut led = 0;
        for one in asked {
            let (landed, part) = one.await.unwrap();
            assert_eq!(*landed.unwrap(), 0);
            led += usize::from(part == Part::Led);
        }
        assert_eq!((world.begun(), led), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_becomes_urgent_when_a_pod_waits_for_the_same() {
        let world = World::new(0);
        let lanes = Mutex::new(Vec::new());
        let fly = |is_first| {
            world.share.get(
                world.key,
                is_first,
                |_| true,
                |lane: Lane| {
                    lanes.lock().unwrap().push(lane);
                    async {
                        tokio::task::yield_now().await;
                        Ok(1)
                    }
                },
            )
        };
        let (refresh, first) = tokio::join!(fly(false), fly(true));
        assert_eq!((refresh.unwrap().1, first.unwrap().1), (Part::Led, Part::Followed));
        let lanes = lanes.into_inner().unwrap();
        assert_eq!(lanes.iter().map(Lane::is_first).collect::<Vec<_>>(), [true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_kept_for_the_window_and_not_longer() {
        let world = World::new(10);
        world.may_end.add_permits(2);
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 0);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        world.settle().await;
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_those_who_waited_and_is_not_kept() {
        let world = World::new(10);
        let (first, second) = (world.ask(true), world.ask(true));
        world.settle().await;
        world.may_end.add_permits(2);
        assert_eq!(*first.await.unwrap().0.unwrap_err(), "failure 0");
        assert_eq!(*second.await.unwrap().0.unwrap_err(), "failure 0");
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_leaves_harms_nobody_and_the_last_one_ends_the_flight() {
        let world = World::new(10);
        let (leader, follower) = (world.ask(false), world.ask(false));
        world.settle().await;
        leader.abort();
        world.settle().await;
        world.may_end.add_permits(1);
        assert_eq!(*follower.await.unwrap().0.unwrap(), 0);

        let world = World::new(10);
        let (leader, follower) = (world.ask(false), world.ask(false));
        world.settle().await;
        leader.abort();
        follower.abort();
        world.settle().await;
        assert_eq!(Arc::strong_count(&world.may_end), 1, "the fetch still runs");
        world.may_end.add_permits(1);
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_does_not_fit_is_fetched_anew() {
        let world = World::new(10);
        world.may_end.add_permits(1);
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 0);
        let own = world.share.get(world.key, false, |_| false, |_| async { Ok(7) }).await.unwrap();
        assert_eq!((*own.0.unwrap(), own.1), (7, Part::Led));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_panics_is_told_as_lost_and_the_next_one_works() {
        let world = World::new(10);
        let lost = world.share.get(world.key, false, |_| true, |_| async { panic!("a bug") }).await;
        assert!(lost.is_err());
        world.may_end.add_permits(1);
        assert_eq!(*world.ask(false).await.unwrap().0.unwrap(), 0);
    }
}
