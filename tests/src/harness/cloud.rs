//! The host names of the Azure clouds, and of clouds that a test makes up.
//!
//! Used to tell which service a request's host stands for, and which audience a vault accepts.

/// One Azure cloud: where its tokens come from and where its vaults live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// As in the class parameter `cloudName`.
    pub name: String,
    /// Host of the token endpoint.
    pub login_host: String,
    /// A vault's host is `<vault>.<vault_suffix>`.
    pub vault_suffix: String,
    /// The audience that the vaults demand, without a trailing slash.
    pub resource: String,
}

impl Cloud {
    /// A cloud by its parts; the resource is `https://<vault_suffix>`.
    pub fn custom(name: &str, login_host: &str, vault_suffix: &str) -> Self {
        Self {
            name: name.to_owned(),
            login_host: login_host.to_ascii_lowercase(),
            vault_suffix: vault_suffix.to_ascii_lowercase(),
            resource: format!("https://{}", vault_suffix.to_ascii_lowercase()),
        }
    }

    /// `AzurePublicCloud`.
    pub fn public() -> Self {
        Self::custom("AzurePublicCloud", "login.microsoftonline.com", "vault.azure.net")
    }

    /// `AzureUSGovernmentCloud`.
    pub fn us_government() -> Self {
        Self::custom("AzureUSGovernmentCloud", "login.microsoftonline.us", "vault.usgovcloudapi.net")
    }

    /// `AzureChinaCloud`.
    pub fn china() -> Self {
        Self::custom("AzureChinaCloud", "login.chinacloudapi.cn", "vault.azure.cn")
    }

    /// `AzureGermanCloud`.
    pub fn german() -> Self {
        Self::custom("AzureGermanCloud", "login.microsoftonline.de", "vault.microsoftazure.de")
    }

    /// The four that have a name of their own.
    pub fn all() -> Vec<Self> {
        vec![Self::public(), Self::us_government(), Self::china(), Self::german()]
    }

    /// The host of a vault of this cloud, in lower case.
    pub fn vault_host(&self, vault: &str) -> String {
        format!("{}.{}", vault.to_ascii_lowercase(), self.vault_suffix)
    }
}
