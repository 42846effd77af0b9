//! Which requests go through an HTTP proxy, and how a tunnel through one is opened.
//!
//! [`ProxySettings`] is what an administrator says, [`Proxies`] what is made of it. What `NO_PROXY` means is decided by
//! hyper-util's matcher, which follows curl. `connector` asks before it resolves anything: behind a proxy the name was
//! checked by the rules, and the proxy resolves and dials.
//!
//! It must never show a proxy's credentials: not in `Debug`, not in an error, not in a log.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::retry::Failure;
use super::{Error, Scheme, SetupError};

/// Where proxies come from.
///
/// Loopback and link-local addresses, and `localhost`, are never asked for through a proxy of the settings: a metadata
/// service on the other side would answer for the proxy's machine. A proxy that a rule names itself is used for all of
/// the rule's requests.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ProxySettings {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the process, in upper or lower case, read once. All of
    /// them are ignored in a CGI process (`REQUEST_METHOD` is set), where a client chooses `HTTP_PROXY`.
    #[default]
    Environment,
    /// None at all.
    None,
    /// These. URLs are `http://` or `https://`, with `user:password@` if the proxy asks for it.
    Explicit {
        /// The proxy for `https` requests, by CONNECT.
        https: Option<String>,
        /// The proxy for `http` requests.
        http: Option<String>,
        /// Hosts, domains, addresses and networks that are dialled directly, separated by commas.
        no_proxy: Option<String>,
    },
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::None => "None",
            Self::Explicit { .. } => "Explicit(hidden)",
        })
    }
}

/// The proxies of one rule.
pub(crate) struct Proxies {
    matcher: Option<Matcher>,
    /// Whether they are for local addresses as well, because the rule itself names them.
    everything: bool,
}

/// One proxy.
pub(crate) struct Proxy {
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the proxy itself is spoken to over TLS.
    pub(crate) tls: bool,
    /// `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxies {
    /// The proxies of the settings, for a rule that names none.
    pub(crate) fn of_settings(settings: &ProxySettings) -> Result<Self, SetupError> {
        Ok(Self { matcher: build(settings, "the egress settings")?, everything: false })
    }

    /// The proxies that a rule names itself.
    pub(crate) fn of_rule(settings: &ProxySettings, rule: &str) -> Result<Self, SetupError> {
        let everything = matches!(settings, ProxySettings::Explicit { .. });
        Ok(Self { matcher: build(settings, &format!("rule `{rule}`"))?, everything })
    }

    /// No proxies.
    pub(crate) fn none() -> Self {
        Self { matcher: None, everything: false }
    }

    /// Whether a request may go through a proxy for `scheme`.
    pub(crate) fn may_intercept(&self, scheme: Scheme) -> bool {
        self.matcher.as_ref().is_some_and(|matcher| matcher.intercept(&probe(scheme)).is_some())
    }

    /// The proxy for a request, if it goes through one.
    ///
    /// # Errors
    ///
    /// When the environment names a kind of proxy that is not spoken here.
    pub(crate) fn find(&self, uri: &Uri) -> Result<Option<Proxy>, Failure> {
        let Some(matcher) = &self.matcher else { return Ok(None) };
        if !self.everything && uri.host().is_some_and(is_local) {
            return Ok(None);
        }
        let Some(found) = matcher.intercept(uri) else { return Ok(None) };
        let host = found.uri().host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let (tls, default_port) = match found.uri().scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            other => {
                let scheme = other.unwrap_or("unknown");
                return Err(failure(
                    format!("proxy {host} is of kind {scheme}; only http and https are supported"),
                    false,
                ));
            }
        };
        let port = found.uri().port_u16().unwrap_or(default_port);
        Ok(Some(Proxy { host, port, tls, authorization: found.basic_auth().cloned() }))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn build(settings: &ProxySettings, place: &str) -> Result<Option<Matcher>, SetupError> {
    let (https, http, no_proxy) = match settings {
        ProxySettings::Environment => return Ok(Some(Matcher::from_env())),
        ProxySettings::None => return Ok(None),
        ProxySettings::Explicit { https, http, no_proxy } => (https, http, no_proxy),
    };
    let mut builder = Matcher::builder();
    for (scheme, url) in [(Scheme::Https, https), (Scheme::Http, http)] {
        let Some(url) = url.as_deref().map(str::trim).filter(|url| !url.is_empty()) else { continue };
        check_url(scheme, url, place)?;
        builder = match scheme {
            Scheme::Https => builder.https(url),
            Scheme::Http => builder.http(url),
        };
    }
    Ok(Some(builder.no(no_proxy.as_deref().unwrap_or_default()).build()))
}

/// The matcher leaves out what it does not understand; an administrator should hear of it instead.
fn check_url(scheme: Scheme, url: &str, place: &str) -> Result<(), SetupError> {
    let alone = Matcher::builder().all(url).build();
    let found = alone.intercept(&probe(scheme));
    match found.as_ref().and_then(|found| found.uri().scheme_str()) {
        Some("http" | "https") => Ok(()),
        _ => Err(SetupError::Proxy { place: place.to_owned(), scheme }),
    }
}

/// A request that no sensible `NO_PROXY` excludes.
fn probe(scheme: Scheme) -> Uri {
    Uri::from_static(match scheme {
        Scheme::Https => "https://proxy-probe.invalid/",
        Scheme::Http => "http://proxy-probe.invalid/",
    })
}

fn is_local(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unicast_link_local(),
        Err(_) => host == "localhost",
    }
}

/// The head of a proxy's answer to CONNECT.
const LONGEST_HEAD: usize = 8 << 10;

/// Asks `proxy`, at the other end of `stream`, to connect to `authority` (RFC 9110 section 9.3.6).
pub(crate) async fn open_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    authority: &str,
) -> Result<(), Failure> {
    let broken = |error: std::io::Error| failure(format!("proxy {proxy} broke the connection off: {error}"), true);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&zeroize::Zeroizing::new(request)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    match read_status(stream).await.map_err(broken)? {
        Some(200..=299) => Ok(()),
        Some(407) if proxy.authorization.is_some() => {
            Err(failure(format!("proxy {proxy} does not accept the user and password of its URL (407)"), false))
        }
        Some(407) => {
            Err(failure(format!("proxy {proxy} asks for a user and password (407); put them into its URL"), false))
        }
        Some(status) => {
            let transient = matches!(status, 429 | 500 | 502 | 503 | 504);
            Err(failure(format!("proxy {proxy} refuses to connect to {authority} (status {status})"), transient))
        }
        None => Err(failure(format!("proxy {proxy} did not answer CONNECT with HTTP"), false)),
    }
}

/// The status of the answer; none if it is not HTTP. Nothing but the head may come: TLS begins with the client.
async fn read_status<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<u16>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_HEAD || head.windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(None);
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let Ok(head) = std::str::from_utf8(&head) else { return Ok(None) };
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "));
    Ok(status.and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok()))
}

fn failure(text: String, transient: bool) -> Failure {
    Failure { error: Error::Connect(text), sent: false, transient }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(https: &str, http: &str, no_proxy: &str) -> ProxySettings {
        let some = |text: &str| Some(text.to_owned());
        ProxySettings::Explicit { https: some(https), http: some(http), no_proxy: some(no_proxy) }
    }

    fn found(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.find(&url.parse().unwrap()).unwrap().map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_scheme_of_the_request_chooses_the_proxy() {
        let proxies = Proxies::of_settings(&explicit("http://s:1", "http://p", "")).unwrap();
        assert_eq!(found(&proxies, "https://a.example/").as_deref(), Some("s:1"));
        assert_eq!(found(&proxies, "http://a.example/").as_deref(), Some("p:80"));
        let none = Proxies::of_settings(&ProxySettings::None).unwrap();
        assert_eq!(found(&none, "https://a.example/"), None);
    }

    #[test]
    fn no_proxy_takes_hosts_domains_addresses_and_networks() {
        let proxies =
            Proxies::of_settings(&explicit("http://s:1", "", "a.example, .b.example,10.0.0.0/8,fd00::1")).unwrap();
        for (url, direct) in [
            ("https://a.example/", true),
            ("https://x.a.example/", true),
            ("https://b.example/", true),
            ("https://x.b.example/", true),
            ("https://xa.example/", false),
            ("https://10.1.2.3/", true),
            ("https://11.1.2.3/", false),
            ("https://[fd00::1]/", true),
            ("https://c.example/", false),
        ] {
            assert_eq!(found(&proxies, url).is_none(), direct, "{url}");
        }
    }

    #[test]
    fn local_addresses_go_through_a_proxy_only_if_the_rule_says_so() {
        let settings = explicit("http://s:1", "http://p:2", "");
        let general = Proxies::of_settings(&settings).unwrap();
        let own = Proxies::of_rule(&settings, "r").unwrap();
        for url in [
            "http://169.254.169.254/metadata",
            "http://127.0.0.1/",
            "http://localhost/",
            "http://[::1]/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
        ] {
            assert_eq!(found(&general, url), None, "{url}");
            assert_eq!(found(&own, url).as_deref(), Some("p:2"), "{url}");
        }
    }

    #[test]
    fn a_url_that_is_not_a_proxy_is_refused_without_being_shown() {
        for url in ["socks5://u:hunter2@p:1", "ftp://u:hunter2@p", "http://", "http://u:hunter2@", "a b"] {
            let error = Proxies::of_settings(&explicit(url, "", "")).err().expect(url).to_string();
            assert!(error.starts_with("the https proxy of the egress settings is not usable"), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?}", explicit("http://u:hunter2@p", "", "")).contains("hunter2"));
    }

    async fn tunnel(answer: &'static [u8], authorization: Option<&'static str>) -> (Result<(), Failure>, String) {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let proxy = Proxy {
            host: "p".to_owned(),
            port: 3128,
            tls: false,
            authorization: authorization.map(HeaderValue::from_static),
        };
        far.write_all(answer).await.unwrap();
        let mut asked = vec![0; 1024];
        let result = match answer.is_empty() {
            true => {
                far.shutdown().await.unwrap();
                open_tunnel(&mut near, &proxy, "a.example:443").await
            }
            false => open_tunnel(&mut near, &proxy, "a.example:443").await,
        };
        let length = far.read(&mut asked).await.unwrap();
        (result, String::from_utf8(asked[..length].to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_by_name_and_with_credentials() {
        let (result, asked) = tunnel(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n", Some("Basic abc")).await;
        assert_eq!(result, Ok(()));
        assert_eq!(
            asked,
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic abc\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_refusal_names_proxy_and_reason_but_no_credentials() {
        let cases: [(&[u8], Option<&'static str>, &str, bool); 7] = [
            (b"HTTP/1.1 407 X\r\n\r\n", None, "proxy p:3128 asks for a user and password (407)", false),
            (b"HTTP/1.1 407 X\r\n\r\n", Some("Basic hunter2"), "proxy p:3128 does not accept the user", false),
            (b"HTTP/1.0 403 X\r\n\r\n", None, "proxy p:3128 refuses to connect to a.example:443 (status 403)", false),
            (b"HTTP/1.1 502 X\r\n\r\n", None, "proxy p:3128 refuses to connect to a.example:443 (status 502)", true),
            (b"SSH-2.0-x\r\n\r\n", None, "proxy p:3128 did not answer CONNECT with HTTP", false),
            (b"HTTP/1.1 200 OK\r\n\r\nearly", None, "proxy p:3128 did not answer CONNECT with HTTP", false),
            (b"", None, "proxy p:3128 broke the connection off", true),
        ];
        for (answer, authorization, text, transient) in cases {
            let failure = tunnel(answer, authorization).await.0.unwrap_err();
            let message = failure.error.to_string();
            assert!(message.contains(text) && !message.contains("hunter2"), "{message}");
            assert_eq!((failure.transient, failure.sent), (transient, false), "{message}");
        }
    }
}
