//! Events: on the right pod, not twice, and never more than a courtesy.

use std::time::Duration;

use coffer::kube::events::{Event, Events};
use coffer_tests::harness::apiserver::{Fault, Matcher, Resource, Verb};
use coffer_tests::harness::{Gate, Times};
use serde_json::{Value, json};

use super::{World, pass, pod, soon};

fn event(message: &str) -> Event {
    Event { pod: pod("p", "u1"), warning: true, reason: "RefreshFailed", message: message.into() }
}

fn sends() -> Matcher {
    Matcher::of(Verb::Create, Resource::Events)
}

impl World {
    fn events(&self) -> Events {
        Events::start(self.client.clone(), "node-1".into(), &self.tasks)
    }

    /// Waits until so many events are stored.
    async fn stored(&self, count: usize) -> Vec<Value> {
        soon("the events", self.server.until(|server| server.events().len() >= count)).await;
        self.server.events()
    }

    async fn sent(&self, count: u64) {
        self.called("create events", count).await;
    }
}

#[tokio::test]
async fn an_event_is_one_that_describe_shows_with_the_pod() {
    let world = World::new().await;
    world.events().send(event("the vault said no"));
    let event = world.stored(1).await.remove(0);
    let about = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "p", "uid": "u1"});
    assert_eq!(event["involvedObject"], about);
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("RefreshFailed")));
    assert_eq!((&event["message"], &event["count"]), (&json!("the vault said no"), &json!(1)));
    assert_eq!(event["source"], json!({"component": "csi-secrets-store-controller", "host": "node-1"}));
    assert_eq!(event["reportingComponent"], "csi-secrets-store-controller");
    assert_eq!(event["reportingInstance"], "node-1");
    assert!(event["firstTimestamp"].is_string() && event["firstTimestamp"] == event["lastTimestamp"]);
    assert_eq!(event["metadata"]["namespace"], "shop");
    world.called("create events 201", 1).await;
}

#[tokio::test]
async fn the_same_event_is_not_sent_twice_in_five_minutes() {
    let world = World::new().await;
    let events = world.events();
    let other_pod = Event { pod: pod("p", "u2"), ..event("a") };
    for event in [event("a"), event("a"), other_pod, Event { reason: "Other", ..event("a") }, event("b"), event("a")] {
        events.send(event);
    }
    assert_eq!(world.stored(4).await.len(), 4);
    pass(Duration::from_secs(301)).await;
    events.send(event("a"));
    events.send(event("last"));
    assert_eq!(world.stored(6).await.len(), 6);
}

#[tokio::test]
async fn a_full_queue_drops_events_and_nobody_waits() {
    let world = World::new().await;
    let gate = Gate::new();
    world.server.inject(sends(), Fault::Hold(gate.clone()), Times::ONCE);
    let events = world.events();
    events.send(event("first"));
    soon("the first", gate.arrived(1)).await;
    for number in 0..300 {
        events.send(event(&number.to_string()));
    }
    gate.open();
    world.stored(257).await;
    // What was dropped was not sent, so it may be sent again, behind everything that waited.
    events.send(event("299"));
    assert_eq!(world.stored(258).await.len(), 258);
}

#[tokio::test]
async fn long_messages_and_names_are_cut() {
    let world = World::new().await;
    let events = world.events();
    let long = Event { pod: pod(&format!("{}.x", "p".repeat(250)), "u1"), ..event(&"ä".repeat(1000)) };
    events.send(long);
    events.send(event(&"x".repeat(1024)));
    let messages: Vec<String> =
        world.stored(2).await.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect();
    assert!(messages.iter().all(|message| message.len() <= 1024), "{messages:?}");
    assert!(messages.contains(&"x".repeat(1024)));
    assert!(messages.iter().any(|message| message.starts_with("ää") && message.ends_with('…')));
}

#[tokio::test]
async fn an_event_that_does_not_go_through_is_given_up_after_three_attempts() {
    let world = World::new().await;
    world.server.inject(sends(), Fault::failing(500, None), Times::Next(3));
    let events = world.events();
    events.send(event("lost"));
    events.send(event("next"));
    for attempt in 1..=3 {
        world.sent(attempt).await;
        pass(Duration::from_secs(10)).await;
    }
    let messages: Vec<Value> = world.stored(1).await.iter().map(|event| event["message"].clone()).collect();
    assert_eq!(messages, ["next"]);
}

#[tokio::test]
async fn an_event_that_is_refused_is_not_tried_again() {
    let world = World::new().await;
    world.server.inject(sends(), Fault::Forbidden, Times::ONCE);
    let events = world.events();
    events.send(event("refused"));
    events.send(event("next"));
    world.stored(1).await;
    assert_eq!(world.asked(Verb::Create, Resource::Events), 2);
}

#[tokio::test]
async fn an_event_whose_answer_got_lost_is_stored_once() {
    let world = World::new().await;
    world.server.inject(sends(), Fault::CloseAfter, Times::ONCE);
    let events = world.events();
    events.send(event("once"));
    events.send(event("next"));
    world.sent(1).await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.stored(2).await.len(), 2);
    assert!(world.server.entries().iter().any(|entry| entry.status == Some(409)));
}
