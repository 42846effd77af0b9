//! `/metrics`, `/healthz` and `/readyz`, for Prometheus and kubelet.
//!
//! They listen on all addresses unless told otherwise and ask nobody who they are, so they must show no name of a
//! secret. `commands::node` is the caller; whoever knows a condition has a clone of [`Readiness`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

use super::http;
use super::metrics::Metrics;
use crate::failure::printable;
use crate::tasks::Tasks;

/// What has to be true before the node is ready. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Conditions>>,
}

/// By name; none while nobody has said anything.
type Conditions = BTreeMap<Cow<'static, str>, Option<Result<(), String>>>;

/// Nothing listens at an address.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be served at {address}; choose another address with {flag}, or turn it off with {flag}=0")]
pub struct ListenError {
    what: &'static str,
    flag: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl Readiness {
    /// Names conditions that must be met: as long as nobody has set one, the node is not ready.
    pub fn expect<N: Into<Cow<'static, str>>>(&self, conditions: impl IntoIterator<Item = N>) {
        let mut known = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        for condition in conditions {
            known.entry(condition.into()).or_insert(None);
        }
    }

    /// Sets one condition: `Ok`, or what is wrong and what to do.
    pub fn set(&self, condition: impl Into<Cow<'static, str>>, state: Result<(), String>) {
        let mut known = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(condition.into(), Some(state));
    }

    /// Whether all are met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let known = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().all(|state| matches!(state, Some(Ok(()))))
    }

    /// Whether all are met, and one line for each that is not; for each that is, too, where `all` are asked for.
    fn describe(&self, all: bool) -> (bool, String) {
        let (mut ready, mut text) = (true, String::new());
        for (condition, state) in self.conditions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let problem = match state {
                Some(Ok(())) => None,
                Some(Err(problem)) => Some(problem.as_str()),
                None => Some("nothing is known yet; normal just after the start, else see the log"),
            };
            ready &= problem.is_none();
            if all || problem.is_some() {
                // Writing to a `String` cannot fail.
                let _ = writeln!(text, "{}: {}", printable(condition), printable(problem.unwrap_or("ok")));
            }
        }
        (ready, if text.is_empty() { "ok\n".to_owned() } else { text })
    }
}

/// Serves `/metrics` until `tasks` stops. Returns the address that it listens at.
///
/// # Errors
///
/// When nothing can listen there.
pub fn serve_metrics(address: SocketAddr, metrics: Metrics, tasks: &Tasks) -> Result<SocketAddr, ListenError> {
    let router = Router::new().route("/metrics", get(show_metrics)).with_state(metrics);
    serve(address, router, tasks).map_err(|source| ListenError {
        what: "/metrics",
        flag: "--metrics-addr",
        address,
        source,
    })
}

/// Serves `/healthz` and `/readyz` until `tasks` stops. Returns the address that it listens at.
///
/// # Errors
///
/// When nothing can listen there.
pub fn serve_health(address: SocketAddr, readiness: Readiness, tasks: &Tasks) -> Result<SocketAddr, ListenError> {
    // Who gets this answer knows that the runtime turns; whether it can mount is what /readyz says.
    let router =
        Router::new().route("/healthz", get("ok\n")).route("/readyz", get(show_readiness)).with_state(readiness);
    serve(address, router, tasks).map_err(|source| ListenError {
        what: "/healthz",
        flag: "--health-addr",
        address,
        source,
    })
}

fn serve(address: SocketAddr, router: Router, tasks: &Tasks) -> io::Result<SocketAddr> {
    let listener = listen_at_any(address, listen)?;
    let address = listener.local_addr()?;
    http::serve(listener, router, tasks);
    Ok(address)
}

/// Who asks for all addresses gets those of IPv4 where the machine has no IPv6.
fn listen_at_any<T>(address: SocketAddr, listen: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let failed = match listen(address) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => error,
        listening_or_in_use => return listening_or_in_use,
    };
    if address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        return Err(failed);
    }
    listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // Both families, whatever net.ipv6.bindv6only says.
        set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    socket.listen(128)
}

/// OpenMetrics for those who ask for it, as Prometheus does, else the older text format.
async fn show_metrics(State(metrics): State<Metrics>, headers: HeaderMap) -> impl IntoResponse {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (kind, text) = if accepted.any(|value| value.contains("application/openmetrics-text")) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.encode())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", metrics.encode_plain())
    };
    ([(header::CONTENT_TYPE, kind)], text)
}

async fn show_readiness(State(readiness): State<Readiness>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let all = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let (ready, text) = readiness.describe(all);
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::super::http::tests::ask;
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    async fn get(address: SocketAddr, request: &str) -> (String, String) {
        ask(TcpStream::connect(address).await.unwrap(), request).await
    }

    fn health(readiness: &Readiness) -> (Tasks, SocketAddr) {
        let tasks = Tasks::default();
        let address = serve_health(ANY.parse().unwrap(), readiness.clone(), &tasks).unwrap();
        (tasks, address)
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_that_is_accepted() {
        let tasks = Tasks::default();
        let address = serve_metrics(ANY.parse().unwrap(), Metrics::new([]), &tasks).unwrap();
        let (head, body) = get(address, "GET /metrics HTTP/1.1").await;
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        assert!(!body.contains("# EOF"));
        let accept =
            "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let (head, body) = get(address, &format!("GET /metrics HTTP/1.1\r\n{accept}")).await;
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        let (head, _) = get(address, "GET /healthz HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    }

    #[tokio::test]
    async fn a_condition_that_is_waited_for_and_not_met_is_told() {
        let readiness = Readiness::default();
        readiness.expect(["registered", "crds"]);
        readiness.expect(["azure"].map(|provider| format!("plugin {provider}")));
        let (_tasks, address) = health(&readiness);
        readiness.set("crds", Ok(()));
        readiness.set("registered", Err("kubelet says no\nask it".into()));
        let (head, body) = get(address, "GET /readyz HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        let lines: Vec<_> = body.lines().collect();
        assert!(lines[0].starts_with("plugin azure: nothing is known yet"), "{body}");
        assert_eq!(lines[1..], ["registered: kubelet says no\u{fffd}ask it"]);
        assert!(!readiness.is_ready());

        readiness.set("plugin azure".to_owned(), Ok(()));
        readiness.set("registered", Ok(()));
        let (head, body) = get(address, "GET /readyz HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && body == "ok\n", "{head}\n{body}");
        assert!(readiness.is_ready());
        let (_, body) = get(address, "GET /readyz?verbose HTTP/1.1").await;
        assert_eq!(body, "crds: ok\nplugin azure: ok\nregistered: ok\n");

        // What is already known is not forgotten by being expected.
        readiness.expect(["crds"]);
        assert!(readiness.is_ready());
        readiness.set("crds", Err("gone".into()));
        assert!(get(address, "GET /readyz HTTP/1.1").await.0.starts_with("HTTP/1.1 503 "));
    }

    #[tokio::test]
    async fn the_process_is_alive_whether_it_is_ready_or_not() {
        let readiness = Readiness::default();
        readiness.expect(["registered"]);
        let (_tasks, address) = health(&readiness);
        assert_eq!(get(address, "GET /healthz HTTP/1.1").await.1, "ok\n");
        let (head, body) = get(address, "HEAD /healthz HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}");
        for (request, status) in
            [("POST /healthz HTTP/1.1", 405), ("PUT /readyz HTTP/1.1", 405), ("GET / HTTP/1.1", 404)]
        {
            let (head, _) = get(address, request).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_told_with_the_flag_that_changes_it() {
        let (_tasks, address) = health(&Readiness::default());
        let error = serve_health(address, Readiness::default(), &Tasks::default()).unwrap_err();
        let expected = format!(
            "/healthz cannot be served at {address}; choose another address with --health-addr, or turn it off with \
             --health-addr=0"
        );
        assert_eq!(error.to_string(), expected);
        assert!(std::error::Error::source(&error).is_some());
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_ipv4_too() {
        let tasks = Tasks::default();
        let address = serve_health("[::]:0".parse().unwrap(), Readiness::default(), &tasks).unwrap();
        let (_, body) = get((Ipv4Addr::LOCALHOST, address.port()).into(), "GET /healthz HTTP/1.1").await;
        assert_eq!(body, "ok\n");
        if address.is_ipv6() {
            let (_, body) = get((Ipv6Addr::LOCALHOST, address.port()).into(), "GET /healthz HTTP/1.1").await;
            assert_eq!(body, "ok\n");
        } else {
            println!("not run: this machine has no IPv6");
        }
    }

    #[test]
    fn only_who_asks_for_all_addresses_gets_those_of_ipv4_instead() {
        let no_ipv6 = |address: SocketAddr| match address {
            SocketAddr::V4(_) => Ok(address.to_string()),
            SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        assert_eq!(listen_at_any("[::]:80".parse().unwrap(), no_ipv6).unwrap(), "0.0.0.0:80");
        assert_eq!(listen_at_any("127.0.0.1:80".parse().unwrap(), no_ipv6).unwrap(), "127.0.0.1:80");
        assert!(listen_at_any("[::1]:80".parse().unwrap(), no_ipv6).is_err());
        let in_use = |address: SocketAddr| match address {
            SocketAddr::V4(_) => Ok(()),
            SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        };
        assert!(listen_at_any("[::]:80".parse().unwrap(), in_use).is_err());
    }
}
