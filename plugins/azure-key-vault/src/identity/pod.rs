//! AAD pod identity, which Microsoft has given up and which some clusters still run: an agent on the node, the NMI,
//! gives each pod the token of the identity that a cluster's objects bind to it.
//!
//! The NMI asks nobody for a proof: it believes the two headers. That the host fills in the pod, and no class can, is
//! what keeps one pod from asking in another's name.

use serde::Deserialize;

use super::grant::{self, Granted};
use crate::failure::{Failure, FailureKind, tidy};
use crate::http::{Error, Http, Request, Response};
use crate::parameters::Settings;
use crate::provider::Pod;
use crate::token::Token;

const HOST: &str = "localhost:2579";

/// The pod that asks.
pub(crate) struct Credentials {
    namespace: String,
    name: String,
    /// `namespace/name`.
    pod: String,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<Granted>,
    #[serde(default)]
    clientid: String,
}

impl Credentials {
    pub(super) fn of(pod: &Pod) -> Result<Self, Failure> {
        let Pod { namespace, name, .. } = pod;
        for (value, what) in [(name, "name"), (namespace, "namespace")] {
            if value.is_empty() {
                let text = format!("pod {what} is not provided: set podInfoOnMount of the CSIDriver object to true");
                return Err(Failure::invalid(text));
            }
        }
        Ok(Self { namespace: namespace.clone(), name: name.clone(), pod: format!("{namespace}/{name}") })
    }

    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    pub(super) fn describe(&self) -> String {
        format!("the identity bound to the pod {}", tidy(&self.pod, 320))
    }

    pub(super) fn sign_in(&self, http: &impl Http, settings: &Settings, now: u64) -> Result<Token, Failure> {
        let Some(resource) = settings.cloud.vault_endpoint.as_deref() else {
            return Err(Failure::invalid(
                "usePodIdentity needs keyVaultEndpoint in the custom cloud file that cloudEnvFileName names",
            ));
        };
        let answer = http.send(vec![self.request(resource)]).into_iter().next();
        match answer.unwrap_or_else(|| Err(Error::Protocol("no answer".into()))) {
            Ok(response) if response.status == 200 => self.read(response, now),
            Ok(response) => Err(self.refuse(&response)),
            Err(error) => {
                let hint = match error {
                    Error::Connect(_) => "; the NMI has to run on the node, and the driver on the node's network",
                    _ => "",
                };
                Err(self.failure(error.kind(), &format!("{}{hint}", grant::explain_error(HOST, &error))))
            }
        }
    }

    fn request(&self, resource: &str) -> Request {
        Request {
            method: "GET",
            // Not percent-encoded: the NMI is old, and this is how it has always been asked.
            url: format!("http://{HOST}/host/token/?resource={resource}"),
            headers: vec![("podns", self.namespace.clone()), ("podname", self.name.clone())],
            body: Vec::new(),
            idempotent: true,
            retry_statuses: None,
        }
    }

    fn read(&self, response: Response, now: u64) -> Result<Token, Failure> {
        let body = zeroize::Zeroizing::new(response.body);
        let not_understood = |what: &str| self.failure(FailureKind::Internal, &format!("the NMI's {what}"));
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| not_understood("answer is not the JSON of a token"))?;
        if answer.clientid.is_empty() {
            return Err(not_understood("answer has no clientid"));
        }
        let granted = answer.token.ok_or_else(|| not_understood("answer has no token"))?;
        granted.token(now).map_err(not_understood)
    }

    fn refuse(&self, response: &Response) -> Failure {
        let status = response.status;
        let said = tidy(&String::from_utf8_lossy(&response.body), 300);
        let (kind, advice) = match status {
            403 | 404 => (
                FailureKind::Unauthenticated,
                "no AzureIdentityBinding selects the pod: check the pod's label aadpodidbinding and the AzureIdentity; ",
            ),
            429 => (FailureKind::Throttled { retry_after_seconds: response.retry_after_seconds() }, ""),
            408 | 500.. => (FailureKind::Unavailable, ""),
            400..500 => (FailureKind::Unauthenticated, ""),
            _ => (FailureKind::Internal, ""),
        };
        self.failure(kind, &format!("{advice}nmi response failed with status code: {status}, response body: {said}"))
    }

    fn failure(&self, kind: FailureKind, cause: &str) -> Failure {
        Failure::new(kind, format!("no token for {}: {cause}", self.describe()))
    }
}
