//! Entra's token endpoint (OAuth 2.0, RFC 6749 section 4.4): one form out, one token or one refusal in.
//!
//! The endpoint follows from cloud and tenant alone, so no discovery goes before it. The tenant `adfs` stands for AD FS,
//! which custom clouds have in Entra's place: another path, and another way to say what a token is for. A refusal is reduced to what
//! people need: the AADSTS code, the first sentence, and the id that Microsoft's support asks for.

use serde::Deserialize;

use super::grant;
use crate::USER_AGENT;
use crate::failure::{Failure, FailureKind, tidy};
use crate::http::{Error, Http, Request, Response};
use crate::parameters::Settings;
use crate::token::Token;

/// Why Entra gave no token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What it means where the code says nothing more precise.
    pub(super) kind: FailureKind,
    /// The number after `AADSTS`.
    pub(super) code: Option<u32>,
    /// What Entra said, capped.
    pub(super) detail: String,
}

impl Refusal {
    fn new(kind: FailureKind, detail: String) -> Self {
        Self { kind, code: None, detail }
    }
}

/// Asks for a token for the vaults of the class's cloud. `form` says who asks; what the token is for is added here.
pub(super) fn get_token(
    http: &impl Http,
    settings: &Settings,
    form: &[(&str, &str)],
    now: u64,
    request_id: &str,
) -> Result<Token, Refusal> {
    let host = &settings.cloud.login_host;
    let service = service(settings);
    let answer = http.send(vec![request(settings, form, request_id)]).into_iter().next();
    match answer.unwrap_or_else(|| Err(Error::Protocol("no answer".into()))) {
        Ok(response) if matches!(response.status, 200 | 201) => {
            let not_understood = |what| Refusal::new(FailureKind::Internal, format!("{service}'s {what}"));
            grant::read(response.body, now).map_err(not_understood)
        }
        Ok(response) => Err(refuse(&response, service)),
        Err(error) => Err(Refusal::new(error.kind(), grant::explain_error(host, &error))),
    }
}

/// Explains a refusal to people: who could not sign in where, what to do, and what was said.
pub(super) fn explain(refusal: Refusal, settings: &Settings, principal: &str, advice: Option<String>) -> Failure {
    let kind = match refusal.code {
        Some(90_002 | 900_023) => FailureKind::InvalidRequest,
        Some(53_003) => FailureKind::PermissionDenied,
        _ => refusal.kind,
    };
    let shared = || {
        Some(match refusal.code? {
            7_000_112 | 7_000_114 => "the application is disabled".to_owned(),
            90_002 | 900_023 => "there is no such tenant: check tenantID and cloudName".to_owned(),
            500_011 => "the tenant does not know Key Vault: check cloudName".to_owned(),
            53_003 => "a conditional access policy forbids it: allow the address of the node".to_owned(),
            _ => return None,
        })
    };
    let advice = advice.or_else(shared).unwrap_or_default();
    let separator = if advice.is_empty() || refusal.detail.is_empty() { "" } else { "; " };
    let tenant = settings.tenant.as_str();
    let detail = refusal.detail;
    Failure::new(kind, format!("cannot sign in {principal} to the tenant {tenant}: {advice}{separator}{detail}"))
}

/// The URL that tokens come from, which is also what an assertion has to be for.
pub(super) fn endpoint(settings: &Settings) -> String {
    let host = &settings.cloud.login_host;
    if settings.tenant.is_adfs() {
        return format!("https://{host}/adfs/oauth2/token");
    }
    format!("https://{host}/{}/oauth2/v2.0/token", settings.tenant.as_str())
}

fn service(settings: &Settings) -> &'static str {
    if settings.tenant.is_adfs() { "AD FS" } else { "Entra" }
}

fn request(settings: &Settings, form: &[(&str, &str)], request_id: &str) -> Request {
    let resource = settings.cloud.vault_resource();
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    if settings.tenant.is_adfs() {
        // AD FS names what a token is for as OAuth's older drafts did; not every version reads it out of a scope.
        body.append_pair("resource", &resource);
    } else {
        body.append_pair("scope", &format!("{resource}/.default"));
    }
    Request {
        method: "POST",
        url: endpoint(settings),
        headers: vec![
            ("accept", "application/json".into()),
            ("content-type", "application/x-www-form-urlencoded".into()),
            ("user-agent", USER_AGENT.into()),
            ("client-request-id", request_id.into()),
        ],
        body: body.finish().into_bytes(),
        // Entra makes another token and forgets nothing.
        idempotent: true,
        retry_statuses: None,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
    error_codes: Vec<u32>,
    trace_id: String,
}

fn refuse(response: &Response, service: &str) -> Refusal {
    let mut refused: Refused = serde_json::from_slice(&response.body).unwrap_or_default();
    if response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")) {
        // Whoever answers in its place says why.
        refused.error_description = String::from_utf8_lossy(&response.body).into_owned();
    }
    let code = refused.error_codes.first().copied().or_else(|| code_in(&refused.error_description));
    let kind = match (response.status, refused.error.as_str()) {
        (429, _) => FailureKind::Throttled { retry_after_seconds: response.retry_after_seconds() },
        (408 | 500.., _) | (_, "temporarily_unavailable" | "server_error") => FailureKind::Unavailable,
        (400..500, _) => FailureKind::Unauthenticated,
        _ => FailureKind::Internal,
    };
    let trace = Some(refused.trace_id.as_str()).filter(|id| !id.is_empty());
    let id = trace.or_else(|| response.header("x-ms-request-id"));
    let id = id.map(|id| format!(", request {}", tidy(id, 60))).unwrap_or_default();
    // What a client secret would be sent along with, to wherever the answer says.
    let redirects = if (300..400).contains(&response.status) { ", a redirect, which is not followed" } else { "" };
    let said = first_sentences(&refused.error_description);
    let said = if said.is_empty() { tidy(&refused.error, 60) } else { said };
    let colon = if said.is_empty() { "" } else { ": " };
    Refusal {
        kind,
        code,
        detail: format!("{service} answers with status {}{redirects}{id}{colon}{said}", response.status),
    }
}

/// What stands before the ids and times that Entra appends to every description.
fn first_sentences(description: &str) -> String {
    let end = description.find("Trace ID:").unwrap_or(description.len());
    tidy(description.get(..end).unwrap_or_default(), 300)
}

/// The number in `AADSTS7000215: …`.
fn code_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, headers: vec![("x-ms-request-id".into(), "r-1".into())], body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_refusal_keeps_the_code_the_sentence_and_the_id() {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Trace ID: t Correlation ID: c","error_codes":[7000215],"trace_id":"t-1"}"#;
        assert_eq!(
            refuse(&response(401, body), "Entra"),
            Refusal {
                kind: FailureKind::Unauthenticated,
                code: Some(7_000_215),
                detail: "Entra answers with status 401, request t-1: AADSTS7000215: Invalid client secret provided."
                    .into()
            }
        );
    }

    #[test]
    fn the_code_is_found_in_the_description_when_it_stands_nowhere_else() {
        let refusal = refuse(&response(400, r#"{"error_description":"AADSTS90002: Tenant 'x' not found."}"#), "Entra");
        assert_eq!(refusal.code, Some(90_002));
    }

    #[test]
    fn errors_of_entra_itself_and_of_proxies_are_told_apart_from_refusals() {
        assert_eq!(refuse(&response(503, "<html>"), "Entra").kind, FailureKind::Unavailable);
        assert_eq!(
            refuse(&response(400, r#"{"error":"temporarily_unavailable"}"#), "Entra").kind,
            FailureKind::Unavailable
        );
        assert_eq!(refuse(&response(429, ""), "Entra").kind, FailureKind::Throttled { retry_after_seconds: None });
        let redirect = refuse(&response(307, ""), "Entra");
        assert_eq!(redirect.kind, FailureKind::Internal);
        assert_eq!(redirect.detail, "Entra answers with status 307, a redirect, which is not followed, request r-1");
        assert_eq!(refuse(&response(502, ""), "Entra").detail, "Entra answers with status 502, request r-1");
    }
}
