//! Whose turn it is among the requests that wait for one host. Pure.
//!
//! Turns are given to calls. One that has begun goes on before another begins: half of what a volume needs is worth
//! nothing. Who begins next: there are two lanes, volumes that a pod waits for, and refreshes. Pods come first; after so
//! many of them one refresh goes, so that secrets do not grow old behind a crowd. In a lane the namespaces share alike, by
//! requests, in a namespace its classes, and in a class the oldest call is first: one namespace with a thousand volumes
//! holds another with one up for one call. (Start-time fair queueing, Goyal et al. 1996.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

/// Pods that begin before a refresh does.
const FIRSTS: u32 = 9;

/// How many namespaces and classes are remembered by what they had.
const MOST_REMEMBERED: usize = 4_096;

/// What a request is for. Clones are the same request: what is found to be urgent is so for all of them.
#[derive(Clone, Debug, Default)]
pub struct Lane(Arc<watch::Sender<bool>>);

impl Lane {
    /// A pod waits for it.
    #[must_use]
    pub fn first() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }

    /// Makes sure that what is there is still right.
    #[must_use]
    pub fn refresh() -> Self {
        Self::default()
    }

    /// From now on a pod waits for it.
    pub fn hurry(&self) {
        self.0.send_replace(true);
    }

    /// Whether a pod waits for it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when a pod waits for it.
    pub async fn hurried(&self) {
        // Its sender is here, so it is never closed.
        let _ = self.0.subscribe().wait_for(|is_first| *is_first).await;
    }
}

/// One call of a provider. Clones are the same call.
#[derive(Clone, Debug)]
pub(crate) struct Call(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    own: u64,
    /// Its place among the calls that have begun; 0 for one that has not.
    begun: AtomicU64,
}

impl Call {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(Numbers { own: NEXT.fetch_add(1, Ordering::Relaxed), begun: AtomicU64::new(0) }))
    }

    /// From now on work would be lost if it were kept waiting. Whether it was news.
    pub(crate) fn begin(&self) -> bool {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        self.0.begun.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Its place among the calls that have begun, if it has.
    pub(crate) fn begun(&self) -> Option<u64> {
        Some(self.0.begun.load(Ordering::Relaxed)).filter(|begun| *begun > 0)
    }
}

/// Where a request stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: Arc<str>,
    pub(crate) class: Arc<str>,
    pub(crate) lane: Lane,
    pub(crate) call: Call,
    /// Since when its call wants something of the host.
    pub(crate) since: Instant,
    /// How many requests of its call, itself included, are still to be sent as far as is known.
    pub(crate) requests: usize,
}

/// Who waits.
pub(crate) struct Queue<T> {
    waiting: Vec<(u64, Place, T)>,
    next: u64,
    namespaces: Shares<Shares<()>>,
    firsts: u32,
}

/// Who had how much, in requests: whoever starts at the least goes next.
struct Shares<T> {
    /// Where the one started that went last: who comes anew starts there.
    now: u64,
    /// Where each starts the next time, and what it divides among its own.
    each: HashMap<Arc<str>, (u64, T)>,
}

impl<T> Default for Shares<T> {
    fn default() -> Self {
        Self { now: 0, each: HashMap::new() }
    }
}

impl<T: Default> Shares<T> {
    fn start(&self, name: &str) -> u64 {
        self.each.get(name).map_or(self.now, |(start, _)| (*start).max(self.now))
    }

    fn charge(&mut self, name: &Arc<str>, requests: usize) -> &mut T {
        self.now = self.start(name);
        if self.each.len() >= MOST_REMEMBERED {
            self.each.clear();
        }
        let (start, own) = self.each.entry(name.clone()).or_default();
        *start = self.now.saturating_add(requests as u64);
        own
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), next: 0, namespaces: Shares::default(), firsts: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everybody.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &T)> {
        self.waiting.iter().map(|(number, _, waiter)| (*number, waiter))
    }

    /// Somebody, if it waits still.
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        self.all().find(|(found, _)| *found == number).map(|(_, waiter)| waiter)
    }

    /// Queues up; the answer is what it is called here.
    pub(crate) fn add(&mut self, place: Place, waiter: T) -> u64 {
        self.next += 1;
        self.waiting.push((self.next, place, waiter));
        self.next
    }

    /// Leaves, if it is there still.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let position = self.waiting.iter().position(|(found, _, _)| *found == number)?;
        Some(self.waiting.swap_remove(position).2)
    }

    /// Whose turn it is; nothing changes until [`Queue::take`].
    pub(crate) fn head(&self) -> Option<(u64, &Place, &T)> {
        let all = || self.waiting.iter().map(|(number, place, waiter)| (*number, place, waiter));
        let begun = all().filter_map(|entry| Some((entry.1.call.begun()?, entry)));
        if let Some((_, head)) = begun.min_by_key(|(begun, (number, _, _))| (*begun, *number)) {
            return Some(head);
        }
        let is_waiting = |first| all().any(|(_, place, _)| place.lane.is_first() == first);
        let first = is_waiting(true) && (self.firsts < FIRSTS || !is_waiting(false));
        let lane = all().filter(|(_, place, _)| place.lane.is_first() == first);
        lane.min_by_key(|(number, place, _)| {
            let (namespace, class) = self.start(place);
            (namespace, class, place.since, *number)
        })
    }

    /// Gives somebody a turn, and with it all of its call.
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let position = self.waiting.iter().position(|(found, _, _)| *found == number)?;
        let (_, place, waiter) = self.waiting.swap_remove(position);
        if place.call.begin() {
            self.firsts = if place.lane.is_first() { self.firsts.saturating_add(1) } else { 0 };
            self.namespaces.charge(&place.namespace, place.requests).charge(&place.class, place.requests);
        }
        Some(waiter)
    }

    fn start(&self, place: &Place) -> (u64, u64) {
        let classes = self.namespaces.each.get(&place.namespace).map(|(_, classes)| classes);
        let class = classes.map_or(0, |classes| classes.start(&place.class));
        (self.namespaces.start(&place.namespace), class)
    }

    /// How many requests are sent before the last one of a call that queues up now, itself included, as far as is known.
    pub(crate) fn ahead(&self, place: &Place) -> usize {
        let calls = self.calls();
        let begun = |before: Option<u64>| {
            let is_before =
                |call: &&Waiting| call.begun.is_some_and(|begun| before.is_none_or(|before| begun < before));
            calls.values().filter(is_before).map(|call| call.requests).sum::<usize>()
        };
        if let Some(own) = place.call.begun() {
            return begun(Some(own)).saturating_add(place.requests);
        }
        let mut namespaces: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
        let mut others = 0_usize;
        for call in calls.values().filter(|call| call.begun.is_none() && call.number != place.call.0.own) {
            if call.is_first == place.lane.is_first() {
                *namespaces.entry(call.namespace).or_default().entry(call.class).or_default() += call.requests;
            } else {
                others = others.saturating_add(call.requests);
            }
        }
        // What is of the same class begins before it. Until then every other class begins as much, and one more, and every
        // other namespace as much as all of these.
        let own = namespaces.remove(&*place.namespace).unwrap_or_default();
        let sum = |classes: &HashMap<&str, usize>, most: usize| {
            classes.values().fold(0_usize, |sum, requests| sum.saturating_add((*requests).min(most)))
        };
        let of_class = own.get(&*place.class).copied().unwrap_or_default();
        let of_namespace = sum(&own, of_class.saturating_add(1)).max(of_class);
        let elsewhere = namespaces.values().map(|classes| sum(classes, usize::MAX).min(of_namespace.saturating_add(1)));
        let ahead = elsewhere.fold(of_namespace.saturating_add(place.requests), usize::saturating_add);
        let others = match place.lane.is_first() {
            true => others.min(ahead / FIRSTS as usize),
            false => others.min(ahead.saturating_mul(FIRSTS as usize)),
        };
        begun(None).saturating_add(ahead).saturating_add(others)
    }

    fn calls(&self) -> HashMap<u64, Waiting<'_>> {
        let mut calls: HashMap<u64, Waiting<'_>> = HashMap::new();
        for (_, place, _) in &self.waiting {
            let Numbers { own, .. } = *place.call.0;
            let call = calls.entry(own).or_insert_with(|| Waiting {
                number: own,
                begun: place.call.begun(),
                is_first: place.lane.is_first(),
                namespace: &place.namespace,
                class: &place.class,
                requests: 0,
            });
            // The one that queued up first knows of all that come after it.
            call.requests = call.requests.max(place.requests);
        }
        calls
    }
}

/// A call of which something waits.
struct Waiting<'a> {
    number: u64,
    begun: Option<u64>,
    is_first: bool,
    namespace: &'a str,
    class: &'a str,
    requests: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(namespace: &str, class: &str, lane: Lane) -> Place {
        let (namespace, class) = (namespace.into(), class.into());
        Place { namespace, class, lane, call: Call::new(), since: Instant::now(), requests: 1 }
    }

    /// So many calls of one request for each name, `namespace/class`, queued one name after the other.
    fn queue(names: &[(&str, usize)], lane: fn() -> Lane) -> Queue<String> {
        let mut queue = Queue::default();
        for (name, count) in names {
            let (namespace, class) = name.split_once('/').unwrap();
            for _ in 0..*count {
                queue.add(place(namespace, class, lane()), (*name).to_owned());
            }
        }
        queue
    }

    /// A call with so many requests.
    fn add_call(queue: &mut Queue<String>, name: &str, requests: usize) -> Call {
        let (namespace, class) = name.split_once('/').unwrap();
        let own = place(namespace, class, Lane::first());
        for left in (1..=requests).rev() {
            queue.add(Place { requests: left, ..own.clone() }, name.to_owned());
        }
        own.call
    }

    fn turns(queue: &mut Queue<String>, count: usize) -> Vec<String> {
        let mut turn = || {
            let number = queue.head().unwrap().0;
            queue.take(number).unwrap()
        };
        (0..count).map(|_| turn()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_share_alike_and_in_them_their_classes() {
        let mut queue = queue(&[("a/1", 50), ("a/2", 50), ("b/1", 3)], Lane::first);
        assert_eq!(turns(&mut queue, 8), ["a/1", "b/1", "a/2", "b/1", "a/1", "b/1", "a/2", "a/1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shared_are_requests_and_not_calls() {
        let mut queue = Queue::default();
        for _ in 0..10 {
            add_call(&mut queue, "large/1", 4);
            for _ in 0..4 {
                add_call(&mut queue, "small/1", 1);
            }
        }
        let turns = turns(&mut queue, 16);
        assert_eq!(turns.iter().filter(|turn| *turn == "large/1").count(), 8, "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_begun_goes_on_before_another_begins() {
        let mut queue = Queue::default();
        add_call(&mut queue, "a/1", 3);
        let second = add_call(&mut queue, "b/1", 2);
        assert_eq!(turns(&mut queue, 1), ["a/1"]);
        add_call(&mut queue, "c/1", 1);
        assert_eq!(turns(&mut queue, 3), ["a/1", "a/1", "b/1"]);
        // What is to be sent again is a part of what has begun.
        let again = place("b", "1", Lane::first());
        queue.add(Place { call: second, ..again }, "b/1 again".to_owned());
        assert_eq!(turns(&mut queue, 3), ["b/1", "b/1 again", "c/1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_late_waits_for_one_call_of_the_others() {
        let mut queue = queue(&[("crowd/1", 1000)], Lane::first);
        turns(&mut queue, 100);
        queue.add(place("late", "1", Lane::first()), "late/1".to_owned());
        assert!(turns(&mut queue, 2).contains(&"late/1".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_wait_go_first_and_refreshes_do_not_starve() {
        let mut queue = queue(&[("a/1", 100)], Lane::refresh);
        for _ in 0..100 {
            queue.add(place("b", "1", Lane::first()), "first".to_owned());
        }
        let turns = turns(&mut queue, 100);
        let refreshes = turns.iter().filter(|turn| *turn == "a/1").count();
        assert_eq!((turns[0].as_str(), refreshes), ("first", 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_for_which_a_pod_begins_to_wait_goes_before_the_others() {
        let mut queue = queue(&[("a/1", 10)], Lane::refresh);
        let lane = Lane::refresh();
        queue.add(place("b", "1", lane.clone()), "hurried".to_owned());
        lane.hurry();
        assert_eq!(turns(&mut queue, 1), ["hurried"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_before_is_counted_as_it_will_be() {
        for names in [&[("a/1", 40), ("a/2", 2), ("b/1", 100), ("c/1", 1)][..], &[("a/1", 3)], &[("b/1", 3)], &[]] {
            let mut queue = queue(names, Lane::first);
            let begun = add_call(&mut queue, "z/1", 7);
            begun.begin();
            let own = Place { requests: 5, ..place("a", "2", Lane::first()) };
            let counted = queue.ahead(&own);
            for left in (1..=5).rev() {
                queue.add(Place { requests: left, ..own.clone() }, "own".to_owned());
            }
            assert_eq!(queue.ahead(&own), counted, "what is queued already counts once");
            let all = queue.len();
            let turns = turns(&mut queue, all);
            let last = turns.iter().rposition(|turn| turn == "own").unwrap() + 1;
            assert!(counted.abs_diff(last) <= 4, "{counted} instead of {last} of {names:?}");
        }
    }
}
