//! Calls that meet: for one volume, for one name, for many volumes at once.

use coffer_tests::harness::kubelet::Pod;
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};
use futures_util::future::join_all;
use serde_json::Value;

use super::patience::in_time;
use super::world::{CLASS, SECRET, VALUE, World, objects, pod, volume};

#[tokio::test]
async fn two_publishes_at_once_make_one_volume() {
    let world = World::new().await;
    let pod = pod("web");
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    let opened = async {
        in_time("one of them to ask", gate.arrived(1)).await;
        gate.open();
    };
    tokio::join!(world.publish(&pod), world.publish(&pod), opened);
    assert_eq!((world.gets(), world.mounts(&pod).len()), (1, 1));
    assert_eq!(world.file(&pod, SECRET), VALUE);
    assert_eq!(world.tree(&pod).unwrap().names().len(), 3);
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
}

#[tokio::test]
async fn a_publish_that_kubelet_gave_up_and_the_next_one_make_one_volume() {
    let world = World::new().await;
    let pod = pod("web");
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    {
        let first = world.kubelet.publish(&pod, "secrets");
        tokio::pin!(first);
        tokio::select! {
            result = &mut first => panic!("{result:?}"),
            () = in_time("the first to ask", gate.arrived(1)) => {}
        }
    }
    tokio::join!(world.publish(&pod), async { gate.open() });
    assert_eq!((world.file(&pod, SECRET).as_str(), world.mounts(&pod).len()), (VALUE, 1));
}

#[tokio::test]
async fn publishes_and_unpublishes_in_any_order_end_as_the_last_one_says() {
    let world = World::new().await;
    let pod = pod("web");
    for round in 0..10_usize {
        let publish = async { drop(world.kubelet.publish(&pod, "secrets").await) };
        let unpublish = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            drop(world.kubelet.unpublish(&pod, "secrets").await);
        };
        tokio::join!(publish, unpublish);
        // kubelet never has both on their way; whichever came last, this is what it does next.
        if round % 2 == 0 {
            world.unpublish(&pod).await;
            world.assert_gone(&pod);
        } else {
            world.publish(&pod).await;
            assert_eq!((world.file(&pod, SECRET).as_str(), world.mounts(&pod).len()), (VALUE, 1));
        }
    }
    world.unpublish(&pod).await;
    world.assert_gone(&pod);
    world.remembers(0).await;
}

#[tokio::test]
async fn a_pod_of_the_same_name_with_another_uid_is_another_pod() {
    let world = World::new().await;
    let (before, after) = (pod("web-0"), pod("web-0"));
    assert_ne!(before.uid(), after.uid());
    let owned_by = |uid: &str| {
        let uid = uid.to_owned();
        move |status: &Value| status["metadata"]["ownerReferences"][0]["uid"] == uid.as_str()
    };
    world.publish(&before).await;
    world.status_of(&before, CLASS, owned_by(before.uid())).await;
    world.publish(&after).await;
    let status = world.status_of(&after, CLASS, owned_by(after.uid())).await;
    assert_eq!(status["metadata"]["ownerReferences"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["status"]["targetPath"], world.target(&after).display().to_string());

    world.unpublish(&before).await;
    world.assert_gone(&before);
    assert_eq!(world.file(&after, SECRET), VALUE);
    world.api.collect(before.uid());
    world.api_caught_up().await;
    world.status_of(&after, CLASS, owned_by(after.uid())).await;
}

#[tokio::test]
async fn a_hundred_and_ten_volumes_of_five_identities_come_up_at_once() {
    let world = World::new().await;
    let names: Vec<String> = (0..5).map(|n| format!("account-{n}")).collect();
    let pods: Vec<Pod> =
        (0..110).map(|n| Pod::new(&format!("web-{n}")).service_account(&names[n % 5]).volume(volume(CLASS))).collect();
    join_all(pods.iter().map(|pod| world.publish(pod))).await;
    assert_eq!((world.sign_ins(), world.gets()), (5, 5));
    assert!(pods.iter().all(|pod| world.file(pod, SECRET) == VALUE));
    assert_eq!(world.all_mounts().len(), 110);
    for pod in &pods {
        world.status(pod).await;
    }
    join_all(pods.iter().map(|pod| world.unpublish(pod))).await;
    assert_eq!(world.all_mounts(), []);
    world.remembers(0).await;
}

#[tokio::test]
async fn volumes_of_many_classes_do_not_wait_for_each_other() {
    let world = World::new().await;
    let gate = Gate::new();
    world.vault.secret("Slow").set("canary that takes its time");
    world.put_class("slow", &objects(&["Slow"]));
    world.emulator.inject(Matcher::any().path("/secrets/Slow"), Fault::Hold(gate.clone()), Times::ONCE);
    let slow = Pod::new("slow").volume(volume("slow"));
    let others = async {
        in_time("the slow one to ask", gate.arrived(1)).await;
        for n in 0..5 {
            world.publish(&pod(&format!("web-{n}"))).await;
        }
        gate.open();
    };
    tokio::join!(world.publish(&slow), others);
}
