//! The emulator's own certificate authority: issues a server certificate for whatever name a client asks for.
//!
//! Trust exists only where a test hands out [`Authority::ca_pem`]. Its key never leaves the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// rcgen refused the name or the key.
    #[error("certificate for {name} could not be issued")]
    Issue {
        /// The name it was meant for.
        name: String,
        /// What rcgen said.
        source: rcgen::Error,
    },
    /// rustls refused the certificate.
    #[error("tls configuration for {name} could not be built")]
    Configure {
        /// The name it was meant for.
        name: String,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// What is right or wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flavor {
    Good,
    WrongName,
    Expired,
    NotYetValid,
    SelfSigned,
}

/// A certificate authority with a cache of the server configurations it issued.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: Mutex<HashMap<(String, Flavor), Arc<ServerConfig>>>,
    protocols: Vec<Vec<u8>>,
}

impl Authority {
    /// A new authority with a new key; `protocols` are offered by ALPN in this order.
    pub(crate) fn new(protocols: Vec<Vec<u8>>) -> Result<Self, AuthorityError> {
        let name = "Coffer test authority";
        let failed = |source| AuthorityError::Issue { name: name.to_owned(), source };
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(parameters, key).map_err(failed)?;
        Ok(Self { issuer, issued: Mutex::default(), protocols })
    }

    /// The authority's certificate, PEM.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate, DER.
    pub fn ca_der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// How to shake hands as `host`.
    pub(crate) fn server_config(&self, host: &str, flavor: Flavor) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (host.to_owned(), flavor);
        if let Some(config) = issued.get(&wanted) {
            return Ok(Arc::clone(config));
        }
        let (certificate, key) = self.issue(host, flavor)?;
        let config = Arc::new(self.configure(host, certificate, key)?);
        issued.insert(wanted, Arc::clone(&config));
        Ok(config)
    }

    fn issue(
        &self,
        host: &str,
        flavor: Flavor,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), AuthorityError> {
        let failed = |source| AuthorityError::Issue { name: host.to_owned(), source };
        let name = if flavor == Flavor::WrongName { "someone-else.invalid" } else { host };
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match flavor {
            Flavor::Expired => {
                parameters.not_before = date_time_ymd(2001, 1, 1);
                parameters.not_after = date_time_ymd(2002, 1, 1);
            }
            Flavor::NotYetValid => parameters.not_before = date_time_ymd(2999, 1, 1),
            Flavor::Good | Flavor::WrongName | Flavor::SelfSigned => {}
        }
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = match flavor {
            Flavor::SelfSigned => parameters.self_signed(&key),
            _ => parameters.signed_by(&key, &self.issuer),
        };
        let certificate = certificate.map_err(failed)?.der().clone();
        Ok((certificate, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    fn configure(
        &self,
        host: &str,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, AuthorityError> {
        let failed = |source| AuthorityError::Configure { name: host.to_owned(), source };
        // Named, not taken from the process: another crate of the test binary may have installed another one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(failed)?;
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(config)
    }
}
