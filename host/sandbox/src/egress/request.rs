//! A provider's method, headers and body, turned into what HTTP can carry.
//!
//! `gate` calls it after `target` and before `rules`. Headers that decide how a message is framed or where it goes are
//! Coffer's: whoever could set them could send a second request inside the first one.
//!
//! It must never quote a header's value or the body in an error.

use std::str::FromStr;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use super::Request;
use crate::redact::Redactor;

/// Headers of one request.
const MOST_HEADERS: usize = 100;

/// Bytes of one request's headers.
const MOST_HEADER_BYTES: usize = 64 << 10;

/// Bytes of a method; the longest registered one has seventeen.
const LONGEST_METHOD: usize = 32;

/// Set by Coffer alone: framing, connection and negotiation. `Proxy-…` is refused by its prefix.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Some servers take the method from these instead: a rule that allows `POST` would allow them everything.
const METHOD_OVERRIDES: &[&str] = &["x-http-method", "x-http-method-override", "x-method-override"];

/// Bytes of what an administrator appends to `User-Agent`.
const LONGEST_SUFFIX: usize = 128;

/// What an administrator appends to the `User-Agent` of a provider's requests, to find them in a store's logs. Part of
/// the grant, so no class and no pod has a say in it: 1 to 128 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAgentSuffix(String);

/// The text cannot stand at the end of a `User-Agent`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {LONGEST_SUFFIX} printable ASCII characters without spaces around them")]
pub struct UserAgentError;

impl FromStr for UserAgentSuffix {
    type Err = UserAgentError;

    fn from_str(text: &str) -> Result<Self, UserAgentError> {
        let fits = (1..=LONGEST_SUFFIX).contains(&text.len()) && check_value(text).is_some();
        fits.then(|| Self(text.to_owned())).ok_or(UserAgentError)
    }
}

impl UserAgentSuffix {
    /// Appends it to what the provider calls itself, which is nothing if it does not say.
    fn append_to(&self, headers: &mut HeaderMap) {
        let own = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).filter(|own| !own.is_empty());
        let whole = own.map_or_else(|| self.0.clone(), |own| format!("{own} {}", self.0));
        // Both parts were checked, so it is always a value.
        if let Ok(whole) = HeaderValue::from_str(&whole) {
            headers.insert(USER_AGENT, whole);
        }
    }
}

/// Everything of a request but its URL.
pub(crate) struct Content {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// Wiped when the last attempt is over.
    pub(crate) body: Bytes,
    /// Method, URL, headers and body in bytes.
    pub(crate) size: u64,
}

impl Content {
    /// Checks and takes method, headers and body of `request`, and adds what Coffer adds; the error says what is wrong
    /// with them.
    pub(crate) fn take(request: &mut Request, suffix: Option<&UserAgentSuffix>) -> Result<Self, String> {
        let method = check_method(&request.method)?;
        let mut headers = check_headers(&request.headers)?;
        if !request.body.is_empty() && (method == Method::GET || method == Method::HEAD) {
            return Err(format!("{method} has a body, which proxies and servers read differently"));
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(suffix) = suffix {
            suffix.append_to(&mut headers);
        }
        let size = size_of_request(request);
        let body = match std::mem::take(&mut request.body) {
            body if body.is_empty() => Bytes::new(),
            body => Bytes::from_owner(Zeroizing::new(body)),
        };
        Ok(Self { method, headers, body, size })
    }
}

/// Teaches `redactor` the credentials in `headers`, valid or not.
pub(crate) fn learn_credentials(headers: &[(String, String)], redactor: &Redactor) {
    for (_, value) in headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str())) {
        let value = value.trim();
        let credentials = value.split_once(' ').map_or(value, |(_, credentials)| credentials);
        redactor.learn(credentials.as_bytes());
    }
}

/// Method, URL, headers and body in bytes.
pub(crate) fn size_of_request(request: &Request) -> u64 {
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    (request.method.len() + request.url.len() + headers + request.body.len()) as u64
}

fn check_method(method: &str) -> Result<Method, String> {
    let valid = method.len() <= LONGEST_METHOD && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    match Method::from_bytes(method.as_bytes()) {
        Ok(method) if valid => Ok(method),
        _ => Err("the method is not a name in upper case".to_owned()),
    }
}

fn check_headers(given: &[(String, String)]) -> Result<HeaderMap, String> {
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > MOST_HEADERS || size > MOST_HEADER_BYTES {
        return Err(format!(
            "there are more than {MOST_HEADERS} headers, or more than {MOST_HEADER_BYTES} bytes of them"
        ));
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 1);
    for (position, (name, value)) in given.iter().enumerate() {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("header {} has a name that HTTP does not allow", position + 1))?;
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            return Err(format!("header `{name}` is set by Coffer alone"));
        }
        if METHOD_OVERRIDES.contains(&name.as_str()) {
            return Err(format!("header `{name}` asks for another method than the one that rules are checked with"));
        }
        let mut value = check_value(value).ok_or_else(|| {
            format!("header `{name}` has a value with control characters, characters outside ASCII or spaces around it")
        })?;
        value.set_sensitive(name == AUTHORIZATION);
        headers.append(name, value);
    }
    Ok(headers)
}

fn check_value(value: &str) -> Option<HeaderValue> {
    let printable = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if !printable || value.starts_with(' ') || value.ends_with(' ') {
        return None;
    }
    HeaderValue::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Options;

    fn request(method: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
        Request {
            method: method.to_owned(),
            url: "https://a.example/".to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_vec(),
            options: Options::default(),
        }
    }

    fn refusal(mut request: Request) -> String {
        Content::take(&mut request, None).err().expect("the request is refused")
    }

    #[test]
    fn a_plain_request_is_taken_as_it_is() {
        let mut request = request("POST", &[("Accept", "application/json"), ("X-A", "1"), ("x-a", "")], b"abc");
        let content = Content::take(&mut request, None).unwrap();
        assert_eq!(content.method, Method::POST);
        assert_eq!(content.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", ""]);
        assert_eq!(content.headers.get("accept").unwrap(), "application/json");
        assert_eq!(content.headers.get("accept-encoding").unwrap(), "identity");
        assert_eq!(content.body, "abc");
        assert_eq!(content.size, (4 + 18 + 6 + 16 + 3 + 1 + 3 + 3) as u64);
    }

    #[test]
    fn headers_that_frame_or_route_a_message_are_refused_in_any_spelling() {
        for name in [
            "Host",
            "host",
            "HOST",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "HTTP2-Settings",
            "Proxy-Authorization",
            "Proxy-Connection",
            "proxy-anything",
            "Content-Length",
            "Expect",
            "Accept-Encoding",
        ] {
            let reason = refusal(request("GET", &[(name, "x")], b""));
            assert_eq!(reason, format!("header `{}` is set by Coffer alone", name.to_ascii_lowercase()));
        }
    }

    #[test]
    fn a_header_cannot_change_the_method_that_was_checked() {
        for name in ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"] {
            let reason = refusal(request("GET", &[(name, "DELETE")], b""));
            assert!(reason.contains("asks for another method"), "{reason}");
        }
    }

    #[test]
    fn a_header_cannot_smuggle_another_one_in() {
        let values =
            ["zz\r\nHost: b", "zz\nb", "zz\rb", "zz\0b", "zz\tb", "zz\u{7f}b", " zz", "zz ", "zzä", "zz\u{85}b"];
        for value in values {
            let reason = refusal(request("GET", &[("X-Token", value)], b""));
            assert!(reason.contains("`x-token` has a value"), "{value:?}: {reason}");
            assert!(!reason.contains("zz"), "{reason}");
        }
        for name in ["", "a b", "a:b", "a\r\nb", "ä", ":authority", "a\0"] {
            let reason = refusal(request("GET", &[("ok", "1"), (name, "x")], b""));
            assert_eq!(reason, "header 2 has a name that HTTP does not allow", "{name:?}");
        }
    }

    #[test]
    fn a_method_is_a_name_in_upper_case() {
        for method in ["", "get", "GET ", "G ET", "GET\r\n", "GÉT", "GET/1", &"A".repeat(33)] {
            assert_eq!(refusal(request(method, &[], b"")), "the method is not a name in upper case", "{method:?}");
        }
    }

    #[test]
    fn get_and_head_have_no_body() {
        for method in ["GET", "HEAD"] {
            assert!(refusal(request(method, &[], b"x")).starts_with(&format!("{method} has a body")));
        }
        assert!(Content::take(&mut request("DELETE", &[], b"x"), None).is_ok());
    }

    #[test]
    fn what_an_administrator_appends_to_the_user_agent_stands_behind_what_is_there() {
        let suffix: UserAgentSuffix = "contoso/1 (east)".parse().unwrap();
        for (given, whole) in [
            (&[("User-Agent", "provider/2")][..], "provider/2 contoso/1 (east)"),
            (&[("user-agent", "")], "contoso/1 (east)"),
            (&[], "contoso/1 (east)"),
        ] {
            let content = Content::take(&mut request("GET", given, b""), Some(&suffix)).unwrap();
            assert_eq!(content.headers.get_all(USER_AGENT).iter().collect::<Vec<_>>(), [whole]);
        }
    }

    #[test]
    fn what_is_appended_to_the_user_agent_is_short_and_printable() {
        for text in ["", " a", "a ", "a\nb", "ä", "a\r\nHost: b", &"x".repeat(129)] {
            assert_eq!(text.parse::<UserAgentSuffix>(), Err(UserAgentError), "{text:?}");
        }
        assert!("x".repeat(128).parse::<UserAgentSuffix>().is_ok());
    }

    #[test]
    fn too_many_headers_are_refused_before_they_are_copied() {
        assert!(refusal(request("GET", &[("a", "b"); 101], b"")).starts_with("there are more than 100"));
        let long = "x".repeat(64 << 10);
        assert!(refusal(request("GET", &[("a", &long)], b"")).starts_with("there are more than 100"));
    }

    #[test]
    fn credentials_are_learned_without_their_scheme() {
        let redactor = Redactor::default();
        let headers =
            request("GET", &[("AUTHORIZATION", "Bearer abcdef.123"), ("authorization", "rawtoken")], b"").headers;
        learn_credentials(&headers, &redactor);
        assert!(redactor.finds("abcdef.123") && redactor.finds("rawtoken"));
        assert!(!redactor.finds("Bearer"));
    }
}
