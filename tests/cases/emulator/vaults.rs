//! The vault: who gets in, what they read, list and set, and how it refuses.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_tests::harness::vault::{CertificateBundle, Jwk, Options};
use coffer_tests::harness::{Action, Cloud, Collection, Kind, NextLink};
use serde_json::{Value, json};

use super::client::{Client, KV, LOGIN, Reply, build, soon};
use super::{APP, APP_SECRET, TENANT, VALUE, altered, furnished, signed_in};

const DEMO: &str = "/secrets/DemoSecret/?api-version=7.4";

fn refused(status: u16, code: &str, inner: &str) -> (u16, String, String) {
    (status, code.to_owned(), inner.to_owned())
}

#[tokio::test]
async fn a_request_without_a_token_is_challenged_with_authority_and_resource() {
    let emulator = furnished().await;
    let reply = Client::of(&emulator).get(KV, DEMO, None).await;
    assert_eq!(reply.refusal(), refused(401, "Unauthorized", ""));
    assert!(reply.text("/error/message").starts_with("AKV10000"));
    let expected = format!(
        "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"https://vault.azure.net\""
    );
    assert_eq!(reply.header("www-authenticate"), expected);
}

#[tokio::test]
async fn a_token_opens_the_current_version_of_a_secret() {
    let (emulator, client, token) = signed_in().await;
    let version = emulator.tenant(TENANT).vault("kv").secret("DemoSecret").set("a newer value");
    let reply = client.get(KV, DEMO, Some(&token)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.text("/value"), "a newer value");
    assert_eq!(reply.text("/id"), format!("https://{KV}/secrets/DemoSecret/{version}"));
    assert_eq!(reply.json()["attributes"]["enabled"], true);
    assert!(reply.json().get("kid").is_none());
    assert_eq!(reply.header("content-type"), "application/json; charset=utf-8");
    for name in ["x-ms-keyvault-region", "x-ms-request-id", "x-ms-keyvault-service-version", "x-ms-client-request-id"] {
        assert!(!reply.header(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn both_protocol_versions_are_spoken() {
    let (emulator, _, token) = signed_in().await;
    let reply = Client::http2_of(&emulator).get(KV, DEMO, Some(&token)).await;
    assert_eq!(reply.text("/value"), VALUE);
    let protocols: Vec<String> = emulator.entries().into_iter().map(|entry| entry.protocol).collect();
    assert_eq!(protocols, ["HTTP/1.1", "HTTP/2.0"]);
}

#[tokio::test]
async fn a_version_can_be_named_and_names_are_not_case_sensitive() {
    let (emulator, client, token) = signed_in().await;
    let secret = emulator.tenant(TENANT).vault("kv").secret("DemoSecret");
    let first = secret.versions().remove(0);
    secret.set("a newer value");
    let reply = client.get(KV, &format!("/secrets/demosecret/{first}?api-version=7.4"), Some(&token)).await;
    assert_eq!(reply.text("/value"), VALUE);
    assert_eq!(reply.text("/id"), format!("https://{KV}/secrets/DemoSecret/{first}"));
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused_even_if_only_by_a_slash() {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    for scope in ["https://management.azure.com/.default", "https://vault.azure.net//.default"] {
        let token = client.token(TENANT, APP, APP_SECRET, scope).await;
        let reply = client.get(KV, DEMO, Some(&token)).await;
        assert_eq!(reply.refusal(), refused(401, "Unauthorized", ""));
        assert!(reply.text("/error/message").starts_with("AKV10022: "), "{scope}");
        assert!(!reply.header("www-authenticate").is_empty());
    }
}

#[tokio::test]
async fn a_token_of_another_tenant_is_refused() {
    let (emulator, client, token) = signed_in().await;
    let foreign = emulator.tenant("bbbbbbbb-7f0e-4d4e-8f0e-0b6d2f1f2a11").vault("foreign");
    foreign.allow_all(APP);
    let reply = client.get(foreign.host(), DEMO, Some(&token)).await;
    assert_eq!(reply.refusal(), refused(401, "Unauthorized", ""));
    assert!(reply.text("/error/message").starts_with("AKV10032: "));
}

#[tokio::test]
async fn a_token_that_expired_or_was_altered_is_refused() {
    let (emulator, client, token) = signed_in().await;
    assert_eq!(client.get(KV, DEMO, Some(&altered(&token))).await.status, 401);
    emulator.clock().advance(Duration::from_secs(3000));
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.status, 200);
    emulator.clock().advance(Duration::from_secs(599));
    let reply = client.get(KV, DEMO, Some(&token)).await;
    assert_eq!(reply.refusal(), refused(401, "Unauthorized", ""));
    assert!(reply.header("www-authenticate").contains("resource="));
}

#[tokio::test]
async fn a_revoked_token_is_met_with_a_claims_challenge_where_the_client_understands_it() {
    let (emulator, client, plain) = signed_in().await;
    let claims = r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", APP),
        ("client_secret", APP_SECRET),
        ("scope", "https://vault.azure.net/.default"),
        ("claims", claims),
    ];
    let capable = client.post_form(LOGIN, &format!("/{TENANT}/oauth2/v2.0/token"), &form).await.text("/access_token");
    emulator.revoke_tokens();
    let reply = client.get(KV, DEMO, Some(&plain)).await;
    assert_eq!(reply.status, 401);
    assert!(!reply.header("www-authenticate").contains("insufficient_claims"));
    let reply = client.get(KV, DEMO, Some(&capable)).await;
    assert_eq!(reply.status, 401);
    let challenge = reply.header("www-authenticate").to_owned();
    assert!(challenge.contains("error=\"insufficient_claims\""));
    let claims = challenge.split("claims=\"").nth(1).unwrap().trim_end_matches('"');
    let claims: Value = serde_json::from_slice(&STANDARD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["access_token"]["nbf"]["essential"], true);
}

#[tokio::test]
async fn the_api_version_is_demanded_and_checked() {
    let (_emulator, client, token) = signed_in().await;
    for target in ["/secrets/DemoSecret", "/secrets/DemoSecret?api-version=7", "/secrets/DemoSecret?api-version="] {
        let reply = client.get(KV, target, Some(&token)).await;
        assert_eq!(reply.refusal(), refused(400, "BadParameter", ""), "{target}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_cannot_be() {
    let (emulator, client, token) = signed_in().await;
    emulator.tenant(TENANT).vault("kv").allow_all(APP);
    let unknown = "0123456789abcdef0123456789abcdef";
    for (target, expected) in [
        ("/secrets/nothing".to_owned(), refused(404, "SecretNotFound", "")),
        ("/keys/nothing".to_owned(), refused(404, "KeyNotFound", "")),
        ("/certificates/nothing".to_owned(), refused(404, "CertificateNotFound", "")),
        (format!("/secrets/DemoSecret/{unknown}"), refused(404, "SecretNotFound", "")),
        ("/secrets/DemoSecret/latest".to_owned(), refused(400, "BadParameter", "")),
        ("/secrets/no_such_name".to_owned(), refused(400, "BadParameter", "")),
        ("/secrets/a%2Fb".to_owned(), refused(400, "BadParameter", "")),
        ("/storage/DemoSecret".to_owned(), refused(400, "BadParameter", "")),
    ] {
        let reply = client.get(KV, &format!("{target}?api-version=7.4"), Some(&token)).await;
        assert_eq!(reply.refusal(), expected, "{target}");
    }
    let reply = client.get(KV, "/secrets/nothing?api-version=7.4", Some(&token)).await;
    assert!(reply.text("/error/message").contains("(name/id) nothing"));
}

#[tokio::test]
async fn a_removed_secret_is_not_found() {
    let (emulator, client, token) = signed_in().await;
    emulator.tenant(TENANT).vault("kv").secret("demosecret").remove();
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.refusal(), refused(404, "SecretNotFound", ""));
}

#[tokio::test]
async fn each_way_of_being_forbidden_has_its_inner_code() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.secret("DemoSecret").enable(None, false);
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.refusal(), refused(403, "Forbidden", "SecretDisabled"));
    vault.deny(APP);
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.refusal(), refused(403, "Forbidden", "ForbiddenByPolicy"));
    vault.role_based(true);
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.refusal(), refused(403, "Forbidden", "ForbiddenByRbac"));
    vault.firewalled(true);
    assert_eq!(client.get(KV, DEMO, Some(&token)).await.refusal(), refused(403, "Forbidden", "ForbiddenByFirewall"));
}

#[tokio::test]
async fn get_and_list_are_separate_permissions_of_each_collection() {
    let (_emulator, client, token) = signed_in().await;
    for target in ["/secrets", "/secrets/DemoSecret/versions", "/keys/DemoSecret", "/certificates/DemoSecret"] {
        let reply = client.get(KV, &format!("{target}?api-version=7.4"), Some(&token)).await;
        assert_eq!(reply.refusal(), refused(403, "Forbidden", "ForbiddenByPolicy"), "{target}");
    }
}

#[tokio::test]
async fn a_secret_outside_its_lifetime_is_served_with_its_times() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.secret("old").set_with("o", Options::new().expires(1_000).content_type("text/plain").tag("team", "shop"));
    vault.secret("new").set_with("n", Options::new().not_before(9_999_999_999).created(5));
    let old = client.get(KV, "/secrets/old?api-version=7.4", Some(&token)).await;
    assert_eq!((old.status, &old.json()["attributes"]["exp"]), (200, &json!(1_000)));
    assert_eq!(old.text("/contentType"), "text/plain");
    assert_eq!(old.text("/tags/team"), "shop");
    let new = client.get(KV, "/secrets/new?api-version=7.4", Some(&token)).await;
    assert_eq!((new.status, &new.json()["attributes"]["nbf"]), (200, &json!(9_999_999_999_i64)));
    assert_eq!(new.json()["attributes"]["created"], 5);
}

#[tokio::test]
async fn keys_show_their_public_part_even_while_disabled() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.allow(APP, Collection::Keys, &[Action::Get]);
    let version = vault.key("rsa").set(Jwk::rsa().with_type("RSA-HSM"));
    let reply = client.get(KV, "/keys/rsa/?api-version=7.4", Some(&token)).await;
    assert_eq!(reply.text("/key/kid"), format!("https://{KV}/keys/rsa/{version}"));
    assert_eq!(reply.text("/key/kty"), "RSA-HSM");
    assert_eq!(reply.text("/key/n").len(), 342);
    vault.key("ec").set_with(Jwk::p384().unwrap(), Options::new().disabled());
    let reply = client.get(KV, "/keys/ec?api-version=7.4", Some(&token)).await;
    assert_eq!((reply.text("/key/crv"), reply.text("/key/x").len()), ("P-384".to_owned(), 64));
    assert_eq!(reply.json()["attributes"]["enabled"], false);
    vault.key("p256").set(Jwk::p256().unwrap());
    assert_eq!(client.get(KV, "/keys/p256?api-version=7.4", Some(&token)).await.text("/key/y").len(), 43);
}

#[tokio::test]
async fn a_certificate_brings_a_key_and_a_secret_of_the_same_name_and_version() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.allow_all(APP);
    let bundle = CertificateBundle::self_signed("web.example").unwrap();
    let version = vault.certificate("web").set(bundle.clone());
    let certificate = client.get(KV, "/certificates/web/?api-version=7.4", Some(&token)).await;
    assert_eq!(certificate.text("/id"), format!("https://{KV}/certificates/web/{version}"));
    assert_eq!(STANDARD.decode(certificate.text("/cer")).unwrap(), bundle.der);
    let secret = client.get(KV, "/secrets/web/?api-version=7.4", Some(&token)).await;
    assert_eq!(secret.text("/kid"), format!("https://{KV}/keys/web/{version}"));
    assert_eq!(secret.text("/contentType"), "application/x-pem-file");
    assert_eq!(secret.text("/value"), bundle.exported);
    assert_eq!(secret.json()["managed"], true);
    let key = client.get(KV, &format!("/keys/web/{version}?api-version=7.4"), Some(&token)).await;
    assert_eq!(key.text("/key/x"), bundle.key.0["x"]);
    let reply = client.put(KV, "/secrets/web?api-version=7.4", &token, &json!({"value": "mine"})).await;
    assert_eq!(reply.refusal(), refused(409, "Conflict", ""));
}

/// Reads a list to its end and returns the ids and the number of pages.
async fn pages(client: &Client, token: &str, first: &str) -> (Vec<String>, usize) {
    let (mut ids, mut count, mut target) = (Vec::new(), 0, first.to_owned());
    loop {
        let reply = client.get(KV, &target, Some(token)).await;
        assert_eq!(reply.status, 200);
        let page = reply.json();
        count += 1;
        ids.extend(
            page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row.get("id").or(row.get("kid")).unwrap().as_str().unwrap().to_owned()),
        );
        match page["nextLink"].as_str() {
            None => return (ids, count),
            Some(next) => target = next.strip_prefix(&format!("https://{KV}:443")).unwrap().to_owned(),
        }
    }
}

#[tokio::test]
async fn versions_are_listed_in_pages_of_25_by_links_on_the_same_host() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.allow_all(APP);
    let secret = vault.secret("many");
    for created in 0..60 {
        secret.set_with("v", Options::new().created(created));
    }
    let mut expected: Vec<String> =
        secret.versions().iter().map(|version| format!("https://{KV}/secrets/many/{version}")).collect();
    expected.sort();
    let (ids, count) = pages(&client, &token, "/secrets/many/versions?api-version=7.4").await;
    assert_eq!((ids, count), (expected.clone(), 3));
    let (ids, count) = pages(&client, &token, "/secrets/many/versions?api-version=7.4&maxresults=20").await;
    assert_eq!((ids, count), (expected, 3));
    assert_eq!(emulator.counters().of(Kind::ListSecretVersions), 6);
}

#[tokio::test]
async fn lists_of_names_show_no_version_and_no_value() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.allow_all(APP);
    vault.certificate("web").set(CertificateBundle::self_signed("web.example").unwrap());
    let (ids, _) = pages(&client, &token, "/secrets?api-version=7.4").await;
    assert_eq!(ids, [format!("https://{KV}/secrets/DemoSecret"), format!("https://{KV}/secrets/web")]);
    let (ids, _) = pages(&client, &token, "/keys?api-version=7.4").await;
    assert_eq!(ids, [format!("https://{KV}/keys/web")]);
    let reply = client.get(KV, "/secrets?api-version=7.4", Some(&token)).await;
    assert!(!String::from_utf8_lossy(&reply.body).contains(VALUE));
}

#[tokio::test]
async fn the_versions_of_nothing_are_an_empty_list() {
    let (emulator, client, token) = signed_in().await;
    emulator.tenant(TENANT).vault("kv").allow_all(APP);
    let reply = client.get(KV, "/secrets/nothing/versions?api-version=7.4", Some(&token)).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"value": [], "nextLink": null})));
}

#[tokio::test]
async fn page_sizes_and_skip_tokens_are_checked() {
    let (emulator, client, token) = signed_in().await;
    emulator.tenant(TENANT).vault("kv").allow_all(APP);
    for query in ["maxresults=0", "maxresults=26", "maxresults=x", "$skiptoken=x"] {
        let reply = client.get(KV, &format!("/secrets?api-version=7.4&{query}"), Some(&token)).await;
        assert_eq!(reply.refusal(), refused(400, "BadParameter", ""), "{query}");
    }
}

#[tokio::test]
async fn next_links_can_be_made_hostile() {
    let (emulator, client, token) = signed_in().await;
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.allow_all(APP).next_link(NextLink::Always("https://evil.example/".to_owned()));
    let target = "/secrets?api-version=7.4";
    assert_eq!(client.get(KV, target, Some(&token)).await.text("/nextLink"), "https://evil.example/");
    vault.next_link(NextLink::SamePage);
    assert_eq!(client.get(KV, target, Some(&token)).await.text("/nextLink"), format!("https://{KV}:443{target}"));
}

#[tokio::test]
async fn set_secret_adds_a_version_that_get_then_serves() {
    let (emulator, client, token) = signed_in().await;
    let target = "/secrets/DemoSecret?api-version=7.4";
    let body = json!({"value": "rotated", "contentType": "text/plain", "attributes": {"exp": 4_000_000_000_i64}});
    let reply = client.put(KV, target, &token, &body).await;
    assert_eq!(reply.refusal(), refused(403, "Forbidden", "ForbiddenByPolicy"));
    let vault = emulator.tenant(TENANT).vault("kv");
    vault.allow(APP, Collection::Secrets, &[Action::Set]);
    let set = client.put(KV, target, &token, &body).await;
    assert_eq!(set.status, 200);
    let got = client.get(KV, DEMO, Some(&token)).await;
    assert_eq!(got.json(), set.json());
    assert_eq!(got.text("/value"), "rotated");
    assert_eq!(vault.secret("DemoSecret").versions().len(), 2);
}

#[tokio::test]
async fn set_secret_refuses_what_is_no_secret() {
    let (emulator, client, token) = signed_in().await;
    emulator.tenant(TENANT).vault("kv").allow_all(APP);
    for body in [json!({}), json!({"value": 1}), json!({"value": "x".repeat(25 * 1024 + 1)})] {
        let reply = client.put(KV, "/secrets/new?api-version=7.4", &token, &body).await;
        assert_eq!(reply.refusal(), refused(400, "BadParameter", ""));
    }
}

#[tokio::test]
async fn a_vault_that_does_not_exist_cannot_be_reached() {
    let (_emulator, client, token) = signed_in().await;
    assert!(client.try_get("nosuch.vault.azure.net", DEMO, Some(&token)).await.is_err());
}

#[tokio::test]
async fn a_request_for_another_host_than_the_connection_was_made_for_is_misdirected() {
    let (emulator, client, token) = signed_in().await;
    emulator.tenant(TENANT).vault("other");
    let request = build("GET", "other.vault.azure.net", DEMO)
        .header("authorization", format!("Bearer {token}"))
        .body(Default::default())
        .unwrap();
    let reply: Reply = soon(client.send(KV, request)).await.unwrap();
    assert_eq!(reply.status, 421);
}

#[tokio::test]
async fn the_other_clouds_have_their_own_hosts_and_audiences() {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    for (number, cloud) in Cloud::all().into_iter().enumerate() {
        let tenant = emulator.tenant_in(&cloud, &format!("0000000{number}-7f0e-4d4e-8f0e-0b6d2f1f2a11"));
        tenant.app(APP).secret(APP_SECRET);
        let vault = tenant.vault("Sovereign");
        vault.allow_all(APP).secret("s").set(cloud.name.as_str());
        let scope = format!("{}/.default", cloud.resource);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", APP),
            ("client_secret", APP_SECRET),
            ("scope", &scope),
        ];
        let path = format!("/{}/oauth2/v2.0/token", tenant.id());
        let token = client.post_form(&cloud.login_host, &path, &form).await.text("/access_token");
        let reply = client.get(vault.host(), "/secrets/s?api-version=7.4", Some(&token)).await;
        assert_eq!(reply.text("/value"), cloud.name);
        let challenge = client.get(vault.host(), "/secrets/s?api-version=7.4", None).await;
        assert!(challenge.header("www-authenticate").ends_with(&format!("resource=\"{}\"", cloud.resource)));
    }
}

#[tokio::test]
async fn the_log_tells_what_was_asked_and_no_secret() {
    let (emulator, client, token) = signed_in().await;
    client.get(KV, "/secrets/DemoSecret/?api-version=7.4&extra=hidden", Some(&token)).await;
    client.get(KV, DEMO, None).await;
    let entries = emulator.entries();
    let kinds: Vec<(Kind, Option<u16>, bool)> =
        entries.iter().map(|entry| (entry.kind, entry.status, entry.authorized)).collect();
    assert_eq!(
        kinds,
        [(Kind::Token, Some(200), false), (Kind::GetSecret, Some(200), true), (Kind::GetSecret, Some(401), false)]
    );
    assert_eq!(entries[1].query, ["api-version", "extra"]);
    assert_eq!((entries[1].host.as_str(), entries[1].path.as_str()), (KV, "/secrets/DemoSecret/"));
    assert!(entries[1].sequence < entries[2].sequence && entries[1].connection < entries[2].connection);
    let all = format!("{entries:?}{}", serde_json::to_string(&entries).unwrap());
    for secret in [VALUE, APP_SECRET, token.as_str(), "hidden", "7.4"] {
        assert!(!all.contains(secret));
    }
    let counters = emulator.counters();
    assert_eq!((counters.of(Kind::GetSecret), counters.total(), counters.connections), (2, 3, 3));
}
