//! The token endpoint: what it gives, what it refuses and with which codes.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_tests::harness::{Cloud, Kind};
use serde_json::Value;

use super::client::{Client, LOGIN, Reply, build, soon};
use super::{APP, APP_SECRET, TENANT, altered, furnished};

const SCOPE: &str = "https://vault.azure.net/.default";
const CLUSTER: &str = "https://cluster.example/";
const SUBJECT: &str = "system:serviceaccount:shop:web";
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// The form of a client that does everything right, with some parameters changed; an empty value takes one out.
fn form<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let right =
        [("client_id", APP), ("client_secret", APP_SECRET), ("grant_type", "client_credentials"), ("scope", SCOPE)];
    let unchanged = right.into_iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    unchanged.chain(changes.iter().copied().filter(|(_, value)| !value.is_empty())).collect()
}

async fn ask(client: &Client, tenant: &str, changes: &[(&str, &str)]) -> Reply {
    client.post_form(LOGIN, &format!("/{tenant}/oauth2/v2.0/token"), &form(changes)).await
}

/// Status, error name and code of a refusal; checks that the description begins with the code.
fn refusal(reply: &Reply) -> (u16, String, u64) {
    let code = reply.json()["error_codes"][0].as_u64().unwrap();
    assert!(reply.text("/error_description").starts_with(&format!("AADSTS{code}: ")));
    (reply.status, reply.text("/error"), code)
}

fn claims(token: &str) -> Value {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
}

#[tokio::test]
async fn a_client_secret_buys_a_token_for_the_resource_of_the_scope() {
    let emulator = furnished().await;
    let reply = ask(&Client::of(&emulator), TENANT, &[]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.text("/token_type"), "Bearer");
    assert_eq!(reply.json()["expires_in"], 3599);
    assert_eq!(reply.json()["ext_expires_in"], 3599);
    let claims = claims(&reply.text("/access_token"));
    assert_eq!(claims["aud"], "https://vault.azure.net");
    assert_eq!(claims["tid"], TENANT);
    assert_eq!(claims["appid"], APP);
    assert!(!reply.header("x-ms-request-id").is_empty());
    assert_eq!(reply.header("cache-control"), "no-store, no-cache");
    assert_eq!(reply.header("client-request-id"), "11111111-2222-3333-4444-555555555555");
}

#[tokio::test]
async fn a_client_that_understands_claims_challenges_gets_a_token_for_a_day() {
    let emulator = furnished().await;
    let claims = r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#;
    let reply = ask(&Client::of(&emulator), TENANT, &[("claims", claims)]).await;
    assert_eq!(reply.json()["expires_in"], 86_399);
}

#[tokio::test]
async fn the_lifetime_of_tokens_can_be_set() {
    let emulator = furnished().await;
    emulator.token_lifetime(Duration::from_secs(90));
    let reply = ask(&Client::of(&emulator), TENANT, &[]).await;
    assert_eq!(reply.json()["expires_in"], 90);
}

#[tokio::test]
async fn openid_scopes_beside_the_resource_are_ignored() {
    let emulator = furnished().await;
    let scope = format!("{SCOPE} openid offline_access profile");
    assert_eq!(ask(&Client::of(&emulator), TENANT, &[("scope", &scope)]).await.status, 200);
}

#[tokio::test]
async fn a_tenant_answers_to_its_domain() {
    let emulator = furnished().await;
    emulator.tenant(TENANT).domain("Contoso.example");
    assert_eq!(ask(&Client::of(&emulator), "contoso.EXAMPLE", &[]).await.status, 200);
}

#[tokio::test]
async fn each_missing_parameter_is_named() {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    for parameter in ["grant_type", "client_id", "scope"] {
        let reply = ask(&client, TENANT, &[(parameter, "")]).await;
        assert_eq!(refusal(&reply), (400, "invalid_request".to_owned(), 900_144));
        assert!(reply.text("/error_description").contains(&format!("'{parameter}'")));
    }
}

#[tokio::test]
async fn a_body_that_is_no_form_has_no_parameters() {
    let emulator = furnished().await;
    let request = build("POST", LOGIN, &format!("/{TENANT}/oauth2/v2.0/token"))
        .header("content-type", "application/json")
        .body(r#"{"grant_type":"client_credentials"}"#.into())
        .unwrap();
    let reply = soon(Client::of(&emulator).send(LOGIN, request)).await.unwrap();
    assert_eq!(refusal(&reply), (400, "invalid_request".to_owned(), 900_144));
}

#[tokio::test]
async fn every_refusal_of_a_client_secret_has_its_code() {
    let emulator = furnished().await;
    let expired = emulator.clock().now() - 1;
    emulator.tenant(TENANT).app(APP).secret_until("an old secret", expired);
    let client = Client::of(&emulator);
    let other_app = "00000000-0000-4000-8000-000000000000";
    for (changes, expected) in [
        (("client_secret", "wrong"), (401, "invalid_client", 7_000_215)),
        (("client_secret", "an old secret"), (401, "invalid_client", 7_000_222)),
        (("client_secret", ""), (401, "invalid_client", 7_000_216)),
        (("client_id", other_app), (400, "unauthorized_client", 700_016)),
        (("grant_type", "password"), (400, "unsupported_grant_type", 70_003)),
        (("scope", "https://vault.azure.net"), (400, "invalid_scope", 1_002_012)),
        (
            ("scope", "https://vault.azure.net/.default https://graph.microsoft.com/.default"),
            (400, "invalid_scope", 70_011),
        ),
        (("scope", "https://nowhere.example/.default"), (400, "invalid_resource", 500_011)),
        (("scope", "https://vault.azure.cn/.default"), (400, "invalid_resource", 500_011)),
    ] {
        let (status, error, code) = expected;
        assert_eq!(refusal(&ask(&client, TENANT, &[changes]).await), (status, error.to_owned(), code), "{changes:?}");
    }
}

#[tokio::test]
async fn a_refusal_has_the_trace_fields_and_the_clients_own_request_id() {
    let emulator = furnished().await;
    let reply = ask(&Client::of(&emulator), TENANT, &[("client_secret", "wrong")]).await;
    assert_eq!(reply.text("/correlation_id"), "11111111-2222-3333-4444-555555555555");
    assert_eq!(reply.text("/trace_id").len(), 36);
    assert!(reply.text("/timestamp").ends_with('Z'));
    assert_eq!(reply.text("/error_uri"), "https://login.microsoftonline.com/error?code=7000215");
    assert!(!String::from_utf8_lossy(&reply.body).contains("wrong"));
}

#[tokio::test]
async fn a_tenant_that_is_unknown_malformed_or_of_another_cloud_is_refused() {
    let emulator = furnished().await;
    let chinese = "aaaaaaaa-7f0e-4d4e-8f0e-0b6d2f1f2a11";
    emulator.tenant_in(&Cloud::china(), chinese).app(APP).secret(APP_SECRET);
    let client = Client::of(&emulator);
    for (tenant, code) in
        [("11111111-0000-4000-8000-000000000000", 90_002), (chinese, 90_002), ("no_such%20tenant", 900_023)]
    {
        assert_eq!(refusal(&ask(&client, tenant, &[]).await), (400, "invalid_request".to_owned(), code));
    }
    let path = format!("/{chinese}/oauth2/v2.0/token");
    let form = form(&[("scope", "https://vault.azure.cn/.default")]);
    assert_eq!(client.post_form("login.chinacloudapi.cn", &path, &form).await.status, 200);
}

#[tokio::test]
async fn only_post_is_understood() {
    let emulator = furnished().await;
    let reply = Client::of(&emulator).get(LOGIN, &format!("/{TENANT}/oauth2/v2.0/token"), None).await;
    assert_eq!(refusal(&reply), (400, "invalid_request".to_owned(), 900_561));
}

async fn present(client: &Client, assertion: &str) -> Reply {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let changes = [("client_secret", ""), ("client_assertion", assertion), ("client_assertion_type", kind)];
    ask(client, TENANT, &changes).await
}

#[tokio::test]
async fn a_service_account_token_of_a_trusted_cluster_buys_a_token() {
    let emulator = furnished().await;
    emulator.tenant(TENANT).app(APP).federate(CLUSTER, SUBJECT, AUDIENCE);
    let assertion = emulator.issuer(CLUSTER).sign(SUBJECT, AUDIENCE, Duration::from_secs(600));
    let reply = present(&Client::of(&emulator), &assertion).await;
    assert_eq!(reply.status, 200);
    assert_eq!(claims(&reply.text("/access_token"))["appid"], APP);
}

#[tokio::test]
async fn every_refusal_of_a_client_assertion_has_its_code() {
    let emulator = furnished().await;
    emulator.tenant(TENANT).app(APP).federate(CLUSTER, SUBJECT, AUDIENCE);
    let client = Client::of(&emulator);
    let sign = |issuer: &str, subject: &str, audience: &str| {
        emulator.issuer(issuer).sign(subject, audience, Duration::from_secs(600))
    };
    let good = sign(CLUSTER, SUBJECT, AUDIENCE);
    for (assertion, status, error, code) in [
        (sign("https://other.example/", SUBJECT, AUDIENCE), 401, "invalid_client", 700_211),
        (sign(CLUSTER, SUBJECT, "api://other"), 401, "invalid_client", 700_212),
        (sign(CLUSTER, "system:serviceaccount:shop:other", AUDIENCE), 401, "invalid_client", 700_213),
        (altered(&good), 401, "invalid_client", 700_027),
        ("not a token".to_owned(), 400, "invalid_request", 50_027),
    ] {
        assert_eq!(refusal(&present(&client, &assertion).await), (status, error.to_owned(), code));
    }
    emulator.clock().advance(Duration::from_secs(601));
    assert_eq!(refusal(&present(&client, &good).await), (401, "invalid_client".to_owned(), 700_024));
}

#[tokio::test]
async fn the_discovery_documents_lead_to_the_token_endpoint_and_are_counted_apart() {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    let asked = "/common/discovery/instance?api-version=1.1&authorization_endpoint=https%3A%2F%2F\
                 login.microsoftonline.com%2Fsome-tenant%2Foauth2%2Fv2.0%2Fauthorize";
    let discovered = client.get(LOGIN, asked, None).await.text("/tenant_discovery_endpoint");
    assert_eq!(discovered, "https://login.microsoftonline.com/some-tenant/v2.0/.well-known/openid-configuration");
    let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    let endpoint = client.get(LOGIN, &path, None).await.text("/token_endpoint");
    assert_eq!(endpoint, format!("https://{LOGIN}/{TENANT}/oauth2/v2.0/token"));
    let counters = emulator.counters();
    assert_eq!(counters.of(Kind::InstanceDiscovery), 1);
    assert_eq!(counters.of(Kind::OpenIdConfiguration), 1);
    assert_eq!(counters.of(Kind::Token), 0);
}
