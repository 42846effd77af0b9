//! The plan of a mount: class, grant and pod become everything that the provider will be told.
//!
//! Pure but for the files that an administrator grants, which are read here.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use coffer_sandbox::provider::{Parameters, Pod, ServiceAccountToken};
use coffer_sandbox::secret::SecretBytes;

use super::Error;
use crate::api::class::SecretProviderClass;
use crate::config::{Config, Grant, Overrides};
use crate::mistake::Position;

/// The most bytes that a granted file may have.
const LARGEST_CONFIG_FILE: u64 = 1 << 20;

/// What somebody wants to have mounted.
pub struct Wish<'a> {
    /// The class.
    pub class: &'a SecretProviderClass,
    /// Where the class names its provider, if that stands in a file.
    pub provider_position: Option<Position>,
    /// The pod.
    pub pod: Pod,
    /// The pod's volume attributes, without those of kubelet.
    pub attributes: BTreeMap<String, String>,
    /// The content of the Secret that `nodePublishSecretRef` names.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// The service account's tokens.
    pub tokens: Vec<ServiceAccountToken>,
    /// The mode of files for which the provider says none.
    pub default_mode: u32,
    /// How long it may take; the grant may say less.
    pub timeout: Option<Duration>,
}

/// Everything that a call needs.
#[derive(Debug)]
pub struct Plan {
    /// The class's name.
    pub class: String,
    /// The provider's name.
    pub provider: String,
    /// The pod.
    pub pod: Pod,
    /// What the provider is told.
    pub parameters: Parameters,
    /// Names of the parameters that volume attributes replaced or added.
    pub overridden: Vec<String>,
    /// Keys and values of the Secret.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// The service account's tokens.
    pub tokens: Vec<ServiceAccountToken>,
    /// Whether the pod may use the identity of the node.
    pub node_identity: bool,
    /// Granted files that the parameters name.
    pub config: BTreeMap<String, Vec<u8>>,
    /// The mode of files for which the provider says none.
    pub default_mode: u32,
    /// How long it may take.
    pub deadline: Duration,
}

/// The grant of the class's provider.
///
/// # Errors
///
/// [`Error::UnknownProvider`].
pub fn find_grant<'a>(
    config: &'a Config,
    class: &SecretProviderClass,
    position: Option<&Position>,
) -> Result<&'a Grant, Error> {
    config.providers.get(&class.provider).ok_or_else(|| Error::UnknownProvider {
        class: class.name.clone(),
        provider: class.provider.clone(),
        position: position.cloned(),
        known: config.providers.keys().cloned().collect(),
    })
}

/// Makes the plan.
///
/// # Errors
///
/// When there is no such provider, an override is not allowed, or a granted file cannot be read.
pub fn plan(config: &Config, wish: Wish<'_>) -> Result<Plan, Error> {
    let class = wish.class;
    let grant = find_grant(config, class, wish.provider_position.as_ref())?;
    check_overrides(&config.overrides, &wish.attributes)?;
    let mut parameters = grant.parameters.clone();
    parameters.extend(class.parameters.clone());
    let differs = |(key, value): &(&String, &String)| parameters.get(*key) != Some(*value);
    let overridden = wish.attributes.iter().filter(differs).map(|(key, _)| key.clone()).collect();
    parameters.extend(wish.attributes);
    let node_identity = config.node_identity.contains(&wish.pod.namespace);
    let config = read_config_files(grant, &parameters)?;
    let limit = grant.limits.deadline;
    Ok(Plan {
        class: class.name.clone(),
        provider: class.provider.clone(),
        pod: wish.pod,
        parameters,
        overridden,
        secrets: wish.secrets,
        tokens: wish.tokens,
        node_identity,
        config,
        default_mode: wish.default_mode,
        deadline: wish.timeout.map_or(limit, |timeout| timeout.min(limit)),
    })
}

fn check_overrides(allowed: &Overrides, attributes: &BTreeMap<String, String>) -> Result<(), Error> {
    let denied = |key: &&String| match allowed {
        Overrides::Allow => false,
        Overrides::Deny => true,
        Overrides::Keys(keys) => !keys.contains(key),
    };
    let denied: Vec<_> = attributes.keys().filter(denied).cloned().collect();
    if denied.is_empty() { Ok(()) } else { Err(Error::OverrideDenied(denied)) }
}

/// Only what the administrator granted *and* the parameters name.
fn read_config_files(grant: &Grant, parameters: &Parameters) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let named = |name: &String| parameters.values().any(|value| value.trim() == name);
    let mut files = BTreeMap::new();
    for (name, file) in grant.config_files.iter().filter(|(name, _)| named(name)) {
        files.insert(name.clone(), read_config_file(name, file)?);
    }
    Ok(files)
}

fn read_config_file(name: &str, file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::ConfigFile { name: name.to_owned(), file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(LARGEST_CONFIG_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_CONFIG_FILE {
        let limit = LARGEST_CONFIG_FILE;
        return Err(Error::ConfigFileTooLarge { name: name.to_owned(), file: file.to_owned(), limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> SecretProviderClass {
        let parameters = [("keyvaultName", "kv"), ("cloudEnvFileName", " /cloud.json ")];
        SecretProviderClass {
            name: "c".into(),
            provider: "azure".into(),
            parameters: parameters.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            ..Default::default()
        }
    }

    fn wish<'a>(class: &'a SecretProviderClass, attributes: &[(&str, &str)]) -> Wish<'a> {
        Wish {
            class,
            provider_position: None,
            pod: Pod::default(),
            attributes: attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            secrets: BTreeMap::new(),
            tokens: Vec::new(),
            default_mode: 0o644,
            timeout: None,
        }
    }

    fn config() -> Config {
        let mut config = Config::load(Some(Path::new("/dev/null"))).unwrap();
        config.overrides = Overrides::Allow;
        config
    }

    #[test]
    fn volume_attributes_lie_over_the_parameters_and_are_named() {
        let plan = plan(&config(), wish(&class(), &[("keyvaultName", "other"), ("extra", "x")])).unwrap();
        assert_eq!((plan.parameters["keyvaultName"].as_str(), plan.parameters["extra"].as_str()), ("other", "x"));
        assert_eq!(plan.overridden, ["extra", "keyvaultName"]);
    }

    #[test]
    fn the_parameters_of_the_grant_lie_under_those_of_the_class() {
        let mut config = config();
        let granted = [("cloudName", "AzureChinaCloud"), ("keyvaultName", "never")];
        config.providers.get_mut("azure").unwrap().parameters =
            granted.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let plan = plan(&config, wish(&class(), &[])).unwrap();
        assert_eq!(
            (plan.parameters["cloudName"].as_str(), plan.parameters["keyvaultName"].as_str()),
            ("AzureChinaCloud", "kv")
        );
        assert!(plan.overridden.is_empty());
    }

    #[test]
    fn the_configuration_decides_which_attributes_pass() {
        let mut config = config();
        let both = [("keyvaultName", "other"), ("objects", "x")];
        config.overrides = Overrides::Keys(vec!["objects".into()]);
        let error = plan(&config, wish(&class(), &both)).unwrap_err();
        assert!(matches!(error, Error::OverrideDenied(keys) if keys == ["keyvaultName"]));
        assert!(plan(&config, wish(&class(), &both[1..])).is_ok());
        config.overrides = Overrides::Deny;
        assert!(plan(&config, wish(&class(), &both[1..])).is_err());
        assert!(plan(&config, wish(&class(), &[])).is_ok());
    }

    #[test]
    fn a_granted_file_is_read_only_where_the_class_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cloud.json");
        std::fs::write(&file, "{}").unwrap();
        let mut config = config();
        let grant = config.providers.get_mut("azure").unwrap();
        grant.config_files.insert("/cloud.json".into(), file);
        grant.config_files.insert("/other.json".into(), folder.path().join("missing"));
        let plan = plan(&config, wish(&class(), &[])).unwrap();
        assert_eq!(plan.config, BTreeMap::from([("/cloud.json".to_owned(), b"{}".to_vec())]));
    }

    #[test]
    fn the_shorter_of_timeout_and_limit_holds() {
        let (config, class) = (config(), class());
        let limit = config.providers["azure"].limits.deadline;
        let deadline = |timeout| plan(&config, Wish { timeout, ..wish(&class, &[]) }).unwrap().deadline;
        assert_eq!(deadline(None), limit);
        assert_eq!(deadline(Some(limit * 2)), limit);
        assert_eq!(deadline(Some(limit / 2)), limit / 2);
    }
}
