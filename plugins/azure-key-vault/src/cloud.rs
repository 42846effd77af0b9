//! The clouds that Azure has, and where each keeps its sign-in and its vaults.
//!
//! A cloud's endpoints come from the table here and from nowhere else: no discovery, no answer of a server changes
//! them. A custom cloud, described by a file of the grant, will become another way to make a [`Cloud`].

use crate::spelling;

/// One Azure cloud.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cloud {
    /// As in `cloudName`.
    pub(crate) name: &'static str,
    /// The host of Entra's token endpoint.
    pub(crate) entra_host: &'static str,
    /// The domain that every vault's host is in; also the host of the resource that tokens are for.
    pub(crate) vault_domain: &'static str,
}

/// Why there is no such cloud.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "cloudName `{name}` is not a cloud{}; the clouds are AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud \
         and AzureGermanCloud",
        .meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default()
    )]
    Unknown { name: String, meant: Option<&'static str> },
    #[error(
        "cloudName `AzureStackCloud` asks for a custom cloud file, which this version of the provider cannot read; it \
         knows AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud and AzureGermanCloud"
    )]
    Custom,
}

static CLOUDS: [Cloud; 4] = [
    Cloud { name: DEFAULT, entra_host: "login.microsoftonline.com", vault_domain: "vault.azure.net" },
    Cloud {
        name: "AzureUSGovernmentCloud",
        entra_host: "login.microsoftonline.us",
        vault_domain: "vault.usgovcloudapi.net",
    },
    Cloud { name: "AzureChinaCloud", entra_host: "login.chinacloudapi.cn", vault_domain: "vault.azure.cn" },
    Cloud { name: "AzureGermanCloud", entra_host: "login.microsoftonline.de", vault_domain: "vault.microsoftazure.de" },
];

/// What an empty `cloudName` means.
const DEFAULT: &str = "AzurePublicCloud";

/// Second names, which the reference accepts as well.
const ALIASES: [(&str, &str); 2] = [("AzureCloud", DEFAULT), ("AzureUSGovernment", "AzureUSGovernmentCloud")];

const CUSTOM: &str = "AzureStackCloud";

impl Cloud {
    /// The cloud of this name in any case; the public one for an empty name.
    pub(crate) fn named(name: &str) -> Result<&'static Self, Error> {
        let name = if name.is_empty() { DEFAULT } else { name };
        if name.eq_ignore_ascii_case(CUSTOM) {
            return Err(Error::Custom);
        }
        let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|(_, name)| *name);
        let wanted = alias.unwrap_or(name);
        CLOUDS.iter().find(|cloud| cloud.name.eq_ignore_ascii_case(wanted)).ok_or_else(|| {
            let known: Vec<&'static str> = CLOUDS.iter().map(|cloud| cloud.name).collect();
            Error::Unknown { name: crate::failure::tidy(name, 60), meant: spelling::nearest(name, &known) }
        })
    }

    /// What a token has to be for, without a slash at the end: `https://vault.azure.net`.
    pub(crate) fn vault_resource(&self) -> String {
        format!("https://{}", self.vault_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_alias_is_found_in_any_case() {
        for (name, domain) in [
            ("", "vault.azure.net"),
            ("AzurePublicCloud", "vault.azure.net"),
            ("AZURECLOUD", "vault.azure.net"),
            ("azureusgovernmentcloud", "vault.usgovcloudapi.net"),
            ("AzureUSGovernment", "vault.usgovcloudapi.net"),
            ("AzureChinaCloud", "vault.azure.cn"),
            ("AzureGermanCloud", "vault.microsoftazure.de"),
        ] {
            assert_eq!(Cloud::named(name).map(|cloud| cloud.vault_domain), Ok(domain), "{name}");
        }
    }

    #[test]
    fn an_unknown_cloud_is_answered_with_the_nearest_name() {
        let error = Cloud::named("AzureChinaClod").unwrap_err();
        assert!(error.to_string().contains("did you mean AzureChinaCloud?"), "{error}");
        let error = Cloud::named("Mars").unwrap_err();
        assert!(error.to_string().contains("AzureUSGovernmentCloud") && !error.to_string().contains("did you mean"));
    }
}
