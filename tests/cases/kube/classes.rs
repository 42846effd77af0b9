//! Reads of classes: shared, fresh enough, and right while the API server is slow, wrong or away.

use std::sync::Arc;
use std::time::Duration;

use coffer::kube::classes::{ClassError, Classes, ReadClass};
use coffer_tests::harness::apiserver::{Fault, Matcher, Resource, Verb};
use coffer_tests::harness::{Answer, Gate, RetryAfter, Times};
use serde_json::json;
use tokio::time::Instant;

use super::{World, deadline, pass, soon};

const FRESH: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);
const PREFIX: &str = "failed to get secretproviderclass shop/kv, error: ";

fn reads() -> Matcher {
    Matcher::of(Verb::Get, Resource::Classes)
}

impl World {
    fn classes(&self) -> Classes {
        Classes::new(self.client.clone(), &self.tasks)
    }

    fn class_reads(&self) -> u64 {
        self.asked(Verb::Get, Resource::Classes)
    }
}

async fn with_class() -> (World, Classes) {
    let world = World::new().await;
    world.server.class("shop", "kv").put("azure", &[("keyvaultName", "a")]);
    let classes = world.classes();
    (world, classes)
}

async fn read(classes: &Classes, age: Duration) -> Result<Arc<ReadClass>, ClassError> {
    classes.read("shop", "kv", age, deadline()).await
}

/// The text of what went wrong, behind the words that tools look for.
async fn trouble(classes: &Classes) -> String {
    let text = read(classes, FRESH).await.unwrap_err().to_string();
    text.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn a_class_is_read_from_the_cache_of_the_api_server_with_its_revision() {
    let (world, classes) = with_class().await;
    let class = world.server.class("shop", "kv");
    class.annotate("coffer.dev/refresh", Some("now"));
    let first = read(&classes, FRESH).await.unwrap();
    assert_eq!((first.class.name.as_str(), first.class.namespace.as_deref()), ("kv", Some("shop")));
    assert_eq!((first.class.provider.as_str(), first.class.parameters["keyvaultName"].as_str()), ("azure", "a"));
    assert_eq!((first.revision.clone(), first.refresh.as_deref()), (class.revision(), Some("now")));
    class.put("azure", &[]);
    class.annotate("coffer.dev/refresh", None);
    let second = read(&classes, FRESH).await.unwrap();
    assert_eq!((second.revision.clone(), second.refresh.as_deref()), (class.revision(), None));
    assert_ne!(first.revision, second.revision);
    assert!(world.server.entries().iter().all(|entry| entry.cached && entry.query == ["resourceVersion"]));
}

#[tokio::test]
async fn what_a_class_lacks_is_empty() {
    let (world, classes) = with_class().await;
    for spec in [json!(null), json!({}), json!({"parameters": null}), json!({"provider": null, "other": [1]})] {
        world.server.class("shop", "kv").put_spec(&spec);
        let read = read(&classes, FRESH).await.unwrap();
        assert!(read.class.provider.is_empty() && read.class.parameters.is_empty(), "{spec}");
    }
}

#[tokio::test]
async fn a_hundred_reads_at_once_are_one() {
    let (world, classes) = with_class().await;
    let gate = Gate::new();
    world.server.inject(reads(), Fault::Hold(gate.clone()), Times::Always);
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let classes = classes.clone();
        crowd.spawn(async move { read(&classes, FRESH).await });
    }
    soon("the request", gate.arrived(1)).await;
    // They have all been polled by now: there is one thread, and the request went out after the first.
    gate.open();
    while let Some(result) = soon("the reads", crowd.join_next()).await {
        assert_eq!(result.unwrap().unwrap().class.provider, "azure");
    }
    assert_eq!(world.class_reads(), 1);
}

#[tokio::test]
async fn a_read_serves_as_long_as_whoever_asks_allows() {
    let (world, classes) = with_class().await;
    read(&classes, MINUTE).await.unwrap();
    world.server.class("shop", "kv").put("other", &[]);
    assert_eq!(read(&classes, MINUTE).await.unwrap().class.provider, "azure");
    assert_eq!(world.class_reads(), 1);
    assert_eq!(read(&classes, FRESH).await.unwrap().class.provider, "other");
    pass(MINUTE).await;
    read(&classes, MINUTE).await.unwrap();
    assert_eq!(world.class_reads(), 3);
}

#[tokio::test]
async fn classes_of_the_same_name_in_two_namespaces_are_two() {
    let (world, classes) = with_class().await;
    world.server.class("bank", "kv").put("other", &[]);
    read(&classes, MINUTE).await.unwrap();
    let bank = classes.read("bank", "kv", MINUTE, deadline()).await.unwrap();
    assert_eq!((bank.class.provider.as_str(), bank.class.namespace.as_deref()), ("other", Some("bank")));
}

#[tokio::test]
async fn a_class_that_the_cache_does_not_know_yet_is_found() {
    let world = World::new().await;
    world.server.freeze_cache();
    world.server.class("shop", "kv").put("azure", &[]);
    assert_eq!(read(&world.classes(), FRESH).await.unwrap().class.provider, "azure");
    let asked: Vec<_> = world.server.entries().iter().map(|entry| (entry.cached, entry.status)).collect();
    assert_eq!(asked, [(true, Some(404)), (false, Some(200))]);
}

#[tokio::test]
async fn a_cache_that_lags_behind_takes_no_edit_back() {
    let (world, classes) = with_class().await;
    let class = world.server.class("shop", "kv");
    let old = class.object().unwrap();
    class.put("edited", &[]);
    read(&classes, FRESH).await.unwrap();
    world.server.inject(reads(), Fault::Answer(Answer::json(200, &old)), Times::Always);
    assert_eq!(read(&classes, FRESH).await.unwrap().class.provider, "edited");
    // A class that was made anew starts from the beginning.
    let mut new = old;
    new["metadata"]["uid"] = json!("another");
    world.server.clear_faults();
    world.server.inject(reads(), Fault::Answer(Answer::json(200, &new)), Times::Always);
    assert_eq!(read(&classes, FRESH).await.unwrap().class.provider, "azure");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_told_without_its_text() {
    let (world, classes) = with_class().await;
    let odd = json!({"metadata": {"name": "kv"}, "spec": {"parameters": "canary"}});
    world.server.inject(reads(), Fault::Answer(Answer::json(200, &odd)), Times::Always);
    let text = trouble(&classes).await;
    assert!(text.contains("answer cannot be read") && !text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_class_that_does_not_exist_is_confirmed_and_found_as_soon_as_it_does() {
    let world = World::new().await;
    let classes = world.classes();
    let text = trouble(&classes).await;
    assert!(text.starts_with("not found") && text.contains("namespace of the pod"), "{text}");
    assert_eq!(world.class_reads(), 2);
    world.server.class("shop", "kv").put("azure", &[]);
    assert!(read(&classes, MINUTE).await.is_ok());
}

#[tokio::test]
async fn a_missing_definition_is_told_apart_from_a_missing_class() {
    let (world, classes) = with_class().await;
    world.server.define(Resource::Classes, false);
    let text = trouble(&classes).await;
    assert!(text.starts_with("not found") && text.contains("coffer crds | kubectl apply -f -"), "{text}");
}

#[tokio::test]
async fn a_name_is_no_way_to_another_path() {
    let (world, classes) = with_class().await;
    for name in ["../../secrets/x", "kv/status", "kv?watch=true", "", "..", "kv%2f", "KV"] {
        let error = classes.read("shop", name, FRESH, deadline()).await.unwrap_err();
        assert!(matches!(error, ClassError::NoName { .. }), "{name}: {error}");
        assert!(error.to_string().contains("not found"), "{error}");
        classes.read(name, "kv", FRESH, deadline()).await.unwrap_err();
    }
    assert_eq!(world.server.counters().total(), 0);
}

#[tokio::test]
async fn without_the_right_the_error_says_which_and_the_last_copy_is_gone() {
    let (world, classes) = with_class().await;
    read(&classes, FRESH).await.unwrap();
    world.server.inject(reads(), Fault::Forbidden, Times::ONCE);
    let text = trouble(&classes).await;
    assert!(text.starts_with("forbidden: secretproviderclasses.secrets-store.csi.x-k8s.io \"kv\""), "{text}");
    assert!(text.contains("grant `get` on secretproviderclasses"), "{text}");
    world.server.go_away().await;
    assert!(matches!(read(&classes, FRESH).await, Err(ClassError::Unavailable { .. })));
}

#[tokio::test]
async fn a_deleted_class_is_gone_whatever_happens_next() {
    let (world, classes) = with_class().await;
    read(&classes, FRESH).await.unwrap();
    world.server.class("shop", "kv").delete();
    assert!(matches!(read(&classes, FRESH).await, Err(ClassError::NotFound { .. })));
    world.server.go_away().await;
    assert!(matches!(read(&classes, MINUTE).await, Err(ClassError::Unavailable { .. })));
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let (world, classes) = with_class().await;
    world.server.inject(reads(), Fault::throttled(None), Times::ONCE);
    world.server.inject(reads(), Fault::failing(500, None), Times::ONCE);
    world.server.inject(reads(), Fault::Close, Times::ONCE);
    assert!(read(&classes, FRESH).await.is_ok());
    assert_eq!(world.class_reads(), 4);
}

#[tokio::test]
async fn what_does_not_pass_is_told_after_four_attempts() {
    let (world, classes) = with_class().await;
    world.server.inject(reads(), Fault::failing(503, None), Times::Always);
    let text = trouble(&classes).await;
    assert!(text.contains("answers 503") && text.contains("check that the API server is up"), "{text}");
    assert_eq!(world.class_reads(), 4);
}

#[tokio::test]
async fn a_wait_that_the_api_server_asks_for_is_not_shortened() {
    let (world, classes) = with_class().await;
    world.server.inject(reads(), Fault::throttled(Some(RetryAfter::Seconds(4))), Times::ONCE);
    let until = Instant::now() + Duration::from_secs(3);
    let error = classes.read("shop", "kv", FRESH, until).await.unwrap_err();
    assert!(error.to_string().contains("answers 429"), "{error}");
    assert_eq!(world.class_reads(), 1, "there was no time to come back");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told_with_what_to_check() {
    let (world, classes) = with_class().await;
    world.server.go_away().await;
    let text = trouble(&classes).await;
    let address = world.server.address().to_string();
    assert!(text.contains(&address) && text.contains("onnection refused") && text.contains("check that"), "{text}");
    assert!(!text.contains(world.server.token()));
}

#[tokio::test]
async fn the_last_good_copy_serves_for_an_hour_and_no_longer() {
    let (world, classes) = with_class().await;
    read(&classes, FRESH).await.unwrap();
    world.server.go_away().await;
    for _ in 0..3 {
        assert_eq!(read(&classes, FRESH).await.unwrap().class.provider, "azure");
        pass(19 * MINUTE).await;
    }
    assert!(read(&classes, FRESH).await.is_ok());
    pass(3 * MINUTE).await;
    assert!(matches!(read(&classes, FRESH).await, Err(ClassError::Unavailable { .. })));
    world.server.come_back().unwrap();
    assert!(read(&classes, FRESH).await.is_ok());
}

#[tokio::test]
async fn with_a_copy_one_failure_is_enough_and_is_not_repeated_at_once() {
    let (world, classes) = with_class().await;
    read(&classes, FRESH).await.unwrap();
    for fault in [Fault::throttled(None), Fault::failing(500, None), Fault::Close] {
        world.server.inject(reads(), fault, Times::Always);
        world.server.log().clear();
        assert!(read(&classes, FRESH).await.is_ok());
        assert!(read(&classes, FRESH).await.is_ok());
        // A request on a connection that the server closed is sent once more by the HTTP client itself.
        assert!((1..=2).contains(&world.class_reads()), "{:?}", world.server.entries());
        world.server.clear_faults();
        pass(MINUTE).await;
    }
}

#[tokio::test]
async fn with_a_copy_a_silent_api_server_does_not_hold_anybody_up() {
    let (world, classes) = with_class().await;
    read(&classes, FRESH).await.unwrap();
    world.server.inject(reads(), Fault::Stall, Times::Always);
    let waiting = tokio::spawn({
        let classes = classes.clone();
        async move { read(&classes, FRESH).await }
    });
    soon("the request", world.server.log().arrived(Verb::Get, Resource::Classes, 2)).await;
    pass(Duration::from_secs(3)).await;
    assert!(soon("the read", waiting).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_reader_that_gives_up_harms_no_other() {
    let (world, classes) = with_class().await;
    let gate = Gate::new();
    world.server.inject(reads(), Fault::Hold(gate.clone()), Times::ONCE);
    let start = |until: Instant| {
        let classes = classes.clone();
        tokio::spawn(async move { classes.read("shop", "kv", FRESH, until).await })
    };
    let leader = start(deadline());
    soon("the request", gate.arrived(1)).await;
    let follower = start(deadline());
    // It has no time to wait; the others go on.
    let late = start(Instant::now());
    assert!(matches!(soon("the late reader", late).await.unwrap(), Err(ClassError::Unavailable { .. })));
    leader.abort();
    gate.open();
    assert!(soon("the follower", follower).await.unwrap().is_ok());
    assert_eq!(world.class_reads(), 1);
}

#[tokio::test]
async fn a_read_lasts_as_long_as_the_latest_who_waits_for_it() {
    let (world, classes) = with_class().await;
    let gate = Gate::new();
    world.server.inject(reads(), Fault::Hold(gate.clone()), Times::ONCE);
    let start = |patience: Duration| {
        let classes = classes.clone();
        tokio::spawn(async move { classes.read("shop", "kv", FRESH, Instant::now() + patience).await })
    };
    // Alone, this one would leave no time for a second attempt.
    let hurried = start(Duration::from_millis(50));
    soon("the request", gate.arrived(1)).await;
    let patient = start(super::PATIENCE);
    tokio::task::yield_now().await;
    world.server.go_away().await;
    world.server.come_back().unwrap();
    assert!(soon("the patient reader", patient).await.unwrap().is_ok());
    drop(hurried);
}
