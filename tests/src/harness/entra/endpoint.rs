//! The HTTP side of Entra: the token endpoint of version 2.0 for the client credentials grant, and the two discovery
//! documents that Microsoft's libraries read first. The tenant `adfs` is AD FS, with an endpoint of its own.
//!
//! The order of checks: method, grant type present, tenant, grant type, client id, scope, application, credential. A
//! refusal never repeats a secret or an assertion.

use std::collections::HashMap;

use http::Method;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};

use super::{AppRecord, Caller, ClientSecret, Directory, Federation, certificate, claims_of};
use crate::harness::answer::{Answer, random_guid};
use crate::harness::cloud::Cloud;
use crate::harness::log::Kind;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Where AD FS, which stands in for Entra in some custom clouds, gives tokens.
const ADFS_PATH: &str = "/adfs/oauth2/token";
/// Scopes that name no resource and are ignored beside one that does.
const OPENID_SCOPES: [&str; 4] = ["openid", "profile", "offline_access", "email"];
/// Resources that every tenant has beside the cloud's vaults.
const OTHER_RESOURCES: [&str; 2] = ["https://management.azure.com", "https://graph.microsoft.com"];

/// Why there is no token.
struct Refusal {
    status: u16,
    error: &'static str,
    code: u32,
    text: String,
}

impl Refusal {
    fn new(status: u16, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error, code, text: text.into() }
    }

    fn missing(parameter: &str) -> Self {
        Self::new(400, "invalid_request", 900_144, format!("the body lacks the parameter '{parameter}'"))
    }

    fn client(code: u32, text: impl Into<String>) -> Self {
        Self::new(401, "invalid_client", code, text)
    }
}

/// Where a request arrived.
pub(crate) struct Place<'a> {
    /// The login host that it names.
    pub(crate) host: &'a str,
    /// Every cloud.
    pub(crate) clouds: &'a [Cloud],
    /// Whether it came through a token proxy.
    pub(crate) proxied: bool,
}

/// What a client brings to show that it is who it says, and where.
struct Proof<'a> {
    form: &'a Form,
    endpoint: String,
    proxied: bool,
    now: i64,
}

impl Directory {
    /// Answers a request to a login host.
    pub(crate) fn answer(&mut self, kind: Kind, place: &Place<'_>, now: i64, head: &Parts, body: &[u8]) -> Answer {
        let tenant = head.uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let host = place.host;
        let outcome = match kind {
            Kind::Token => self.token(tenant, place, now, head, body),
            Kind::OpenIdConfiguration => self.tenant(tenant, host).map(|_| openid_configuration(host, tenant)),
            Kind::InstanceDiscovery if !place.proxied => Ok(instance_discovery(place.clouds, host, head)),
            _ => return stamp(Answer::empty(404), head),
        };
        let answer = match outcome {
            Ok(document) => Answer::json(200, &document),
            Err(refusal) => refused(&refusal, host, now, head),
        };
        stamp(answer, head)
    }

    fn token(
        &mut self,
        tenant: &str,
        place: &Place<'_>,
        now: i64,
        head: &Parts,
        body: &[u8],
    ) -> Result<Value, Refusal> {
        if head.method != Method::POST {
            return Err(Refusal::new(400, "invalid_request", 900_561, "only POST is understood here"));
        }
        let form = Form::read(head, body);
        let grant = form.required("grant_type")?;
        let (id, cloud) = self.tenant(tenant, place.host)?;
        let adfs = tenant.eq_ignore_ascii_case("adfs");
        if adfs != (head.uri.path() == ADFS_PATH) {
            return Err(Refusal::new(404, "invalid_request", 900_023, "there is no such endpoint here"));
        }
        if grant != "client_credentials" {
            let text = format!("the grant type '{grant}' is not supported");
            return Err(Refusal::new(400, "unsupported_grant_type", 70_003, text));
        }
        let client_id = form.required("client_id")?.to_ascii_lowercase();
        let audience = match adfs {
            true => resource(form.required("resource")?, &cloud)?,
            false => audience(form.required("scope")?, &cloud, &id)?,
        };
        let proof = Proof {
            form: &form,
            endpoint: format!("https://{}{}", place.host, head.uri.path()),
            proxied: place.proxied,
            now,
        };
        let object_id = self.authenticate(&id, &client_id, &proof)?;
        let capable = form.value("claims").is_some_and(|claims| claims.to_ascii_lowercase().contains("\"cp1\""));
        let caller = Caller { tenant: id, client_id, object_id, audience };
        let (token, lifetime) = self.issue(caller, capable, now);
        Ok(json!({
            "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token,
        }))
    }

    /// The tenant that a URL names, by id or by domain, if it lives in the cloud of this host.
    fn tenant(&self, named: &str, host: &str) -> Result<(String, Cloud), Refusal> {
        let named = named.to_ascii_lowercase();
        if named.is_empty() || !named.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
            let text = format!("'{named}' is neither a tenant id nor a domain name");
            return Err(Refusal::new(400, "invalid_request", 900_023, text));
        }
        let id = self.domains.get(&named).unwrap_or(&named);
        match self.tenants.get(id) {
            Some(tenant) if tenant.cloud.login_host == host => Ok((id.clone(), tenant.cloud.clone())),
            _ => {
                let text = format!("tenant '{named}' was not found; check the tenant id and the cloud");
                Err(Refusal::new(400, "invalid_request", 90_002, text))
            }
        }
    }

    /// The object id of the application, if it is who it says it is.
    fn authenticate(&self, tenant: &str, client_id: &str, proof: &Proof<'_>) -> Result<String, Refusal> {
        let app = self.tenants.get(tenant).and_then(|tenant| tenant.apps.get(client_id)).ok_or_else(|| {
            let text = format!("application '{client_id}' was not found in the directory '{tenant}'");
            Refusal::new(400, "unauthorized_client", 700_016, text)
        })?;
        match (proof.form.value("client_assertion"), proof.form.value("client_secret")) {
            (Some(assertion), _) => {
                if proof.form.required("client_assertion_type")? != JWT_BEARER {
                    let text = "the client assertion type is not supported";
                    return Err(Refusal::new(400, "invalid_request", 700_021, text));
                }
                self.check_assertion(app, client_id, assertion, proof)?;
            }
            (None, Some(secret)) => check_secret(&app.secrets, client_id, secret, proof.now)?,
            (None, None) => {
                let text = "the client credentials grant needs 'client_assertion' or 'client_secret'";
                return Err(Refusal::client(7_000_216, text));
            }
        }
        Ok(app.object_id.clone())
    }

    fn check_assertion(
        &self,
        app: &AppRecord,
        client_id: &str,
        assertion: &str,
        proof: &Proof<'_>,
    ) -> Result<(), Refusal> {
        let claims = claims_of(assertion)
            .ok_or_else(|| Refusal::new(400, "invalid_request", 50_027, "the client assertion is not a JWT"))?;
        if let Some(header) = certificate::header_of(assertion).filter(|_| !proof.proxied) {
            let kept = &app.certificates;
            return certificate::check(kept, assertion, &header, &claims, client_id, &proof.endpoint, proof.now)
                .map_err(|(code, text)| Refusal::client(code, text));
        }
        let now = proof.now;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        let for_client = |code, what: &str, value: &str| {
            Refusal::client(code, format!("no federated identity of '{client_id}' has the {what} '{value}'"))
        };
        let mut fitting: Vec<&Federation> = app.federations.iter().filter(|kept| kept.issuer == text("iss")).collect();
        // A token proxy exchanges its own kind of token and no other, and Entra never takes that one.
        fitting.retain(|kept| kept.by_proxy == proof.proxied);
        if fitting.is_empty() {
            return Err(for_client(700_211, "issuer", text("iss")));
        }
        fitting.retain(|kept| audiences(&claims).contains(&kept.audience.as_str()));
        if fitting.is_empty() {
            return Err(for_client(700_212, "audience", &audiences(&claims).join(" ")));
        }
        fitting.retain(|kept| kept.subject == text("sub"));
        if fitting.is_empty() {
            return Err(for_client(700_213, "subject", text("sub")));
        }
        if fitting.iter().all(|kept| kept.check_signature) && !self.assertions.contains(assertion) {
            return Err(Refusal::client(700_027, "the signature of the client assertion is not valid"));
        }
        if time("exp").is_none_or(|expires| expires <= now) || time("nbf").is_some_and(|start| start > now) {
            return Err(Refusal::client(700_024, "the client assertion is not valid at this time"));
        }
        Ok(())
    }
}

fn check_secret(secrets: &[ClientSecret], client_id: &str, secret: &str, now: i64) -> Result<(), Refusal> {
    match secrets.iter().find(|kept| kept.value == secret) {
        None => Err(Refusal::client(7_000_215, format!("the client secret is not one of application '{client_id}'"))),
        Some(kept) if kept.expires <= now => {
            Err(Refusal::client(7_000_222, format!("the client secret of application '{client_id}' has expired")))
        }
        Some(_) => Ok(()),
    }
}

fn audiences(claims: &Value) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => Vec::new(),
    }
}

/// The resource that AD FS is asked for by name.
fn resource(named: &str, cloud: &Cloud) -> Result<String, Refusal> {
    if named.trim_end_matches('/') != cloud.resource {
        return Err(Refusal::new(400, "invalid_resource", 500_011, "there is no relying party of this name"));
    }
    Ok(named.to_owned())
}

/// The resource that a scope asks for. A trailing slash of it stays: the vault, not Entra, minds it.
fn audience(scope: &str, cloud: &Cloud, tenant: &str) -> Result<String, Refusal> {
    let mut named = scope.split_ascii_whitespace().filter(|scope| !OPENID_SCOPES.contains(scope));
    let (Some(wanted), None) = (named.next(), named.next()) else {
        let text = format!("the scope '{scope}' does not name exactly one resource");
        return Err(Refusal::new(400, "invalid_scope", 70_011, text));
    };
    let Some(resource) = wanted.strip_suffix("/.default") else {
        let text = format!("the scope '{wanted}' is not valid; client credentials need '<resource>/.default'");
        return Err(Refusal::new(400, "invalid_scope", 1_002_012, text));
    };
    let bare = resource.trim_end_matches('/');
    if bare != cloud.resource && !OTHER_RESOURCES.contains(&bare) {
        let text = format!("the resource '{resource}' was not found in the tenant '{tenant}'");
        return Err(Refusal::new(400, "invalid_resource", 500_011, text));
    }
    Ok(resource.to_owned())
}

/// The parameters of a form; a body of any other type has none.
struct Form(HashMap<String, String>);

impl Form {
    fn read(head: &Parts, body: &[u8]) -> Self {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Self(HashMap::new());
        }
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.value(name).ok_or_else(|| Refusal::missing(name))
    }
}

fn refused(refusal: &Refusal, host: &str, now: i64, head: &Parts) -> Answer {
    let trace = random_guid();
    let correlation = client_request_id(head).map_or_else(random_guid, str::to_owned);
    let timestamp = jiff::Timestamp::from_second(now).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    Answer::json(
        refusal.status,
        &json!({
            "error": refusal.error,
            "error_description": format!(
                "AADSTS{}: {}. Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
                refusal.code, refusal.text,
            ),
            "error_codes": [refusal.code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://{host}/error?code={}", refusal.code),
        }),
    )
}

fn client_request_id(head: &Parts) -> Option<&str> {
    head.headers.get("client-request-id").and_then(|id| id.to_str().ok())
}

/// Adds the headers that every answer of the service has.
fn stamp(answer: Answer, head: &Parts) -> Answer {
    let asked = head.headers.get("return-client-request-id").is_some_and(|asked| asked == "true");
    let answer = match client_request_id(head).filter(|_| asked) {
        Some(id) => answer.header("client-request-id", id),
        None => answer,
    };
    answer
        .header("Cache-Control", "no-store, no-cache")
        .header("Pragma", "no-cache")
        .header("Expires", "-1")
        .header("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        .header("X-Content-Type-Options", "nosniff")
        .header("x-ms-request-id", random_guid())
        .header("x-ms-ests-server", "2.1.0.0 - EMULATED ProdSlices")
        .header("x-ms-srs", "1.P")
        .header("Set-Cookie", format!("fpc={}; path=/; secure; HttpOnly; SameSite=None", random_guid()))
        .header("Set-Cookie", "x-ms-gateway-slice=estsfd; path=/; secure; samesite=none; httponly")
}

fn openid_configuration(host: &str, tenant: &str) -> Value {
    let base = format!("https://{host}/{tenant}");
    json!({
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "issuer": format!("{base}/v2.0"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn instance_discovery(clouds: &[Cloud], host: &str, head: &Parts) -> Value {
    let query = head.uri.query().unwrap_or_default();
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "authorization_endpoint");
    let tenant = asked.and_then(|(_, url)| url.split('/').nth(3).map(str::to_owned)).unwrap_or_else(|| "common".into());
    let metadata: Vec<Value> = clouds
        .iter()
        .map(|cloud| {
            json!({
                "preferred_network": cloud.login_host,
                "preferred_cache": cloud.login_host,
                "aliases": [cloud.login_host],
            })
        })
        .collect();
    json!({
        "tenant_discovery_endpoint": format!("https://{host}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": metadata,
    })
}
