//! Managed identities of the node, from Azure's instance metadata service (IMDS): its own, or one assigned by a user.
//!
//! The service believes whoever asks from the node, so which namespaces may ask is the host's to decide
//! (`nodeIdentity`). Tenant and sign-in host of the class have no part in it.

use serde::Deserialize;

use super::grant;
use crate::USER_AGENT;
use crate::failure::{Failure, FailureKind, tidy};
use crate::http::{Error, Http, Request, Response};
use crate::parameters::Settings;
use crate::token::Token;

const HOST: &str = "169.254.169.254";
const API_VERSION: &str = "2018-02-01";

/// Until the service has heard of a new node or a new assignment it answers 404 or 410 (Microsoft asks to retry both);
/// the others are its own problems.
const RETRIED: [u16; 12] = [404, 410, 429, 500, 501, 502, 503, 504, 507, 508, 510, 511];

/// Which of the node's identities.
pub(crate) struct Credentials {
    client_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
}

impl Credentials {
    pub(super) fn new(client_id: Option<String>) -> Self {
        Self { client_id }
    }

    pub(super) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or("system-assigned")
    }

    pub(super) fn describe(&self) -> String {
        match &self.client_id {
            Some(id) => format!("the managed identity {}", tidy(id, 60)),
            None => "the system-assigned identity of the node".to_owned(),
        }
    }

    pub(super) fn sign_in(
        &self,
        http: &impl Http,
        settings: &Settings,
        now: u64,
        request_id: &str,
    ) -> Result<Token, Failure> {
        let answer = http.send(vec![self.request(settings, request_id)]).into_iter().next();
        match answer.unwrap_or_else(|| Err(Error::Protocol("no answer".into()))) {
            Ok(response) if matches!(response.status, 200 | 202) => grant::read(response.body, now)
                .map_err(|what| self.failure(FailureKind::Internal, &format!("the metadata service's {what}"))),
            Ok(response) => Err(self.refuse(&response)),
            Err(error) => {
                let hint = match error {
                    Error::Connect(_) | Error::Timeout => {
                        "; useVMManagedIdentity needs a node in Azure, and a way from the driver to this address"
                    }
                    _ => "",
                };
                Err(self.failure(error.kind(), &format!("{}{hint}", grant::explain_error(HOST, &error))))
            }
        }
    }

    fn request(&self, settings: &Settings, request_id: &str) -> Request {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("api-version", API_VERSION);
        if let Some(id) = &self.client_id {
            query.append_pair("client_id", id);
        }
        query.append_pair("resource", &settings.cloud.vault_resource());
        Request {
            method: "GET",
            url: format!("http://{HOST}/metadata/identity/oauth2/token?{}", query.finish()),
            headers: vec![
                ("accept", "application/json".into()),
                // What a page in a browser, or a server that forwards requests, cannot add.
                ("metadata", "true".into()),
                ("user-agent", USER_AGENT.into()),
                ("x-ms-client-request-id", request_id.into()),
            ],
            body: Vec::new(),
            idempotent: true,
            retry_statuses: Some(&RETRIED),
        }
    }

    fn refuse(&self, response: &Response) -> Failure {
        let refused: Refused = serde_json::from_slice(&response.body).unwrap_or_default();
        let said = tidy(&refused.error_description, 300);
        let said = if said.is_empty() { tidy(&refused.error, 60) } else { said };
        let colon = if said.is_empty() { "" } else { ": " };
        let said = format!("the metadata service answers with status {}{colon}{said}", response.status);
        let (kind, advice) = match (response.status, &self.client_id) {
            (400, Some(_)) => (
                FailureKind::Unauthenticated,
                "identity isn't assigned to the node: assign it to the virtual machine or scale set, and check that \
                 userAssignedIdentityID is its client id, not its object or resource id; ",
            ),
            (400, None) => (
                FailureKind::Unauthenticated,
                "the node has none, or several user-assigned ones instead: switch it on, or name one in \
                 userAssignedIdentityID; ",
            ),
            (404 | 410, _) => (FailureKind::Unavailable, "the metadata service does not know it yet; "),
            (429, _) => (FailureKind::Throttled { retry_after_seconds: response.retry_after_seconds() }, ""),
            (408 | 500.., _) => (FailureKind::Unavailable, ""),
            (400..500, _) => (FailureKind::Unauthenticated, ""),
            _ => (FailureKind::Internal, ""),
        };
        self.failure(kind, &format!("{advice}{said}"))
    }

    fn failure(&self, kind: FailureKind, cause: &str) -> Failure {
        Failure::new(kind, format!("no token for {}: {cause}", self.describe()))
    }
}
