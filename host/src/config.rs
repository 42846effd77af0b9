//! The configuration: what ships, with one file of the administrator laid over it.
//!
//! `default.yaml` is the only place with default values, and it is parsed like any other file. After [`Config::load`]
//! nothing is optional and nothing is checked again; files with certificates have been read, plugins have not.
//! `commands` is the caller.

pub mod document;
mod grant;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_sandbox::egress::{CertificateDer, ProxySettings};
use rustls_pki_types::pem::PemObject;
use serde_saphyr::Spanned;

use crate::mistake::Mistakes;
use crate::yaml;
use document::Document;
pub use document::{Namespaces, Overrides};
pub use grant::Grant;

/// The shipped configuration, with an explanation of every key.
pub const DEFAULT: &str = include_str!("config/default.yaml");
/// The file that is read when none is named and this one exists.
pub const DEFAULT_FILE: &str = "/etc/coffer/config.yaml";

/// The most bytes that a configuration or a file with certificates may have.
const LARGEST_FILE: u64 = 1 << 20;

/// The configuration of this process.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder for compiled plugins.
    pub cache: PathBuf,
    /// Authorities to trust besides those of the system.
    pub ca: Vec<CertificateDer<'static>>,
    /// The proxies.
    pub proxy: ProxySettings,
    /// The grants, by `spec.provider`.
    pub providers: BTreeMap<String, Grant>,
    /// Which volume attributes may set parameters.
    pub overrides: Overrides,
    /// Which namespaces may use the identity of the node.
    pub node_identity: Namespaces,
    /// How long a result may be shared.
    pub reuse: Duration,
    /// Whether Kubernetes Secrets are made of mounted files, and of which types.
    pub sync: SyncSettings,
    /// What pods may start with while their store cannot be reached.
    pub offline_start: OfflineStart,
}

/// Whether Kubernetes Secrets are made of mounted files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncSettings {
    /// Whether they are.
    pub enabled: bool,
    /// Types besides those that Kubernetes knows.
    pub types: BTreeSet<String>,
}

/// What an administrator allows of kept results, whatever a class asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfflineStart {
    /// The greatest age; none of it forbids them.
    pub max_age: Duration,
    /// Bytes of memory for all of them.
    pub memory: u64,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Larger than any configuration.
    #[error("{} is larger than {LARGEST_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It says something that is not understood.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// A file with authorities has none.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// A file with authorities is broken.
    #[error("{} is not in PEM form", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls_pki_types::pem::Error,
    },
    /// There is no place for compiled plugins.
    #[error("no folder for compiled plugins: set `cache` in the configuration, or the variable HOME")]
    NoCache,
}

impl Config {
    /// Reads the named file, else [`DEFAULT_FILE`] if it exists, and lays it over what ships.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or says something that is not understood.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let shipped = parse("the shipped configuration", DEFAULT.as_bytes())?;
        let said = match file {
            Some(file) => Some(file),
            None => Some(Path::new(DEFAULT_FILE)).filter(|file| file.exists()),
        };
        let Some(file) = said else { return Self::merge(shipped, Document::default(), Path::new("")) };
        let text = read_file(file)?;
        Self::merge(shipped, parse(&file.display().to_string(), &text)?, file)
    }

    fn merge(shipped: Document, said: Document, file: &Path) -> Result<Self, Error> {
        let base = file.parent().unwrap_or(Path::new(""));
        let at = |provider: &Spanned<_>| yaml::Place::of(provider.referenced).in_file(&file.display().to_string());
        let root = Path::new("/");
        let mut providers = BTreeMap::new();
        for (name, provider) in shipped.providers.unwrap_or_default() {
            let position = at(&provider);
            let grant = Grant::read(provider.value, position, root, None)?;
            providers.insert(name, grant);
        }
        for (name, provider) in said.providers.unwrap_or_default() {
            let position = at(&provider);
            let grant = Grant::read(provider.value, position, base, providers.get(&name))?;
            providers.insert(name, grant);
        }
        let (shipped_egress, egress) = (shipped.egress.unwrap_or_default(), said.egress.unwrap_or_default());
        let mut ca = Vec::new();
        for file in egress.ca.or(shipped_egress.ca).unwrap_or_default() {
            ca.extend(read_certificates(&base.join(file))?);
        }
        let proxy = egress.proxy.or(shipped_egress.proxy).map(|proxy| proxy.0).unwrap_or_default();
        let overrides = said.volume_attribute_overrides.or(shipped.volume_attribute_overrides);
        let cache = match said.cache {
            Some(cache) => base.join(cache),
            None => default_cache()?,
        };
        let node_identity = said.node_identity.or(shipped.node_identity).map(|said| said.namespaces);
        let sync = sync(said.sync_secrets, shipped.sync_secrets);
        let reuse = said.reuse_results_for.or(shipped.reuse_results_for);
        let (shipped_offline, offline) =
            (shipped.offline_start.unwrap_or_default(), said.offline_start.unwrap_or_default());
        let offline_start = OfflineStart {
            max_age: offline.max_age.or(shipped_offline.max_age).map_or(Duration::ZERO, |age| age.0),
            memory: offline.memory.or(shipped_offline.memory).map_or(0, |size| size.0),
        };
        Ok(Self {
            cache,
            ca,
            proxy,
            providers,
            overrides: overrides.unwrap_or(Overrides::Deny),
            node_identity: node_identity.unwrap_or(Namespaces::Named(Vec::new())),
            reuse: reuse.map_or(Duration::ZERO, |wait| wait.0),
            sync,
            offline_start,
        })
    }
}

/// Keys that are left out keep their shipped value; without any, nothing is synced.
fn sync(said: Option<document::SyncSecrets>, shipped: Option<document::SyncSecrets>) -> SyncSettings {
    let keys = |settings: Option<document::SyncSecrets>| {
        settings.map_or((None, None), |settings| (settings.enabled, settings.types))
    };
    let ((enabled, types), (shipped_enabled, shipped_types)) = (keys(said), keys(shipped));
    let types = types.or(shipped_types).unwrap_or_default();
    SyncSettings {
        enabled: enabled.or(shipped_enabled).unwrap_or(false),
        types: types.into_iter().map(|document::Text(document::SecretType(name))| name).collect(),
    }
}

/// One file's text; a file without any content says nothing.
fn parse(file: &str, text: &[u8]) -> Result<Document, Mistakes> {
    let document: Result<Option<Document>, _> = serde_saphyr::from_slice_with_options(text, yaml::options());
    match document {
        Ok(document) => Ok(document.unwrap_or_default()),
        Err(error) => Err(yaml::explain(file, &error).into()),
    }
}

/// `/var/cache/coffer` for root, the user's own cache for everybody else: a folder that others may write is no place
/// for native code.
fn default_cache() -> Result<PathBuf, Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/coffer"));
    }
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("coffer"))
        .ok_or(Error::NoCache)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Error::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read_file(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|source| Error::Pem { path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(Error::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use coffer_sandbox::limits::Limits;

    use super::*;

    fn merge(text: &str) -> Result<Config, Error> {
        Config::merge(
            parse("default", DEFAULT.as_bytes())?,
            parse("c.yaml", text.as_bytes())?,
            Path::new("/base/c.yaml"),
        )
    }

    fn mistake(text: &str) -> String {
        let Err(Error::Mistakes(Mistakes(mistakes))) = merge(text) else { panic!("accepted: {text}") };
        match &mistakes[0].help {
            Some(help) => format!("{} ({help})", mistakes[0]),
            None => mistakes[0].to_string(),
        }
    }

    fn rules(config: &Config, provider: &str) -> Vec<String> {
        config.providers[provider].rules.iter().map(|rule| rule.rule.text().to_string()).collect()
    }

    #[test]
    fn what_ships_grants_the_vaults_sign_in_and_node_identity_of_every_cloud() {
        let config = merge("").unwrap();
        let rules = rules(&config, "azure");
        let clouds = [
            ("vault.azure.net", "login.microsoftonline.com"),
            ("vault.usgovcloudapi.net", "login.microsoftonline.us"),
            ("vault.azure.cn", "login.chinacloudapi.cn"),
            ("vault.microsoftazure.de", "login.microsoftonline.de"),
        ];
        let mut expected = Vec::new();
        for (vault, login) in clouds {
            expected.push(format!("GET https://{{keyvaultName}}.{vault}/"));
            expected.push(format!("GET https://{{failoverKeyvaultName}}.{vault}/"));
            expected.push(format!("POST https://{login}/{{tenantID|tenantId}}/oauth2/v2.0/token"));
            let imds = "http://169.254.169.254/metadata/identity/oauth2/token";
            expected.push(format!("GET {imds}?resource=https://{vault}"));
        }
        assert_eq!(rules, expected);
        assert_eq!(config.providers.len(), 1);
    }

    #[test]
    fn what_ships_says_the_limits_that_the_sandbox_has_by_itself() {
        assert_eq!(merge("").unwrap().providers["azure"].limits, Limits::default());
        let Document { providers, .. } = parse("default", DEFAULT.as_bytes()).unwrap();
        let limits = providers.unwrap().remove("azure").unwrap().value.limits.unwrap();
        let schema = serde_json::to_value(schemars::schema_for!(document::Limits)).unwrap();
        let shipped = format!("{DEFAULT}\n");
        for key in schema["properties"].as_object().unwrap().keys() {
            assert!(shipped.contains(&format!("\n      {key}: ")), "default.yaml does not say `{key}`");
        }
        assert!(limits.log_lines.is_some());
    }

    #[test]
    fn what_ships_explains_every_key_of_the_schema() {
        fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
            if let Some(object) = value.as_object() {
                if let Some(properties) = object.get("properties").and_then(|p| p.as_object()) {
                    found.extend(properties.keys().cloned());
                }
                object.values().for_each(|value| keys(value, found));
            } else if let Some(list) = value.as_array() {
                list.iter().for_each(|value| keys(value, found));
            }
        }
        let mut found = Vec::new();
        keys(&serde_json::to_value(schemars::schema_for!(Document)).unwrap(), &mut found);
        assert!(found.len() > 30, "{found:?}");
        for key in found {
            assert!(DEFAULT.contains(&format!("{key}:")), "default.yaml does not mention `{key}`");
        }
    }

    #[test]
    fn a_file_says_only_what_is_different() {
        let config = merge("providers:\n  azure:\n    limits:\n      memory: 1GiB\n      cpu: 3s\n").unwrap();
        let grant = &config.providers["azure"];
        let expected = Limits { memory: 1 << 30, cpu: Duration::from_secs(3), ..Limits::default() };
        assert_eq!(grant.limits, expected);
        assert_eq!((grant.rules.len(), grant.file.is_absolute()), (16, true));
        assert_eq!(config.overrides, Overrides::Allow);
    }

    #[test]
    fn rules_replace_the_shipped_ones_and_paths_are_relative_to_the_file() {
        let text = "cache: c\nvolumeAttributeOverrides: [objects]\nproviders:\n  azure:\n    plugin: {file: a.wasm}\n    \
                    egress:\n    - GET https://vault.test/\n    - rule: POST https://login.test/\n      connect: 127.0.0.1:8443\n      \
                    serverName: other.test\n      proxy: none\n      when: useProxy\n    configFiles: {/x: y}\n    \
                    userAgentSuffix: contoso/1\n";
        let config = merge(text).unwrap();
        let grant = &config.providers["azure"];
        assert_eq!(rules(&config, "azure"), ["GET https://vault.test/", "POST https://login.test/"]);
        assert_eq!(grant.rules[1].connect.as_ref().unwrap().to_string(), "127.0.0.1:8443");
        assert_eq!(grant.rules[1].proxy, Some(ProxySettings::None));
        assert_eq!((grant.rules[0].when.as_deref(), grant.rules[1].when.as_deref()), (None, Some("useProxy")));
        assert_eq!((grant.file.to_str(), config.cache.to_str()), (Some("/base/a.wasm"), Some("/base/c")));
        assert_eq!(grant.config_files["/x"], Path::new("/base/y"));
        assert_eq!(grant.user_agent_suffix, "contoso/1".parse().ok());
        assert_eq!(config.overrides, Overrides::Keys(vec!["objects".into()]));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
        assert_eq!(
            mistake("providers:\n  azure:\n    egres: []\n"),
            "c.yaml:3:5: unknown key `egres` (did you mean `egress`?)"
        );
        assert_eq!(mistake("\ncahce: x\n"), "c.yaml:2:1: unknown key `cahce` (did you mean `cache`?)");
        assert_eq!(
            mistake("egress:\n  proxy:\n    htps: http://user:CANARY@p\n"),
            "c.yaml:3:5: unknown key `htps` (did you mean `https`?)"
        );
        assert_eq!(
            mistake("providers:\n  azure:\n    egress:\n    - rule: GET https://a/\n      connnect: a:1\n"),
            "c.yaml:5:7: unknown key `connnect` (did you mean `connect`?)"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line() {
        assert_eq!(
            mistake("providers:\n  azure:\n    limits:\n      memory: many\n"),
            "c.yaml:4:15: not a size; write bytes, or a number with a unit such as 64MiB"
        );
        let rule = mistake("providers:\n  azure:\n    egress:\n    - GET https://a/\n    - get https://b/\n");
        assert!(rule.starts_with("c.yaml:5:7: "), "{rule}");
        assert_eq!(
            mistake("volumeAttributeOverrides: alow\n"),
            "c.yaml:1:27: must be `allow`, `deny`, or a list of parameters"
        );
        let proxy = mistake("egress: {proxy: \"http://user:CANARY@p\"}\n");
        assert!(proxy.starts_with("c.yaml:1:17: must be") && !proxy.contains("CANARY"), "{proxy}");
        assert_eq!(mistake("cache: a\ncache: b\n"), "c.yaml:2:1: this key stands twice in its mapping");
        assert_eq!(mistake("providers: {a: {plugin: {}}}\n"), "c.yaml:1:25: the key `file` is missing");
    }

    #[test]
    fn the_identity_of_the_node_is_for_all_unless_namespaces_are_named() {
        let shipped = merge("").unwrap();
        assert!(shipped.node_identity.contains("anything"));
        assert_eq!(shipped.reuse, Duration::from_secs(10));
        let said = merge("nodeIdentity: {namespaces: [trusted]}\nreuseResultsFor: 0s\n").unwrap();
        assert!(said.node_identity.contains("trusted") && !said.node_identity.contains("other"));
        assert_eq!(said.reuse, Duration::ZERO);
        assert_eq!(
            mistake("nodeIdentity: {namespaces: none}\n"),
            "c.yaml:1:28: must be `all`, or a list of namespaces"
        );
        assert!(merge("nodeIdentity:\n  namespaces:\n").is_err(), "nothing was taken for everybody");
        assert!(merge("reuseResultsFor: 61s\n").is_err());
    }

    #[test]
    fn kept_results_have_a_ceiling_that_can_be_nothing() {
        let offline = |text: &str| merge(text).unwrap().offline_start;
        let day = Duration::from_hours(24);
        assert_eq!(offline(""), OfflineStart { max_age: day, memory: 16 << 20 });
        assert_eq!(offline("offlineStart: {maxAge: 2h}").max_age, Duration::from_hours(2));
        assert_eq!(offline("offlineStart: {memory: 1MiB}"), OfflineStart { max_age: day, memory: 1 << 20 });
        for nothing in ["0", "0s", "\"0\""] {
            assert_eq!(offline(&format!("offlineStart: {{maxAge: {nothing}}}")).max_age, Duration::ZERO, "{nothing}");
        }
        for wrong in ["31d", "721h", "-1h", "long"] {
            let mistake = mistake(&format!("offlineStart: {{maxAge: {wrong}}}"));
            assert!(mistake.starts_with("c.yaml:1:24: not a duration of at most 30 days"), "{mistake}");
        }
    }

    #[test]
    fn a_file_without_content_says_nothing() {
        assert!(merge("# nothing\n").is_ok());
        assert!(merge("---\n").is_ok());
    }

    #[test]
    fn a_provider_of_ones_own_starts_with_nothing() {
        let config = merge("providers:\n  mine:\n    plugin: {file: m.wasm}\n").unwrap();
        assert!(config.providers["mine"].rules.is_empty());
        let none = mistake("providers:\n  mine: {}\n");
        assert_eq!(none, "/base/c.yaml:2:9: this provider has no `plugin` (name its component: `plugin: {file: …}`)");
    }

    #[test]
    fn secrets_are_not_synced_unless_it_is_said_and_never_those_of_service_accounts() {
        assert_eq!(merge("").unwrap().sync, SyncSettings::default());
        let sync = merge("syncSecrets: {enabled: true, types: [example.com/own]}").unwrap().sync;
        assert_eq!((sync.enabled, sync.types), (true, BTreeSet::from(["example.com/own".to_owned()])));
        assert!(!merge("syncSecrets: {types: [a]}").unwrap().sync.enabled, "a type turns nothing on");
        let said = mistake("syncSecrets: {enabled: true, types: [kubernetes.io/service-account-token]}");
        assert!(said.contains("credentials of service accounts"), "{said}");
    }
}
