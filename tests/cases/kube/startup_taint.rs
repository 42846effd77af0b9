//! The taint that keeps pods from a node until the driver is there: it goes, and nothing else does.

use coffer::kube::startup_taint::remove;
use coffer_tests::harness::apiserver::{Fault, Matcher, Resource, Right, Verb};
use coffer_tests::harness::{Gate, Times};
use serde_json::{Value, json};

use super::{World, soon};

const NODE: &str = "node-1";
const KEY: &str = "coffer.dev/agent-not-ready";

fn taint(key: &str, effect: &str) -> Value {
    json!({"key": key, "effect": effect})
}

async fn with(taints: &Value) -> World {
    let world = World::new().await;
    world.server.set(Resource::Nodes, "", NODE, &json!({"spec": {"podCIDR": "10.0.0.0/24", "taints": taints}}));
    world
}

fn spec(world: &World) -> Value {
    world.server.object(Resource::Nodes, "", NODE).unwrap()["spec"].clone()
}

#[tokio::test]
async fn it_is_taken_off_whatever_its_effect_and_others_stay() {
    let world = with(&json!([taint(KEY, "NoExecute"), taint("other", "NoSchedule"), taint(KEY, "NoSchedule")])).await;
    remove(world.client.clone(), NODE.into(), KEY.into(), &world.tasks);
    world.called("patch nodes 200", 1).await;
    assert_eq!(spec(&world), json!({"podCIDR": "10.0.0.0/24", "taints": [taint("other", "NoSchedule")]}));
}

#[tokio::test]
async fn a_node_without_it_is_not_written() {
    for taints in [json!([taint("other", "NoSchedule")]), json!([])] {
        let world = with(&taints).await;
        remove(world.client.clone(), NODE.into(), KEY.into(), &world.tasks);
        world.called("get nodes 200", 1).await;
        soon("the end", world.tasks.drain(std::time::Duration::from_secs(5))).await;
        assert_eq!(world.asked(Verb::Patch, Resource::Nodes), 0);
        assert_eq!(spec(&world)["taints"], taints);
    }
}

#[tokio::test]
async fn a_change_that_comes_between_is_not_lost() {
    let world = with(&json!([taint(KEY, "NoSchedule")])).await;
    let gate = Gate::new();
    let patches = Matcher::of(Verb::Patch, Resource::Nodes);
    world.server.inject(patches, Fault::Hold(gate.clone()), Times::ONCE);
    remove(world.client.clone(), NODE.into(), KEY.into(), &world.tasks);
    soon("the first patch", gate.arrived(1)).await;
    let newer = [taint(KEY, "NoSchedule"), taint("node.kubernetes.io/unreachable", "NoExecute")];
    world.server.set(Resource::Nodes, "", NODE, &json!({"spec": {"taints": newer}}));
    gate.open();
    world.called("patch nodes 200", 1).await;
    assert_eq!(spec(&world)["taints"], json!([taint("node.kubernetes.io/unreachable", "NoExecute")]));
    assert_eq!(world.counted("patch nodes 409"), 1);
}

#[tokio::test]
async fn without_the_right_it_is_tried_once() {
    let world = with(&json!([taint(KEY, "NoSchedule")])).await;
    let none: Vec<Right> = Vec::new();
    world.server.enforce(Some(none));
    remove(world.client.clone(), NODE.into(), KEY.into(), &world.tasks);
    world.called("get nodes 403", 1).await;
    soon("the end", world.tasks.drain(std::time::Duration::from_secs(5))).await;
    assert_eq!(world.asked(Verb::Get, Resource::Nodes), 1);
}
