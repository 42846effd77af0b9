//! Tenants and vaults described in a JSON file, for the emulator as a program.
//!
//! The file holds secrets: errors name a place in it, never what stands there, and no type here is `Debug`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::cloud::Cloud;
use super::emulator::Emulator;
use super::entra::Tenant;
use super::vault::{Action, CertificateBundle, Collection, Jwk, Options, Vault};

/// What a state file says.
///
/// ```json
/// {"tenants": [{
///   "id": "9c1fd3a4-7f0e-4d4e-8f0e-0b6d2f1f2a11",
///   "apps": [{"clientId": "d3b07384-d9a0-4c5b-8f6e-0d9c2b7a1e55", "secrets": ["a client secret"]}],
///   "vaults": [{
///     "name": "kv",
///     "allow": [{"clientId": "d3b07384-d9a0-4c5b-8f6e-0d9c2b7a1e55", "secrets": ["get", "list", "set"]}],
///     "secrets": {"DemoSecret": "MyExampleSecret"},
///     "certificates": {"web": {"commonName": "web.example"}}
///   }]
/// }]}
/// ```
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    tenants: Vec<TenantState>,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("state file {path} could not be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not what it should be. What serde says may quote a secret, so only the place is told.
    #[error("state file {path} is not a description of tenants: look at line {line}, column {column}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// Counts from 1.
        column: usize,
    },
    /// It names a cloud that does not exist.
    #[error("cloud {name} is not known; use a name such as AzurePublicCloud")]
    Cloud {
        /// As written.
        name: String,
    },
    /// It describes a certificate that cannot be made.
    #[error("certificate {name} could not be made")]
    Certificate {
        /// Which one.
        name: String,
        /// What rcgen said.
        source: rcgen::Error,
    },
    /// It holds a certificate that is not base64.
    #[error("certificate {name} has a der that is not base64")]
    Encoding {
        /// Which one.
        name: String,
        /// What the decoder said.
        source: base64::DecodeError,
    },
}

impl State {
    /// Reads a state file.
    ///
    /// # Errors
    /// The file cannot be read or is not as described above.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        let bytes = std::fs::read(path).map_err(|source| StateError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes).map_err(|error| StateError::Parse {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// Furnishes an emulator with it, beside what is there.
    ///
    /// # Errors
    /// A cloud or a certificate is not as it should be; what came before it is there then.
    pub fn apply(&self, emulator: &Emulator) -> Result<(), StateError> {
        self.tenants.iter().try_for_each(|tenant| tenant.apply(emulator))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TenantState {
    id: String,
    /// The public cloud where it is not said.
    cloud: Option<String>,
    #[serde(default)]
    domains: Vec<String>,
    #[serde(default)]
    apps: Vec<AppState>,
    #[serde(default)]
    vaults: Vec<VaultState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AppState {
    client_id: String,
    #[serde(default)]
    secrets: Vec<String>,
    /// Whose service account tokens are believed, whatever their signature.
    #[serde(default)]
    federations: Vec<FederationState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FederationState {
    issuer: String,
    subject: String,
    audience: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VaultState {
    name: String,
    #[serde(default)]
    role_based: bool,
    #[serde(default)]
    allow: Vec<AllowState>,
    #[serde(default)]
    secrets: BTreeMap<String, SecretState>,
    /// JWKs without `kid`.
    #[serde(default)]
    keys: BTreeMap<String, Value>,
    #[serde(default)]
    certificates: BTreeMap<String, CertificateState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AllowState {
    client_id: String,
    #[serde(default)]
    secrets: Vec<Action>,
    #[serde(default)]
    keys: Vec<Action>,
    #[serde(default)]
    certificates: Vec<Action>,
}

/// A value, or versions from the oldest to the current one.
#[derive(Deserialize)]
#[serde(untagged)]
enum SecretState {
    Value(String),
    Versions(Vec<VersionState>),
}

/// Times are Unix seconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VersionState {
    value: String,
    content_type: Option<String>,
    enabled: Option<bool>,
    created: Option<i64>,
    not_before: Option<i64>,
    expires: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CertificateState {
    /// One that signs itself, made now.
    #[serde(rename_all = "camelCase")]
    New { common_name: String },
    /// One that exists: `der` in base64, and the value of the secret beside it.
    #[serde(rename_all = "camelCase")]
    Given { der: String, exported: String, content_type: String, key: Value },
}

impl TenantState {
    fn apply(&self, emulator: &Emulator) -> Result<(), StateError> {
        let tenant = match &self.cloud {
            None => emulator.tenant(&self.id),
            Some(name) => {
                let cloud = Cloud::all().into_iter().find(|cloud| cloud.name.eq_ignore_ascii_case(name));
                let cloud = cloud.ok_or_else(|| StateError::Cloud { name: name.clone() })?;
                emulator.tenant_in(&cloud, &self.id)
            }
        };
        for domain in &self.domains {
            tenant.domain(domain);
        }
        for app in &self.apps {
            app.apply(&tenant);
        }
        self.vaults.iter().try_for_each(|vault| vault.apply(&tenant.vault(&vault.name)))
    }
}

impl AppState {
    fn apply(&self, tenant: &Tenant) {
        let app = tenant.app(&self.client_id);
        for secret in &self.secrets {
            app.secret(secret);
        }
        for federation in &self.federations {
            app.federate_unchecked(&federation.issuer, &federation.subject, &federation.audience);
        }
    }
}

impl VaultState {
    fn apply(&self, vault: &Vault) -> Result<(), StateError> {
        vault.role_based(self.role_based);
        for allowed in &self.allow {
            vault.allow(&allowed.client_id, Collection::Secrets, &allowed.secrets);
            vault.allow(&allowed.client_id, Collection::Keys, &allowed.keys);
            vault.allow(&allowed.client_id, Collection::Certificates, &allowed.certificates);
        }
        for (name, secret) in &self.secrets {
            match secret {
                SecretState::Value(value) => {
                    vault.secret(name).set(value.as_str());
                }
                SecretState::Versions(versions) => {
                    for version in versions {
                        vault.secret(name).set_with(version.value.as_str(), version.options());
                    }
                }
            }
        }
        for (name, key) in &self.keys {
            vault.key(name).set(Jwk(key.clone()));
        }
        for (name, certificate) in &self.certificates {
            vault.certificate(name).set(certificate.bundle(name)?);
        }
        Ok(())
    }
}

impl VersionState {
    fn options(&self) -> Options {
        Options {
            content_type: self.content_type.clone(),
            disabled: self.enabled == Some(false),
            created: self.created,
            not_before: self.not_before,
            expires: self.expires,
            ..Options::default()
        }
    }
}

impl CertificateState {
    fn bundle(&self, name: &str) -> Result<CertificateBundle, StateError> {
        let name = || name.to_owned();
        match self {
            Self::New { common_name } => CertificateBundle::self_signed(common_name)
                .map_err(|source| StateError::Certificate { name: name(), source }),
            Self::Given { der, exported, content_type, key } => Ok(CertificateBundle {
                der: STANDARD.decode(der).map_err(|source| StateError::Encoding { name: name(), source })?,
                exported: exported.clone(),
                content_type: content_type.clone(),
                key: Jwk(key.clone()),
            }),
        }
    }
}
