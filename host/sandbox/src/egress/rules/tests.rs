use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn allows(rule: &Rule, pairs: &[(&str, &str)], method: &str, url: &str) -> bool {
    let values = rule.fill(&parameters(pairs)).unwrap();
    rule.compare(&values, method, &Target::parse(url).unwrap()).is_none()
}

#[test]
fn a_rule_allows_what_it_says_and_nothing_next_to_it() {
    let table: &[(&str, &[(&str, bool)])] = &[
        (
            "GET https://kv.vault.azure.net/",
            &[
                ("https://kv.vault.azure.net/", true),
                ("https://kv.vault.azure.net", true),
                ("https://KV.vault.azure.NET/secrets/a?api-version=7.4", true),
                ("https://kv.vault.azure.net:443/", true),
                ("https://kv.vault.azure.net:8443/", false),
                ("http://kv.vault.azure.net/", false),
                ("http://kv.vault.azure.net:443/", false),
                ("https://vault.azure.net/", false),
                ("https://x.kv.vault.azure.net/", false),
                ("https://kv.vault.azure.net.evil.example/", false),
                ("https://kvxvault.azure.net/", false),
            ],
        ),
        (
            "GET https://a.example/secrets",
            &[
                ("https://a.example/secrets", true),
                ("https://a.example/secrets/", true),
                ("https://a.example/secrets/x/y", true),
                ("https://a.example/%73ecrets/x", true),
                ("https://a.example/secretsx", false),
                ("https://a.example/Secrets", false),
                ("https://a.example/", false),
                ("https://a.example/x/secrets", false),
            ],
        ),
        (
            "GET https://a.example/a%20b/c/",
            &[
                ("https://a.example/a%20b/c", true),
                ("https://a.example/a%20b/c/d", true),
                ("https://a.example/a+b/c", false),
                ("https://a.example/a%20b/", false),
            ],
        ),
        (
            "GET https://*.vault.azure.net/",
            &[
                ("https://one.vault.azure.net/", true),
                ("https://vault.azure.net/", false),
                ("https://a.b.vault.azure.net/", false),
            ],
        ),
        ("GET https://*.0.0.example/", &[("https://127.0.0.1/", false), ("https://a.0.0.example/", true)]),
        (
            "GET http://169.254.169.254/metadata/identity/oauth2/token?resource=https://vault.azure.net",
            &[
                ("http://169.254.169.254/metadata/identity/oauth2/token?resource=https://vault.azure.net", true),
                (
                    "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net",
                    true,
                ),
                ("http://0xa9fea9fe/metadata/identity/oauth2/token?resource=https://vault.azure.net", true),
                ("http://169.254.169.254/metadata/identity/oauth2/token", false),
                ("http://169.254.169.254/metadata/identity/oauth2/token?resource=https://management.azure.com", false),
                ("http://169.254.169.254/metadata/identity/oauth2/token?resource=https://vault.azure.net/", false),
                (
                    "http://169.254.169.254/metadata/identity/oauth2/token?resource=https://vault.azure.net&resource=x",
                    false,
                ),
                (
                    "http://169.254.169.254/metadata/identity/oauth2/token?resource=x&resource=https://vault.azure.net",
                    false,
                ),
                (
                    "http://169.254.169.254/metadata/identity/oauth2/token?Resource=x&resource=https://vault.azure.net",
                    false,
                ),
                ("http://169.254.169.254/metadata/identity/oauth2/token?RESOURCE=https://vault.azure.net", false),
                (
                    "http://169.254.169.254/metadata/identity/oauth2/token?%72esource=x&resource=https://vault.azure.net",
                    false,
                ),
                (
                    "http://169.254.169.254/metadata/identity/oauth2/token?a=1;resource=x&resource=https://vault.azure.net",
                    false,
                ),
                ("http://169.254.169.254/metadata/instance?resource=https://vault.azure.net", false),
            ],
        ),
        (
            "GET https://[2001:db8::1]:8443/x",
            &[
                ("https://[2001:db8::1]:8443/x", true),
                ("https://[2001:DB8:0:0:0:0:0:1]:8443/x/y", true),
                ("https://[2001:db8::2]:8443/x", false),
                ("https://[2001:db8::1]/x", false),
            ],
        ),
        (
            "GET https://a.example?x=a+b&y=%26",
            &[
                ("https://a.example/?y=%26&x=a%20b", true),
                ("https://a.example/?x=a+b&y=%26&z=1", true),
                ("https://a.example/?x=a+b&y=", false),
                ("https://a.example/?x=a+b", false),
            ],
        ),
    ];
    for (text, cases) in table {
        let rule = rule(text);
        for (url, expected) in *cases {
            assert_eq!(allows(&rule, &[], "GET", url), *expected, "{text} / {url}");
        }
    }
}

#[test]
fn only_the_methods_of_the_list_pass() {
    let rule = rule("GET,POST,M-SEARCH https://a.example/");
    for (method, expected) in [
        ("GET", true),
        ("POST", true),
        ("M-SEARCH", true),
        ("PUT", false),
        ("get", false),
        ("GET,POST", false),
        ("", false),
    ] {
        assert_eq!(allows(&rule, &[], method, "https://a.example/"), expected, "{method}");
    }
}

#[test]
fn a_reference_in_the_host_stands_for_one_label() {
    let rule = rule("GET https://{keyvaultName}.vault.azure.net/");
    let kv = [("keyvaultName", " My-KV1 ")];
    assert!(allows(&rule, &kv, "GET", "https://my-kv1.vault.azure.net/secrets/a"));
    assert!(!allows(&rule, &kv, "GET", "https://other.vault.azure.net/secrets/a"));
    assert!(!allows(&rule, &kv, "GET", "https://x.my-kv1.vault.azure.net/"));
    let refused = [
        "a.b",
        "evil.example/",
        "a/b",
        "a%2fb",
        "a@b",
        "a:1",
        "a_b",
        "-a",
        "a-",
        "ä",
        "a b",
        "*",
        "a?b",
        "a#b",
        "a\nb",
    ];
    for value in refused {
        let error = rule.fill(&parameters(&[("keyvaultName", value)])).unwrap_err();
        assert_eq!(error, FillError::Label("keyvaultName".to_owned()), "{value:?}");
        assert!(!error.to_string().contains(value) || value.len() < 4, "{error} quotes {value:?}");
    }
    let long = "a".repeat(63);
    assert!(rule.fill(&parameters(&[("keyvaultName", &long)])).is_ok());
    assert!(rule.fill(&parameters(&[("keyvaultName", &format!("{long}a"))])).is_err());
}

#[test]
fn a_host_that_a_parameter_turns_into_a_number_is_not_the_address() {
    let rule = rule("GET http://{host}/");
    assert!(!allows(&rule, &[("host", "2130706433")], "GET", "http://2130706433/"));
    assert!(allows(&rule, &[("host", "web")], "GET", "http://web/"));
}

#[test]
fn a_reference_in_the_path_stands_for_one_segment() {
    let rule = rule("POST https://login.example/{tenantID|tenantId}/oauth2/v2.0/token");
    let tenant = [("tenantId", "contoso.example")];
    assert!(allows(&rule, &tenant, "POST", "https://login.example/contoso.example/oauth2/v2.0/token"));
    assert!(!allows(&rule, &tenant, "POST", "https://login.example/Contoso.example/oauth2/v2.0/token"));
    assert!(!allows(&rule, &tenant, "POST", "https://login.example/a/contoso.example/oauth2/v2.0/token"));
    assert!(allows(&rule, &[("tenantID", "a b")], "POST", "https://login.example/a%20b/oauth2/v2.0/token"));
    for value in ["a/b", "a\\b", "%2e", ".", "..", "..;x", "a\u{0}b", "a%41"] {
        let error = rule.fill(&parameters(&[("tenantId", value)])).unwrap_err();
        assert_eq!(error, FillError::Segment("tenantId".to_owned()), "{value:?}");
    }
}

#[test]
fn a_reference_in_the_query_stands_for_one_value() {
    let rule = rule("GET https://a.example/?client={clientID}");
    assert!(allows(&rule, &[("clientID", "42")], "GET", "https://a.example/?client=42"));
    assert!(!allows(&rule, &[("clientID", "42")], "GET", "https://a.example/?client=43"));
    assert!(!allows(&rule, &[("clientID", "4&client=2")], "GET", "https://a.example/?client=4&client=2"));
}

#[test]
fn the_first_parameter_that_is_not_blank_counts() {
    let rule = rule("GET https://a.example/{tenantID|tenantId}");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("tenantID", "a"), ("tenantId", "b")], "https://a.example/a"),
        (&[("tenantID", " "), ("tenantId", "b")], "https://a.example/b"),
        (&[("tenantId", "b")], "https://a.example/b"),
    ];
    for (pairs, url) in cases {
        assert!(allows(&rule, pairs, "GET", url), "{pairs:?}");
    }
    let error = rule.fill(&parameters(&[("tenantID", " ")])).unwrap_err();
    assert_eq!(error.to_string(), "parameter `tenantID` or `tenantId` is not set");
    assert_eq!(rule.check(&Parameters::new()), Err(error));
    assert_eq!(rule.parameters().collect::<Vec<_>>(), ["tenantID", "tenantId"]);
}

#[test]
fn a_mistake_is_reported_with_its_column_and_both_sides() {
    let cases = [
        ("", 1, "a space and a URL (`GET https://host/path`)", "the end"),
        ("GET", 4, "a space and a URL (`GET https://host/path`)", "the end"),
        ("get https://a.example/", 1, "a method in upper case (`GET`, or several: `GET,POST`)", "`get`"),
        (" GET https://a.example/", 1, "a method in upper case (`GET`, or several: `GET,POST`)", "a space"),
        ("GET,,PUT https://a.example/", 5, "a method in upper case (`GET`, or several: `GET,POST`)", "`,PUT`"),
        ("GET, POST https://a.example/", 5, "a method in upper case (`GET`, or several: `GET,POST`)", "a space"),
        ("* https://a.example/", 1, "a method in upper case (`GET`, or several: `GET,POST`)", "`*`"),
        ("GET,GET https://a.example/", 5, "every method once", "`GET`"),
        ("CONNECT https://a.example/", 1, "a method other than CONNECT and TRACE", "`CONNECT`"),
        ("GET a.example/", 5, "`https://` or `http://`", "`a.example/`"),
        ("GET  https://a.example/", 5, "one space, between methods and URL", "a space"),
        ("GET https://a.example/ ", 23, "one space, between methods and URL", "a space"),
        ("GET ftp://a.example/", 5, "`https://` or `http://`", "`ftp://a.example/`"),
        ("GET HTTPS://a.example/", 5, "`https://` or `http://`", "`HTTPS://a.example/`"),
        ("GET https:/a.example/", 10, "`://`", "`:/a.example/`"),
        ("GET https//a.example/", 10, "`://`", "`//a.example/`"),
        ("GET https://", 13, "a host", "the end"),
        ("GET https:///x", 13, "a host", "`/x`"),
        ("GET https://:443/", 13, "a host", "`:443/`"),
        ("GET https://u:p@a.example/", 16, "no userinfo before the host", "`@a.example/`"),
        ("GET https://a.example:/", 23, "a port, 1 to 65535", "`/`"),
        ("GET https://a.example:0/", 23, "a port, 1 to 65535", "`0/`"),
        ("GET https://a.example:65536/", 23, "a port, 1 to 65535", "`65536/`"),
        ("GET https://a.example:+1/", 23, "a port, 1 to 65535", "`+1/`"),
        ("GET https://[::1/", 17, "`]` after the address", "`/`"),
        ("GET https://[::g]/", 14, "an IPv6 address", "`::g]/`"),
        ("GET https://[::1]x/", 18, "`:` and a port, or `/`", "`x/`"),
        ("GET https://a..b/", 15, "a label of 1 to 63 characters, hyphens only inside", "`.b/`"),
        ("GET https://a.example./", 23, "a label of 1 to 63 characters, hyphens only inside", "`/`"),
        ("GET https://-a.example/", 13, "a label of 1 to 63 characters, hyphens only inside", "`-a.example/`"),
        ("GET https://a!b.example/", 14, "a letter, digit or hyphen of a host name", "`!b.example/`"),
        ("GET https://*/", 13, "`*` only as the whole first label (`*.example.com`)", "`*/`"),
        ("GET https://a.*.example/", 15, "`*` only as the whole first label (`*.example.com`)", "`*.example/`"),
        ("GET https://*a.example/", 13, "`*` only as the whole first label (`*.example.com`)", "`*a.example/`"),
        ("GET https://*.{a}/", 15, "a name after `*.` that is not made of parameters alone", "`{a}/`"),
        ("GET https://127.1/", 13, "a name, or an IPv4 address of four decimal numbers", "`127.1/`"),
        ("GET https://0x7f000001/", 13, "a name, or an IPv4 address of four decimal numbers", "`0x7f000001/`"),
        ("GET https://256.1.1.1/", 13, "a name, or an IPv4 address of four decimal numbers", "`256.1.1.1/`"),
        ("GET https://{a/", 15, "`}` after the parameter", "`/`"),
        (
            "GET https://x{a}.example/",
            14,
            "a reference (`{parameter}`) to stand alone, for the whole part",
            "`{a}.example/`",
        ),
        ("GET https://{a}x.example/", 16, "nothing after `}`: a reference stands for the whole part", "`x.example/`"),
        ("GET https://{}.example/", 14, "a parameter's name", "`}.example/`"),
        ("GET https://{a|}.example/", 16, "a parameter's name", "`}.example/`"),
        ("GET https://{a b}.example/", 15, "one space, between methods and URL", "a space"),
        ("GET https://a.example/{a$}", 25, "a parameter's name (letters, digits, `-`, `_`)", "`$}`"),
        ("GET https://a.example//x", 23, "a path segment", "`/x`"),
        ("GET https://a.example/x//", 25, "a path segment", "`/`"),
        ("GET https://a.example/*", 23, "no `*` in a path (a path allows everything below it)", "`*`"),
        ("GET https://a.example/a\\b", 24, "`/` between segments", "`\\b`"),
        ("GET https://a.example/x/../y", 25, "a plain path segment", "one that is `.` or `..`"),
        ("GET https://a.example/x%2fy", 23, "a plain path segment", "one that hides a `/` or `\\`"),
        ("GET https://a.example/?x", 24, "`name=value` with the value that a request must have", "`x`"),
        ("GET https://a.example/?", 24, "`name=value` with the value that a request must have", "the end"),
        ("GET https://a.example/?=1", 24, "the name of a query parameter", "`=1`"),
        ("GET https://a.example/?a=1&A=2", 28, "every query parameter once", "`A=2`"),
        ("GET https://a.example/#x", 23, "no fragment (it never reaches a server)", "`#x`"),
        (
            "GET https://ä.example/",
            13,
            "printable ASCII (internationalised hosts in their `xn--` form, the rest percent-encoded)",
            "\"ä\"",
        ),
        (
            "GET\thttps://a.example/",
            4,
            "printable ASCII (internationalised hosts in their `xn--` form, the rest percent-encoded)",
            "\"\\t\"",
        ),
    ];
    for (text, column, expected, found) in cases {
        let error = text.parse::<Rule>().expect_err(text);
        assert_eq!((error.column(), error.expected(), error.found()), (column, expected, found), "{text}");
    }
}

#[test]
fn a_mistake_can_be_shown_with_a_caret() {
    let error = "GET https//x".parse::<Rule>().unwrap_err();
    assert_eq!(error.caret(), "GET https//x\n         ^");
    assert_eq!(error.to_string(), "egress rule `GET https//x`, column 10: expected `://`, found `//x`");
}

#[test]
fn a_rule_shows_as_it_was_written() {
    let text = "GET,POST https://{a|b}.Example/x/?y=1";
    assert_eq!(rule(text).to_string(), text);
}

#[test]
fn a_denial_names_the_nearest_rules_and_what_differs() {
    let rules = [
        rule("GET https://{keyvaultName}.vault.azure.net/"),
        rule("POST https://login.example/{tenantId}/oauth2/v2.0/token"),
        rule("GET http://169.254.169.254/metadata?resource=https://vault.azure.net"),
    ];
    let given = parameters(&[("keyvaultName", "kv")]);
    let values: Vec<_> = rules.iter().map(|rule| rule.fill(&given)).collect();
    let explain = |method, url| explain("azure", rules.iter().zip(&values), method, &Target::parse(url).unwrap());
    assert_eq!(
        explain("GET", "https://other.vault.azure.net/secrets/a?token=hidden"),
        "no egress rule of plugin `azure` allows GET https://other.vault.azure.net/secrets/a; nearest: \
         `GET https://{keyvaultName}.vault.azure.net/` (differs in host; its host is `kv` here); 2 more differ further"
            .replace("`kv` here", "`kv.vault.azure.net` here")
    );
    assert_eq!(
        explain("DELETE", "https://kv.vault.azure.net/secrets/a"),
        "no egress rule of plugin `azure` allows DELETE https://kv.vault.azure.net/secrets/a; nearest: \
         `GET https://{keyvaultName}.vault.azure.net/` (differs in method); 2 more differ further"
    );
    assert_eq!(
        explain("POST", "https://login.example/t/oauth2/v2.0/token"),
        "no egress rule of plugin `azure` allows POST https://login.example/t/oauth2/v2.0/token; nearest: \
         `POST https://login.example/{tenantId}/oauth2/v2.0/token` (parameter `tenantId` is not set); \
         2 more differ further"
    );
    assert_eq!(
        explain("GET", "http://169.254.169.254/metadata?resource=hidden"),
        "no egress rule of plugin `azure` allows GET http://169.254.169.254/metadata; nearest: \
         `GET http://169.254.169.254/metadata?resource=https://vault.azure.net` (differs in query); \
         2 more differ further"
    );
}

#[test]
fn a_plugin_without_rules_is_told_so() {
    let target = Target::parse("https://a.example/").unwrap();
    assert_eq!(
        explain("p", std::iter::empty(), "GET", &target),
        "no egress rule of plugin `p` allows GET https://a.example/; it has no rules at all"
    );
}

/// What rules and URLs are made of, and what people try.
fn pieces(most: usize) -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "GET",
        "POST",
        ",",
        " ",
        "https",
        "http",
        "://",
        "//",
        "/",
        "a",
        "b.example",
        ".",
        "*.",
        "*",
        "{p}",
        "{p|q}",
        "{",
        "}",
        "@",
        ":",
        "443",
        "99999",
        "?",
        "x=y",
        "&",
        ";",
        "#",
        "%2e",
        "%2F",
        "%",
        "+",
        "..",
        "[::1]",
        "[",
        "127.0.0.1",
        "0x7f",
        "\\",
        "\t",
        "ä",
    ]);
    prop::collection::vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

/// A part of a host: literals, parameters, and in a URL what is like them.
fn labels(words: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(words), 1..4)
}

proptest! {
    #[test]
    fn no_rule_and_no_url_is_too_strange(text in ".{0,40}", rule in pieces(12), url in pieces(12), value in pieces(3)) {
        for text in [text, rule.clone(), format!("GET https://{rule}"), format!("GET https://b.example/{rule}")] {
            match text.parse::<Rule>() {
                Ok(rule) => {
                    prop_assert_eq!(rule.to_string(), text);
                    let filled = rule.fill(&parameters(&[("p", &value), ("q", "a")]));
                    for url in [url.clone(), format!("https://b.example/{url}")] {
                        let (Ok(values), Ok(target)) = (&filled, Target::parse(&url)) else { continue };
                        let _ = rule.compare(values, "GET", &target);
                    }
                }
                Err(error) => prop_assert!(error.column <= text.len() + 1, "column {} of {text:?}", error.column),
            }
        }
    }

    #[test]
    fn a_rule_allows_no_url_whose_host_differs(
        wildcard in any::<bool>(),
        of_rule in labels(&["a", "b", "{p}"]),
        of_url in labels(&["a", "b", "evil", "A", "", "*", "{p}", "a.b", "a@b", "a:443", "a#", "a?", "a/", "a\\", "%61", "1"]),
        value in prop::sample::select(vec!["a", "b", "evil", "A", "a.b", "b.evil", "", "*", "a/", "evil@a", "a:80"]),
        tail in prop::sample::select(vec!["", "/", "/x", "?x", ":443", ":80/", "@a.b.example/", "#", ".", "/../", "\\@a"]),
    ) {
        let start = if wildcard { "*." } else { "" };
        let rule = rule(&format!("GET https://{start}{}.example", of_rule.join(".")));
        let Ok(values) = rule.fill(&parameters(&[("p", value)])) else { return Ok(()) };
        let Ok(target) = Target::parse(&format!("https://{}.example{tail}", of_url.join("."))) else { return Ok(()) };
        if rule.compare(&values, "GET", &target).is_some() {
            return Ok(());
        }
        // Who connects reads the URI, and not what was compared.
        let host = target.uri.host().unwrap_or_default();
        let mut given = host.split('.');
        if wildcard {
            prop_assert!(given.next().is_some_and(|label| !label.is_empty()), "{host}");
        }
        let value = value.to_ascii_lowercase();
        let expected = of_rule.iter().map(|label| if *label == "{p}" { value.as_str() } else { label });
        prop_assert!(given.eq(expected.chain(["example"])), "{rule} with {value:?} allows {host}");
        prop_assert_eq!(target.uri.port_u16().unwrap_or(443), 443);
        prop_assert_eq!(target.uri.scheme_str(), Some("https"));
    }
}
