//! TLS, HTTP/1.1 and HTTP/2, and which connection serves which request.

use coffer_sandbox::egress::{Egress, Error, Outbound, ServerName, Settings};

use crate::world::*;

async fn hello(request: http::Request<bytes::Bytes>) -> Answer {
    let version = if request.version() == http::Version::HTTP_2 { "h2" } else { "http/1.1" };
    answer(200, &[("X-Version", version)], "hello")
}

#[tokio::test]
async fn the_protocol_is_what_the_server_offers() {
    let authority = Authority::new();
    for (offers, version) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1"), (&[], "http/1.1")] {
        let server = Server::https(authority.issue("kv.example"), offers, hello).await;
        let gate = open(vec![rule_to("GET https://kv.example/", server.address)], settings(&authority));
        let response = send(&gate, get("https://kv.example/a")).await.unwrap();
        assert_eq!((response.status, body(&response)), (200, "hello"), "{offers:?}");
        assert!(response.headers.contains(&("x-version".to_owned(), version.to_owned())), "{:?}", response.headers);
    }
}

#[tokio::test]
async fn a_server_with_another_name_is_refused_unless_the_rule_expects_it() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("inner.example"), &["h2"], hello).await;
    let plain = rule_to("GET https://kv.example/", server.address);
    let gate = open(vec![plain.clone()], settings(&authority));
    let Err(Error::Tls(text)) = send(&gate, get("https://kv.example/")).await else { panic!("not a TLS error") };
    assert!(text.contains("inner.example") && text.contains("not for `kv.example`"), "{text}");
    assert!(text.contains("serverName"), "{text}");
    assert_eq!(server.seen.requests(), 0);

    let mut expecting = plain;
    expecting.server_name = Some(ServerName::try_from("inner.example").unwrap());
    let gate = open(vec![expecting], settings(&authority));
    assert_eq!(send(&gate, get("https://kv.example/")).await.unwrap().status, 200);
    assert_eq!(server.seen.request(0).uri().authority().unwrap(), "kv.example");
}

#[tokio::test]
async fn host_stays_the_urls_over_http1_too() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("inner.example"), &["http/1.1"], hello).await;
    let mut settings_of_rule = rule_to("GET https://kv.example:8443/", server.address);
    settings_of_rule.server_name = Some(ServerName::try_from("inner.example").unwrap());
    let gate = open(vec![settings_of_rule], settings(&authority));
    assert_eq!(send(&gate, get("https://kv.example:8443/")).await.unwrap().status, 200);
    assert_eq!(server.seen.request(0).headers()["host"], "kv.example:8443");
}

#[tokio::test]
async fn an_unknown_authority_is_refused_until_the_rule_brings_it() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let server = Server::https(unknown.issue("kv.example"), &["h2"], hello).await;
    let without = rule_to("GET https://kv.example/", server.address);
    let gate = open(vec![without.clone()], settings(&known));
    let Err(Error::Tls(text)) = send(&gate, get("https://kv.example/")).await else { panic!("not a TLS error") };
    assert!(text.contains("not trusted") && text.contains("`ca`"), "{text}");

    let mut with = without;
    with.ca = vec![unknown.certificate()];
    let gate = open(vec![with], settings(&known));
    assert_eq!(send(&gate, get("https://kv.example/")).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let authority = Authority::new();
    let server = Server::https(authority.issue_until("kv.example", 2001), &["h2"], hello).await;
    let gate = open(vec![rule_to("GET https://kv.example/", server.address)], settings(&authority));
    let Err(Error::Tls(text)) = send(&gate, get("https://kv.example/")).await else { panic!("not a TLS error") };
    assert!(text.contains("expired on Mon, 01 Jan 2001"), "{text}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let server = Server::listen(std::sync::Arc::default(), |mut stream| async move {
        let mut hello = [0; 4096];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let gate = open(vec![rule_to("GET https://kv.example/", server.address)], settings(&Authority::new()));
    let Err(Error::Tls(text)) = send(&gate, once("https://kv.example/")).await else { panic!("not a TLS error") };
    assert!(text.contains("does not speak TLS"), "{text}");
}

#[tokio::test]
async fn a_connection_serves_only_the_rule_that_opened_it() {
    let authority = Authority::new();
    for offers in ["h2", "http/1.1"] {
        let server = Server::https(authority.issue("kv.example"), &[offers], hello).await;
        let rules = vec![
            rule_to("GET https://kv.example/a", server.address),
            rule_to("GET https://kv.example/b", server.address),
        ];
        let egress = Egress::new(rules, settings(&authority)).unwrap();
        for _ in 0..3 {
            // Calls come and go, the connections stay.
            let gate = egress.open(caller());
            assert_eq!(send(&gate, get("https://kv.example/a")).await.unwrap().status, 200);
        }
        assert_eq!(server.seen.connections(), 1, "{offers}");
        let gate = egress.open(caller());
        for _ in 0..3 {
            assert_eq!(send(&gate, get("https://kv.example/b")).await.unwrap().status, 200);
        }
        assert_eq!(server.seen.connections(), 2, "{offers}");
    }
}

#[tokio::test]
async fn hosts_that_one_rule_expands_to_do_not_share_connections() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("*.vaults.example"), &["h2"], hello).await;
    let egress =
        Egress::new(vec![rule_to("GET https://{vault}.vaults.example/", server.address)], settings(&authority))
            .unwrap();
    for vault in ["one", "two", "one"] {
        let mut caller = caller();
        caller.parameters = std::sync::Arc::new([("vault".to_owned(), vault.to_owned())].into());
        let gate = egress.open(caller);
        assert_eq!(send(&gate, get(format!("https://{vault}.vaults.example/"))).await.unwrap().status, 200);
        let other = if vault == "one" { "two" } else { "one" };
        let Err(Error::Denied(text)) = send(&gate, get(format!("https://{other}.vaults.example/"))).await else {
            panic!("another pod's vault was reached")
        };
        assert!(text.contains(&format!("its host is `{vault}.vaults.example` here")), "{text}");
    }
    assert_eq!(server.seen.connections(), 2);
}

#[tokio::test]
async fn a_cold_batch_over_http2_makes_one_handshake() {
    let authority = Authority::new();
    let server = Server::https(authority.issue("kv.example"), &["h2"], hello).await;
    let gate = open(vec![rule_to("GET https://kv.example/", server.address)], settings(&authority));
    let answers = gate.send((0..20).map(|n| get(format!("https://kv.example/{n}"))).collect()).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|response| response.status == 200)));
    assert_eq!(server.seen.connections(), 1);
}

#[tokio::test]
async fn a_server_that_takes_no_connections_is_named() {
    let server = Server::raw(b"").await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_ne!(free, server.address);
    let gate = Egress::new(vec![rule_to("GET https://kv.example/", free)], settings(&Authority::new()))
        .unwrap()
        .open(single());
    let Err(Error::Connect(text)) = send(&gate, get("https://kv.example/x?token=hidden")).await else {
        panic!("not a connect error")
    };
    assert!(text.contains(&free.to_string()) && text.contains("connection refused"), "{text}");
    assert!(!text.contains("hidden"), "{text}");
}

#[tokio::test]
async fn dropping_a_batch_closes_what_it_opened() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let server = Server::listen(std::sync::Arc::default(), move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            tell.send("asked").await.unwrap();
            // Ends when the client goes.
            let left = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 16]).await;
            assert!(matches!(left, Ok(0) | Err(_)));
            tell.send("left").await.unwrap();
        }
    })
    .await;
    let gate = open(vec![rule(&format!("GET http://{}/", server.address))], plain_settings());
    {
        let mut sending = gate.send(vec![get(format!("http://{}/a", server.address))]);
        tokio::select! {
            _ = &mut sending => panic!("nobody answered"),
            word = told.recv() => assert_eq!(word, Some("asked")),
        }
    }
    assert_eq!(told.recv().await, Some("left"));
    let records = gate.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].ending, coffer_sandbox::egress::Ending::Failed(Error::Timeout));
    assert_eq!(records[0].attempts, 1);
}

#[tokio::test]
async fn what_an_administrator_appends_to_the_user_agent_is_sent_with_every_attempt() {
    let server = Server::http(|_| async { answer(503, &[], "") }).await;
    let settings = Settings { user_agent_suffix: Some("contoso/1".parse().unwrap()), ..plain_settings() };
    let gate = open(vec![rule_to("GET http://kv.example/", server.address)], settings);
    let mut request = get("http://kv.example/a");
    request.headers.push(("User-Agent".to_owned(), "provider/2".to_owned()));
    send(&gate, request).await.unwrap();
    let requests = server.seen.requests.lock().unwrap();
    assert!(requests.len() > 1, "it is tried again");
    assert!(requests.iter().all(|request| request.headers()["user-agent"] == "provider/2 contoso/1"), "{requests:?}");
}
