//! Who signs in, and how: one file below for each way.
//!
//! [`Identity::choose`] picks the way exactly as the reference does; [`Credentials`] is what that way needs, taken from
//! the request; signing in turns them into a [`Token`]. A way that this version does not have is a mistake that names
//! the parameter asking for it, never a silent fall to another way.

mod entra;
mod service_principal;

use crate::failure::Failure;
use crate::http::Http;
use crate::parameters::{Reader, Settings};
use crate::provider::{Request, Scope};
use crate::token::Token;

/// A way to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Client id and secret from the Secret that `nodePublishSecretRef` names.
    ServicePrincipal,
}

/// What a way to sign in needs, ready for use.
pub(crate) enum Credentials {
    ServicePrincipal(service_principal::Credentials),
}

/// The parameters that choose a way which is not built yet, and the way's name.
const OTHER_WAYS: [(&str, &str); 3] = [
    ("usePodIdentity", "pod identity"),
    ("useVMManagedIdentity", "VM managed identity"),
    ("useAzureTokenProxy", "identity binding"),
];

impl Identity {
    /// The way that the parameters ask for; none after a mistake, which the reader then knows.
    pub(crate) fn choose(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = OTHER_WAYS.map(|(key, way)| (key, way, reader.flag(key)));
        if flags.iter().any(|(_, _, flag)| flag.is_none()) {
            return None;
        }
        let set: Vec<(&str, &str)> =
            flags.into_iter().filter(|(_, _, flag)| *flag == Some(true)).map(|(key, way, _)| (key, way)).collect();
        match set.as_slice() {
            [] if reader.text("clientID").is_empty() => Some(Self::ServicePrincipal),
            [] => {
                reader.mistake(not_built("clientID", "workload identity"));
                None
            }
            [(key, way)] => {
                reader.mistake(not_built(key, way));
                None
            }
            several => {
                let keys: Vec<&str> = several.iter().map(|(key, _)| *key).collect();
                reader.mistake(format!("{} exclude each other: only one may be true", keys.join(" and ")));
                None
            }
        }
    }

    /// A stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServicePrincipal => "service-principal",
        }
    }

    /// Whom the vault will see.
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::ServicePrincipal => Scope::ServiceAccount,
        }
    }

    /// A parameter that has no effect with this way.
    pub(crate) fn remark(self, reader: &Reader<'_>) -> Option<String> {
        (!reader.text("userAssignedIdentityID").is_empty()).then(|| {
            "the parameter userAssignedIdentityID has no effect without useVMManagedIdentity: \"true\"".to_owned()
        })
    }

    /// What this way needs.
    ///
    /// # Errors
    /// `InvalidRequest` when something is missing.
    pub(crate) fn credentials(self, request: &Request) -> Result<Credentials, Failure> {
        match self {
            Self::ServicePrincipal => {
                service_principal::Credentials::read(&request.secrets).map(Credentials::ServicePrincipal)
            }
        }
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
        }
    }

    /// The id of the application that signs in; not secret.
    pub(crate) fn client_id(&self) -> &str {
        match self {
            Self::ServicePrincipal(credentials) => credentials.client_id(),
        }
    }

    /// Who the vault sees, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::ServicePrincipal(credentials) => credentials.describe(),
        }
    }
}

fn not_built(key: &str, way: &str) -> String {
    format!(
        "{key} asks for {way}, which this version of the provider does not have: leave {key} out, and name a Secret \
         with clientid and clientsecret in nodePublishSecretRef to sign in as a service principal"
    )
}
