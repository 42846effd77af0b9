//! Many calls at once: those who loop do not keep the others waiting, and nobody gets more than a place.

use std::sync::Arc;
use std::time::Duration;

use coffer_sandbox::egress::{Answers, Outbound, Request as HttpRequest};
use coffer_sandbox::engine::{Engine, Pool};
use coffer_sandbox::instance::Call;
use coffer_sandbox::limits::Limits;
use coffer_sandbox::redact::Redactor;
use coffer_sandbox::store::Ready;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::sandbox::{Friendly, chain, components, contents, ready, request};

const LOOPERS: usize = 16;

/// Answers, and says that it was asked: from then on the guest loops.
struct Announcing(mpsc::UnboundedSender<()>);

impl Outbound for Announcing {
    fn send(&self, requests: Vec<HttpRequest>) -> Answers<'_> {
        let _ = self.0.send(());
        Box::pin(async { Friendly.send(requests).await })
    }
}

async fn guest(engine: &Engine, cpu: Duration) -> Ready {
    let limits = Limits { cpu, deadline: Duration::from_secs(600), ..Limits::default() };
    ready(&components().join("guest-modes.wasm"), limits, engine).await.expect("run `make guests`")
}

async fn mount(
    ready: Ready,
    mode: &'static str,
    outbound: Arc<dyn Outbound>,
    time: Duration,
) -> Result<String, String> {
    let request = request(mode, &[("url", "http://vault.example.test/secrets")]);
    let call = Call { outbound, redactor: Redactor::default(), deadline: Instant::now() + time };
    let outcome = ready.mount(&request, call).await.result;
    outcome.map(|outcome| contents(&outcome).to_owned()).map_err(|error| chain(&error))
}

/// Loopers have ten minutes of everything, so none of them ends before the honest call does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_loopers_do_not_keep_an_honest_mount_from_its_deadline() {
    let engine = Engine::new(Pool::default()).unwrap();
    let ready = guest(&engine, Duration::from_secs(600)).await;
    let (announce, mut announced) = mpsc::unbounded_channel();
    let loopers: Vec<_> = (0..LOOPERS)
        .map(|_| {
            let outbound = Arc::new(Announcing(announce.clone()));
            tokio::spawn(mount(ready.clone(), "loops_for_ever", outbound, Duration::from_secs(600)))
        })
        .collect();
    drop(announce);
    for _ in 0..LOOPERS {
        announced.recv().await.unwrap();
    }

    let honest = tokio::spawn(mount(ready, "behaves", Arc::new(Friendly), Duration::from_secs(20)));
    assert_eq!(honest.await.unwrap().unwrap(), "200 hello");
    for looper in loopers {
        assert!(!looper.is_finished(), "a looper ended, so the honest call was not among sixteen");
        looper.abort();
        assert!(looper.await.unwrap_err().is_cancelled(), "a looper that nobody waits for any more ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_finds_no_free_place_until_its_deadline_says_so() {
    let engine = Engine::new(Pool { calls: 1, ..Pool::default() }).unwrap();
    let ready = guest(&engine, Duration::from_secs(600)).await;
    let (announce, mut announced) = mpsc::unbounded_channel();
    let outbound = Arc::new(Announcing(announce));
    let looper = tokio::spawn(mount(ready.clone(), "loops_for_ever", outbound, Duration::from_secs(600)));
    announced.recv().await.unwrap();

    let late = mount(ready.clone(), "behaves", Arc::new(Friendly), Duration::from_millis(50)).await;
    let expected = "plugin \"guest\" did not finish its mount: no instance became free within ";
    assert!(late.unwrap_err().starts_with(expected));

    looper.abort();
    assert!(looper.await.unwrap_err().is_cancelled());
    let next = mount(ready, "behaves", Arc::new(Friendly), Duration::from_secs(20)).await;
    assert_eq!(next.unwrap(), "200 hello", "the place of a cancelled call is free again");
}
