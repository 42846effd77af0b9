//! Signing in with a token of the pod's service account: workload identity, and identity binding.
//!
//! Both send the same form to the same URL of Entra, with tokens for different audiences. With identity binding the
//! request goes to the token proxy of the cluster instead, which is a matter of the grant: a rule that says where to
//! dial and whom to believe. The host keeps the request's `Host`, and this crate has no part in it.

use zeroize::Zeroizing;

use super::entra;
use crate::failure::{Failure, FailureKind, tidy};
use crate::http::Http;
use crate::parameters::Settings;
use crate::provider::{Request, ServiceAccountToken};
use crate::token::Token;

/// RFC 7523 section 2.2.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Audiences that a message lists.
const LISTED: usize = 5;

/// Who turns the service account's token into one for vaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// Entra itself: workload identity.
    Entra,
    /// The token proxy of the cluster: identity binding.
    TokenProxy,
}

/// Client id and token.
pub(crate) struct Credentials {
    client_id: String,
    token: Zeroizing<String>,
    expires: u64,
    exchange: Exchange,
    /// `system:serviceaccount:<namespace>:<name>`.
    subject: String,
}

impl Exchange {
    fn audience(self) -> &'static str {
        match self {
            Self::Entra => "api://AzureADTokenExchange",
            Self::TokenProxy => "api://AKSIdentityBinding",
        }
    }
}

impl Credentials {
    /// Finds the token that this exchange takes.
    pub(super) fn find(request: &Request, client_id: &str, exchange: Exchange) -> Result<Self, Failure> {
        let audience = exchange.audience();
        let of_audience = |token: &&ServiceAccountToken| token.audience == audience && !token.token.is_empty();
        let Some(found) = request.tokens.iter().find(of_audience) else {
            return Err(Failure::invalid(missing(&request.tokens, exchange)));
        };
        Ok(Self {
            client_id: client_id.to_owned(),
            token: found.token.clone(),
            expires: found.expires,
            exchange,
            subject: format!("system:serviceaccount:{}:{}", request.pod.namespace, request.pod.service_account),
        })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn describe(&self) -> String {
        format!("the application {}", tidy(&self.client_id, 60))
    }

    pub(super) fn sign_in(
        &self,
        http: &impl Http,
        settings: &Settings,
        now: u64,
        request_id: &str,
    ) -> Result<Token, Failure> {
        if self.expires <= now {
            let age = now - self.expires;
            let audience = self.exchange.audience();
            return Err(Failure::new(
                FailureKind::Unauthenticated,
                format!(
                    "the service account token for audience {audience} expired {age} seconds ago: kubelet brings a new \
                     one within a minute or two; if it does not help, compare the clocks of node and API server"
                ),
            ));
        }
        let form = [
            ("client_assertion", self.token.as_str()),
            ("client_assertion_type", JWT_BEARER),
            ("client_id", self.client_id.as_str()),
            ("grant_type", "client_credentials"),
        ];
        entra::get_token(http, settings, &form, now, request_id).map_err(|mut refusal| {
            // A service account's token is as secret as any other.
            refusal.detail = refusal.detail.replace(self.token.as_str(), "[token]");
            let advice = self.advise(refusal.code);
            entra::explain(refusal, settings, &self.describe(), advice)
        })
    }

    fn advise(&self, code: Option<u32>) -> Option<String> {
        let subject = tidy(&self.subject, 400);
        Some(match (self.exchange, code?) {
            (Exchange::TokenProxy, 700_211..=700_213 | 70_021 | 7_002_138) => format!(
                "the application does not trust {subject}: bind the identity to the cluster, and let the service \
                 account use it (verb use-managed-identity in cid.wi.aks.azure.com); or no egress rule leads the request \
                 to the token proxy"
            ),
            (Exchange::Entra, 700_211) => format!(
                "the application trusts no token of this cluster: give it a federated credential with the issuer that \
                 follows and the subject {subject}"
            ),
            (Exchange::Entra, 700_212) => {
                let audience = self.exchange.audience();
                format!("the audience of the application's federated credential is not {audience}")
            }
            (Exchange::Entra, 700_213 | 70_021 | 7_002_138) => {
                format!("the application trusts the cluster, but not {subject}: give it a federated credential for it")
            }
            (_, 700_024) => "the service account token is not valid at this time: compare the clocks of node and API \
                             server"
                .to_owned(),
            (_, 700_027 | 50_027) => {
                "Entra cannot verify the service account token: the issuer's keys must be reachable for it".to_owned()
            }
            (_, 700_016) => "the tenant has no such application: check clientID, tenantID and cloudName".to_owned(),
            _ => return None,
        })
    }
}

/// What to say when there is no token for this exchange.
fn missing(tokens: &[ServiceAccountToken], exchange: Exchange) -> String {
    let audience = exchange.audience();
    let remedy = format!("add `{audience}` to spec.tokenRequests of the CSIDriver object");
    match exchange {
        Exchange::Entra if tokens.is_empty() => format!(
            "service account tokens not found, which clientID asks to sign in with: {remedy}; or leave clientID out to \
             sign in as the service principal of nodePublishSecretRef"
        ),
        Exchange::TokenProxy if tokens.is_empty() => {
            format!("service account tokens are required for identity binding, and there are none: {remedy}")
        }
        _ => {
            let mut found: Vec<String> = tokens.iter().map(|token| tidy(&token.audience, 80)).collect();
            found.truncate(LISTED);
            format!("token for audience {audience} not found, only for {}: {remedy}", found.join(", "))
        }
    }
}
