//! Who is trusted, and what a failed handshake means.
//!
//! One [`Trust`] per rule: the system's authorities (loaded once per plugin, when the first connection needs them),
//! those of the settings and those of the rule. `connector` asks it for handshakes.
//!
//! It must never skip a check, use the process's default crypto provider, or share resumption between rules.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connector::Stream;
use super::retry::Failure;
use super::{Error, SetupError};

/// Servers whose session is remembered, per rule.
const REMEMBERED_SESSIONS: usize = 64;

/// How many names of a wrong certificate are shown.
const SHOWN_NAMES: usize = 5;

/// The system's authorities, loaded at most once.
#[derive(Default)]
pub(crate) struct SystemRoots(OnceCell<Arc<RootCertStore>>);

impl SystemRoots {
    async fn load(&self) -> Result<Arc<RootCertStore>, Failure> {
        let load = || async {
            // Reads and parses more than a hundred files or one long one.
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            let found = found.map_err(|_| failure("loading the system's authorities was interrupted", true))?;
            for error in &found.errors {
                tracing::warn!(%error, "part of the system's certificate authorities cannot be loaded");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            Ok(Arc::new(roots))
        };
        self.0.get_or_try_init(load).await.cloned()
    }
}

/// Whom one rule trusts.
pub(crate) struct Trust {
    system: Arc<SystemRoots>,
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    configs: OnceCell<Configs>,
}

/// With and without HTTP/2.
struct Configs {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Trust {
    pub(crate) fn new(system: Arc<SystemRoots>, extra: Vec<CertificateDer<'static>>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { system, extra, provider, configs: OnceCell::new() }
    }

    /// Proves that the peer is `name`. The flag says whether HTTP/2 was agreed on, which `http2` allows.
    pub(crate) async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        name: ServerName<'static>,
        host: &str,
        http2: bool,
    ) -> Result<(TlsStream<Box<dyn Stream>>, bool), Failure> {
        let configs = self.configs.get_or_try_init(|| self.configure()).await?;
        let config = if http2 { &configs.any } else { &configs.http1 };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), stream).await.map_err(|error| explain(&error, &name, host))?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
        Ok((stream, agreed))
    }

    async fn configure(&self) -> Result<Configs, Failure> {
        let mut roots = RootCertStore::clone(&*self.system.load().await?);
        roots.add_parsable_certificates(self.extra.iter().cloned());
        if roots.is_empty() {
            return Err(failure(
                "there are no certificate authorities: install the system's, set SSL_CERT_FILE or SSL_CERT_DIR, or use `ca`",
                false,
            ));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| failure(&format!("the certificate authorities cannot be used: {error}"), false))?;
        let mut config = base_config(&self.provider)
            .map_err(|error| failure(&format!("TLS cannot be set up: {error}"), false))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Configs { any: Arc::new(config), http1 })
    }
}

fn base_config(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()
}

/// Checks that every certificate can be an authority, so that a mistake shows at start and not at the first request.
pub(crate) fn check_authorities(certificates: &[CertificateDer<'static>], place: &str) -> Result<(), SetupError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|source| SetupError::Certificate {
            place: place.to_owned(),
            position: index + 1,
            source,
        })?;
    }
    Ok(())
}

fn failure(text: &str, transient: bool) -> Failure {
    Failure { error: Error::Tls(text.to_owned()), sent: false, transient }
}

/// A failed handshake with `host`, which should have proved to be `name`, in words that say what to do.
fn explain(error: &io::Error, name: &ServerName<'_>, host: &str) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => failure(&explain_tls(error, &name.to_str(), host), false),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            failure(&format!("{host} closed the connection during the handshake"), true)
        }
        None => failure(&format!("the connection to {host} broke during the handshake: {error}"), true),
    }
}

fn explain_tls(error: &rustls::Error, name: &str, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => explain_certificate(error, name, host),
        rustls::Error::AlertReceived(alert) => format!("{host} refused the handshake for `{name}` (alert {alert:?})"),
        rustls::Error::InvalidMessage(_) => format!("{host} does not speak TLS on this port"),
        rustls::Error::PeerIncompatible(_) => {
            format!("{host} and Coffer have no TLS version or cipher suite in common: {error}")
        }
        _ => format!("the handshake with {host} for `{name}` failed: {error}"),
    }
}

fn explain_certificate(error: &CertificateError, name: &str, host: &str) -> String {
    match error {
        CertificateError::NotValidForName => {
            format!("the certificate of {host} is not for `{name}`; set `serverName` if another name is meant")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let mut names: Vec<_> = presented.iter().take(SHOWN_NAMES).map(|name| bare_name(name)).collect();
            if presented.len() > SHOWN_NAMES {
                names.push("…");
            }
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!(
                "the certificate of {host} is for {names}, not for `{name}`; set `serverName` if another name is meant"
            )
        }
        CertificateError::BadSignature => format!(
            "the certificate of {host} is not signed by the trusted authority of that name; add the right one with `ca`"
        ),
        CertificateError::UnknownIssuer => {
            format!(
                "the certificate of {host} comes from an authority that is not trusted; add the authority with `ca`"
            )
        }
        CertificateError::Expired => format!("the certificate of {host} has expired"),
        CertificateError::ExpiredContext { not_after, time } => format!(
            "the certificate of {host} expired on {}; the clock here says {}",
            show_time(*not_after),
            show_time(*time)
        ),
        CertificateError::NotValidYet => format!("the certificate of {host} is not valid yet"),
        CertificateError::NotValidYetContext { not_before, time } => format!(
            "the certificate of {host} is not valid before {}; the clock here says {}",
            show_time(*not_before),
            show_time(*time)
        ),
        error => format!("the certificate of {host} for `{name}` is not acceptable: {error}"),
    }
}

/// `DnsName("a.example")` as the library shows it, without what surrounds the name.
fn bare_name(shown: &str) -> &str {
    shown.split('"').nth(1).unwrap_or(shown)
}

fn show_time(time: UnixTime) -> String {
    let since = Duration::from_secs(time.as_secs());
    // Beyond the year 9999 an HTTP date cannot be written.
    match SystemTime::UNIX_EPOCH.checked_add(since) {
        Some(date) if time.as_secs() < 253_402_300_800 => httpdate::fmt_http_date(date),
        _ => "a date beyond the year 9999".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_authority_is_named_by_its_place() {
        let error = check_authorities(&[CertificateDer::from(vec![1, 2, 3])], "the egress settings").unwrap_err();
        assert_eq!(error.to_string(), "certificate 1 of `ca` of the egress settings is not usable as an authority");
    }

    #[test]
    fn an_expired_certificate_is_told_with_both_dates() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let error = CertificateError::ExpiredContext { time: at(784_111_777), not_after: at(0) };
        assert_eq!(
            explain_certificate(&error, "a", "h:443"),
            "the certificate of h:443 expired on Thu, 01 Jan 1970 00:00:00 GMT; the clock here says Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }
}
