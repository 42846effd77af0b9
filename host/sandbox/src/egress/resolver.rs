//! Names to addresses, once per connection.
//!
//! A seam: `connector` resolves through the [`Resolver`] of the settings, checks what comes back and dials that. Tests
//! give the answers of a hostile DNS server. It must never cache: the system's resolver does, with the right lifetimes.

use std::net::{IpAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;

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
/// ends with the system's own time limit; so only a few run at a time, and the pool is left to others.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

/// Lookups at the same time, over all plugins.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(8)));

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let failed = |cause: &dyn std::fmt::Display| ResolveError::new(cause.to_string());
            let place = PLACES.clone().acquire_owned().await.map_err(|error| failed(&error))?;
            let host = host.to_owned();
            let lookup = tokio::task::spawn_blocking(move || {
                // The port is not part of the question, but of the function.
                let found = (host.as_str(), 0).to_socket_addrs();
                drop(place);
                found
            });
            let found = lookup.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
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
