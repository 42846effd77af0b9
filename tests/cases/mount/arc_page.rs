//! The walk-through for Arc-enabled Kubernetes: its class and its Secret, word for word.

use coffer_tests::harness::{Cloud, Kind};

use super::World;
use super::world::{TENANT, VAULT, class, furnish, list};

#[tokio::test]
async fn the_class_and_the_secret_of_the_walk_through_mount_follow_a_rotation_and_then_write_nothing() {
    let world = World::new().await;
    world.mount(&[]).await;
    assert_eq!(world.file("DemoSecret"), "MyExampleSecret");
    let counters = world.emulator.counters();
    assert_eq!((counters.of(Kind::Token), counters.of(Kind::GetSecret), counters.total()), (1, 1, 2));

    world.vault.secret("DemoSecret").set("MyRotatedSecret");
    world.mount(&[]).await;
    assert_eq!(world.file("DemoSecret"), "MyRotatedSecret");
    let entries = list(&world.path("target"));
    assert_eq!(entries.len(), 3, "the version before is gone: {entries:?}");

    let before = world.tree();
    let run = world.mount(&["--output", "json"]).await;
    assert_eq!(run.json()["change"]["kind"], "unchanged");
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn each_sovereign_cloud_works_with_its_own_rules_and_with_no_others() {
    let world = World::new().await;
    let clouds = [
        (Cloud::china(), "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be002"),
        (Cloud::us_government(), "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be003"),
    ];
    for (cloud, tenant) in clouds {
        let value = format!("canary of {}", cloud.name);
        furnish(&world.emulator, &cloud, tenant).secret("DemoSecret").set(value.as_str());
        world.class(&class().replace("cloudName:", &format!("cloudName: {}", cloud.name)).replace(TENANT, tenant));
        world.config(&world.grant());
        let parts = ["do not allow the request", &cloud.login_host, "an administrator has to allow it"];
        world.refused(77, &parts, &[]).await;
        world.config(&world.grant_for(&cloud));
        world.emulator.log().clear();
        world.mount(&[]).await;
        assert_eq!(world.file("DemoSecret"), value);
        let hosts: Vec<String> = world.emulator.entries().into_iter().map(|entry| entry.host).collect();
        assert_eq!(hosts, [cloud.login_host.clone(), cloud.vault_host(VAULT)]);
    }
}
