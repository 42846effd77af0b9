//! What Microsoft Entra and the vault refuse. The volume of an earlier mount stays as it is, each time.

use coffer_tests::harness::vault::Options;
use coffer_tests::harness::{Fault, Kind, Matcher, RetryAfter, Times};

use super::World;
use super::world::{CLIENT_ID, HOST, LOGIN, TENANT, class, class_of};

#[tokio::test]
async fn a_wrong_client_secret_ends_with_77_and_names_the_principal_and_the_tenant() {
    let world = World::mounted().await;
    world.emulator.tenant(TENANT).app(CLIENT_ID).forget_secrets().secret("canary of another secret");
    let parts =
        ["cannot sign in the service principal 5c1b6f0e-", TENANT, "the client secret is wrong", "AADSTS7000215"];
    world.refused(77, &parts, &[]).await;
    assert_eq!(world.emulator.counters().total(), 1, "a refusal is not asked for twice");
}

#[tokio::test]
async fn an_expired_client_secret_ends_with_77() {
    let world = World::mounted().await;
    world.emulator.tenant(TENANT).app(CLIENT_ID).forget_secrets().secret_until("canary~client~secret", 1);
    world.refused(77, &["the client secret has expired", "AADSTS7000222"], &[]).await;
}

#[tokio::test]
async fn an_unknown_tenant_ends_with_65_and_is_named() {
    let world = World::mounted().await;
    let unknown = "00000000-1111-2222-3333-444444444444";
    world.class(&class().replace(TENANT, unknown));
    world.refused(65, &[unknown, "there is no such tenant: check tenantID and cloudName", "AADSTS90002"], &[]).await;
}

#[tokio::test]
async fn a_vault_that_forbids_ends_with_77_and_says_which_permission_is_missing() {
    let world = World::mounted().await;
    world.vault.deny(CLIENT_ID);
    let policy = "the permission Get for secrets in the access policy of contoso-kv.vault.azure.net";
    world.refused(77, &["secret/DemoSecret", policy, "status 403"], &[]).await;
    world.vault.role_based(true);
    world.refused(77, &["the role Key Vault Secrets User on contoso-kv.vault.azure.net", "status 403"], &[]).await;
}

#[tokio::test]
async fn a_secret_that_is_not_there_ends_with_65_and_is_named() {
    let world = World::mounted().await;
    world.vault.secret("DemoSecret").remove();
    world.refused(65, &["secret/DemoSecret", "has no secret of this name", "SecretNotFound"], &[]).await;
}

#[tokio::test]
async fn one_object_that_fails_keeps_all_of_them_out_and_all_that_fail_are_named() {
    let world = World::new().await;
    world.class(&class_of(&[
        "objectName: DemoSecret\nobjectType: secret",
        "objectName: absent\nobjectType: secret",
        "objectName: gone\nobjectType: key",
    ]));
    world.refused(65, &["secret/absent", "key/gone"], &[]).await;
    assert!(world.tree().is_none());
}

#[tokio::test]
async fn a_disabled_secret_ends_with_77_and_says_so() {
    let world = World::mounted().await;
    world.vault.secret("DemoSecret").enable(None, false);
    world.refused(77, &["the secret is disabled: enable it"], &[]).await;
}

#[tokio::test]
async fn an_expired_secret_is_mounted_because_the_vault_gives_it() {
    let world = World::new().await;
    world.vault.secret("DemoSecret").set_with("canary that is old", Options::new().expires(1));
    world.mount(&[]).await;
    assert_eq!(world.file("DemoSecret"), "canary that is old");
}

#[tokio::test]
async fn a_vault_that_says_expired_ends_with_77_and_says_so() {
    let world = World::mounted().await;
    let fault = Fault::failing(403, "Forbidden", "Operation get is not allowed on an expired secret.", None);
    world.emulator.inject(Matcher::kind(Kind::GetSecret), fault, Times::Always);
    world.refused(77, &["the secret has expired"], &[]).await;
}

#[tokio::test]
async fn a_vault_that_asks_for_a_longer_wait_than_there_is_time_ends_with_69_at_once() {
    let world = World::mounted().await;
    let fault = Fault::throttled(Some(RetryAfter::Seconds(3600)));
    world.emulator.inject(Matcher::any().host(HOST), fault, Times::Always);
    world.refused(69, &["the vault asks to slow down", "status 429"], &[]).await;
    assert_eq!(world.emulator.counters().of(Kind::GetSecret), 1);
}

#[tokio::test]
async fn a_vault_with_a_problem_of_its_own_ends_with_69() {
    let world = World::mounted().await;
    world.limit_requests(2);
    for (fault, status) in [(Fault::internal(), "status 500"), (Fault::unavailable(None), "status 503")] {
        world.emulator.inject(Matcher::any().host(HOST), fault, Times::ONCE);
        world.refused(69, &[HOST, "has a problem of its own", status], &[]).await;
    }
}

#[tokio::test]
async fn entra_with_a_problem_of_its_own_ends_with_69() {
    let world = World::mounted().await;
    world.limit_requests(1);
    world.emulator.inject(Matcher::kind(Kind::Token), Fault::unavailable(None), Times::ONCE);
    world.refused(69, &["Entra answers with status 503"], &[]).await;
}

#[tokio::test]
async fn a_redirect_of_entra_ends_with_70_and_the_client_secret_goes_nowhere_else() {
    let world = World::mounted().await;
    world.emulator.tenant(TENANT).vault("other-kv");
    // Another host, a place that the rules allow as well, and the very same one.
    let own = format!("https://{LOGIN}/{TENANT}/oauth2/v2.0/token");
    for location in ["https://other-kv.vault.azure.net/secrets/x", &format!("https://{HOST}/secrets/x"), &own] {
        for status in [302, 307, 308] {
            world.emulator.log().clear();
            world.emulator.inject(Matcher::kind(Kind::Token), Fault::redirect(status, location), Times::ONCE);
            let part = format!("Entra answers with status {status}, a redirect, which is not followed");
            world.refused(70, &["cannot sign in the service principal", &part], &[]).await;
            assert_eq!(world.emulator.counters().total(), 1, "{location}");
        }
    }
}

#[tokio::test]
async fn a_claims_challenge_of_a_vault_ends_with_77_after_one_new_token() {
    let world = World::mounted().await;
    let challenge = "Bearer resource=\"https://vault.azure.net\", error=\"insufficient_claims\", claims=\"e30=\"";
    world.emulator.inject(Matcher::kind(Kind::GetSecret), Fault::challenge(challenge), Times::Always);
    world.refused(77, &["it asks for further claims", "continuous access evaluation"], &[]).await;
    let counters = world.emulator.counters();
    assert_eq!((counters.of(Kind::Token), counters.of(Kind::GetSecret)), (2, 2));
}
