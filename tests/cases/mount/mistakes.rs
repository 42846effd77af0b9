//! What a user can get wrong before any request is sent.

use super::World;
use super::world::{CLIENT_SECRET, class, class_of};

/// Refused without a request.
async fn wrong(world: &World, code: i32, parts: &[&str]) {
    world.refused(code, parts, &[]).await;
    assert_eq!(world.emulator.counters().total(), 0, "nothing is sent for a class that is wrong");
}

#[tokio::test]
async fn a_manifest_that_is_no_yaml_is_located_by_file_line_and_column() {
    let world = World::new().await;
    world.class(&class().replace("usePodIdentity: \"false\"", "usePodIdentity: \"false"));
    wrong(&world, 65, &["error: class.yaml:17:27: not valid YAML: "]).await;
    world.class("kind: SecretProviderClass\nspec: [\n");
    wrong(&world, 65, &["error: class.yaml:2:7: not valid YAML: "]).await;
}

#[tokio::test]
async fn objects_that_are_no_yaml_are_located_by_element_and_position() {
    let world = World::new().await;
    world.class(&class_of(&[
        "objectName: DemoSecret\nobjectType: secret",
        "objectName: DemoSecret\nobjectType: [secret",
    ]));
    wrong(&world, 65, &["objects.array[1], line 2, column 13: "]).await;
    world.class(&class().replace("array:", "array"));
    wrong(&world, 65, &["objects is not YAML: line 3, column 15: "]).await;
}

#[tokio::test]
async fn a_missing_parameter_is_named() {
    let world = World::new().await;
    world.class(&class().replace("    keyvaultName: contoso-kv\n", ""));
    wrong(&world, 65, &["keyvaultName is not provided\n"]).await;
}

#[tokio::test]
async fn a_misspelt_parameter_is_answered_with_the_nearest_one() {
    let world = World::new().await;
    world.class(&class().replace("keyvaultName", "keyVaultName"));
    wrong(&world, 65, &["(there is `keyVaultName`: did you mean `keyvaultName`?)"]).await;
    world.class(&class().replace("objectName:", "objectname:"));
    wrong(&world, 65, &["objects.array[0]", "(there is `objectname`: did you mean `objectName`?)"]).await;
}

#[tokio::test]
async fn check_and_mount_say_the_same_about_a_class() {
    let world = World::new().await;
    world.class(&class().replace("keyvaultName", "keyVaultName"));
    let check = world.run(&["check", "class.yaml", "--config", "config.yaml"], &[]).await;
    let sentence = "keyvaultName is not provided (there is `keyVaultName`: did you mean `keyvaultName`?)";
    assert_eq!(check.code, Some(65));
    assert_eq!(check.stdout.matches(sentence).count(), 1, "{check:#?}");
    wrong(&world, 65, &[sentence]).await;
}

#[tokio::test]
async fn a_secret_without_a_key_names_the_key() {
    let world = World::new().await;
    world.secret("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {clientid: <client-id>}\n");
    wrong(&world, 65, &["has no key clientsecret\n"]).await;
    world.secret(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{clientsecret: {CLIENT_SECRET}}}\n"
    ));
    wrong(&world, 65, &["has no key clientid\n"]).await;
    world.secret("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\n");
    wrong(&world, 65, &["nodePublishSecretRef"]).await;
}

#[tokio::test]
async fn an_unknown_cloud_is_answered_with_the_nearest_one() {
    let world = World::new().await;
    world.class(&class().replace("cloudName:", "cloudName: AzureChinaClod"));
    wrong(&world, 65, &["cloudName AzureChinaClod is not valid", "did you mean AzureChinaCloud?"]).await;
}

#[tokio::test]
async fn a_provider_without_a_plugin_is_answered_with_the_nearest_one() {
    let world = World::new().await;
    world.class(&class().replace("provider: azure", "provider: azrue"));
    wrong(&world, 65, &["there is no provider `azrue`", "help: did you mean `azure`?\n"]).await;
}

#[tokio::test]
async fn a_component_that_is_not_the_pinned_one_is_not_run() {
    let world = World::new().await;
    let pinned = format!("azure-key-vault.wasm, digest: 'sha256:{}'}}", "0".repeat(64));
    world.config(&world.grant().replace("azure-key-vault.wasm}", &pinned));
    wrong(&world, 70, &["is not what was pinned", "its digest is sha256:", "0000000000000000"]).await;
}

#[tokio::test]
async fn a_request_that_no_rule_of_the_grant_allows_is_not_sent() {
    let world = World::new().await;
    let without = |part: &str| world.grant().lines().filter(|line| !line.contains(part)).collect::<Vec<_>>().join("\n");
    world.config(&without("oauth2"));
    wrong(&world, 77, &["do not allow the request", "login.microsoftonline.com", "an administrator has to allow it"])
        .await;
    world.config(&without("GET"));
    world
        .refused(
            77,
            &["do not allow the request", "contoso-kv.vault.azure.net", "an administrator has to allow it"],
            &[],
        )
        .await;
    let failed = world
        .run(&["mount", "class.yaml", "secret.yaml", "target", "--config", "config.yaml", "--output", "json"], &[]);
    assert_eq!(failed.await.json()["error"]["reason"], "EgressDenied");
    assert_eq!(world.emulator.counters().of(coffer_tests::harness::Kind::GetSecret), 0);
}

#[tokio::test]
async fn a_volume_attribute_overrides_a_parameter_unless_the_configuration_denies_it() {
    let world = World::new().await;
    let other = world.emulator.tenant(super::world::TENANT).vault("other-kv");
    other.allow_all(super::world::CLIENT_ID).secret("DemoSecret").set("canary of another vault");
    let attribute = ["--attribute", "keyvaultName=other-kv", "--output", "json"];
    let run = world.mount(&attribute).await;
    assert_eq!(world.file("DemoSecret"), "canary of another vault");
    assert_eq!(run.json()["overridden"], serde_json::json!(["keyvaultName"]));
    assert!(world.emulator.entries().iter().all(|entry| !entry.host.starts_with("contoso-kv")));

    world.config(&format!("volumeAttributeOverrides: deny\n{}", world.grant()));
    world.emulator.log().clear();
    world.refused(77, &["does not allow the volume attributes `keyvaultName`"], &attribute[..2]).await;
    assert_eq!(world.emulator.counters().total(), 0);
}
