//! Guests that ask where they may not. Each test says what the guest got for every request, and that the store, and DNS,
//! never heard of the forbidden ones.

use super::world::{Asked, World};
use coffer_sandbox::egress::Ending;

const RULE: &str = "GET http://vault.example.test/secrets";
const URL: (&str, &str) = ("url", "http://vault.example.test/secrets");

/// In the world of [`RULE`], the mode's requests are answered like this; nothing of them leaves, and an honest request
/// after them does.
async fn refuses(mode: &str, expected: &[String]) {
    let world = World::connected(RULE).await;
    let asked = world.ask(mode, &[URL]).await;
    assert_eq!(asked.answers(), expected);
    assert_eq!(asked.records.len(), expected.len(), "one record for each request");
    for record in &asked.records {
        assert_eq!((record.attempts, record.bytes_out, record.bytes_in), (0, 0, 0), "{record:?}");
        assert!(matches!(record.ending, Ending::Failed(_)), "{record:?}");
    }
    assert_eq!(world.store.heads(), [""; 0], "nothing was sent");
    assert_eq!(world.names.asked(), [""; 0], "nothing was looked up");
    is_well(&world).await;
}

async fn is_well(world: &World) {
    let asked = world.ask("behaves", &[URL]).await;
    assert_eq!(asked.answers(), ["200 hello"]);
    assert_eq!(asked.records[0].rule.as_deref(), Some(RULE));
    world.bench.is_well().await;
}

/// No rule allows it, and this is what the rule would have to say otherwise.
fn no_rule(asked: &str, differs: &str) -> String {
    format!("denied: no egress rule of plugin `guest` allows {asked}; nearest: `{RULE}` (differs in {differs})")
}

fn protocol(text: &str) -> String {
    format!("protocol: {text}")
}

#[tokio::test]
pub(super) async fn asks_a_forbidden_host() {
    refuses(
        "asks_a_forbidden_host",
        &[
            no_rule("GET http://evil.example.test/secrets", "host"),
            no_rule("GET https://evil.example.test/secrets", "scheme and host and port"),
            no_rule("GET http://vault.example.test.evil.example.test/secrets", "host"),
            no_rule("GET http://evilvault.example.test/secrets", "host"),
            no_rule("GET http://evil.example.test/vault.example.test/secrets", "host and path"),
            protocol("the URL's scheme is neither https nor http"),
            protocol("the URL's scheme is neither https nor http"),
            protocol("the URL is not absolute: `https://host/path` is expected"),
            protocol("the URL is not absolute: `https://host/path` is expected"),
        ],
    )
    .await;
}

#[tokio::test]
pub(super) async fn asks_with_a_forbidden_method() {
    let asked = |method: &str| no_rule(&format!("{method} http://vault.example.test/secrets"), "method");
    let not_a_name = || protocol("the method is not a name in upper case");
    refuses(
        "asks_with_a_forbidden_method",
        &[
            asked("POST"),
            asked("PUT"),
            asked("DELETE"),
            asked("CONNECT"),
            asked("TRACE"),
            not_a_name(),
            not_a_name(),
            not_a_name(),
        ],
    )
    .await;
}

#[tokio::test]
pub(super) async fn asks_another_vault() {
    let rule = "GET http://{keyvaultName}.vault.example.test/secrets";
    let world = World::connected(rule).await;
    let parameters = [
        ("keyvaultName", "mine"),
        ("url", "http://mine.vault.example.test/secrets"),
        ("other", "theirs.vault.example.test"),
    ];
    let asked = world.ask("asks_another_vault", &parameters).await;
    let denied = format!(
        "denied: no egress rule of plugin `guest` allows GET http://theirs.vault.example.test/secrets; nearest: \
         `{rule}` (differs in host; its host is `mine.vault.example.test` here)"
    );
    assert_eq!(asked.answers(), [denied.as_str(), "200 hello"]);
    assert_eq!(world.store.heads().len(), 1);
    world.bench.is_well().await;
}

#[tokio::test]
async fn a_parameter_in_a_rule_is_one_label_and_nothing_else() {
    let world = World::connected("GET http://{keyvaultName}.vault.example.test/secrets").await;
    for name in ["evil.example.test/", "evil.example.test#", "a.b", "evil.example.test:80", "mine@evil", "*", "-a", ""]
    {
        let url = format!("http://{name}.vault.example.test/secrets");
        let asked = world.ask("behaves", &[("keyvaultName", name), ("url", &url)]).await;
        assert!(!asked.answers()[0].starts_with("200"), "{name}: {:?}", asked.answers());
    }
    assert_eq!(world.store.heads(), [""; 0]);
}

#[tokio::test]
pub(super) async fn asks_beside_the_prefix() {
    let beside = |path: &str| no_rule(&format!("GET http://vault.example.test{path}"), "path");
    let hidden = || protocol("the URL's path has a segment that hides a `/` or `\\`");
    let dots = || protocol("the URL's path has a segment that is `.` or `..`");
    refuses(
        "asks_beside_the_prefix",
        &[
            beside("/secrets-other"),
            hidden(),
            hidden(),
            dots(),
            dots(),
            dots(),
            dots(),
            protocol("the URL has a backslash at byte 33"),
            hidden(),
            protocol("the URL's path has a segment that hides a control character"),
            beside("/SECRETS"),
            protocol("the URL's path has an empty segment (`//`)"),
            beside("/admin"),
            beside("/"),
            beside("/"),
        ],
    )
    .await;
}

#[tokio::test]
pub(super) async fn asks_a_host_with_a_trailing_dot() {
    let dot = || protocol("the URL's host ends with a dot");
    refuses("asks_a_host_with_a_trailing_dot", &[dot(), dot(), dot()]).await;
}

/// Refused as hosts that no rule names, in the one form that they have after parsing.
async fn refuses_addresses(mode: &str, addresses: &[&str]) {
    let expected: Vec<_> =
        addresses.iter().map(|host| no_rule(&format!("GET http://{host}/secrets"), "host")).collect();
    refuses(mode, &expected).await;
}

#[tokio::test]
pub(super) async fn asks_an_address() {
    let mode = "asks_an_address";
    let addresses =
        ["127.0.0.1", "[::1]", "93.184.215.14", "169.254.169.254", "168.63.129.16", "10.0.0.1", "[fd00:ec2::254]"];
    refuses_addresses(mode, &addresses).await;
}

#[tokio::test]
pub(super) async fn asks_loopback_in_disguise() {
    let loopback = |host: &str| no_rule(&format!("GET http://{host}/secrets"), "host");
    refuses(
        "asks_loopback_in_disguise",
        &[
            loopback("127.0.0.1"),
            loopback("127.0.0.1"),
            loopback("127.0.0.1"),
            loopback("127.0.0.1"),
            loopback("[::ffff:127.0.0.1]"),
            loopback("[::7f00:1]"),
            protocol("the URL has a character outside ASCII at byte 7; percent-encode it"),
        ],
    )
    .await;
}

#[tokio::test]
pub(super) async fn asks_the_unspecified_address() {
    let addresses = ["0.0.0.0", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]"];
    refuses_addresses("asks_the_unspecified_address", &addresses).await;
}

#[tokio::test]
pub(super) async fn asks_through_nat64() {
    let addresses = ["[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"];
    refuses_addresses("asks_through_nat64", &addresses).await;
}

const RESOLVED: &str = "GET http://vault.example.test:PORT/secrets";
const RESOLVED_URL: (&str, &str) = ("url", "http://vault.example.test:PORT/secrets");

/// The allowed name resolves to these addresses, and is refused because of `address`.
async fn refuses_answer(mode: &str, addresses: &[&str], address: &str, reason: &str) {
    let world = World::resolved(RESOLVED, addresses).await;
    let asked = world.ask(mode, &[RESOLVED_URL]).await;
    let denied =
        format!("denied: vault.example.test resolves to {address}, {reason}; only a rule that names it may use it");
    assert_eq!(asked.answers(), [denied], "{addresses:?}");
    assert_eq!(asked.records.len(), 1);
    assert_eq!(world.names.asked(), ["vault.example.test"], "looked up once");
    assert_eq!(world.store.heads(), [""; 0]);
    world.bench.is_well().await;
}

#[tokio::test]
pub(super) async fn asks_the_metadata_service_by_name() {
    let mode = "asks_the_metadata_service_by_name";
    for (address, reason) in [
        ("169.254.169.254", "a link-local address (169.254.0.0/16)"),
        ("::ffff:169.254.169.254", "a link-local address (169.254.0.0/16) in IPv4-mapped form"),
        ("64:ff9b::a9fe:a9fe", "a link-local address (169.254.0.0/16) in NAT64 form"),
        ("fd00:ec2::254", "an address of the cloud platform (fd00:ec2::254/128)"),
        ("168.63.129.16", "an address of the cloud platform (168.63.129.16/32)"),
        ("127.0.0.1", "a loopback address (127.0.0.0/8)"),
        ("::1", "a loopback address (::1/128)"),
        ("::ffff:127.0.0.1", "a loopback address (127.0.0.0/8) in IPv4-mapped form"),
        ("::127.0.0.1", "a loopback address (127.0.0.0/8) in IPv4-compatible form"),
        ("64:ff9b::7f00:1", "a loopback address (127.0.0.0/8) in NAT64 form"),
        ("2002:7f00:1::", "a loopback address (127.0.0.0/8) in 6to4 form"),
        ("0.0.0.0", "an unspecified address (0.0.0.0/8)"),
        ("::", "an unspecified address (::/128)"),
        ("10.0.0.1", "a private address, which plain http may not use (10.0.0.0/8)"),
    ] {
        let shown = address.parse::<std::net::IpAddr>().unwrap().to_string();
        refuses_answer(mode, &[address], &shown, reason).await;
    }
}

#[tokio::test]
pub(super) async fn asks_a_name_with_mixed_addresses() {
    let mode = "asks_a_name_with_mixed_addresses";
    let reason = "a loopback address (127.0.0.0/8)";
    refuses_answer(mode, &["93.184.215.14", "127.0.0.1"], "127.0.0.1", reason).await;
    refuses_answer(mode, &["127.0.0.1", "93.184.215.14"], "127.0.0.1", reason).await;
}

#[tokio::test]
pub(super) async fn follows_a_redirect() {
    let world = World::connected(RULE).await;
    let asked = world.ask("follows_a_redirect", &[URL]).await;
    let denied = no_rule("GET http://evil.example.test/secrets", "host");
    assert_eq!(asked.answers(), ["302 ", &denied]);
    assert_eq!(world.store.heads().len(), 1, "the redirect came back to the guest");
    is_well(&world).await;
}

#[tokio::test]
pub(super) async fn asks_with_userinfo() {
    let userinfo = || protocol("the URL has userinfo before its host");
    let fragment = || protocol("the URL has a fragment, which never reaches a server");
    refuses(
        "asks_with_userinfo",
        &[
            userinfo(),
            userinfo(),
            userinfo(),
            userinfo(),
            userinfo(),
            fragment(),
            protocol("the URL has a backslash at byte 24"),
            fragment(),
        ],
    )
    .await;
}

#[tokio::test]
pub(super) async fn overrides_the_host() {
    let world = World::connected(RULE).await;
    let asked = world.ask("overrides_the_host", &[URL]).await;
    assert_eq!(
        asked.answers(),
        [
            "protocol: header `host` is set by Coffer alone",
            "protocol: header `host` is set by Coffer alone",
            "protocol: header 1 has a name that HTTP does not allow",
            // A header like any other: who believes it has no better reason to believe anything else.
            "200 hello",
        ]
    );
    let heads = world.store.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].to_ascii_lowercase().contains("\r\nhost: vault.example.test\r\n"), "{}", heads[0]);
    is_well(&world).await;
}

#[tokio::test]
pub(super) async fn sets_headers_of_the_connection() {
    let names = [
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
        "proxy-authorization",
        "proxy-connection",
    ];
    let expected = names.map(|name| protocol(&format!("header `{name}` is set by Coffer alone")));
    refuses("sets_headers_of_the_connection", &expected).await;
}

#[tokio::test]
pub(super) async fn injects_a_header() {
    let value =
        || protocol("header `x-one` has a value with control characters, characters outside ASCII or spaces around it");
    let name = || protocol("header 1 has a name that HTTP does not allow");
    let space = |at: usize| protocol(&format!("the URL has a space or control character at byte {at}"));
    let base = "http://vault.example.test/secrets".len();
    refuses(
        "injects_a_header",
        &[
            value(),
            value(),
            value(),
            name(),
            name(),
            name(),
            protocol("the method is not a name in upper case"),
            space(base + 4),
            space(base + 4),
            space(base + 4),
        ],
    )
    .await;
}

#[tokio::test]
pub(super) async fn asks_inside_check() {
    let world = World::connected(RULE).await;
    let error = world.bench.check("asks_inside_check", &[URL]).await.result.unwrap_err();
    assert_eq!(error.reason(), "InvalidRequest");
    assert_eq!(error.cause.to_string(), "denied: `check` is without HTTP; send requests in `mount`");
    assert_eq!(world.store.heads(), [""; 0]);
    is_well(&world).await;
}

/// Five hundred are in the grant.
fn assert_five_hundred(world: &World, asked: &Asked) {
    let exhausted = "exhausted: the call has used up `requests` of the grant (500)";
    let answers = asked.answers();
    assert_eq!(answers.len(), 10_000);
    assert!(answers[..500].iter().all(|answer| *answer == "200 hello"), "{}", answers[499]);
    assert!(answers[500..].iter().all(|answer| *answer == exhausted), "{}", answers[500]);
    assert_eq!((asked.records.len(), asked.unrecorded), (500, 9_500));
    assert_eq!(world.store.heads().len(), 500);
}

#[tokio::test]
pub(super) async fn asks_ten_thousand_times_at_once() {
    let world = World::connected(RULE).await;
    let asked = world.ask("asks_ten_thousand_times_at_once", &[URL]).await;
    assert_five_hundred(&world, &asked);
    is_well(&world).await;
}

#[tokio::test]
pub(super) async fn asks_ten_thousand_times_in_a_row() {
    let world = World::connected(RULE).await;
    let asked = world.ask("asks_ten_thousand_times_in_a_row", &[URL]).await;
    assert_five_hundred(&world, &asked);
    is_well(&world).await;
}
