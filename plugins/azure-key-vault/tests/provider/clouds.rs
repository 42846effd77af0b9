//! Custom clouds and AD FS: everything comes from the granted file, and nothing goes anywhere else.

use coffer_azure_key_vault::http::Error;
use coffer_azure_key_vault::{FailureKind, Request, check, mount};

use crate::wire::{Wire, challenge, class_with, form, is_sign_in, json, request, secret, token};

const FILE: &str = "/etc/cloud.json";
const CLOUD: &str = r#"{
    "name": "HubCloud",
    "activeDirectoryEndpoint": "https://login.hub.test/",
    "keyVaultEndpoint": "https://vault.hub.test/",
    "keyVaultDNSSuffix": "vault.hub.test"
}"#;

fn in_cloud(more: &[(&str, &str)], file: &str) -> Request {
    let mut changes = vec![("cloudName", "AzureStackCloud"), ("cloudEnvFileName", FILE)];
    changes.extend(more);
    let config = [(FILE.to_owned(), file.as_bytes().to_vec())].into();
    Request { config, ..request(class_with(&changes)) }
}

fn mistake(request: &Request) -> String {
    let wire = Wire::new(|_, _| Err(Error::Timeout));
    let failure = mount(request, &wire).unwrap_err();
    assert!(wire.requests().is_empty());
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    failure.message
}

#[test]
fn a_custom_cloud_is_asked_at_its_own_endpoints_and_nobody_else_is() {
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { secret(request) });
    mount(&in_cloud(&[("cloudName", "azurestackcloud")], CLOUD), &wire).unwrap();
    assert_eq!(
        wire.batches(),
        [
            ["POST https://login.hub.test/t/oauth2/v2.0/token"],
            ["GET https://kv1.vault.hub.test/secrets/a/?api-version=7.4"],
        ]
    );
    assert!(form(&wire.requests()[0]).contains(&("scope".into(), "https://vault.hub.test/.default".into())));
}

#[test]
fn a_token_for_a_custom_cloud_is_for_its_own_vaults_only() {
    for (resource, works) in [("https://vault.hub.test", true), ("https://vault.azure.net", false)] {
        let wire = Wire::new(|request, before| match (is_sign_in(request), before) {
            (true, _) => token("t"),
            (false, 1) => challenge(resource),
            _ => secret(request),
        });
        assert_eq!(mount(&in_cloud(&[], CLOUD), &wire).is_ok(), works, "{resource}");
    }
}

#[test]
fn ad_fs_is_asked_at_its_own_path_for_the_resource() {
    let cloud = CLOUD.replace("https://login.hub.test/", "https://adfs.hub.test/adfs");
    let wire = Wire::new(|request, _| if is_sign_in(request) { token("t") } else { secret(request) });
    mount(&in_cloud(&[("tenantID", "ADFS")], &cloud), &wire).unwrap();
    let sign_in = &wire.requests()[0];
    assert_eq!(sign_in.url, "https://adfs.hub.test/adfs/oauth2/token");
    let names: Vec<String> = form(sign_in).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["client_id", "client_secret", "grant_type", "resource"]);
    assert!(form(sign_in).contains(&("resource".into(), "https://vault.hub.test".into())));
}

#[test]
fn a_refusal_of_ad_fs_is_not_called_one_of_entra() {
    let wire = Wire::new(|_, _| json(400, r#"{"error":"invalid_client","error_description":"MSIS9607: no client."}"#));
    let failure = mount(&in_cloud(&[("tenantID", "adfs")], CLOUD), &wire).unwrap_err();
    assert!(failure.message.contains("to the tenant adfs: AD FS answers with status 400"), "{failure}");
    assert!(failure.message.ends_with("MSIS9607: no client."), "{failure}");
}

#[test]
fn managed_and_pod_identity_ask_for_the_vaults_of_the_custom_cloud() {
    for (mode, url) in [
        (
            "useVMManagedIdentity",
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.hub.test",
        ),
        ("usePodIdentity", "http://localhost:2579/host/token/?resource=https://vault.hub.test"),
    ] {
        let wire = Wire::new(|_, _| json(400, "{}"));
        let mut request = in_cloud(&[(mode, "true")], CLOUD);
        (request.pod.name, request.pod.namespace) = ("p".into(), "n".into());
        mount(&request, &wire).unwrap_err();
        assert_eq!(wire.requests()[0].url, url);
    }
}

#[test]
fn pod_identity_says_that_it_needs_the_endpoint() {
    let cloud = CLOUD.replace("keyVaultEndpoint", "other");
    let mut request = in_cloud(&[("usePodIdentity", "true")], &cloud);
    (request.pod.name, request.pod.namespace) = ("p".into(), "n".into());
    assert!(mistake(&request).contains("keyVaultEndpoint"));
}

#[test]
fn the_custom_cloud_needs_the_name_of_its_file() {
    let parameters = class_with(&[("cloudName", "AzureStackCloud"), ("cloudEnvFilename", FILE)]);
    let message = check(&parameters).unwrap_err().message;
    let start = "cloudEnvFileName is not provided (there is `cloudEnvFilename`: did you mean `cloudEnvFileName`?)";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn check_accepts_a_custom_cloud_without_its_file_and_mount_does_not() {
    let mut request = in_cloud(&[], CLOUD);
    assert!(check(&request.parameters).is_ok());
    request.config.clear();
    let message = mistake(&request);
    assert!(
        message.starts_with("cloudName AzureStackCloud is not valid: there is no file `/etc/cloud.json`"),
        "{message}"
    );
}

#[test]
fn check_finds_the_other_mistakes_of_a_class_with_a_custom_cloud() {
    let request = in_cloud(&[("keyvaultName", "k_v")], CLOUD);
    assert!(check(&request.parameters).unwrap_err().message.starts_with("keyvaultName `k_v`"));
}

#[test]
fn a_mistake_in_the_file_names_file_and_key() {
    for (file, words) in [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has no activeDirectoryEndpoint"),
        (r#"{"activeDirectoryEndpoint":"https://l.test"}"#, "has no keyVaultDNSSuffix"),
        (
            r#"{"activeDirectoryEndpoint":"http://l.test","keyVaultDNSSuffix":"v.test"}"#,
            "has an activeDirectoryEndpoint",
        ),
    ] {
        let message = mistake(&in_cloud(&[], file));
        let start = format!("cloudName AzureStackCloud is not valid: the custom cloud file `{FILE}` {words}");
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn a_session_of_a_cloud_does_not_outlive_a_change_of_its_file() {
    let answer = |request: &_| if is_sign_in(request) { token("t") } else { secret(request) };
    let wire = Wire::new(|request, _| answer(request));
    let first = in_cloud(&[], CLOUD);
    let session = mount(&first, &wire).unwrap().session.map(|session| session.state);
    for (file, batches) in [(CLOUD, 1), (&CLOUD.replace("login.hub.test", "login.other.test"), 2)] {
        let wire = Wire::new(|request, _| answer(request));
        mount(&Request { session: session.clone(), ..in_cloud(&[], file) }, &wire).unwrap();
        assert_eq!(wire.batches().len(), batches);
    }
}
