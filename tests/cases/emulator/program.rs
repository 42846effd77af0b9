//! The emulator as a program.

use std::process::Stdio;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::client::{Client, KV, soon};
use super::{APP, APP_SECRET, TENANT, VALUE};

fn state() -> Value {
    json!({"tenants": [{
        "id": TENANT,
        "apps": [{"clientId": APP, "secrets": [APP_SECRET]}],
        "vaults": [{
            "name": "kv",
            "allow": [{"clientId": APP, "secrets": ["get", "set"]}],
            "secrets": {
                "DemoSecret": VALUE,
                "versions": [{"value": "one"}, {"value": "two", "contentType": "text/plain", "expires": 5}],
            },
            "keys": {"k": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
            "certificates": {"web": {"commonName": "web.example"}},
        }],
    }]})
}

fn started(folder: &tempfile::TempDir, arguments: &[&str]) -> Child {
    let state_file = folder.path().join("state.json");
    std::fs::write(&state_file, state().to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_coffer-emulator"))
        .arg("--state")
        .arg(state_file)
        .arg("--ca-out")
        .arg(folder.path().join("ca.pem"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Reads the line that says that it listens.
async fn ready(child: &mut Child) -> Value {
    let mut line = String::new();
    soon(BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line)).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

#[tokio::test]
async fn it_serves_its_state_file_logs_no_secret_and_ends_with_its_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = started(&folder, &["--until-stdin-closes", "--latency", "1ms"]);
    let ready = ready(&mut child).await;
    let ca = CertificateDer::from_pem_file(ready["ca"].as_str().unwrap()).unwrap();
    assert!(ready["hosts"].as_array().unwrap().contains(&json!(KV)));
    let client = Client::new(ready["address"].as_str().unwrap().parse().unwrap(), ca, &[b"h2"]);
    let token = client.token(TENANT, APP, APP_SECRET, "https://vault.azure.net/.default").await;
    let reply = client.get(KV, "/secrets/DemoSecret/?api-version=7.4", Some(&token)).await;
    assert_eq!(reply.text("/value"), VALUE);
    let body = json!({"value": "rotated"});
    assert_eq!(client.put(KV, "/secrets/DemoSecret?api-version=7.4", &token, &body).await.status, 200);
    let reply = client.get(KV, "/secrets/versions?api-version=7.4", Some(&token)).await;
    assert_eq!((reply.text("/value"), reply.text("/contentType")), ("two".to_owned(), "text/plain".to_owned()));
    drop(child.stdin.take());
    let mut log = String::new();
    soon(child.stderr.as_mut().unwrap().read_to_string(&mut log)).await.unwrap();
    assert!(soon(child.wait()).await.unwrap().success());
    let kinds: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["token", "get-secret", "set-secret", "get-secret"]);
    for secret in [VALUE, APP_SECRET, "rotated", token.as_str(), "7.4"] {
        assert!(!log.contains(secret));
    }
}

#[tokio::test]
async fn it_ends_on_sigterm_with_success() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = started(&folder, &[]);
    ready(&mut child).await;
    let id = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(soon(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_wrong_state_file_is_refused_by_place_and_not_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.json");
    std::fs::write(&path, r#"{"tenants": [{"id": "t", "vaults": "a canary"}]}"#).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_coffer-emulator")).arg("--state").arg(&path).output();
    let output = soon(program).await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("line 1, column 45"), "{error}");
    assert!(!error.contains("canary"));
}
