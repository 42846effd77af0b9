//! `connect` of a rule: where to dial instead of the URL's host.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Host or address, and port. An address is dialled whatever kind of address it is, because the administrator named it;
/// a name is resolved, and what it resolves to is checked like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub(crate) host: ConnectHost,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectHost {
    Name(String),
    Address(IpAddr),
}

/// The text is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`connect: {text}` is not `host:port`, `1.2.3.4:port` or `[address]:port`: {what}")]
pub struct ConnectError {
    text: String,
    what: &'static str,
}

impl FromStr for Connect {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let wrong = |what| ConnectError { text: text.chars().take(256).collect(), what };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port =
            port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(|| wrong("the port is not 1 to 65535"))?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']').unwrap_or_default()) {
            Some(address) => ConnectHost::Address(IpAddr::V6(
                address.parse::<Ipv6Addr>().map_err(|_| wrong("the address in brackets is not IPv6"))?,
            )),
            None => match host.parse() {
                Ok(v4 @ IpAddr::V4(_)) => ConnectHost::Address(v4),
                Ok(IpAddr::V6(_)) => return Err(wrong("an IPv6 address needs brackets")),
                Err(_) => ConnectHost::Name(parse_name(host).ok_or_else(|| wrong("the host is not a DNS name"))?),
            },
        };
        Ok(Self { host, port })
    }
}

fn parse_name(host: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number =
        |label: &str| label.bytes().all(|b| b.is_ascii_digit()) || label.to_ascii_lowercase().starts_with("0x");
    let valid = host.len() <= 253 && host.split('.').all(label) && !host.rsplit('.').next().is_some_and(number);
    valid.then(|| host.to_ascii_lowercase())
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ConnectHost::Name(name) => write!(f, "{name}:{}", self.port),
            ConnectHost::Address(IpAddr::V4(v4)) => write!(f, "{v4}:{}", self.port),
            ConnectHost::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let cases = [
            ("Token-Proxy.svc:8443", "token-proxy.svc:8443", false),
            ("localhost:1", "localhost:1", false),
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("[::1]:65535", "[::1]:65535", true),
        ];
        for (text, shown, address) in cases {
            let connect: Connect = text.parse().unwrap();
            assert_eq!(connect.to_string(), shown);
            assert_eq!(matches!(connect.host, ConnectHost::Address(_)), address, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let cases = [
            ("", "port is missing"),
            ("host", "port is missing"),
            ("host:", "1 to 65535"),
            ("host:0", "1 to 65535"),
            ("host:65536", "1 to 65535"),
            ("host:+1", "1 to 65535"),
            (":80", "not a DNS name"),
            ("a..b:80", "not a DNS name"),
            ("a b:80", "not a DNS name"),
            ("https://a:80", "not a DNS name"),
            ("127.1:80", "not a DNS name"),
            ("0x7f000001:80", "not a DNS name"),
            ("::1:80", "needs brackets"),
            ("[::1:80", "not IPv6"),
            ("[127.0.0.1]:80", "not IPv6"),
        ];
        for (text, part) in cases {
            let error = text.parse::<Connect>().expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
