//! The services of a node, the token proxy and AD FS: what they give, and the few things that they check.

use std::time::Duration;

use bytes::Bytes;
use coffer_tests::harness::{Cloud, Emulator, Kind, Settings};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::client::{Client, KV, LOGIN, Reply, build, soon};
use super::{APP, APP_SECRET, TENANT, furnished};

const IMDS: &str = "169.254.169.254";
const TOKEN: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
const NMI: &str = "/host/token/?resource=https://vault.azure.net";
const CLUSTER: &str = "https://cluster.example/";
const SUBJECT: &str = "system:serviceaccount:shop:web";
const BINDING: &str = "api://AKSIdentityBinding";
const PROXY: &str = "a1234.ests.aks";

/// Asks without TLS.
async fn ask(emulator: &Emulator, host: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method("GET").uri(target).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let answer = async {
        let stream = TcpStream::connect(emulator.node_address()).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    };
    soon(answer).await
}

/// The furnished emulator, whose application is every identity of the node.
async fn furnished_node() -> Emulator {
    let emulator = furnished().await;
    let app = emulator.tenant(TENANT).app(APP);
    emulator.node().system_identity(&app).assign(&app).bind_pod("shop", "web-0", &app);
    emulator
}

#[tokio::test]
async fn the_metadata_service_gives_tokens_that_a_vault_takes() {
    let emulator = furnished_node().await;
    let assigned = format!("{TOKEN}&client_id={APP}");
    for target in [TOKEN, assigned.as_str()] {
        let reply = ask(&emulator, IMDS, target, &[("metadata", "true")]).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text("/expires_in"), "3599");
        assert_eq!(reply.text("/expires_on").parse::<i64>().unwrap() / 10, (emulator.clock().now() + 3_599) / 10);
        let token = reply.text("/access_token");
        let client = Client::of(&emulator);
        assert_eq!(client.get(KV, "/secrets/DemoSecret?api-version=7.4", Some(&token)).await.status, 200);
    }
    assert_eq!(emulator.counters().of(Kind::NodeToken), 2);
}

#[tokio::test]
async fn the_metadata_service_minds_its_header_the_version_and_whose_identity_it_is() {
    let emulator = furnished_node().await;
    let right = [("metadata", "true")];
    for (target, headers) in [
        (TOKEN.to_owned(), &[][..]),
        (TOKEN.to_owned(), &[("metadata", "True")]),
        (TOKEN.to_owned(), &[("metadata", "true"), ("x-forwarded-for", "10.0.0.1")]),
        (TOKEN.replace("2018-02-01", "2015-01-01"), &right),
        (TOKEN.replace("resource", "ressource"), &right),
        (TOKEN.replace("vault.azure.net", "elsewhere.example"), &right),
        (format!("{TOKEN}&client_id={TENANT}"), &right),
    ] {
        let reply = ask(&emulator, IMDS, &target, headers).await;
        assert_eq!((reply.status, reply.text("/error").as_str()), (400, "invalid_request"), "{target}");
    }
    assert_eq!(ask(&emulator, IMDS, "/metadata/instance", &right).await.status, 404);
    let bare = furnished().await;
    assert_eq!(ask(&bare, IMDS, TOKEN, &right).await.text("/error_description"), "Identity not found");
}

#[tokio::test]
async fn the_nmi_gives_a_pod_what_is_bound_to_it() {
    let emulator = furnished_node().await;
    let pod = |name| [("podns", "shop"), ("podname", name)];
    let reply = ask(&emulator, "localhost:2579", NMI, &pod("web-0")).await;
    assert_eq!((reply.status, reply.text("/clientid").as_str()), (200, APP));
    assert!(!reply.text("/token/access_token").is_empty());
    assert_eq!(ask(&emulator, "localhost:2579", NMI, &pod("web-1")).await.status, 404);
    assert_eq!(ask(&emulator, "localhost:2579", NMI, &[("podname", "web-0")]).await.status, 400);
    // It does not decode.
    let encoded = NMI.replace("https://", "https%3A%2F%2F");
    assert_eq!(ask(&emulator, "localhost:2579", &encoded, &pod("web-0")).await.status, 500);
    assert_eq!(emulator.counters().of(Kind::PodToken), 4);
}

#[tokio::test]
async fn a_node_s_services_have_no_tls_and_the_others_are_not_there_without_it() {
    let emulator = furnished_node().await;
    for host in [LOGIN, KV] {
        assert_eq!(ask(&emulator, host, "/secrets/DemoSecret?api-version=7.4", &[]).await.status, 404);
    }
    for host in ["localhost", "imds.example"] {
        assert!(Client::of(&emulator).connect(host).await.is_err(), "{host}");
    }
}

/// Exchanges an assertion over a connection to this TLS server name, in the name of this host.
async fn exchange(emulator: &Emulator, server_name: &str, host: &str, assertion: &str) -> Reply {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", APP),
        ("scope", "https://vault.azure.net/.default"),
        ("client_assertion", assertion),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = build("POST", host, &format!("/{TENANT}/oauth2/v2.0/token"))
        .header("content-type", "application/x-www-form-urlencoded");
    let request = request.body(Full::from(body)).unwrap();
    soon(Client::of(emulator).send(server_name, request)).await.unwrap()
}

#[tokio::test]
async fn a_token_proxy_is_told_by_its_server_name_and_takes_its_own_tokens_only() {
    let emulator = furnished().await;
    emulator.token_proxy(PROXY);
    let app = emulator.tenant(TENANT).app(APP);
    app.bind(CLUSTER, SUBJECT).federate(CLUSTER, SUBJECT, "api://AzureADTokenExchange");
    let sign = |audience| emulator.issuer(CLUSTER).sign(SUBJECT, audience, Duration::from_secs(600));
    let (bound, exchanged) = (sign(BINDING), sign("api://AzureADTokenExchange"));
    assert_eq!(exchange(&emulator, PROXY, LOGIN, &bound).await.status, 200);
    assert_eq!(exchange(&emulator, LOGIN, LOGIN, &exchanged).await.status, 200);
    for (server_name, assertion) in [(PROXY, &exchanged), (LOGIN, &bound)] {
        let reply = exchange(&emulator, server_name, LOGIN, assertion).await;
        assert_eq!((reply.status, reply.json()["error_codes"][0].as_u64()), (401, Some(700_212)), "{server_name}");
    }
    // The proxy passes on what is meant for Entra, and nothing else.
    for host in [PROXY, KV] {
        assert_eq!(exchange(&emulator, PROXY, host, &bound).await.status, 421, "{host}");
    }
}

#[tokio::test]
async fn ad_fs_has_its_own_path_and_is_asked_for_a_resource() {
    let cloud = Cloud::custom("AzureStackCloud", "adfs.hub.example", "vault.hub.example");
    let emulator = Emulator::start(Settings { clouds: vec![cloud.clone()], ..Settings::default() }).await.unwrap();
    emulator.tenant_in(&cloud, "adfs").app(APP).secret(APP_SECRET);
    let client = Client::of(&emulator);
    let form = |name, value| {
        [("grant_type", "client_credentials"), ("client_id", APP), ("client_secret", APP_SECRET), (name, value)]
    };
    let right = form("resource", "https://vault.hub.example");
    let reply = client.post_form("adfs.hub.example", "/adfs/oauth2/token", &right).await;
    assert_eq!(reply.status, 200);
    assert_eq!(emulator.counters().of(Kind::Token), 1);
    for (path, form, status) in [
        ("/adfs/oauth2/v2.0/token", right, 404),
        ("/adfs/oauth2/token", form("scope", "https://vault.hub.example/.default"), 400),
        ("/adfs/oauth2/token", form("resource", "https://vault.azure.net"), 400),
    ] {
        assert_eq!(client.post_form("adfs.hub.example", path, &form).await.status, status, "{path}");
    }
}
