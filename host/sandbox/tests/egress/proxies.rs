//! Through an HTTP proxy.

use coffer_sandbox::egress::{Egress, Error, ProxySettings, RuleSettings, Settings, SetupError};

use crate::world::*;

const CONNECTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

async fn hello(_: http::Request<bytes::Bytes>) -> Answer {
    answer(200, &[], "hello")
}

fn explicit(https: impl Into<Option<String>>, http: impl Into<Option<String>>, no_proxy: &str) -> ProxySettings {
    ProxySettings::Explicit { https: https.into(), http: http.into(), no_proxy: Some(no_proxy.to_owned()) }
}

/// Nothing that an error or a debug text shows may hold the password.
fn shown(error: &Error) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVy"), "{text}");
    text
}

#[tokio::test]
async fn an_https_request_goes_through_a_tunnel_and_proves_the_name() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("kv.example"), &["h2"], hello).await;
    let proxy = Tunnels::to(Some(server.address), CONNECTED).await;
    let dns = Dns::new(&[("proxy.example", &["127.0.0.1"])]);
    let settings = Settings {
        proxy: explicit(format!("http://user:hunter2@proxy.example:{}", proxy.address.port()), None, ""),
        resolver: dns.clone(),
        ..settings(&authority)
    };
    let gate = open(vec![rule("GET https://kv.example/"), rule("GET https://other.example/")], settings);
    for _ in 0..2 {
        assert_eq!(send(&gate, get("https://kv.example/a")).await.unwrap().status, 200);
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "the tunnel is used again");
    assert!(heads[0].starts_with("CONNECT kv.example:443 HTTP/1.1\r\nHost: kv.example:443\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"), "{}", heads[0]);
    assert_eq!(dns.asked(), ["proxy.example"], "the proxy resolves the host");
    assert!(server.seen.request(0).headers().get("proxy-authorization").is_none());

    // The proxy leads every host to the same server, which cannot prove to be another one.
    let error = send(&gate, once("https://other.example/")).await.unwrap_err();
    assert!(matches!(error, Error::Tls(_)), "{}", shown(&error));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let cases = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "does not accept the user and password"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "refuses to connect to kv.example:443 (status 403)"),
        ("220 smtp.example\r\n\r\n", "did not answer CONNECT with HTTP"),
    ];
    for (answer, part) in cases {
        let proxy = Tunnels::to(None, answer).await;
        let settings = Settings {
            proxy: explicit(format!("http://user:hunter2@{}", proxy.address), None, ""),
            ..settings(&Authority::new())
        };
        let gate = open(vec![rule("GET https://kv.example/")], settings);
        let error = send(&gate, get("https://kv.example/")).await.unwrap_err();
        let text = shown(&error);
        assert!(matches!(error, Error::Connect(_)) && text.contains(part), "{text}");
        assert!(text.contains(&format!("proxy {}", proxy.address)), "{text}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings =
        Settings { proxy: explicit(format!("http://u:hunter2@{free}"), None, ""), ..settings(&Authority::new()) };
    let gate = Egress::new(vec![rule("GET https://kv.example/")], settings).unwrap().open(single());
    let error = send(&gate, get("https://kv.example/")).await.unwrap_err();
    assert!(shown(&error).contains(&format!("proxy {free} does not take connections")), "{error}");
}

#[tokio::test]
async fn an_http_request_is_sent_to_the_proxy_in_absolute_form() {
    let proxy = Server::http(hello).await;
    let settings =
        Settings { proxy: explicit(None, format!("http://user:hunter2@{}", proxy.address), ""), ..plain_settings() };
    let gate = open(vec![rule("GET http://web.example/")], settings);
    assert_eq!(send(&gate, get("http://web.example/a?b=1")).await.unwrap().status, 200);
    let seen = proxy.seen.request(0);
    assert_eq!(seen.uri(), "http://web.example/a?b=1");
    assert_eq!(seen.headers()["host"], "web.example");
    assert_eq!(seen.headers()["proxy-authorization"], "Basic dXNlcjpodW50ZXIy");
}

#[tokio::test]
async fn a_host_of_no_proxy_a_metadata_service_and_a_rule_with_connect_are_dialled_directly() {
    let server = Server::http(hello).await;
    let proxy = Server::http(|_| async { answer(502, &[], "") }).await;
    let general = || Settings {
        proxy: explicit(None, format!("http://{}", proxy.address), "direct.example"),
        resolver: Dns::new(&[("direct.example", &["10.0.0.1"])]),
        ..plain_settings()
    };
    // Resolved here and found private: proof that it does not go through the proxy.
    let gate = open(vec![rule("GET http://direct.example/")], general());
    assert!(matches!(send(&gate, get("http://direct.example/")).await, Err(Error::Denied(_))));
    let local = format!("http://{}/", server.address);
    let gate = open(vec![rule(&format!("GET {local}"))], general());
    assert_eq!(send(&gate, get(local)).await.unwrap().status, 200);
    let gate = open(vec![rule_to("GET http://kv.example/", server.address)], general());
    assert_eq!(send(&gate, get("http://kv.example/")).await.unwrap().status, 200);
    assert_eq!(proxy.seen.requests(), 0);
}

#[tokio::test]
async fn a_rule_may_have_a_proxy_of_its_own_or_none() {
    let server = Server::http(hello).await;
    let general = || Settings { proxy: explicit(None, format!("http://{}", server.address), ""), ..plain_settings() };
    let own = Server::http(|_| async { answer(203, &[], "") }).await;
    let with = |proxy| RuleSettings { proxy: Some(proxy), ..rule("GET http://web.example/") };
    let gate = open(vec![with(explicit(None, format!("http://{}", own.address), ""))], general());
    assert_eq!(send(&gate, get("http://web.example/")).await.unwrap().status, 203);
    let gate = Egress::new(vec![with(ProxySettings::None)], general()).unwrap().open(single());
    assert!(matches!(send(&gate, get("http://web.example/")).await, Err(Error::Dns(_))));
    assert_eq!(server.seen.requests(), 0);
}

#[tokio::test]
async fn a_tunnel_leads_to_where_connect_says() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("kv.example"), &["http/1.1"], hello).await;
    let proxy = Tunnels::to(Some(server.address), CONNECTED).await;
    let rule = RuleSettings {
        connect: Some("inner.example:8443".parse().unwrap()),
        proxy: Some(explicit(format!("http://{}", proxy.address), None, "")),
        ..rule("GET https://kv.example/")
    };
    let gate = open(vec![rule], settings(&authority));
    assert_eq!(send(&gate, get("https://kv.example/")).await.unwrap().status, 200);
    assert!(proxy.heads()[0].starts_with("CONNECT inner.example:8443 HTTP/1.1\r\n"));
    assert_eq!(server.seen.request(0).headers()["host"], "kv.example");
}

#[tokio::test]
async fn a_proxy_can_be_spoken_to_over_tls() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("kv.example"), &["h2"], hello).await;
    let tunnels = Tunnels::to(Some(server.address), CONNECTED).await;
    // TLS in front of the proxy, which itself speaks plain text.
    let acceptor = authority.issue("proxy.example").acceptor(&[]);
    let front = Server::listen(std::sync::Arc::default(), move |stream| {
        let acceptor = acceptor.clone();
        let to = tunnels.address;
        async move {
            let mut near = acceptor.accept(stream).await.unwrap();
            let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    })
    .await;
    let settings = Settings {
        proxy: explicit(format!("https://proxy.example:{}", front.address.port()), None, ""),
        resolver: Dns::new(&[("proxy.example", &["127.0.0.1"])]),
        ..settings(&authority)
    };
    let gate = open(vec![rule("GET https://kv.example/")], settings);
    assert_eq!(send(&gate, get("https://kv.example/")).await.unwrap().status, 200);
}

#[test]
fn contradictions_are_refused_at_setup() {
    let http_both = RuleSettings {
        proxy: Some(explicit(None, "http://p:1".to_owned(), "")),
        ..rule_to("GET http://kv.example/", "127.0.0.1:1".parse().unwrap())
    };
    assert!(matches!(Egress::new(vec![http_both], plain_settings()), Err(SetupError::ConnectBehindProxy(_))));
    let http_ca = RuleSettings { ca: vec![Authority::new().certificate()], ..rule("GET http://kv.example/") };
    assert!(matches!(Egress::new(vec![http_ca], plain_settings()), Err(SetupError::TlsOfHttp(_))));
    let bad_ca = RuleSettings { ca: vec![vec![0; 3].into()], ..rule("GET https://kv.example/") };
    assert!(matches!(Egress::new(vec![bad_ca], plain_settings()), Err(SetupError::Certificate { position: 1, .. })));
    let bad_proxy = Settings { proxy: explicit("socks5://u:hunter2@p".to_owned(), None, ""), ..plain_settings() };
    let error = Egress::new(vec![rule("GET https://kv.example/")], bad_proxy).err().unwrap();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
