//! Microsoft Entra as a client of the token endpoint sees it: tenants, applications with secrets, certificates or
//! federated credentials, tokens, and the refusals with their AADSTS codes.
//!
//! Codes, error names and status codes are the service's; the sentences are our own. Tokens look like signed JWTs but
//! are checked by a table, so a client that alters one is found out. Secrets and tokens are never shown.

mod certificate;
mod endpoint;
mod issuer;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use serde_json::{Value, json};

use super::answer::{random_guid, random_hex};
use super::cloud::Cloud;
use super::emulator::Services;
use super::metadata::NodeRecord;
use super::vault::Vault;
use certificate::Certificate;

pub(crate) use endpoint::Place;
pub use issuer::Issuer;

/// How many tokens are remembered before those that expired are forgotten.
const TOKENS_KEPT: usize = 10_000;

/// A tenant, by its id, to be furnished.
#[derive(Clone)]
pub struct Tenant {
    services: Arc<Services>,
    cloud: Cloud,
    id: String,
}

impl Tenant {
    pub(crate) fn open(services: &Arc<Services>, cloud: &Cloud, id: &str) -> Self {
        let id = id.to_ascii_lowercase();
        services.directory().tenants.entry(id.clone()).or_insert_with(|| TenantRecord::new(cloud));
        Self { services: Arc::clone(services), cloud: cloud.clone(), id }
    }

    /// The tenant's id, in lower case.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Lets a domain name stand for the tenant in URLs.
    pub fn domain(&self, name: &str) -> &Self {
        self.services.directory().domains.insert(name.to_ascii_lowercase(), self.id.clone());
        self
    }

    /// An application, by its client id, made when it is not there yet.
    pub fn app(&self, client_id: &str) -> App {
        let client_id = client_id.to_ascii_lowercase();
        let app = App { services: Arc::clone(&self.services), tenant: self.id.clone(), client_id };
        app.change(|_| ());
        app
    }

    /// A vault of this tenant, made when it is not there yet. A vault's name is unique within a cloud; opening one
    /// that another tenant owns leaves it with that tenant.
    pub fn vault(&self, name: &str) -> Vault {
        Vault::open(&self.services, &self.cloud, &self.id, name)
    }
}

/// An application of a tenant, by its client id, to be furnished.
#[derive(Clone)]
pub struct App {
    services: Arc<Services>,
    tenant: String,
    client_id: String,
}

impl App {
    /// The tenant's id.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The client id, in lower case.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Adds a client secret that does not expire.
    pub fn secret(&self, value: &str) -> &Self {
        self.secret_until(value, i64::MAX)
    }

    /// Adds a client secret that expires at this Unix second.
    pub fn secret_until(&self, value: &str, expires: i64) -> &Self {
        self.change(|app| app.secrets.push(ClientSecret { value: value.to_owned(), expires }));
        self
    }

    /// Takes all client secrets away; tokens that were issued live on.
    pub fn forget_secrets(&self) -> &Self {
        self.change(|app| app.secrets.clear());
        self
    }

    /// Trusts service account tokens of this issuer for this subject, if they are meant for `audience` and an
    /// [`Issuer`] of this emulator signed them.
    pub fn federate(&self, issuer: &str, subject: &str, audience: &str) -> &Self {
        self.add_federation(issuer, subject, audience, true)
    }

    /// As [`App::federate`], but believes any signature: for tokens of a real cluster.
    pub fn federate_unchecked(&self, issuer: &str, subject: &str, audience: &str) -> &Self {
        self.add_federation(issuer, subject, audience, false)
    }

    /// Lets service account tokens of this issuer for this subject be exchanged through a token proxy, and there only.
    pub fn bind(&self, issuer: &str, subject: &str) -> &Self {
        self.change(|app| {
            app.federations.push(Federation {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
                audience: "api://AKSIdentityBinding".to_owned(),
                check_signature: true,
                by_proxy: true,
            });
        });
        self
    }

    /// Adds a certificate, DER, with its public key as it stands in there.
    pub fn certificate(&self, der: &[u8], public_key: &[u8]) -> &Self {
        self.change(|app| app.certificates.push(Certificate::new(der, public_key)));
        self
    }

    fn add_federation(&self, issuer: &str, subject: &str, audience: &str, check_signature: bool) -> &Self {
        let federation = Federation {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audience: audience.to_owned(),
            check_signature,
            by_proxy: false,
        };
        self.change(|app| app.federations.push(federation));
        self
    }

    fn change(&self, change: impl FnOnce(&mut AppRecord)) {
        let mut directory = self.services.directory();
        if let Some(tenant) = directory.tenants.get_mut(&self.tenant) {
            change(tenant.apps.entry(self.client_id.clone()).or_default());
        }
    }
}

/// Everything Entra knows.
#[derive(Default)]
pub(crate) struct Directory {
    tenants: HashMap<String, TenantRecord>,
    domains: HashMap<String, String>,
    tokens: HashMap<String, TokenRecord>,
    assertions: HashSet<String>,
    /// TLS server names of token proxies.
    pub(crate) proxies: HashSet<String>,
    pub(crate) node: NodeRecord,
    pub(crate) token_lifetime: Option<Duration>,
}

struct TenantRecord {
    cloud: Cloud,
    apps: HashMap<String, AppRecord>,
}

impl TenantRecord {
    fn new(cloud: &Cloud) -> Self {
        Self { cloud: cloud.clone(), apps: HashMap::new() }
    }
}

struct AppRecord {
    object_id: String,
    secrets: Vec<ClientSecret>,
    federations: Vec<Federation>,
    certificates: Vec<Certificate>,
}

impl Default for AppRecord {
    fn default() -> Self {
        Self { object_id: random_guid(), secrets: Vec::new(), federations: Vec::new(), certificates: Vec::new() }
    }
}

struct ClientSecret {
    value: String,
    expires: i64,
}

struct Federation {
    issuer: String,
    subject: String,
    audience: String,
    check_signature: bool,
    /// Only through a token proxy, where no other is valid.
    by_proxy: bool,
}

struct TokenRecord {
    caller: Caller,
    expires: i64,
    /// The client said that it understands claims challenges.
    capable: bool,
    revoked: bool,
}

/// Whom a token stands for, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) object_id: String,
    pub(crate) audience: String,
}

/// What the `Authorization` header of a request is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// There is none, or it is no bearer token.
    Nothing,
    /// Nobody here issued this token.
    Forged,
    /// Its time is over.
    Expired,
    /// It was revoked, and its holder understands a claims challenge.
    Revoked,
    /// It is good for what it says.
    Valid(Caller),
}

impl Directory {
    /// Who sent this request.
    pub(crate) fn caller(&self, head: &Parts, now: i64) -> Presented {
        let header = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, token) = header.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Presented::Nothing;
        }
        match self.tokens.get(token) {
            None => Presented::Forged,
            Some(token) if token.revoked && token.capable => Presented::Revoked,
            Some(token) if token.revoked || token.expires <= now => Presented::Expired,
            Some(token) => Presented::Valid(token.caller.clone()),
        }
    }

    pub(crate) fn revoke_tokens(&mut self) {
        for token in self.tokens.values_mut() {
            token.revoked = true;
        }
    }

    /// The object id of an application, and the resource of the cloud that its tenant lives in.
    pub(crate) fn principal(&self, tenant: &str, client_id: &str) -> Option<(String, String)> {
        let tenant = self.tenants.get(tenant)?;
        Some((tenant.apps.get(client_id)?.object_id.clone(), tenant.cloud.resource.clone()))
    }

    /// A new token and its lifetime in seconds.
    pub(crate) fn issue(&mut self, caller: Caller, capable: bool, now: i64) -> (String, i64) {
        let default = if capable { 86_399 } else { 3_599 };
        let lifetime = self.token_lifetime.map_or(default, |set| i64::try_from(set.as_secs()).unwrap_or(i64::MAX));
        let expires = now.saturating_add(lifetime);
        if self.tokens.len() >= TOKENS_KEPT {
            self.tokens.retain(|_, token| token.expires > now);
        }
        let token = signed(&json!({
            "aud": caller.audience,
            "iss": format!("https://sts.windows.net/{}/", caller.tenant),
            "iat": now, "nbf": now, "exp": expires,
            "appid": caller.client_id, "appidacr": "1",
            "idp": format!("https://sts.windows.net/{}/", caller.tenant),
            "oid": caller.object_id, "sub": caller.object_id,
            "tid": caller.tenant, "uti": random_hex(), "ver": "1.0",
        }));
        self.tokens.insert(token.clone(), TokenRecord { caller, expires, capable, revoked: false });
        (token, lifetime)
    }
}

/// A JWT with a signature that nobody can check.
fn signed(claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": random_hex()});
    let signature: Vec<u8> = (0..16).flat_map(|_| rand::random::<[u8; 16]>()).collect();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// The claims of a JWT, unchecked.
fn claims_of(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}
