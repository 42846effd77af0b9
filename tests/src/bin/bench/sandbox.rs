//! What the sandbox adds: the same provider logic natively and as a component, HTTP answered in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use coffer_azure_key_vault::http as native;
use coffer_sandbox::egress::{Answers, Outbound, Request, Response};
use coffer_sandbox::engine::{Engine, Pool};
use coffer_sandbox::instance::Call;
use coffer_sandbox::provider::{self, Pod};
use coffer_sandbox::redact::Redactor;
use coffer_sandbox::secret::SecretBytes;
use serde_json::json;
use tokio::time::Instant;

use crate::Built;
use crate::table::{Sample, Table, ratio, show};

const MOUNTS: usize = 5_000;

/// Answers like Entra and a vault, at once and always the same.
pub(crate) struct Memory;

impl Memory {
    fn answer(url: &str) -> (u16, Vec<u8>) {
        let body = match url.split('/').nth(3) {
            Some("secrets") => {
                let id = "https://bench.vault.azure.net/secrets/s/0123456789abcdef0123456789abcdef";
                json!({"value": "a secret value of the usual length", "id": id, "attributes": {"enabled": true}})
            }
            _ => json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "a.b.c"}),
        };
        (200, body.to_string().into_bytes())
    }
}

impl native::Http for Memory {
    fn send(&self, requests: Vec<native::Request>) -> Vec<Result<native::Response, native::Error>> {
        let answer = |request: native::Request| {
            let (status, body) = Self::answer(&request.url);
            Ok(native::Response { status, headers: json_headers(), body })
        };
        requests.into_iter().map(answer).collect()
    }
}

impl Outbound for Memory {
    fn send(&self, requests: Vec<Request>) -> Answers<'_> {
        let answer = |request: Request| {
            let (status, body) = Self::answer(&request.url);
            Ok(Response { status, headers: json_headers(), body })
        };
        Box::pin(std::future::ready(requests.into_iter().map(answer).collect()))
    }
}

fn json_headers() -> Vec<(String, String)> {
    [("content-type", "application/json; charset=utf-8"), ("x-ms-request-id", "00000000-0000-0000-0000-000000000000")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// A class with this many secrets.
pub(crate) fn parameters(vault: &str, tenant: &str, secrets: usize) -> BTreeMap<String, String> {
    let object = |number| format!("  - |\n    objectName: secret-{number}\n    objectType: secret\n");
    let objects = format!("array:\n{}", (0..secrets).map(object).collect::<String>());
    [("keyvaultName", vault.to_owned()), ("tenantId", tenant.to_owned()), ("objects", objects)]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

pub(crate) fn request(
    parameters: &BTreeMap<String, String>,
    credentials: [&str; 2],
    session: Option<SecretBytes>,
) -> provider::Request {
    let [id, secret] = credentials.map(|value| SecretBytes::from(value.to_owned()));
    provider::Request {
        pod: Pod {
            name: "bench".into(),
            namespace: "default".into(),
            uid: "0".into(),
            service_account: "default".into(),
        },
        parameters: parameters.clone(),
        secrets: [("clientid".to_owned(), id), ("clientsecret".to_owned(), secret)].into(),
        tokens: Vec::new(),
        config: BTreeMap::new(),
        default_mode: 0o644,
        mounted: Vec::new(),
        session,
        now: SystemTime::now(),
        entropy: [7; 32],
    }
}

pub(crate) async fn measure(built: &Built) -> Result<Table> {
    let engine = Engine::new(Pool::default()).map_err(anyhow::Error::msg)?;
    let ready = built.ready(&engine).await?;
    let mut table = Table::new(
        "The sandbox: a warm mount, HTTP answered in memory",
        ["", "native p50", "p99", "component p50", "p99", "overhead p50", "p99", "ratio"],
    );
    for objects in [1, 20] {
        let parameters = parameters("bench", "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be001", objects);
        let native = Sample::new(natively(&parameters, objects)?);
        let component = Sample::new(in_the_sandbox(&ready, &parameters, objects).await?);
        let cells = |sample: &Sample| [show(sample.median()), show(sample.percentile(99))];
        let ([n50, n99], [c50, c99]) = (cells(&native), cells(&component));
        let over = |percent| component.percentile(percent).saturating_sub(native.percentile(percent));
        let ratio = ratio(component.median(), native.median());
        table.row([format!("{objects} objects"), n50, n99, c50, c99, show(over(50)), show(over(99)), ratio]);
    }
    Ok(table)
}

fn natively(parameters: &BTreeMap<String, String>, objects: usize) -> Result<Vec<Duration>> {
    let secret = |value: &str| coffer_azure_key_vault::Secret::new(value.as_bytes().to_vec());
    let mut session = None;
    let mut measurements = Vec::new();
    for mount in 0..=MOUNTS {
        let request = coffer_azure_key_vault::Request {
            parameters: parameters.clone(),
            secrets: [("clientid".to_owned(), secret("id")), ("clientsecret".to_owned(), secret("a client secret"))]
                .into(),
            session: session.take(),
            now: 1_800_000_000,
            entropy: [7; 32],
            ..Default::default()
        };
        let started = Instant::now();
        let outcome =
            coffer_azure_key_vault::mount(&request, &Memory).map_err(|failure| anyhow::Error::msg(failure.message))?;
        let took = started.elapsed();
        ensure!(outcome.files.len() == objects, "the native provider returned {} files", outcome.files.len());
        session = outcome.session.map(|session| session.state).or(request.session);
        if mount > 0 {
            measurements.push(took);
        }
    }
    Ok(measurements)
}

async fn in_the_sandbox(
    ready: &coffer_sandbox::store::Ready,
    parameters: &BTreeMap<String, String>,
    objects: usize,
) -> Result<Vec<Duration>> {
    let mut session = None;
    let mut measurements = Vec::new();
    for mount in 0..=MOUNTS {
        let request = request(parameters, ["id", "a client secret"], session.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        let call = Call { outbound: Arc::new(Memory), redactor: Redactor::default(), deadline };
        let started = Instant::now();
        let outcome = ready.mount(&request, call).await.result?;
        let took = started.elapsed();
        let files = outcome.mounted.context("the component returned nothing")?.files.len();
        ensure!(files == objects, "the component returned {files} files");
        session = outcome.session.map(|session| session.state).or(request.session);
        if mount > 0 {
            measurements.push(took);
        }
    }
    Ok(measurements)
}
