//! Modes that ask where they may not. Each gives one file, `answers`, with a line per request: the status and body of
//! the answer, or the error's name and text. So a test sees what the guest saw.
//!
//! The parameter `url` is an allowed URL, such as `http://vault.example.test/secrets`, that ends where the prefix of
//! the rule ends.

use crate::contract::coffer::provider::http::{self, Error, Request, Response};
use crate::contract::coffer::provider::types;
use crate::{Answer, file, files, parameter};

pub(crate) fn asks_a_forbidden_host(request: &types::Request) -> Answer {
    let (_, host, path) = parts(request);
    ask_each([
        format!("http://evil.example.test{path}"),
        format!("https://evil.example.test{path}"),
        format!("http://{host}.evil.example.test{path}"),
        format!("http://evil{host}{path}"),
        format!("http://evil.example.test/{host}{path}"),
        "ftp://evil.example.test/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "evil.example.test".to_owned(),
        String::new(),
    ])
}

pub(crate) fn asks_with_a_forbidden_method(request: &types::Request) -> Answer {
    let methods = ["POST", "PUT", "DELETE", "CONNECT", "TRACE", "get", "GE T", ""];
    ask(methods.map(|method| Request { method: method.to_owned(), ..get(base(request)) }))
}

pub(crate) fn asks_another_vault(request: &types::Request) -> Answer {
    let (_, _, path) = parts(request);
    let other = parameter(&request.parameters, "other").unwrap_or_default();
    ask_each([format!("http://{other}{path}"), base(request).to_owned()])
}

pub(crate) fn asks_beside_the_prefix(request: &types::Request) -> Answer {
    let (root, _, path) = parts(request);
    let base = base(request);
    ask_each([
        format!("{base}-other"),
        format!("{base}%2f..%2fadmin"),
        format!("{base}/..%2fadmin"),
        format!("{base}/../admin"),
        format!("{base}/%2e%2e/admin"),
        format!("{base}/.%2E/admin"),
        format!("{base}/./one"),
        format!("{base}\\..\\admin"),
        format!("{base}/%5c..%5cadmin"),
        format!("{base}%00"),
        format!("{root}{}", path.to_uppercase()),
        format!("{root}/{path}"),
        format!("{root}/admin?{path}"),
        format!("{root}/"),
        root,
    ])
}

pub(crate) fn asks_a_host_with_a_trailing_dot(request: &types::Request) -> Answer {
    let (_, host, path) = parts(request);
    ask_each([format!("http://{host}.{path}"), format!("http://{host}.:80{path}"), format!("http://{host}..{path}")])
}

pub(crate) fn asks_an_address(request: &types::Request) -> Answer {
    let (_, _, path) = parts(request);
    ask_each(
        ["127.0.0.1", "[::1]", "93.184.215.14", "169.254.169.254", "168.63.129.16", "10.0.0.1", "[fd00:ec2::254]"]
            .map(|host| format!("http://{host}{path}")),
    )
}

pub(crate) fn asks_loopback_in_disguise(request: &types::Request) -> Answer {
    let (_, _, path) = parts(request);
    let hosts = ["2130706433", "0177.0.0.1", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "①②⑦.0.0.1"];
    ask_each(hosts.map(|host| format!("http://{host}{path}")))
}

pub(crate) fn asks_the_unspecified_address(request: &types::Request) -> Answer {
    let (_, _, path) = parts(request);
    ask_each(["0.0.0.0", "0", "[::]", "[::ffff:0.0.0.0]"].map(|host| format!("http://{host}{path}")))
}

pub(crate) fn asks_through_nat64(request: &types::Request) -> Answer {
    let (_, _, path) = parts(request);
    let hosts = ["[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"];
    ask_each(hosts.map(|host| format!("http://{host}{path}")))
}

/// The name is honest, the test's resolver is not.
pub(crate) fn asks_the_metadata_service_by_name(request: &types::Request) -> Answer {
    ask_each([base(request).to_owned()])
}

/// The name is honest, the test's resolver is not.
pub(crate) fn asks_a_name_with_mixed_addresses(request: &types::Request) -> Answer {
    ask_each([base(request).to_owned()])
}

pub(crate) fn follows_a_redirect(request: &types::Request) -> Answer {
    let first = http::send(&[get(&format!("{}/redirect", base(request)))]);
    let location = first.iter().flatten().flat_map(|answer| &answer.headers).find(|(name, _)| name == "location");
    let second = match location {
        Some((_, url)) => http::send(&[get(url)]),
        None => Vec::new(),
    };
    answers(first.into_iter().chain(second))
}

pub(crate) fn asks_with_userinfo(request: &types::Request) -> Answer {
    let (_, host, path) = parts(request);
    ask_each([
        format!("http://{host}@evil.example.test{path}"),
        format!("http://{host}:80@evil.example.test{path}"),
        format!("http://user@{host}{path}"),
        format!("http://user:password@{host}{path}"),
        format!("http://@{host}{path}"),
        format!("http://evil.example.test#@{host}{path}"),
        format!("http://evil.example.test\\@{host}{path}"),
        format!("http://{host}{path}#fragment"),
    ])
}

pub(crate) fn overrides_the_host(request: &types::Request) -> Answer {
    ask_with_headers(
        request,
        &["Host", "host", ":authority", "X-Forwarded-Host"].map(|name| (name, "evil.example.test")),
    )
}

pub(crate) fn sets_headers_of_the_connection(request: &types::Request) -> Answer {
    ask_with_headers(
        request,
        &[
            ("Content-Length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "X"),
            ("Upgrade", "websocket"),
            ("Expect", "100-continue"),
            ("Accept-Encoding", "gzip"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("Proxy-Connection", "close"),
        ],
    )
}

pub(crate) fn injects_a_header(request: &types::Request) -> Answer {
    let base = base(request);
    let with = |name: &str, value: &str| Request { headers: vec![(name.to_owned(), value.to_owned())], ..get(base) };
    ask([
        with("X-One", "1\r\nX-Two: 2"),
        with("X-One", "1\nX-Two: 2"),
        with("X-One", "1\0"),
        with("X-One: 1\r\nX-Two", "2"),
        with("X One", "1"),
        with("", "1"),
        Request { method: "GET / HTTP/1.1\r\nX-Two: 2\r\n\r\nGET".to_owned(), ..get(base) },
        get(&format!("{base}/one HTTP/1.1\r\nX-Two: 2\r\n\r\n")),
        get(&format!("{base}/one\ttwo")),
        get(&format!("{base}/one two")),
    ])
}

/// `check` does the asking; a test that gets here has found a hole.
pub(crate) fn asks_inside_check(request: &types::Request) -> Answer {
    ask_each([base(request).to_owned()])
}

pub(crate) fn asks_ten_thousand_times_at_once(request: &types::Request) -> Answer {
    ask(vec![get(base(request)); TEN_THOUSAND])
}

pub(crate) fn asks_ten_thousand_times_in_a_row(request: &types::Request) -> Answer {
    answers((0..TEN_THOUSAND).flat_map(|_| http::send(&[get(base(request))])))
}

const TEN_THOUSAND: usize = 10_000;

/// The parameter `url`.
pub(crate) fn base(request: &types::Request) -> &str {
    parameter(&request.parameters, "url").unwrap_or_default()
}

/// The answer to a GET of the parameter `url`, as one line.
pub(crate) fn first_answer(parameters: &[(String, String)]) -> String {
    let answers = http::send(&[get(parameter(parameters, "url").unwrap_or_default())]);
    answers.into_iter().map(line).collect()
}

/// One GET per URL, in one batch.
pub(crate) fn ask_each(urls: impl IntoIterator<Item = String>) -> Answer {
    ask(urls.into_iter().map(|url| get(&url)).collect::<Vec<_>>())
}

fn ask(requests: impl AsRef<[Request]>) -> Answer {
    answers(http::send(requests.as_ref()))
}

/// One GET of the parameter `url` per header.
fn ask_with_headers(request: &types::Request, headers: &[(&str, &str)]) -> Answer {
    let with = |(name, value): &(&str, &str)| Request {
        headers: vec![((*name).to_owned(), (*value).to_owned())],
        ..get(base(request))
    };
    ask(headers.iter().map(with).collect::<Vec<_>>())
}

fn get(url: &str) -> Request {
    Request { method: "GET".to_owned(), url: url.to_owned(), headers: Vec::new(), body: Vec::new(), options: None }
}

fn answers(answers: impl IntoIterator<Item = Result<Response, Error>>) -> Answer {
    let lines = answers.into_iter().map(line).collect::<Vec<_>>().join("\n");
    files(vec![file("answers", lines.into_bytes())])
}

fn line(answer: Result<Response, Error>) -> String {
    match answer {
        Ok(Response { status, body, .. }) => format!("{status} {}", String::from_utf8_lossy(&body)),
        Err(Error::Denied(text)) => format!("denied: {text}"),
        Err(Error::Dns(text)) => format!("dns: {text}"),
        Err(Error::Connect(text)) => format!("connect: {text}"),
        Err(Error::Tls(text)) => format!("tls: {text}"),
        Err(Error::Timeout) => "timeout".to_owned(),
        Err(Error::TooLarge(text)) => format!("too large: {text}"),
        Err(Error::Exhausted(text)) => format!("exhausted: {text}"),
        Err(Error::Protocol(text)) => format!("protocol: {text}"),
    }
}

/// Scheme and authority, host, and path of the parameter `url`.
fn parts(request: &types::Request) -> (String, &str, &str) {
    let base = base(request);
    let after = base.strip_prefix("http://").unwrap_or(base);
    let (authority, _) = after.split_once('/').unwrap_or((after, ""));
    let path = after.strip_prefix(authority).unwrap_or_default();
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    (format!("http://{authority}"), host, path)
}
