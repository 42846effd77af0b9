//! What the Azure provider costs by kind of mount: requests, round trips one after the other, processor time.
//!
//! HTTP is answered in memory, at once. A provider waits for each of its `send` calls, so their number is the number of
//! round trips on the critical path; whatever answers here counts them. Certificates and keys are those of the tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::egress::{Answers, Outbound, Request, Response};
use coffer_sandbox::engine::{Engine, Pool};
use coffer_sandbox::instance::Call;
use coffer_sandbox::redact::Redactor;
use coffer_sandbox::secret::SecretBytes;
use coffer_sandbox::store::Ready;
use coffer_tests::harness::vault::{CertificateBundle, Jwk};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Built;
use crate::sandbox::request;
use crate::table::{Sample, Table, show};

const MOUNTS: usize = 200;
const VAULT: &str = "https://bench.vault.azure.net";
const VERSION: &str = "0123456789abcdef0123456789abcdef";

/// RSA 2048 with its certificate and that of the authority, under an empty password: as OpenSSL 3 writes it (PBKDF2,
/// AES-256, SHA-256), and as OpenSSL 1 and Windows did (3DES, RC2, SHA-1). 2048 iterations each.
const MODERN_PFX: &str = include_str!("azure/modern.pfx.txt");
const LEGACY_PFX: &str = include_str!("azure/legacy.pfx.txt");
/// What they hold, as PEM.
const CLIENT_CERTIFICATE: &str = include_str!("../../../../plugins/azure-key-vault/tests/vectors/client/rsa.pem");

/// A kind of mount.
struct Case {
    name: &'static str,
    /// Round trips that are aimed at.
    aim: &'static str,
    objects: Vec<String>,
    files: usize,
    is_cold: bool,
    credential: (&'static str, &'static str),
}

impl Case {
    fn warm(name: &'static str, aim: &'static str, objects: Vec<String>, files: usize) -> Self {
        let credential = ("clientsecret", "a client secret");
        Self { name, aim, objects, files, is_cold: false, credential }
    }

    fn cold(self) -> Self {
        Self { is_cold: true, ..self }
    }
}

fn cases() -> Vec<Case> {
    let one = || vec![object("s", "secret", "")];
    let pem = |name| vec![object(name, "secret", "objectFormat: pem")];
    vec![
        Case::warm("1 secret, cold", "2", one(), 1).cold(),
        Case::warm("1 secret", "1", one(), 1),
        Case::warm("20 mixed: secrets, keys, certificates, PFX, PEM", "1", mixed(), 20),
        Case::warm("10 versions of a secret", "2", vec![object("s", "secret", "objectVersionHistory: 10")], 10),
        Case::warm("1 PFX to PEM, AES and SHA-256", "1", pem("modern"), 1),
        Case::warm("1 PFX to PEM, 3DES, RC2 and SHA-1", "1", pem("legacy"), 1),
        Case {
            credential: ("clientcertificate", CLIENT_CERTIFICATE),
            ..Case::warm("1 secret, cold, assertion signed by RSA 2048", "2", one(), 1).cold()
        },
    ]
}

fn object(name: &str, kind: &str, more: &str) -> String {
    format!("objectName: {name}\nobjectType: {kind}\n{more}")
}

/// Twenty different objects: one that is named twice is fetched once.
fn mixed() -> Vec<String> {
    let kinds = [
        (8, "s", "secret", ""),
        (2, "rsa", "key", ""),
        (2, "ec", "key", ""),
        (4, "web", "cert", ""),
        (1, "modern", "secret", "objectFormat: pem"),
        (1, "legacy", "secret", "objectFormat: pem"),
        (1, "modern", "secret", "objectFormat: pfx"),
        (1, "web", "secret", "objectFormat: pem"),
    ];
    let all = kinds.into_iter().flat_map(|(count, name, kind, more)| std::iter::repeat_n((name, kind, more), count));
    all.enumerate().map(|(n, (name, kind, more))| object(&format!("{name}-{n}"), kind, more)).collect()
}

/// Entra and a vault. Counts what it is asked.
struct Service {
    objects: BTreeMap<&'static str, Value>,
    batches: AtomicUsize,
    requests: AtomicUsize,
}

impl Service {
    fn new() -> Result<Self> {
        let secret = |name: &str, value: &str, content_type: &str, kid: Option<String>| {
            let id = format!("{VAULT}/secrets/{name}/{VERSION}");
            json!({"value": value, "id": id, "contentType": content_type, "kid": kid, "attributes": {"enabled": true}})
        };
        let kid = |name: &str| format!("{VAULT}/keys/{name}/{VERSION}");
        let of_certificate = |name, value, content_type| secret(name, value, content_type, Some(kid(name)));
        let key = |name: &str, Jwk(mut key): Jwk| {
            key.as_object_mut().map(|members| members.insert("kid".to_owned(), json!(kid(name))));
            json!({"key": key, "attributes": {"enabled": true}})
        };
        let one_line = |text: &str| text.replace('\n', "");
        let web = CertificateBundle::self_signed("web.example")?;
        let certificate =
            json!({"id": format!("{VAULT}/certificates/web/{VERSION}"), "cer": STANDARD.encode(&web.der)});
        let objects = [
            ("secrets/s", secret("s", "a secret value of the usual length", "", None)),
            ("secrets/modern", of_certificate("modern", &one_line(MODERN_PFX), "application/x-pkcs12")),
            ("secrets/legacy", of_certificate("legacy", &one_line(LEGACY_PFX), "application/x-pkcs12")),
            ("secrets/web", of_certificate("web", &web.exported, &web.content_type)),
            ("certificates/web", certificate),
            ("keys/rsa", key("rsa", Jwk::rsa())),
            ("keys/ec", key("ec", Jwk::p256()?)),
        ];
        Ok(Self { objects: objects.into(), batches: AtomicUsize::new(0), requests: AtomicUsize::new(0) })
    }

    fn answer(&self, request: &Request) -> Response {
        let path = request.url.strip_prefix(VAULT).map(|path| path.trim_start_matches('/'));
        let mut segments = path.unwrap_or_default().split(['/', '?']);
        let (kind, name) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let body = match segments.next() {
            Some("versions") => Some(versions(kind, name)),
            _ if path.is_none() => Some(json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "a.b.c"})),
            // `web-7` is another object than `web` with the same content.
            _ => self.objects.get(format!("{kind}/{}", name.split('-').next().unwrap_or_default()).as_str()).cloned(),
        };
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        let status = if body.is_some() { 200 } else { 404 };
        Response { status, headers, body: body.unwrap_or_default().to_string().into_bytes() }
    }
}

/// A list of 25 versions on one page, as the vault's default has it.
fn versions(kind: &str, name: &str) -> Value {
    let row = |n: u32| {
        let id = format!("{VAULT}/{kind}/{name}/{n:032x}");
        json!({"id": id, "attributes": {"enabled": true, "created": n}})
    };
    json!({"value": (0..25).map(row).collect::<Vec<_>>(), "nextLink": null})
}

impl Outbound for Service {
    fn send(&self, requests: Vec<Request>) -> Answers<'_> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(requests.len(), Ordering::Relaxed);
        let answers = requests.iter().map(|request| Ok(self.answer(request))).collect();
        Box::pin(std::future::ready(answers))
    }
}

pub(crate) async fn measure(built: &Built) -> Result<Table> {
    let engine = Engine::new(Pool::default()).map_err(anyhow::Error::msg)?;
    let ready = built.ready(&engine).await?;
    let mut table = Table::new(
        "The Azure provider: one mount, HTTP answered in memory",
        ["", "requests", "round trips", "aim", "guest p50", "p99"],
    );
    for case in cases() {
        let service = Arc::new(Service::new()?);
        let guest = Sample::new(mounts(&ready, &case, &service).await.context(case.name)?);
        let per_mount = |count: &AtomicUsize| format!("{}", count.load(Ordering::Relaxed) as f64 / MOUNTS as f64);
        let (requests, batches) = (per_mount(&service.requests), per_mount(&service.batches));
        let [p50, p99] = [guest.median(), guest.percentile(99)].map(show);
        table.row([case.name.to_owned(), requests, batches, case.aim.to_owned(), p50, p99]);
    }
    Ok(table)
}

/// Processor time of each mount.
async fn mounts(ready: &Ready, case: &Case, service: &Arc<Service>) -> Result<Vec<Duration>> {
    let list = case.objects.iter().map(|object| format!("  - |\n    {}\n", object.replace('\n', "\n    ")));
    let objects = format!("array:\n{}", list.collect::<String>());
    let parameters = [("keyvaultName", "bench".to_owned()), ("tenantId", "t".to_owned()), ("objects", objects)]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    let mut session = None;
    let mut measurements = Vec::new();
    for mount in 0..=MOUNTS {
        let mut request = request(&parameters, ["id", ""], session.take().filter(|_| !case.is_cold));
        request.secrets.remove("clientsecret");
        request.secrets.insert(case.credential.0.to_owned(), SecretBytes::from(case.credential.1.to_owned()));
        let deadline = Instant::now() + Duration::from_secs(10);
        let call = Call { outbound: service.clone(), redactor: Redactor::default(), deadline };
        let called = ready.mount(&request, call).await;
        let outcome = called.result?;
        let files = outcome.mounted.context("the component returned nothing")?.files.len();
        ensure!(files == case.files, "the component returned {files} files");
        session = outcome.session.map(|session| session.state).or(request.session);
        // The first one finds no token.
        if mount == 0 {
            service.batches.store(0, Ordering::Relaxed);
            service.requests.store(0, Ordering::Relaxed);
        } else {
            measurements.push(called.usage.cpu);
        }
    }
    Ok(measurements)
}
