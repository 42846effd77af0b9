//! Names to addresses, once per connection.
//!
//! A seam: `connector` resolves through the [`Resolver`] of the settings, checks what comes back and dials that. Tests
//! give the answers of a hostile DNS server. It must never cache: the system's resolver does, with the right lifetimes.

use std::net::IpAddr;
use std::pin::Pin;

/// The answer of a [`Resolver`], later.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'a>>;

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(String);

impl ResolveError {
    /// An error with a cause for people, without the name.
    pub fn new(cause: impl Into<String>) -> Self {
        Self(cause.into())
    }
}

/// Finds the addresses of a host.
pub trait Resolver: Send + Sync {
    /// All addresses of `host`, best first.
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// The resolver of the operating system: `/etc/hosts`, `/etc/resolv.conf` and what else it is configured for.
///
/// A lookup runs on a thread of the runtime's blocking pool. A caller that stops waiting does not stop the lookup, which
/// ends with the system's own time limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            // The port is not part of the question, but of the function.
            let found =
                tokio::net::lookup_host((host, 0)).await.map_err(|error| ResolveError::new(error.to_string()))?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|socket| socket.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        })
    }
}
