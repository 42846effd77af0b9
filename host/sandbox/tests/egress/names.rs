//! Names, addresses and what DNS says about them.

use std::sync::Arc;

use coffer_sandbox::egress::{Caller, Egress, Error, RuleSettings, Settings};
use coffer_sandbox::provider::Parameters;

use crate::world::*;

async fn hello(_: http::Request<bytes::Bytes>) -> Answer {
    answer(200, &[], "hello")
}

#[tokio::test]
async fn a_hostile_answer_of_dns_is_not_dialled() {
    let server = Server::http(hello).await;
    let port = server.address.port();
    let cases: &[(&str, &[&str], &str)] = &[
        ("http", &["127.0.0.1"], "a loopback address (127.0.0.0/8)"),
        ("https", &["127.0.0.1"], "a loopback address (127.0.0.0/8)"),
        ("http", &["::ffff:127.0.0.1"], "in IPv4-mapped form"),
        ("https", &["169.254.169.254"], "a link-local address"),
        ("http", &["10.0.0.1"], "a private address, which plain http may not use"),
        ("https", &["93.184.215.14", "127.0.0.1"], "127.0.0.1, a loopback address"),
        ("https", &["127.0.0.1", "93.184.215.14"], "127.0.0.1, a loopback address"),
        ("https", &["0.0.0.0"], "an unspecified address"),
        ("https", &["::"], "an unspecified address"),
    ];
    for (scheme, addresses, part) in cases {
        let dns = Dns::new(&[("kv.example", addresses)]);
        let settings = Settings { resolver: dns.clone(), ..settings(&Authority::new()) };
        let gate = open(vec![rule(&format!("GET {scheme}://kv.example:{port}/"))], settings);
        let Err(Error::Denied(text)) = send(&gate, get(format!("{scheme}://kv.example:{port}/"))).await else {
            panic!("{addresses:?} was not denied")
        };
        assert!(text.starts_with("kv.example resolves to ") && text.contains(part), "{text}");
        assert_eq!(dns.asked(), ["kv.example"], "{addresses:?}");
    }
    assert_eq!(server.seen.connections(), 0);
}

#[tokio::test]
async fn a_connect_by_name_is_checked_like_any_other_name() {
    let server = Server::http(hello).await;
    let dns = Dns::new(&[("inner.example", &["127.0.0.1"])]);
    let mut rule = rule("GET http://kv.example/");
    rule.connect = Some(format!("inner.example:{}", server.address.port()).parse().unwrap());
    let gate = open(vec![rule], Settings { resolver: dns, ..plain_settings() });
    let Err(Error::Denied(text)) = send(&gate, get("http://kv.example/")).await else { panic!("not denied") };
    assert!(text.contains("inner.example resolves to 127.0.0.1"), "{text}");
    assert_eq!(server.seen.connections(), 0);
}

#[tokio::test]
async fn an_address_in_the_rule_is_dialled_without_dns_and_no_other_is() {
    let server = Server::http(hello).await;
    let dns = Dns::new(&[]);
    let port = server.address.port();
    let settings = Settings { resolver: dns.clone(), ..plain_settings() };
    let gate = open(vec![rule(&format!("GET http://127.0.0.1:{port}/"))], settings);
    for host in ["127.0.0.1", "2130706433", "0x7f.1"] {
        assert_eq!(send(&gate, get(format!("http://{host}:{port}/"))).await.unwrap().status, 200, "{host}");
    }
    for host in ["127.0.0.2", "[::ffff:127.0.0.1]", "localhost"] {
        let result = send(&gate, get(format!("http://{host}:{port}/"))).await;
        assert!(matches!(result, Err(Error::Denied(_))), "{host}");
    }
    assert!(dns.asked().is_empty());
}

#[tokio::test]
async fn localhost_in_a_rule_means_loopback_and_is_not_looked_up() {
    let server = Server::http(hello).await;
    let port = server.address.port();
    let dns = Dns::new(&[("localhost", &["93.184.215.14"])]);
    let settings = Settings { resolver: dns.clone(), ..plain_settings() };
    let gate = open(vec![rule(&format!("GET http://localhost:{port}/"))], settings);
    assert_eq!(send(&gate, get(format!("http://localhost:{port}/"))).await.unwrap().status, 200);
    assert!(dns.asked().is_empty());
}

#[tokio::test]
async fn localhost_from_a_parameter_is_a_name_like_any_other() {
    let server = Server::http(hello).await;
    let port = server.address.port();
    let dns = Dns::new(&[("localhost", &["127.0.0.1"])]);
    let mut caller = caller();
    caller.parameters = Arc::new([("vault".to_owned(), "localhost".to_owned())].into());
    let rules = vec![rule(&format!("GET http://{{vault}}:{port}/"))];
    let settings = Settings { resolver: dns, ..plain_settings() };
    let gate = Egress::new(rules, settings).unwrap().open(caller);
    let result = send(&gate, get(format!("http://localhost:{port}/"))).await;
    assert!(matches!(result, Err(Error::Denied(_))), "{result:?}");
    assert_eq!(server.seen.connections(), 0);
}

#[tokio::test]
async fn a_name_without_addresses_is_a_dns_error() {
    let dns = Dns::new(&[("empty.example", &[])]);
    let rules = vec![rule("GET https://empty.example/"), rule("GET https://unknown.example/")];
    let settings = Settings { resolver: dns, ..settings(&Authority::new()) };
    let egress = Egress::new(rules, settings).unwrap();
    assert_eq!(
        send(&egress.open(single()), get("https://empty.example/")).await.unwrap_err(),
        Error::Dns("empty.example has no addresses".to_owned())
    );
    assert_eq!(
        send(&egress.open(single()), get("https://unknown.example/")).await.unwrap_err(),
        Error::Dns("unknown.example does not resolve: no such host".to_owned())
    );
}

#[tokio::test]
async fn the_identity_of_the_node_is_for_those_who_may_use_it() {
    let server = Server::http(hello).await;
    let metadata = "GET http://169.254.169.254/metadata/identity/oauth2/token";
    // Dialled at the metadata service, or called by its address: both are the platform.
    let mut behind_a_name = rule("GET http://metadata.example/");
    behind_a_name.connect = Some("169.254.169.254:80".parse().unwrap());
    let rules =
        vec![rule_to(metadata, server.address), behind_a_name, rule_to("GET http://kv.example/", server.address)];
    let egress = Egress::new(rules, plain_settings()).unwrap();
    let stranger = egress.open(Caller { node_identity: false, ..caller() });
    let token = "http://169.254.169.254/metadata/identity/oauth2/token?resource=x";
    for url in [token, "http://metadata.example/"] {
        let Err(Error::Denied(text)) = send(&stranger, get(url)).await else { panic!("{url} was not denied") };
        assert!(text.contains("namespace `shop` may not use"), "{text}");
    }
    assert_eq!(server.seen.connections(), 0);
    assert_eq!(send(&stranger, get("http://kv.example/")).await.unwrap().status, 200);
    assert_eq!(send(&egress.open(caller()), get(token)).await.unwrap().status, 200);
}

#[tokio::test]
async fn of_two_rules_for_one_url_the_class_chooses_by_the_parameter_that_one_of_them_needs() {
    let proxy = Server::http(|_| async { answer(200, &[], "proxy") }).await;
    let direct = Server::http(|_| async { answer(200, &[], "direct") }).await;
    let text = "GET http://login.example/";
    let conditional = RuleSettings { when: Some("useProxy".to_owned()), ..rule_to(text, proxy.address) };
    let egress = Egress::new(vec![conditional.clone(), rule_to(text, direct.address)], plain_settings()).unwrap();
    let alone = Egress::new(vec![conditional], plain_settings()).unwrap();
    for (value, body) in [("true", "proxy"), (" T ", "proxy"), ("1", "proxy"), ("false", "direct"), ("yes", "direct")] {
        let parameters = Arc::new(Parameters::from([("useProxy".to_owned(), value.to_owned())]));
        let gate = egress.open(Caller { parameters, ..caller() });
        assert_eq!(send(&gate, get("http://login.example/")).await.unwrap().body, body.as_bytes(), "{value}");
    }
    let Err(Error::Denied(text)) = send(&alone.open(caller()), get("http://login.example/")).await else {
        panic!("not denied")
    };
    assert!(text.contains("parameter `useProxy` is not true"), "{text}");
}
