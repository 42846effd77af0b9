//! The configuration file, exactly as it is written; `coffer config schema` prints the schema of [`Document`].
//!
//! Everything is parsed while it is read, so every mistake has a position. Nothing here has a default: what a file does
//! not say is taken from `default.yaml`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use coffer_sandbox::egress::{self, ServerName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::units::{Size, Span};

/// The type of Secrets that are credentials of service accounts.
pub const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";

/// The configuration of Coffer.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Coffer configuration")]
pub struct Document {
    /// The folder for compiled plugins.
    pub cache: Option<PathBuf>,
    /// What all requests share.
    pub egress: Option<Egress>,
    /// The grants: what each provider may do. The key is the name that classes use in `spec.provider`.
    #[schemars(with = "Option<BTreeMap<String, Provider>>")]
    pub providers: Option<BTreeMap<String, Spanned<Provider>>>,
    /// Which parameters of a class the volume attributes of a pod may set.
    pub volume_attribute_overrides: Option<Overrides>,
    /// Who may use the identity of the node.
    pub node_identity: Option<NodeIdentity>,
    /// How long a result may be given to further pods with the same identity and parameters; `0s` shares only what is
    /// asked for at the same time.
    pub reuse_results_for: Option<Wait>,
    /// Whether `secretObjects` of a class become Kubernetes Secrets.
    pub sync_secrets: Option<SyncSecrets>,
    /// What pods may start with while their store cannot be reached, where their class asks for it.
    pub offline_start: Option<OfflineStart>,
}

/// Whether `secretObjects` of a class become Kubernetes Secrets.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncSecrets {
    /// Whether they do. Coffer has to have the rights of `deploy/rbac-sync.yaml` then.
    pub enabled: Option<bool>,
    /// Types of Secrets besides those that Kubernetes knows; service account tokens cannot be allowed.
    #[schemars(with = "Option<Vec<String>>")]
    pub types: Option<Vec<Text<SecretType>>>,
}

/// A type of Secrets that may be allowed.
pub struct SecretType(pub String);

/// The type is none that may be allowed.
#[derive(Debug, thiserror::Error)]
pub enum SecretTypeError {
    /// Whoever can make one can be any service account.
    #[error("Secrets of the type `{0}` are credentials of service accounts and are never made; remove it")]
    Never(String),
    /// No type.
    #[error("a type of Secrets has a name, without spaces around it")]
    Empty,
}

impl FromStr for SecretType {
    type Err = SecretTypeError;

    fn from_str(text: &str) -> Result<Self, SecretTypeError> {
        match text {
            SERVICE_ACCOUNT_TOKEN => Err(SecretTypeError::Never(text.to_owned())),
            _ if text.is_empty() || text.trim() != text => Err(SecretTypeError::Empty),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// The ceiling of offline starts, whatever a class asks for.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfflineStart {
    /// The greatest age of a result that a pod may start with; `0` forbids it to all classes.
    pub max_age: Option<Age>,
    /// Memory for all kept results.
    pub memory: Option<Size>,
}

/// Who may use the identity of the node.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeIdentity {
    /// The namespaces whose pods may. No default, and nothing is not everybody: a list that a template left empty must
    /// not open what it should close.
    pub namespaces: Namespaces,
}

/// What all requests share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// PEM files with authorities to trust besides those of the system.
    pub ca: Option<Vec<PathBuf>>,
    /// The proxies.
    pub proxy: Option<Proxy>,
}

/// The grant of one provider.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// The component.
    pub plugin: Option<Plugin>,
    /// The requests it may send; without this key those of the shipped grant, with an empty list none.
    pub egress: Option<Vec<Rule>>,
    /// What is appended to the `User-Agent` of its requests: printable ASCII, 128 characters at most.
    #[schemars(with = "Option<String>")]
    pub user_agent_suffix: Option<Text<egress::UserAgentSuffix>>,
    /// Parameters for every class of the provider; a class, or a pod where it may, can replace them.
    pub parameters: Option<BTreeMap<String, String>>,
    /// Files that a class may name: the path as in the class, and the file of this machine that it stands for.
    pub config_files: Option<BTreeMap<String, PathBuf>>,
    /// What one call may use.
    pub limits: Option<Limits>,
}

/// Where a plugin's component is.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plugin {
    /// The component file.
    pub file: PathBuf,
    /// The only content that is accepted: `sha256:` and 64 hexadecimal digits.
    #[schemars(with = "Option<String>")]
    pub digest: Option<Text<Digest>>,
}

/// What one call may use; keys that are left out keep their shipped value.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Size of the component.
    pub component: Option<Size>,
    /// Time for compiling it.
    pub compile_time: Option<Span>,
    /// Address space of the compiling process.
    pub compile_memory: Option<Size>,
    /// Linear memory of the instance.
    pub memory: Option<Size>,
    /// Elements of all tables.
    pub table_elements: Option<usize>,
    /// Time the provider itself may compute.
    pub cpu: Option<Span>,
    /// Time of the call, waiting included.
    pub deadline: Option<Span>,
    /// Requests, retries included.
    pub requests: Option<u32>,
    /// Requests at the same time.
    pub concurrent_requests: Option<usize>,
    /// Bytes of all requests.
    pub bytes_out: Option<Size>,
    /// Bytes of all responses.
    pub bytes_in: Option<Size>,
    /// Bytes of one response's body.
    pub response: Option<Size>,
    /// Files of a volume.
    pub files: Option<usize>,
    /// Contents of all files of a volume.
    pub file_bytes: Option<Size>,
    /// Objects of a volume.
    pub objects: Option<usize>,
    /// Bytes that the provider may keep until its next call.
    pub session: Option<Size>,
    /// Bytes of one message.
    pub message: Option<Size>,
    /// Log lines of the provider.
    pub log_lines: Option<usize>,
}

/// One egress rule: its text alone, or a mapping.
pub struct Rule {
    /// What it allows.
    pub rule: egress::Rule,
    /// What else is said about it.
    pub details: RuleDetails,
}

/// What a rule says besides its text.
#[derive(Default)]
pub struct RuleDetails {
    /// The parameter that must be true.
    pub when: Option<String>,
    /// Where to dial.
    pub connect: Option<egress::Connect>,
    /// The name to prove.
    pub server_name: Option<ServerName<'static>>,
    /// PEM files.
    pub ca: Vec<PathBuf>,
    /// The proxies.
    pub proxy: Option<Proxy>,
}

/// The mapping form of a rule.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "RuleMapping")]
struct RuleMapping {
    /// `METHODS scheme://host[:port][/path-prefix][?query]`.
    #[schemars(with = "String")]
    rule: Text<egress::Rule>,
    /// The parameter that a class must set to true for the rule to hold.
    when: Option<String>,
    /// `host:port` to dial instead of what the URL says.
    #[schemars(with = "Option<String>")]
    connect: Option<Text<egress::Connect>>,
    /// The name that the server's certificate must prove instead of the URL's host.
    #[schemars(with = "Option<String>")]
    server_name: Option<Text<Name>>,
    /// PEM files with authorities to trust for this rule besides the others.
    ca: Option<Vec<PathBuf>>,
    /// The proxies of this rule instead of those of all.
    proxy: Option<Proxy>,
}

/// Where proxies come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(pub egress::ProxySettings);

/// The mapping form of proxies.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ProxyMapping")]
struct ProxyMapping {
    /// URL of the proxy for https.
    https: Option<String>,
    /// URL of the proxy for http.
    http: Option<String>,
    /// Hosts, domains, addresses and networks that are dialled directly, separated by commas.
    no_proxy: Option<String>,
}

/// Which volume attributes may set parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overrides {
    /// All.
    Allow,
    /// None.
    Deny,
    /// These.
    Keys(Vec<String>),
}

/// Some namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// All.
    All,
    /// These.
    Named(Vec<String>),
}

impl Namespaces {
    /// Whether `namespace` is one of them.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == namespace),
        }
    }
}

/// A time that may be none, and a minute at most: what is reused for longer is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// How old a secret may be: none, and 30 days at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Duration);

/// Something that is written as a string.
pub struct Text<T>(pub T);

/// A pinned digest of a component.
pub use coffer_sandbox::store::Digest;

/// The name in a server's certificate.
pub struct Name(pub ServerName<'static>);

/// The text is neither a DNS name nor an address.
#[derive(Debug, thiserror::Error)]
#[error("`serverName` is neither a DNS name nor an IP address")]
pub struct NameError;

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        ServerName::try_from(text.to_owned()).map(Self).map_err(|_| NameError)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(std::marker::PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
                text.parse().map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(TextVisitor(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|Text(size)| size)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|Text(span)| span)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RuleVisitor;
        impl<'de> Visitor<'de> for RuleVisitor {
            type Value = Rule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule, or a mapping with the key `rule`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rule, E> {
                let rule = text.parse().map_err(E::custom)?;
                Ok(Rule { rule, details: RuleDetails::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                let mapping = RuleMapping::deserialize(MapAccessDeserializer::new(map))?;
                let details = RuleDetails {
                    when: mapping.when,
                    connect: mapping.connect.map(|Text(connect)| connect),
                    server_name: mapping.server_name.map(|Text(Name(name))| name),
                    ca: mapping.ca.unwrap_or_default(),
                    proxy: mapping.proxy,
                };
                Ok(Rule { rule: mapping.rule.0, details })
            }
        }
        deserializer.deserialize_any(RuleVisitor)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProxyVisitor;
        impl<'de> Visitor<'de> for ProxyVisitor {
            type Value = Proxy;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`environment`, `none`, or a mapping with the keys `https`, `http` and `noProxy`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Proxy, E> {
                match text {
                    "environment" => Ok(Proxy(egress::ProxySettings::Environment)),
                    "none" => Ok(Proxy(egress::ProxySettings::None)),
                    _ => Err(E::custom(format_args!("must be {}", &self as &dyn de::Expected))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Proxy, A::Error> {
                let ProxyMapping { https, http, no_proxy } =
                    ProxyMapping::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Proxy(egress::ProxySettings::Explicit { https, http, no_proxy }))
            }
        }
        deserializer.deserialize_any(ProxyVisitor)
    }
}

impl<'de> Deserialize<'de> for Overrides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OverridesVisitor;
        impl<'de> Visitor<'de> for OverridesVisitor {
            type Value = Overrides;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`allow`, `deny`, or a list of parameters")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Overrides, E> {
                match text {
                    "allow" => Ok(Overrides::Allow),
                    "deny" => Ok(Overrides::Deny),
                    _ => Err(E::custom(format_args!("must be {}", &self as &dyn de::Expected))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Overrides, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Overrides::Keys)
            }
        }
        deserializer.deserialize_any(OverridesVisitor)
    }
}

impl<'de> Deserialize<'de> for Namespaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamespacesVisitor;
        impl<'de> Visitor<'de> for NamespacesVisitor {
            type Value = Namespaces;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of namespaces")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Namespaces, E> {
                match text {
                    "all" => Ok(Namespaces::All),
                    _ => Err(E::custom(format_args!("must be {}", &self as &dyn de::Expected))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Namespaces, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Namespaces::Named)
            }
        }
        deserializer.deserialize_any(NamespacesVisitor)
    }
}

/// The text is not such a time.
#[derive(Debug, thiserror::Error)]
#[error("not a duration of at most a minute; write a number with a unit, such as 10s or 500ms, or 0s")]
pub struct WaitError;

impl FromStr for Wait {
    type Err = WaitError;

    fn from_str(text: &str) -> Result<Self, WaitError> {
        let wait = match text.trim() {
            "0" | "0s" => Duration::ZERO,
            text => text.parse().map(|Span(wait)| wait).map_err(|_| WaitError)?,
        };
        if wait <= Duration::from_secs(60) { Ok(Self(wait)) } else { Err(WaitError) }
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|Text(wait)| wait)
    }
}

/// The text is not such a time.
#[derive(Debug, thiserror::Error)]
#[error("not a duration of at most 30 days; write a number with a unit, such as 24h or 30m, or 0")]
pub struct AgeError;

/// Older than this is no outage any more.
const OLDEST: Duration = Duration::from_hours(30 * 24);

impl FromStr for Age {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let age = match text.trim() {
            "0" | "0s" => Duration::ZERO,
            text => text.parse().map(|Span(age)| age).map_err(|_| AgeError)?,
        };
        if age <= OLDEST { Ok(Self(age)) } else { Err(AgeError) }
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|Text(age)| age)
    }
}

/// Writes the schemas that serde's attributes cannot describe.
macro_rules! schema {
    ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(Size, "Size", |_generator| json_schema!({
    "description": "Bytes, or a number with a unit such as 64MiB.",
    "type": ["integer", "string"],
    "minimum": 0,
}));
schema!(Span, "Duration", |_generator| json_schema!({
    "description": "A number with a unit, such as 30s, 500ms or 2m.",
    "type": "string",
}));
schema!(Rule, "Rule", |generator| json_schema!({
    "description": "METHODS scheme://host[:port][/path-prefix][?query], or a mapping that says more.",
    "oneOf": [{ "type": "string" }, generator.subschema_for::<RuleMapping>()],
}));
schema!(Proxy, "Proxy", |generator| json_schema!({
    "description": "Where proxies come from.",
    "oneOf": [{ "enum": ["environment", "none"] }, generator.subschema_for::<ProxyMapping>()],
}));
schema!(Overrides, "Overrides", |_generator| json_schema!({
    "description": "Which volume attributes may set parameters.",
    "oneOf": [{ "enum": ["allow", "deny"] }, { "type": "array", "items": { "type": "string" } }],
}));
schema!(Namespaces, "Namespaces", |_generator| json_schema!({
    "description": "`all`, or a list of namespaces.",
    "oneOf": [{ "enum": ["all"] }, { "type": "array", "items": { "type": "string" } }],
}));
schema!(Age, "Age", |_generator| json_schema!({
    "description": "A number with a unit, such as 24h or 30m, or 0.",
    "type": "string",
}));
schema!(Wait, "Wait", |_generator| json_schema!({
    "description": "A number with a unit, such as 30s, 500ms or 2m, or 0s.",
    "type": "string",
}));
