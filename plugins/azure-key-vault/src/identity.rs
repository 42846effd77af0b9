//! Who signs in, and how: one file below for each way.
//!
//! [`Identity::choose`] picks the way exactly as the reference does; [`Credentials`] is what that way needs, taken from
//! the request; signing in turns them into a [`Token`]. Parameters that contradict each other or miss one are a mistake
//! that names them, never a silent fall to another way.
//!
//! `certificate` signs for a service principal that has one instead of a client secret;
//! `entra` is the token endpoint that three of the ways share, `grant` the answer that all of them get.

mod certificate;
mod entra;
mod federated;
mod grant;
mod managed;
mod pod;
mod service_principal;

use crate::cloud;
use crate::failure::Failure;
use crate::http::Http;
use crate::parameters::{Reader, Settings, Tenant};
use crate::provider::{Request, Scope};
use crate::token::Token;

use federated::Exchange;

/// A way to sign in, and what the parameters say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Client id and secret, or certificate, from the Secret that `nodePublishSecretRef` names.
    ServicePrincipal,
    /// A token of the pod's service account, exchanged at Entra.
    Workload { client_id: String },
    /// A token of the pod's service account, exchanged through the token proxy of the cluster.
    Binding { client_id: String },
    /// What Azure's metadata service knows of the node: one of its user-assigned identities, or its own.
    Managed { client_id: Option<String> },
    /// What the node's NMI, the deprecated agent of pod identity, gives to the pod.
    Pod,
}

/// What a way to sign in needs, ready for use.
pub(crate) enum Credentials {
    ServicePrincipal(Box<service_principal::Credentials>),
    Federated(federated::Credentials),
    Managed(managed::Credentials),
    Pod(pod::Credentials),
}

/// The parameters of which at most one may be true.
const FLAGS: [&str; 3] = ["usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy"];

impl Identity {
    /// The way that the parameters ask for; none after a mistake, which the reader then knows.
    pub(crate) fn choose(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = FLAGS.map(|key| reader.flag(key));
        let [Some(pod), Some(managed), Some(proxy)] = flags else { return None };
        let client_id = reader.text("clientID").to_owned();
        match (pod, managed, proxy) {
            (false, false, false) if client_id.is_empty() => Some(Self::ServicePrincipal),
            (false, false, false) => Some(Self::Workload { client_id }),
            (true, false, false) => Some(Self::Pod),
            (false, true, false) => {
                let client_id = reader.text("userAssignedIdentityID").to_owned();
                Some(Self::Managed { client_id: Some(client_id).filter(|id| !id.is_empty()) })
            }
            (false, false, true) if client_id.is_empty() => {
                reader.mistake(
                    "clientID is required for useAzureTokenProxy: write the client id of the managed identity that the \
                     service account is bound to"
                        .to_owned(),
                );
                None
            }
            (false, false, true) => Some(Self::Binding { client_id }),
            _ => {
                let set = FLAGS.iter().zip(flags).filter(|(_, flag)| *flag == Some(true));
                let keys: Vec<&str> = set.map(|(key, _)| *key).collect();
                reader.mistake(format!("only one identity mode may be on, and {} are true", keys.join(" and ")));
                None
            }
        }
    }

    /// Adds what contradicts cloud or tenant to the mistakes.
    pub(crate) fn contradict(&self, cloud: &cloud::Choice, tenant: &Tenant, reader: &mut Reader<'_>) {
        if !self.asks_tenant() || !tenant.is_adfs() {
            return;
        }
        if matches!(cloud, cloud::Choice::Known(_)) {
            reader.mistake(
                "tenantID adfs signs in with AD FS, whose host only a custom cloud names: set cloudName AzureStackCloud \
                 and cloudEnvFileName"
                    .to_owned(),
            );
        }
        if matches!(self, Self::Binding { .. }) {
            reader.mistake(
                "tenantID adfs and useAzureTokenProxy contradict each other: the token proxy leads to Entra".to_owned(),
            );
        }
    }

    /// Whether the tenant has a part in it. The metadata service and the NMI do not ask for one.
    pub(crate) fn asks_tenant(&self) -> bool {
        match self {
            Self::ServicePrincipal | Self::Workload { .. } | Self::Binding { .. } => true,
            Self::Managed { .. } | Self::Pod => false,
        }
    }

    /// A stable name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ServicePrincipal => "service-principal",
            Self::Workload { .. } => "workload-identity",
            Self::Binding { .. } => "identity-binding",
            Self::Managed { .. } => "managed-identity",
            Self::Pod => "pod-identity",
        }
    }

    /// The client id that the parameters name, where they name one that has an effect.
    pub(crate) fn client_id(&self) -> Option<&str> {
        match self {
            Self::Workload { client_id } | Self::Binding { client_id } => Some(client_id),
            Self::Managed { client_id } => client_id.as_deref(),
            Self::ServicePrincipal | Self::Pod => None,
        }
    }

    /// Whom the vault will see.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Pod => Scope::Pod,
            _ => Scope::ServiceAccount,
        }
    }

    /// Parameters that have no effect with this way.
    pub(crate) fn remarks(&self, reader: &Reader<'_>) -> Vec<String> {
        let mut remarks = Vec::new();
        let is_set = |key| !reader.text(key).is_empty();
        if is_set("userAssignedIdentityID") && !matches!(self, Self::Managed { .. }) {
            remarks.push(
                "the parameter userAssignedIdentityID has no effect without useVMManagedIdentity: \"true\"".to_owned(),
            );
        }
        match self {
            Self::Managed { client_id: None } if is_set("clientID") => remarks.push(
                "the parameter clientID has no effect with useVMManagedIdentity, and the node's system-assigned identity \
                 is used: name another one in userAssignedIdentityID"
                    .to_owned(),
            ),
            Self::Managed { .. } if is_set("clientID") => {
                remarks.push("the parameter clientID has no effect with useVMManagedIdentity".to_owned());
            }
            Self::Pod if is_set("clientID") => {
                remarks.push("the parameter clientID has no effect with usePodIdentity".to_owned());
            }
            _ => {}
        }
        remarks
    }

    /// What this way needs.
    ///
    /// # Errors
    /// `InvalidRequest` when something is missing.
    pub(crate) fn credentials(&self, request: &Request) -> Result<Credentials, Failure> {
        Ok(match self {
            Self::ServicePrincipal => {
                Credentials::ServicePrincipal(Box::new(service_principal::Credentials::read(request)?))
            }
            Self::Workload { client_id } => {
                Credentials::Federated(federated::Credentials::find(request, client_id, Exchange::Entra)?)
            }
            Self::Binding { client_id } => {
                Credentials::Federated(federated::Credentials::find(request, client_id, Exchange::TokenProxy)?)
            }
            Self::Managed { client_id } => Credentials::Managed(managed::Credentials::new(client_id.clone())),
            Self::Pod => Credentials::Pod(pod::Credentials::of(&request.pod)?),
        })
    }
}

impl Credentials {
    /// Gets a token for the vaults of the class's cloud. `request_id` goes along for people who compare logs.
    pub(crate) fn sign_in(
        &self,
        http: &impl Http,
        settings: &Settings,
        now: u64,
        request_id: &str,
    ) -> Result<Token, Failure> {
        match self {
            Self::ServicePrincipal(credentials) => credentials.sign_in(http, settings, now, request_id),
            Self::Federated(credentials) => credentials.sign_in(http, settings, now, request_id),
            Self::Managed(credentials) => credentials.sign_in(http, settings, now, request_id),
            Self::Pod(credentials) => credentials.sign_in(http, settings, now),
        }
    }

    /// Who signs in, so far as the parameters do not say it: not secret, and different for any two that a vault could
    /// tell apart.
    pub(crate) fn client_id(&self) -> &str {
        match self {
            Self::ServicePrincipal(credentials) => credentials.client_id(),
            Self::Federated(credentials) => credentials.client_id(),
            Self::Managed(credentials) => credentials.client_id(),
            Self::Pod(credentials) => credentials.pod(),
        }
    }

    /// Who the vault sees, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::ServicePrincipal(credentials) => credentials.describe(),
            Self::Federated(credentials) => credentials.describe(),
            Self::Managed(credentials) => credentials.describe(),
            Self::Pod(credentials) => credentials.describe(),
        }
    }
}

/// RFC 9562 section 4: 8, 4, 4, 4 and 12 hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let blocks = text.split('-').map(|block| block.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(block.len()));
    blocks.eq([8, 4, 4, 4, 12].map(Some))
}
