//! A mount over the network: real TLS to an emulated vault that waits 20 ms before each answer, in one process with a
//! warm session. The baseline is the bare path: the same GET over one warm connection, by hyper and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffer_sandbox::egress::{Caller, Egress, Lane, ProxySettings, RuleSettings, Settings as EgressSettings};
use coffer_sandbox::engine::{Engine, Pool};
use coffer_sandbox::instance::Call;
use coffer_sandbox::redact::Redactor;
use coffer_sandbox::secret::SecretBytes;
use coffer_sandbox::store::Ready;
use coffer_tests::harness::{Emulator, Kind, Settings};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Built;
use crate::sandbox::{parameters, request};
use crate::table::{Sample, Table, ratio, show};

pub(crate) const VAULT: &str = "bench";
pub(crate) const TENANT: &str = "72f1c1a0-3d0e-4b2f-9c55-1d2f0c9be001";
pub(crate) const CLIENT_ID: &str = "5c1b6f0e-88a4-4f0b-a9a1-3f6f7d1f4b02";
pub(crate) const CLIENT_SECRET: &str = "bench~client~secret";
const LATENCY: Duration = Duration::from_millis(20);
const ROUNDS: usize = 200;

pub(crate) async fn emulator() -> Result<Emulator> {
    let emulator = Emulator::start(Settings::default()).await?;
    let tenant = emulator.tenant(TENANT);
    tenant.app(CLIENT_ID).secret(CLIENT_SECRET);
    let vault = tenant.vault(VAULT);
    vault.allow_all(CLIENT_ID);
    for number in 0..20 {
        vault.secret(&format!("secret-{number}")).set("a secret value of the usual length");
    }
    emulator.latency(LATENCY);
    emulator.token_latency(LATENCY);
    Ok(emulator)
}

pub(crate) async fn measure(built: &Built) -> Result<Table> {
    let emulator = emulator().await?;
    let bare = Sample::new(bare_path(&emulator, 1, ROUNDS).await?);
    let engine = Engine::new(Pool::default()).map_err(anyhow::Error::msg)?;
    let ready = built.ready(&engine).await?;

    let mut table = Table::new(
        "A mount over TLS, 20 ms of vault latency, one process, warm session; ratio to the bare path",
        ["", "p50", "p99", "ratio p50", "p99", "requests"],
    );
    let row = |name: String, sample: &Sample, requests: String| {
        let [p50, p99] = [sample.median(), sample.percentile(99)];
        [name, show(p50), show(p99), ratio(p50, bare.median()), ratio(p99, bare.percentile(99)), requests]
    };
    table.row(row("bare path: 1 GET by hyper".into(), &bare, "1".into()));
    for objects in [1, 20] {
        let egress = egress(&emulator)?;
        let parameters = parameters(VAULT, TENANT, objects);
        let mut session = None;
        mount(&ready, &egress, &parameters, &mut session).await?;
        emulator.log().clear();
        let mut measurements = Vec::new();
        for _ in 0..ROUNDS {
            measurements.push(mount(&ready, &egress, &parameters, &mut session).await?);
        }
        let requests = emulator.counters();
        ensure!(requests.of(Kind::Token) == 0, "a warm mount asked for a token");
        let per_mount = format!("{:.1}", requests.total() as f64 / ROUNDS as f64);
        table.row(row(format!("mount of {objects}"), &Sample::new(measurements), per_mount));
    }
    let mut cold = Vec::new();
    emulator.log().clear();
    for _ in 0..ROUNDS / 10 {
        cold.push(mount(&ready, &egress(&emulator)?, &parameters(VAULT, TENANT, 1), &mut None).await?);
    }
    let per_mount = format!("{:.1}", emulator.counters().total() as f64 / (ROUNDS / 10) as f64);
    table.row(row("mount of 1, cold: no connection, no session".into(), &Sample::new(cold), per_mount));
    emulator.stop().await;
    Ok(table)
}

fn egress(emulator: &Emulator) -> Result<Arc<Egress>> {
    let rule = |text: &str| -> Result<RuleSettings> {
        let connect = Some(emulator.address().to_string().parse()?);
        let ca = vec![emulator.authority().ca_der()];
        Ok(RuleSettings { connect, ca, ..RuleSettings::from(text.parse::<coffer_sandbox::egress::Rule>()?) })
    };
    let rules = vec![
        rule("GET https://{keyvaultName}.vault.azure.net/")?,
        rule("POST https://login.microsoftonline.com/{tenantID|tenantId}/oauth2/v2.0/token")?,
    ];
    Ok(Egress::new(rules, EgressSettings { proxy: ProxySettings::None, ..EgressSettings::default() })?)
}

async fn mount(
    ready: &Ready,
    egress: &Arc<Egress>,
    parameters: &BTreeMap<String, String>,
    session: &mut Option<SecretBytes>,
) -> Result<Duration> {
    let request = request(parameters, [CLIENT_ID, CLIENT_SECRET], session.take());
    let started = Instant::now();
    let deadline = started + Duration::from_secs(30);
    let redactor = Redactor::default();
    let caller = Caller {
        plugin: ready.name().into(),
        digest: ready.digest().to_string().into(),
        pod: request.pod.clone(),
        parameters: Arc::new(parameters.clone()),
        class: "class".into(),
        lane: Lane::first(),
        node_identity: true,
        limits: ready.limits().egress.clone(),
        deadline,
        redactor: redactor.clone(),
    };
    let call = Call { outbound: Arc::new(egress.open(caller)), redactor, deadline };
    let outcome = ready.mount(&request, call).await.result?;
    let took = started.elapsed();
    ensure!(outcome.mounted.is_some(), "nothing was mounted");
    *session = outcome.session.map(|session| session.state).or(request.session);
    Ok(took)
}

/// GETs secrets at once, again and again, over one connection: what any client of the vault has to wait for.
pub(crate) async fn bare_path(emulator: &Emulator, secrets: usize, rounds: usize) -> Result<Vec<Duration>> {
    let token = token(emulator).await?;
    let host = format!("{VAULT}.vault.azure.net");
    let vault = connect(emulator, &host).await?;
    let mut measurements = Vec::new();
    for round in 0..=rounds {
        let started = Instant::now();
        let mut gets = JoinSet::new();
        for number in 0..secrets {
            let request = http::Request::get(format!("https://{host}/secrets/secret-{number}/?api-version=7.4"))
                .header("authorization", format!("Bearer {token}"))
                .body(Body::default())?;
            let mut vault = vault.clone();
            gets.spawn(async move { exchange(&mut vault, request).await });
        }
        for answer in gets.join_all().await {
            let (status, _) = answer?;
            ensure!(status == 200, "the bare path got {status}");
        }
        if round > 0 {
            measurements.push(started.elapsed());
        }
    }
    Ok(measurements)
}

/// A token of the emulator's Entra.
async fn token(emulator: &Emulator) -> Result<String> {
    let host = "login.microsoftonline.com";
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("client_secret", CLIENT_SECRET)
        .append_pair("scope", "https://vault.azure.net/.default")
        .finish();
    let request = http::Request::post(format!("https://{host}/{TENANT}/oauth2/v2.0/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))?;
    let (status, body) = exchange(&mut connect(emulator, host).await?, request).await?;
    ensure!(status == 200, "the token endpoint answered {status}");
    let answer: serde_json::Value = serde_json::from_slice(&body)?;
    Ok(answer.get("access_token").and_then(|token| token.as_str()).context("no token")?.to_owned())
}

type Body = Full<bytes::Bytes>;

/// One HTTP/2 connection, by hyper and rustls and nothing else.
async fn connect(emulator: &Emulator, host: &str) -> Result<SendRequest<Body>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(emulator.authority().ca_der())?;
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(emulator.address()).await?;
    stream.set_nodelay(true)?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(host.to_owned().try_into()?, stream).await?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection); // Ends when the sender is dropped.
    Ok(sender)
}

async fn exchange(sender: &mut SendRequest<Body>, request: http::Request<Body>) -> Result<(u16, bytes::Bytes)> {
    let answer = sender.send_request(request).await?;
    Ok((answer.status().as_u16(), answer.into_body().collect().await?.to_bytes()))
}
