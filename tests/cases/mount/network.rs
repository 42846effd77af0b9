//! What can go wrong on the way to the vault. Where a retry would follow, the grant leaves no request for one.

use coffer_tests::harness::authority::Authority;
use coffer_tests::harness::{Emulator, Fault, Kind, Matcher, Settings, Times, TlsFault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::World;
use super::world::{HOST, LOGIN, MOUNT};

#[tokio::test]
async fn a_name_that_does_not_resolve_ends_with_69_and_is_named() {
    let world = World::mounted().await;
    let elsewhere = |line: &str| match line.contains("GET") {
        true => line.replace(&world.emulator.address().to_string(), "does-not-exist.invalid:443"),
        false => line.to_owned(),
    };
    let config = world.grant().lines().map(elsewhere).collect::<Vec<_>>().join("\n");
    world.config(&config.replace("{compileTime", "{requests: 2, compileTime"));
    // A machine without a name server waits no longer than this.
    let resolver = [("RES_OPTIONS", "timeout:1 attempts:1")];
    let parts = [HOST, "the name does not resolve", "does-not-exist.invalid", "check keyvaultName"];
    world.refused_in(&resolver, 69, &parts, &[]).await;
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_ends_with_69_and_says_what_is_wrong_with_it() {
    let world = World::mounted().await;
    let cases = [
        (TlsFault::WrongName, "is for someone-else.invalid, not for `contoso-kv.vault.azure.net`"),
        (TlsFault::Expired, "expired on Tue, 01 Jan 2002 00:00:00 GMT"),
        (TlsFault::SelfSigned, "comes from an authority that is not trusted"),
    ];
    for (fault, part) in cases {
        world.emulator.inject_tls(HOST, fault, Times::ONCE);
        world.refused(69, &[HOST, "no trusted TLS connection", part], &[]).await;
    }
    assert_eq!(world.emulator.counters().of(Kind::GetSecret), 0);
}

#[tokio::test]
async fn a_certificate_of_entra_that_proves_nothing_ends_with_69_before_the_client_secret_is_sent() {
    let world = World::mounted().await;
    world.emulator.inject_tls(LOGIN, TlsFault::Expired, Times::ONCE);
    world.refused(69, &[LOGIN, "no trusted TLS connection", "expired on"], &[]).await;
    assert_eq!(world.emulator.counters().total(), 0);
}

#[tokio::test]
async fn an_authority_that_the_grant_does_not_name_is_not_trusted() {
    let world = World::mounted().await;
    let stranger: Emulator = Emulator::start(Settings::default()).await.unwrap();
    let authority: &Authority = stranger.authority();
    world.write("ca.pem", &authority.ca_pem());
    world
        .refused(
            69,
            &[LOGIN, "no trusted TLS connection", "is not signed by the trusted authority of that name", "`ca`"],
            &[],
        )
        .await;
    assert_eq!(world.emulator.counters().total(), 0);
}

/// The grant behind a proxy: nothing says where to dial, so the proxy would have to.
fn behind(world: &World, proxy: &str) -> String {
    let connect = format!("connect: '{}', ", world.emulator.address());
    let grant = world.grant().replace(&connect, "").replace("{compileTime", "{requests: 1, compileTime");
    grant.replace("proxy: none", &format!("proxy: {{https: '{proxy}'}}"))
}

#[tokio::test]
async fn a_proxy_that_takes_no_connections_ends_with_69_and_is_named_without_its_credentials() {
    let world = World::mounted().await;
    // Bound but not listening: nobody else can take the port meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    world.config(&behind(&world, &format!("http://user:canary-proxy@{address}")));
    let sentence = format!("proxy {address} does not take connections");
    world.refused(69, &[&sentence, "connection refused"], &[]).await;
}

#[tokio::test]
async fn a_proxy_that_wants_other_credentials_ends_with_69_and_shows_none() {
    let world = World::mounted().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap()
    };
    world.config(&behind(&world, &format!("http://user:canary-proxy@{address}")));
    let address = address.to_string();
    let parts = [address.as_str(), "does not accept the user and password of its URL (407)"];
    let (_, head) = tokio::join!(world.refused(69, &parts, &["--log-level", "trace"]), proxy);
    assert!(head.starts_with("CONNECT login.microsoftonline.com:443 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\nproxy-authorization: basic "), "the credentials were not sent");
}

#[tokio::test]
async fn a_vault_that_does_not_answer_ends_with_69_and_is_named_when_the_time_is_up() {
    let world = World::mounted().await;
    world.emulator.inject(Matcher::any().host(HOST), Fault::Stall, Times::Always);
    world.refused(69, &["secret/DemoSecret", HOST, "no answer in time"], &["--timeout", "4s"]).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_69_and_leaves_nothing_of_it() {
    for world in [World::new().await, World::of_http1().await] {
        world.limit_requests(2);
        world.emulator.inject(Matcher::any().host(HOST), Fault::CutBody, Times::ONCE);
        world.refused(69, &["secret/DemoSecret", HOST], &[]).await;
        world.emulator.inject(Matcher::any().host(HOST), Fault::Close, Times::ONCE);
        world.refused(69, &[HOST], &[]).await;
        assert!(world.tree().is_none());
    }
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_is_refused() {
    let world = World::of_http1().await;
    world.limit_requests(2);
    world.emulator.inject(Matcher::any().host(HOST), Fault::LengthTooLong, Times::ONCE);
    world.refused(69, &[HOST, "closed the connection before its response was complete"], &[]).await;
    world.emulator.inject(Matcher::any().host(HOST), Fault::LengthTooShort, Times::ONCE);
    world.refused(70, &["secret/DemoSecret", "is not the JSON that it should be"], &[]).await;
    assert!(world.tree().is_none());
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_where_the_configuration_says_so() {
    let world = World::mounted().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let config = behind(&world, "").replace("proxy: {https: ''}", "proxy: environment");
    world.config(&config);
    let proxy = format!("http://user:canary-proxy@{address}");
    let sentence = format!("proxy {address} does not take connections");
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        world.refused_in(&[(variable, &proxy)], 69, &[&sentence], &[]).await;
    }
}

#[tokio::test]
async fn authorities_come_from_ssl_cert_file_where_no_other_is_named() {
    let world = World::new().await;
    world.config(&world.grant().replace(", ca: [ca.pem]", ""));
    world.refused(69, &[LOGIN, "no trusted TLS connection"], &[]).await;
    let authorities = world.path("ca.pem").display().to_string();
    let run = world.run(&MOUNT, &[("SSL_CERT_FILE", &authorities)]).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
}
