//! The URL of a request, taken apart once and for good.
//!
//! `request` makes a [`Target`] of the text that a provider sent; `rules` compares it and `client` sends it. There is no
//! second reading: what was compared is what is sent.
//!
//! It must never repair anything. A text that two parsers could read differently (a backslash, an encoded slash, a dot
//! segment, userinfo, a fragment, a trailing dot) is refused, with the reason.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The longest URL; the longest one that real stores ask for has a few hundred bytes.
const LONGEST_URL: usize = 8 << 10;

/// The scheme of a request or rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// Plain HTTP.
    Http,
}

impl Scheme {
    /// The port that a URL without one means.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }

    /// As in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The host of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetHost {
    /// A DNS name in lower case.
    Name(String),
    /// An address literal, whatever form it had in the URL.
    Address(IpAddr),
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(v4)) => write!(f, "{v4}"),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

/// A URL that means one thing only.
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) host: TargetHost,
    pub(crate) port: u16,
    /// Percent-decoded; the last one is empty when the path ends with a slash.
    pub(crate) segments: Vec<String>,
    /// Form-decoded names and values, in order.
    pub(crate) query: Vec<(String, String)>,
    /// Some servers end a query parameter at `;`, the rules do not: then they do not match on the query.
    pub(crate) has_semicolon_in_query: bool,
    /// As sent.
    pub(crate) path: String,
    /// As sent, absolute.
    pub(crate) uri: http::Uri,
}

impl Target {
    /// Takes `text` apart; the error says what is wrong with it, without quoting it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        check_characters(text)?;
        let (scheme, rest) = split_scheme(text)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
        check_authority(authority)?;
        if rest.contains('#') {
            return Err("the URL has a fragment, which never reaches a server".to_owned());
        }
        let raw_path = rest.split_once('?').map_or(rest, |(path, _)| path);
        let segments = split_path(raw_path)?;
        let url = Url::parse(text).map_err(|error| format!("the URL is not valid: {error}"))?;
        let host = match url.host() {
            Some(Host::Domain(name)) => TargetHost::Name(name.to_owned()),
            Some(Host::Ipv4(v4)) => TargetHost::Address(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => TargetHost::Address(IpAddr::V6(v6)),
            None => return Err("the URL has no host".to_owned()),
        };
        let port = url.port().unwrap_or(scheme.default_port());
        if port == 0 {
            return Err("the URL's port is 0".to_owned());
        }
        Ok(Self {
            scheme,
            host,
            port,
            segments,
            query: url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            has_semicolon_in_query: url.query().is_some_and(|query| query.contains(';')),
            path: url.path().to_owned(),
            uri: url.as_str().parse().map_err(|_| "the URL has characters that HTTP cannot carry".to_owned())?,
        })
    }

    /// Host and, if it is not the scheme's own, port.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// URL parsers drop tabs and line ends, trim spaces and turn `\` into `/`: none of them is allowed to begin with.
fn check_characters(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_URL {
        return Err(format!("the URL has {} bytes; {LONGEST_URL} are allowed", text.len()));
    }
    match text.char_indices().find(|(_, c)| !c.is_ascii_graphic() || *c == '\\') {
        None => Ok(()),
        Some((at, '\\')) => Err(format!("the URL has a backslash at byte {at}")),
        Some((at, c)) if c.is_ascii() => Err(format!("the URL has a space or control character at byte {at}")),
        Some((at, _)) => Err(format!("the URL has a character outside ASCII at byte {at}; percent-encode it")),
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), String> {
    let (scheme, rest) = text.split_once("://").ok_or("the URL is not absolute: `https://host/path` is expected")?;
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok((Scheme::Https, rest)),
        "http" => Ok((Scheme::Http, rest)),
        _ => Err("the URL's scheme is neither https nor http".to_owned()),
    }
}

fn check_authority(authority: &str) -> Result<(), String> {
    if authority.contains('@') {
        return Err("the URL has userinfo before its host".to_owned());
    }
    if authority.contains('%') {
        return Err("the URL's host is percent-encoded".to_owned());
    }
    if authority.starts_with('[') {
        return Ok(());
    }
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    if host.is_empty() {
        return Err("the URL has no host".to_owned());
    }
    if host.ends_with('.') {
        return Err("the URL's host ends with a dot".to_owned());
    }
    if host.split('.').any(str::is_empty) {
        return Err("the URL's host has an empty label".to_owned());
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("the URL's host is neither a DNS name nor an address".to_owned());
    }
    Ok(())
}

fn split_path(raw: &str) -> Result<Vec<String>, String> {
    let Some(raw) = raw.strip_prefix('/') else { return Ok(vec![String::new()]) };
    let mut segments = Vec::new();
    let mut parts = raw.split('/').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() && parts.peek().is_some() {
            return Err("the URL's path has an empty segment (`//`)".to_owned());
        }
        segments.push(decode_segment(part).map_err(|what| format!("the URL's path has a segment that {what}"))?);
    }
    Ok(segments)
}

/// One path segment, percent-decoded. The error is what comes after "a segment that".
pub(crate) fn decode_segment(raw: &str) -> Result<String, &'static str> {
    if has_broken_escape(raw) {
        return Err("has a `%` without two hexadecimal digits after it");
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| "does not decode to UTF-8")?;
    check_segment(&decoded)?;
    // Behind a gateway a second decoding is common enough to look at its result as well.
    if decoded.contains('%') {
        check_segment(&percent_decode_str(&decoded).decode_utf8_lossy())?;
    }
    Ok(decoded.into_owned())
}

fn check_segment(decoded: &str) -> Result<(), &'static str> {
    if decoded.contains(['/', '\\']) {
        return Err("hides a `/` or `\\`");
    }
    if decoded.chars().any(char::is_control) {
        return Err("hides a control character");
    }
    // Some servers cut a segment at `;` before they resolve dot segments.
    if matches!(decoded.split(';').next(), Some("." | "..")) {
        return Err("is `.` or `..`");
    }
    Ok(())
}

fn has_broken_escape(raw: &str) -> bool {
    raw.split('%').skip(1).any(|rest| {
        let mut digits = rest.bytes().take(2);
        !(digits.next().is_some_and(|b| b.is_ascii_hexdigit()) && digits.next().is_some_and(|b| b.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        match Target::parse(text) {
            Ok(target) => panic!("{text} was read as {}", target.uri),
            Err(reason) => reason,
        }
    }

    #[test]
    fn a_plain_url_is_taken_apart() {
        let target = Target::parse("https://KV.vault.azure.net/secrets/a%20b/?api-version=7.4&x=%26").unwrap();
        assert_eq!(target.scheme, Scheme::Https);
        assert_eq!(target.host, TargetHost::Name("kv.vault.azure.net".to_owned()));
        assert_eq!(target.port, 443);
        assert_eq!(target.segments, ["secrets", "a b", ""]);
        assert_eq!(target.query, [("api-version".into(), "7.4".into()), ("x".into(), "&".into())]);
        assert_eq!(target.path, "/secrets/a%20b/");
        assert_eq!(target.uri, "https://kv.vault.azure.net/secrets/a%20b/?api-version=7.4&x=%26");
        assert_eq!(target.authority(), "kv.vault.azure.net");
    }

    #[test]
    fn a_url_without_a_path_means_the_root() {
        for text in ["https://a.example", "https://a.example?x=1"] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.segments.as_slice(), target.path.as_str()), ([String::new()].as_slice(), "/"), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_becomes_the_address() {
        let cases = [
            ("http://127.0.0.1/", "127.0.0.1"),
            ("http://2130706433/", "127.0.0.1"),
            ("http://0x7f.1/", "127.0.0.1"),
            ("http://0177.0.0.1/", "127.0.0.1"),
            ("http://127.1/", "127.0.0.1"),
            ("http://0xA9FEA9FE/", "169.254.169.254"),
            ("http://[::1]/", "::1"),
            ("http://[::ffff:169.254.169.254]/", "::ffff:a9fe:a9fe"),
            ("http://[0:0:0:0:0:0:0:1]:80/", "::1"),
        ];
        for (text, address) in cases {
            assert_eq!(Target::parse(text).unwrap().host, TargetHost::Address(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_port_is_shown_when_it_is_not_the_schemes_own() {
        assert_eq!(Target::parse("https://a.example:443/").unwrap().authority(), "a.example");
        assert_eq!(Target::parse("https://a.example:80/").unwrap().authority(), "a.example:80");
        assert_eq!(Target::parse("http://[::1]:8080/").unwrap().authority(), "[::1]:8080");
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let cases = [
            ("", "not absolute"),
            ("/secrets", "not absolute"),
            ("//a.example/", "not absolute"),
            ("https:a.example", "not absolute"),
            ("https:/a.example", "not absolute"),
            ("ftp://a.example/", "neither https nor http"),
            ("file:///etc/passwd", "neither https nor http"),
            ("https:///path", "no host"),
            ("https://:443/", "no host"),
            ("https://user@a.example/", "userinfo"),
            ("https://user:pass@a.example/", "userinfo"),
            ("https://a.example@evil.example/", "userinfo"),
            ("https://a.example/#x", "fragment"),
            ("https://a.example#x", "fragment"),
            ("https://a.example./", "ends with a dot"),
            ("https://a.example.:443/", "ends with a dot"),
            ("https://a%2eexample/", "percent-encoded"),
            ("https://a.example\\@evil.example/", "backslash"),
            ("https://a.example/a\\..\\b", "backslash"),
            (" https://a.example/", "space or control"),
            ("https://a.example/ ", "space or control"),
            ("https://a.example/a b", "space or control"),
            ("https://a.exa\tmple/", "space or control"),
            ("https://a.example/\r\nHost: b", "space or control"),
            ("https://a.example/\u{0}", "space or control"),
            ("https://ä.example/", "outside ASCII"),
            ("https://a.example/ä", "outside ASCII"),
            ("https://a.example/a/../b", "is `.` or `..`"),
            ("https://a.example/./b", "is `.` or `..`"),
            ("https://a.example/a/..", "is `.` or `..`"),
            ("https://a.example/%2e%2e/b", "is `.` or `..`"),
            ("https://a.example/.%2E/b", "is `.` or `..`"),
            ("https://a.example/..;/b", "is `.` or `..`"),
            ("https://a.example/..;x=1/b", "is `.` or `..`"),
            ("https://a.example/%252e%252e/b", "is `.` or `..`"),
            ("https://a.example/a%2fb", "hides a `/`"),
            ("https://a.example/a%2Fb", "hides a `/`"),
            ("https://a.example/a%5cb", "hides a `/`"),
            ("https://a.example/a%252fb", "hides a `/`"),
            ("https://a.example/a%00b", "control character"),
            ("https://a.example/a%0d%0ab", "control character"),
            ("https://a.example/a%ffb", "UTF-8"),
            ("https://a.example/a%zzb", "hexadecimal"),
            ("https://a.example/a%2", "hexadecimal"),
            ("https://a.example//b", "empty segment"),
            ("https://a.example/a//b", "empty segment"),
            ("https://a.example/a//", "empty segment"),
            ("https://a.example:0/", "port is 0"),
            ("https://a.example:99999/", "not valid"),
            ("https://a..example/", "empty label"),
            ("https://.a.example/", "empty label"),
            ("https://a!b.example/", "neither a DNS name"),
            ("https://{host}/", "neither a DNS name"),
            ("https://256.256.256.256/", "not valid"),
            ("https://[::1/", "not valid"),
            ("https://[fe80::1%25eth0]/", "percent-encoded"),
        ];
        for (text, part) in cases {
            let reason = refusal(text);
            assert!(reason.contains(part), "{text:?}: {reason}");
        }
        assert!(refusal(&format!("https://a.example/{}", "a".repeat(9000))).contains("8192 are allowed"));
    }
}
