//! Entra's token endpoint (OAuth 2.0, RFC 6749 section 4.4): one form out, one token or one refusal in.
//!
//! The endpoint follows from cloud and tenant alone, so no discovery goes before it. A refusal is reduced to what
//! people need: the AADSTS code, the first sentence, and the id that Microsoft's support asks for.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::USER_AGENT;
use crate::failure::{FailureKind, tidy};
use crate::http::{Error, Http, LONGEST_ERROR, Request, Response};
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

/// Asks for a token for the vaults of the class's cloud. `form` says who asks; the scope is added here.
pub(super) fn get_token(
    http: &impl Http,
    settings: &Settings,
    form: &[(&str, &str)],
    now: u64,
    request_id: &str,
) -> Result<Token, Refusal> {
    let host = settings.cloud.entra_host;
    let answer = http.send(vec![request(settings, form, request_id)]).into_iter().next();
    match answer.unwrap_or_else(|| Err(Error::Protocol("no answer".into()))) {
        Ok(response) if matches!(response.status, 200 | 201) => read(response, now),
        Ok(response) => Err(refuse(&response)),
        Err(error) => {
            Err(Refusal { kind: error.kind(), code: None, detail: format!("{host}: {}", tidy_error(&error)) })
        }
    }
}

fn request(settings: &Settings, form: &[(&str, &str)], request_id: &str) -> Request {
    let scope = format!("{}/.default", settings.cloud.vault_resource());
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form).append_pair("scope", &scope);
    Request {
        method: "POST",
        url: format!("https://{}/{}/oauth2/v2.0/token", settings.cloud.entra_host, settings.tenant.as_str()),
        headers: vec![
            ("accept", "application/json".into()),
            ("content-type", "application/x-www-form-urlencoded".into()),
            ("user-agent", USER_AGENT.into()),
            ("client-request-id", request_id.into()),
        ],
        body: body.finish().into_bytes(),
        // Entra makes another token and forgets nothing.
        idempotent: true,
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: Option<String>,
    expires_in: Option<Seconds>,
    expires_on: Option<Seconds>,
}

/// A number, or a text that holds one: both are in use.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

fn read(response: Response, now: u64) -> Result<Token, Refusal> {
    let not_understood = |detail: &str| Refusal { kind: FailureKind::Internal, code: None, detail: detail.into() };
    let body = Zeroizing::new(response.body);
    // The parser's own words could quote the body.
    let granted: Granted =
        serde_json::from_slice(&body).map_err(|_| not_understood("Entra's answer is not the JSON of a token"))?;
    let secret = granted.access_token.map(Zeroizing::new).filter(|token| !token.is_empty());
    let secret = secret.ok_or_else(|| not_understood("Entra's answer has no access_token"))?;
    let until = granted.expires_on.and_then(|at| at.number()).map(|at| at.saturating_sub(now));
    let lifetime = granted.expires_in.and_then(|seconds| seconds.number()).or(until);
    Token::new(secret, lifetime.unwrap_or_default(), now)
        .ok_or_else(|| not_understood("Entra's access_token has characters that no token has"))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
    error_codes: Vec<u32>,
    trace_id: String,
}

fn refuse(response: &Response) -> Refusal {
    let refused: Refused = serde_json::from_slice(&response.body).unwrap_or_default();
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
    let said = first_sentences(&refused.error_description);
    let said = if said.is_empty() { tidy(&refused.error, 60) } else { said };
    let colon = if said.is_empty() { "" } else { ": " };
    Refusal { kind, code, detail: format!("Entra answers with status {}{id}{colon}{said}", response.status) }
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

fn tidy_error(error: &Error) -> String {
    let text = tidy(&error.to_string(), LONGEST_ERROR);
    match error {
        Error::Denied(_) => format!("{text}; an administrator has to allow it"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, headers: vec![("x-ms-request-id".into(), "r-1".into())], body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_lifetime_is_read_from_any_of_its_spellings() {
        for body in [
            r#"{"access_token":"t","expires_in":3600}"#,
            r#"{"access_token":"t","expires_in":"3600"}"#,
            r#"{"access_token":"t","expires_on":"4600"}"#,
            r#"{"access_token":"t","expires_on":4600}"#,
        ] {
            let token = read(response(200, body), 1_000).unwrap();
            assert_eq!(token.seconds_left(1_000), Some(3_300), "{body}");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_not_understood() {
        for body in ["", "<html>", "[]", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#] {
            assert_eq!(read(response(200, body), 0).err().unwrap().kind, FailureKind::Internal, "{body}");
        }
    }

    #[test]
    fn a_refusal_keeps_the_code_the_sentence_and_the_id() {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Trace ID: t Correlation ID: c","error_codes":[7000215],"trace_id":"t-1"}"#;
        assert_eq!(
            refuse(&response(401, body)),
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
        let refusal = refuse(&response(400, r#"{"error_description":"AADSTS90002: Tenant 'x' not found."}"#));
        assert_eq!(refusal.code, Some(90_002));
    }

    #[test]
    fn errors_of_entra_itself_and_of_proxies_are_told_apart_from_refusals() {
        assert_eq!(refuse(&response(503, "<html>")).kind, FailureKind::Unavailable);
        assert_eq!(refuse(&response(400, r#"{"error":"temporarily_unavailable"}"#)).kind, FailureKind::Unavailable);
        assert_eq!(refuse(&response(429, "")).kind, FailureKind::Throttled { retry_after_seconds: None });
        assert_eq!(refuse(&response(307, "")).kind, FailureKind::Internal);
        assert_eq!(refuse(&response(502, "")).detail, "Entra answers with status 502, request r-1");
    }
}
