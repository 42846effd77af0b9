//! What is equal is fetched once, and nobody ever gets what somebody else may have.

use coffer_tests::harness::kubelet::{Pod, Volume};
use coffer_tests::harness::{Fault, Gate, Kind, Matcher, Times};
use futures_util::future::join_all;
use tonic::Code;

use super::patience::in_time;
use super::world::{
    CLASS, CLIENT_ID, CLIENT_SECRET, SECRET, Setup, TENANT, VALUE, World, azure, objects, pod, url_of, volume,
};

fn replicas(count: usize) -> Vec<Pod> {
    (0..count).map(|n| pod(&format!("web-{n}"))).collect()
}

#[tokio::test]
async fn a_hundred_equal_mounts_are_one_sign_in_and_one_request_for_each_object() {
    let world = World::new().await;
    world.vault.secret("Other").set("canary of the other");
    world.put_class(CLASS, &objects(&[SECRET, "Other"]));
    let pods = replicas(100);
    join_all(pods.iter().map(|pod| world.publish(pod))).await;
    assert_eq!((world.sign_ins(), world.gets()), (1, 2));
    for pod in &pods {
        assert_eq!(
            (world.file(pod, SECRET).as_str(), world.file(pod, "Other").as_str()),
            (VALUE, "canary of the other")
        );
    }
    // Every pod that was served is named, with the one for which the requests were made.
    let mut fetched_for = Vec::new();
    for pod in &pods {
        let audit = world.audit(pod, 1).await;
        let line = audit.iter().find(|line| line.message() == "volume published").unwrap();
        fetched_for.push((pod.uid(), line.field("fetched_for").to_owned()));
    }
    let led: Vec<&str> = fetched_for.iter().filter(|(_, by)| by.is_empty()).map(|(uid, _)| *uid).collect();
    let [leader] = led.as_slice() else { panic!("{} pods led", led.len()) };
    assert!(fetched_for.iter().all(|(uid, by)| uid == leader || by == leader));
}

#[tokio::test]
async fn a_result_is_kept_for_a_short_while_and_not_longer() {
    let world = World::new().await;
    world.publish(&pod("first")).await;
    world.publish(&pod("second")).await;
    assert_eq!((world.sign_ins(), world.gets()), (1, 1));
    world.vault.secret(SECRET).set("canary of the second value");
    world.advance(11);
    let third = pod("third");
    world.publish(&third).await;
    assert_eq!((world.sign_ins(), world.gets()), (1, 2));
    assert_eq!(world.file(&third, SECRET), "canary of the second value");
}

#[tokio::test]
async fn the_short_while_may_be_none() {
    let world = World::with(Setup { config: "reuseResultsFor: 0s".into(), ..Setup::default() }).await;
    for pod in replicas(3) {
        world.publish(&pod).await;
    }
    assert_eq!((world.sign_ins(), world.gets()), (1, 3), "sessions are another matter");
}

#[tokio::test]
async fn a_failure_is_nobody_elses() {
    let world = World::new().await;
    world.vault.deny(CLIENT_ID);
    world.refused(&pod("first"), Code::PermissionDenied, &[CLASS]).await;
    world.vault.allow_all(CLIENT_ID);
    world.publish(&pod("second")).await;
}

/// Publishes both at once; both must ask the vault before either gets an answer, and both must sign in if they have to.
async fn assert_not_shared(world: &World, one: &Pod, other: &Pod, sign_ins: u64) {
    let gate = Gate::new();
    world.emulator.log().clear();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::Next(2));
    let both = async { tokio::join!(world.publish(one), world.publish(other)) };
    let opened = async {
        in_time("both to ask", gate.arrived(2)).await;
        gate.open();
    };
    tokio::join!(both, opened);
    assert_eq!((world.sign_ins(), world.gets()), (sign_ins, 2));
    for pod in [one, other] {
        world.unpublish(pod).await;
    }
}

#[tokio::test]
async fn another_service_account_or_namespace_shares_neither_result_nor_session() {
    let world = World::new().await;
    world.put_class_in("shop", CLASS, &objects(&[SECRET]));
    assert_not_shared(&world, &pod("one"), &pod("other").service_account("other"), 2).await;
    world.advance(11);
    assert_not_shared(&world, &pod("one"), &pod("other").namespace("shop"), 1).await;
}

#[tokio::test]
async fn another_credential_shares_neither_result_nor_session() {
    let world = World::new().await;
    world.emulator.tenant(TENANT).app(CLIENT_ID).secret("canary of another client secret");
    let with = |name: &str, secret: &str| {
        let secret = [("clientid", CLIENT_ID), ("clientsecret", secret)];
        Pod::new(name).volume(Volume::new("secrets", CLASS).secret(&secret))
    };
    let another = with("other", "canary of another client secret");
    assert_not_shared(&world, &with("one", CLIENT_SECRET), &another, 2).await;
    // Whoever does not have the right one gets nothing, however often it was right for somebody else.
    world.publish(&pod("right")).await;
    let wrong = with("wrong", "canary that is wrong");
    world.refused(&wrong, Code::Unauthenticated, &["the client secret is wrong"]).await;
}

#[tokio::test]
async fn another_parameter_shares_the_session_and_not_the_result() {
    let world = World::new().await;
    let same = objects(&[SECRET]);
    let overridden = Pod::new("other").volume(volume(CLASS).attribute("objects", &format!("{same}\n")));
    world.publish(&pod("first")).await;
    world.advance(11);
    assert_not_shared(&world, &pod("one"), &overridden, 0).await;
}

#[tokio::test]
async fn another_vault_is_another_result() {
    let world = World::new().await;
    let vault = world.emulator.tenant(TENANT).vault("other-kv");
    vault.allow_all(CLIENT_ID).secret(SECRET).set("canary of the other vault");
    let other = Pod::new("other").volume(volume(CLASS).attribute("keyvaultName", "other-kv"));
    let one = pod("one");
    join_all([world.publish(&one), world.publish(&other)]).await;
    assert_eq!(
        (world.file(&one, SECRET).as_str(), world.file(&other, SECRET).as_str()),
        (VALUE, "canary of the other vault")
    );
}

#[tokio::test]
async fn where_the_store_authenticates_pods_every_pod_asks_for_itself() {
    let world = World::new().await;
    world.put_guest("scoped", "says_that_its_scope_is_pod", &[("url", &url_of(SECRET))]);
    let scoped = |name: &str| Pod::new(name).mounts("scoped");
    assert_not_shared(&world, &scoped("one"), &scoped("other"), 0).await;

    world.put_guest("shared", "behaves", &[("url", &url_of(SECRET))]);
    world.emulator.log().clear();
    for name in ["third", "fourth"] {
        world.publish(&Pod::new(name).mounts("shared")).await;
    }
    assert_eq!(world.gets(), 1, "where it does not, they share");
}

#[tokio::test]
async fn a_session_comes_back_to_the_same_identity_alone() {
    let world = World::new().await;
    // Says how many calls had the session before; other contents are another result.
    let pod = |name: &str, contents: &str| {
        Pod::new(name).volume(Volume::new("secrets", "sessions").attribute("contents", contents))
    };
    world.put_guest("sessions", "keeps_a_session", &[("contents", "0")]);
    world.put_guest_in("shop", "sessions", "keeps_a_session", &[("contents", "0")]);
    let cases = [
        (pod("a", "a"), "0"),
        (pod("b", "b"), "1"),
        (pod("c", "c").service_account("other"), "0"),
        (pod("d", "d").namespace("shop"), "0"),
        (pod("e", "e"), "2"),
        (
            Pod::new("f").volume(Volume::new("secrets", "sessions").attribute("contents", "f").secret(&[("k", "v")])),
            "0",
        ),
        (pod("g", "g").service_account("other"), "1"),
    ];
    for (pod, before) in cases {
        world.publish(&pod).await;
        assert_eq!(world.file(&pod, "file"), before, "{}", pod.name());
    }
}

#[tokio::test]
async fn a_leader_that_is_taken_away_harms_nobody() {
    let world = World::new().await;
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    let (leader, follower) = (pod("leader"), pod("follower"));
    let led = world.kubelet.publish(&leader, "secrets");
    tokio::pin!(led);
    tokio::select! {
        result = &mut led => panic!("{result:?}"),
        () = in_time("the leader to ask", gate.arrived(1)) => {}
    }
    let taken_away = async {
        // The follower is on its way, or has found the flight.
        tokio::task::yield_now().await;
        world.unpublish(&leader).await;
        gate.open();
    };
    let (led, (), ()) = tokio::join!(led, world.publish(&follower), taken_away);
    assert!(led.is_err());
    assert_eq!(world.file(&follower, SECRET), VALUE);
    world.assert_gone(&leader);
}

#[tokio::test]
async fn a_call_that_kubelet_gives_up_harms_nobody() {
    let world = World::new().await;
    let gate = Gate::new();
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::Hold(gate.clone()), Times::ONCE);
    let (leader, follower) = (pod("leader"), pod("follower"));
    {
        let led = world.kubelet.publish(&leader, "secrets");
        tokio::pin!(led);
        tokio::select! {
            result = &mut led => panic!("{result:?}"),
            () = in_time("the leader to ask", gate.arrived(1)) => {}
        }
    }
    tokio::join!(world.publish(&follower), async { gate.open() });
    assert_eq!(world.file(&follower, SECRET), VALUE);
    world.publish(&leader).await;
    assert_eq!((world.file(&leader, SECRET).as_str(), world.mounts(&leader).len()), (VALUE, 1));
}

#[tokio::test]
async fn a_class_of_another_name_with_the_same_parameters_shares() {
    let world = World::new().await;
    let objects = objects(&[SECRET]);
    world.api.class("default", "twin").put("azure", &azure(&objects));
    let twin = Pod::new("twin").volume(volume("twin"));
    world.publish(&pod("one")).await;
    world.publish(&twin).await;
    assert_eq!((world.sign_ins(), world.gets()), (1, 1));
    assert_eq!(world.file(&twin, SECRET), VALUE);
}
