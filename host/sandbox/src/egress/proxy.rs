//! Which requests go through an HTTP proxy, and which one.
//!
//! [`ProxySettings`] is what an administrator says, [`Proxies`] what is made of it. The rules of `NO_PROXY` are
//! hyper-util's, which are curl's. `connector` asks [`Proxies`] before it resolves anything.
//!
//! It must never show a proxy's credentials: not in `Debug`, not in an error, not in a log.

use std::fmt;

/// Where proxies come from.
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
