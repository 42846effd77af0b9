//! The clouds that Azure has, and where each keeps its sign-in and its vaults.
//!
//! A cloud's endpoints come from the table here or, for a custom cloud, from a file that the administrator granted: no
//! discovery, no answer of a server changes them, so a cloud without a way to the internet works. What is used of such a
//! file is checked; the rest of it is not looked at.

mod custom;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::failure::tidy;
use crate::parameters::Reader;
use crate::spelling;

/// One Azure cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cloud {
    /// As in `cloudName`.
    pub(crate) name: &'static str,
    /// The host of the token endpoint, with a port where it is not 443.
    pub(crate) login_host: Cow<'static, str>,
    /// The domain that every vault's host is in; also the host of the resource that tokens are for.
    pub(crate) vault_domain: Cow<'static, str>,
    /// What pod identity calls the vaults: a URL without a slash at the end. Only a custom cloud may lack it.
    pub(crate) vault_endpoint: Option<Cow<'static, str>>,
}

/// What `cloudName` and `cloudEnvFileName` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A cloud of the table.
    Known(Cloud),
    /// The cloud that the granted file of this name describes.
    Custom {
        /// As in `cloudEnvFileName`.
        file: String,
    },
}

/// Why there is no such cloud.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "cloudName {name} is not valid{}; the clouds are AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, \
         AzureGermanCloud and AzureStackCloud",
        .meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default()
    )]
    Unknown { name: String, meant: Option<&'static str> },
    #[error(
        "cloudName {CUSTOM} is not valid: there is no file `{file}`, which cloudEnvFileName names; an administrator has \
         to grant it, under exactly this name, in `configFiles` of the provider"
    )]
    NotGranted { file: String },
    #[error("cloudName {CUSTOM} is not valid: the custom cloud file `{file}` {mistake}")]
    Content { file: String, mistake: String },
}

const fn known(
    name: &'static str,
    login_host: &'static str,
    vault_domain: &'static str,
    endpoint: &'static str,
) -> Cloud {
    Cloud {
        name,
        login_host: Cow::Borrowed(login_host),
        vault_domain: Cow::Borrowed(vault_domain),
        vault_endpoint: Some(Cow::Borrowed(endpoint)),
    }
}

static CLOUDS: [Cloud; 4] = [
    known(DEFAULT, "login.microsoftonline.com", "vault.azure.net", "https://vault.azure.net"),
    known(
        "AzureUSGovernmentCloud",
        "login.microsoftonline.us",
        "vault.usgovcloudapi.net",
        "https://vault.usgovcloudapi.net",
    ),
    known("AzureChinaCloud", "login.chinacloudapi.cn", "vault.azure.cn", "https://vault.azure.cn"),
    known("AzureGermanCloud", "login.microsoftonline.de", "vault.microsoftazure.de", "https://vault.microsoftazure.de"),
];

/// What an empty `cloudName` means.
const DEFAULT: &str = "AzurePublicCloud";

/// Second names, which the reference accepts as well.
const ALIASES: [(&str, &str); 2] = [("AzureCloud", DEFAULT), ("AzureUSGovernment", "AzureUSGovernmentCloud")];

const CUSTOM: &str = "AzureStackCloud";

const FILE: &str = "cloudEnvFileName";

impl Choice {
    /// What the parameters name; none after a mistake, which the reader then knows.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (name, file) = (reader.text("cloudName"), reader.text(FILE));
        if name.eq_ignore_ascii_case(CUSTOM) && file.is_empty() {
            reader.missing(
                FILE,
                FILE,
                ": cloudName AzureStackCloud takes the cloud's endpoints from the file that it names",
            );
            return None;
        }
        let choice = Self::named(name, file);
        reader.note(choice)
    }

    /// The cloud of this name in any case; the public one for an empty name.
    fn named(name: &str, file: &str) -> Result<Self, Error> {
        let name = if name.is_empty() { DEFAULT } else { name };
        if name.eq_ignore_ascii_case(CUSTOM) {
            return Ok(Self::Custom { file: file.to_owned() });
        }
        let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|(_, name)| *name);
        let wanted = alias.unwrap_or(name);
        let cloud = CLOUDS.iter().find(|cloud| cloud.name.eq_ignore_ascii_case(wanted));
        cloud.cloned().map(Self::Known).ok_or_else(|| {
            let known: Vec<&'static str> = CLOUDS.iter().map(|cloud| cloud.name).chain([CUSTOM]).collect();
            Error::Unknown { name: tidy(name, 60), meant: spelling::nearest(name, &known) }
        })
    }

    /// A parameter that has no effect with this cloud.
    pub(crate) fn remark(&self, reader: &Reader<'_>) -> Option<String> {
        let idle = matches!(self, Self::Known(_)) && !reader.text(FILE).is_empty();
        idle.then(|| format!("the parameter {FILE} has no effect without cloudName: {CUSTOM}"))
    }

    /// What tells this cloud from others before its file is read.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Known(cloud) => cloud.name.to_owned(),
            Self::Custom { file } => format!("{CUSTOM}:{file:?}"),
        }
    }

    /// The cloud, a custom one out of the granted files.
    pub(crate) fn resolve(&self, config: &BTreeMap<String, Vec<u8>>) -> Result<Cloud, Error> {
        let file = match self {
            Self::Known(cloud) => return Ok(cloud.clone()),
            Self::Custom { file } => file,
        };
        let shown = || tidy(file, 120);
        let bytes = config.get(file).ok_or_else(|| Error::NotGranted { file: shown() })?;
        custom::read(bytes).map_err(|mistake| Error::Content { file: shown(), mistake })
    }
}

impl Cloud {
    /// What a token has to be for, without a slash at the end: `https://vault.azure.net`.
    pub(crate) fn vault_resource(&self) -> String {
        format!("https://{}", self.vault_domain)
    }

    /// What tells this cloud from every other one, however it came to be described.
    pub(crate) fn key(&self) -> String {
        if CLOUDS.contains(self) {
            return self.name.to_owned();
        }
        let endpoint = self.vault_endpoint.as_deref().unwrap_or_default();
        format!("{}:{}:{}:{endpoint}", self.name, self.login_host, self.vault_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> String {
        Choice::named(name, "").unwrap().resolve(&BTreeMap::new()).unwrap().vault_domain.into_owned()
    }

    #[test]
    fn every_name_and_alias_is_found_in_any_case() {
        for (name, expected) in [
            ("", "vault.azure.net"),
            ("AzurePublicCloud", "vault.azure.net"),
            ("AZURECLOUD", "vault.azure.net"),
            ("azureusgovernmentcloud", "vault.usgovcloudapi.net"),
            ("AzureUSGovernment", "vault.usgovcloudapi.net"),
            ("AzureChinaCloud", "vault.azure.cn"),
            ("AzureGermanCloud", "vault.microsoftazure.de"),
        ] {
            assert_eq!(domain(name), expected, "{name}");
        }
    }

    #[test]
    fn the_endpoint_of_every_cloud_is_its_domain() {
        for cloud in &CLOUDS {
            assert_eq!(cloud.vault_endpoint.as_deref(), Some(cloud.vault_resource().as_str()));
        }
    }

    #[test]
    fn an_unknown_cloud_is_answered_with_the_nearest_name() {
        let error = Choice::named("AzureChinaClod", "").unwrap_err().to_string();
        assert!(error.starts_with("cloudName AzureChinaClod is not valid: did you mean AzureChinaCloud?"), "{error}");
        let error = Choice::named("Mars", "").unwrap_err().to_string();
        assert!(error.contains("AzureUSGovernmentCloud") && !error.contains("did you mean"), "{error}");
        let error = Choice::named("AzureStackClowd", "").unwrap_err().to_string();
        assert!(error.contains("did you mean AzureStackCloud?"), "{error}");
    }

    #[test]
    fn a_custom_cloud_is_told_from_others_by_its_file_and_then_by_its_content() {
        let choice = Choice::named("azurestackcloud", "/etc/cloud.json").unwrap();
        assert_eq!(choice.key(), r#"AzureStackCloud:"/etc/cloud.json""#);
        let file = |login: &str| {
            let text = format!(r#"{{"activeDirectoryEndpoint":"{login}","keyVaultDNSSuffix":"vault.test"}}"#);
            BTreeMap::from([("/etc/cloud.json".to_owned(), text.into_bytes())])
        };
        let one = choice.resolve(&file("https://login.one.test/")).unwrap();
        let two = choice.resolve(&file("https://login.two.test/")).unwrap();
        assert_ne!(one.key(), two.key());
        // A file that spells out the public cloud is still not the cloud of the table.
        let copy = BTreeMap::from([(
            "/etc/cloud.json".to_owned(),
            br#"{"activeDirectoryEndpoint":"https://login.microsoftonline.com","keyVaultDNSSuffix":"vault.azure.net"}"#
                .to_vec(),
        )]);
        assert_ne!(choice.resolve(&copy).unwrap().key(), "AzurePublicCloud");
    }

    #[test]
    fn a_file_that_is_not_granted_is_named() {
        let error = Choice::named("AzureStackCloud", "/c.json").unwrap().resolve(&BTreeMap::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cloudName AzureStackCloud is not valid") && text.contains("`/c.json`"), "{text}");
        assert!(text.contains("configFiles"), "{text}");
    }
}
