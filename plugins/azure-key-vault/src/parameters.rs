//! The parameters of a class, read once: after [`judge`] nobody looks at a parameter again.
//!
//! Keys are case-sensitive and values are trimmed, as in the reference. Every mistake that can be found without the
//! network is found here and reported with the others; unknown keys have no effect, and one that looks like a misspelt
//! parameter is remarked. `check` and `mount` are the callers.

use std::collections::BTreeMap;

use crate::cloud::{self, Cloud};
use crate::content;
use crate::failure::tidy;
use crate::identity::Identity;
use crate::objects::{self, Object};
use crate::provider::{Parameters, Request, Scope};
use crate::spelling;
use crate::vault::Vault;

/// Every parameter that the reference has, two of them as flags of its process, and in the end our own. Those of `csi.storage.k8s.io/` come from the driver.
const KNOWN: [&str; 14] = [
    "keyvaultName",
    "tenantID",
    "tenantId",
    "cloudName",
    "cloudEnvFileName",
    "usePodIdentity",
    "useVMManagedIdentity",
    "userAssignedIdentityID",
    "clientID",
    "useAzureTokenProxy",
    "objects",
    "constructPEMChain",
    "writeCertAndKeyInSeparateFiles",
    "failoverKeyvaultName",
];

/// Those without which nothing works; of the two spellings of the tenant one will do.
const REQUIRED: [&str; 4] = ["keyvaultName", "tenantID", "tenantId", "objects"];

/// What a class asks for.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where sign-in and vaults are.
    pub(crate) cloud: Cloud,
    /// Who vouches for the identity.
    pub(crate) tenant: Tenant,
    /// How to sign in.
    pub(crate) identity: Identity,
    /// Which vault to ask.
    pub(crate) vault: Vault,
    /// Which vault to ask where that one is unavailable.
    pub(crate) failover: Option<Vault>,
    /// What to fetch; at least one.
    pub(crate) objects: Vec<Object>,
    /// What becomes of certificates with private keys.
    pub(crate) content: content::Options,
}

/// What came of the parameters.
#[derive(Debug)]
pub(crate) struct Judged {
    /// What the class asks for; none after a mistake, or while the file of a custom cloud is not there to be read.
    pub(crate) settings: Option<Settings>,
    /// Who asks, as far as the parameters say; none after a mistake in what decides it.
    pub(crate) asker: Option<Asker>,
    /// Every mistake.
    pub(crate) mistakes: Vec<String>,
    /// What has no effect and looks like a mistake.
    pub(crate) remarks: Vec<String>,
}

/// Who asks, as far as the parameters decide it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Whom the vault will see.
    pub(crate) scope: Scope,
    /// Everything that decides who the vault sees, apart from the credentials themselves.
    pub(crate) session_key: String,
}

/// An Entra tenant: letters, digits, dots and dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(String);

/// Reads single parameters and gathers the mistakes in them.
pub(crate) struct Reader<'p> {
    parameters: &'p Parameters,
    mistakes: Vec<String>,
}

/// Judges all parameters, without what only a mount has.
pub(crate) fn judge(parameters: &Parameters) -> Judged {
    judge_with(parameters, None)
}

/// Judges the parameters of a request, the granted files that they name included.
pub(crate) fn judge_request(request: &Request) -> Judged {
    judge_with(&request.parameters, Some(&request.config))
}

fn judge_with(parameters: &Parameters, config: Option<&BTreeMap<String, Vec<u8>>>) -> Judged {
    let mut reader = Reader { parameters, mistakes: Vec::new() };
    let identity = Identity::choose(&mut reader);
    let choice = cloud::Choice::read(&mut reader);
    let resolved = choice.as_ref().zip(config).map(|(choice, config)| choice.resolve(config));
    let cloud = resolved.and_then(|cloud| reader.note(cloud));
    let name = reader.required("keyvaultName");
    // Where the cloud is unknown, any will do to judge the name.
    let domain = cloud.as_ref().map_or("vault", |cloud| &cloud.vault_domain);
    let vault = name.and_then(|name| reader.note(Vault::new("keyvaultName", name, domain)));
    let failover = read_failover(&mut reader, domain);
    let tenant = Tenant::read(&mut reader, identity.as_ref().is_none_or(Identity::asks_tenant));
    if let (Some(identity), Some(choice), Some(tenant)) = (&identity, &choice, &tenant) {
        identity.contradict(choice, tenant, &mut reader);
    }
    let objects = reader.required("objects").map(objects::parse).unwrap_or_default();
    let content = read_content(&mut reader);
    let mut remarks = remark_unknown(parameters);
    remarks.extend(identity.iter().flat_map(|identity| identity.remarks(&reader)));
    remarks.extend(choice.as_ref().and_then(|choice| choice.remark(&reader)));
    remarks.extend(objects.remarks);
    let mut mistakes = reader.mistakes;
    mistakes.extend(objects.mistakes);
    let asker = match (&identity, &choice, &tenant) {
        (Some(identity), Some(choice), Some(tenant)) => {
            Some(Asker { scope: identity.scope(), session_key: session_key(identity, &choice.key(), tenant) })
        }
        _ => None,
    };
    let settings = match (identity, cloud, vault, tenant, content) {
        (Some(identity), Some(cloud), Some(vault), Some(tenant), Some(content)) if mistakes.is_empty() => {
            Some(Settings { cloud, tenant, identity, vault, failover, objects: objects.list, content })
        }
        _ => None,
    };
    Judged { settings, asker, mistakes, remarks }
}

/// One line. What may hold anything stands last and in quotes, so no two callers have the same.
fn session_key(identity: &Identity, cloud: &str, tenant: &Tenant) -> String {
    let key = format!("{} {cloud} {}", identity.name(), tenant.as_str().to_ascii_lowercase().escape_default());
    identity.client_id().map_or_else(|| key.clone(), |id| format!("{key} {id:?}"))
}

/// The vault of `failoverKeyvaultName`, if the class names one.
fn read_failover(reader: &mut Reader<'_>, domain: &str) -> Option<Vault> {
    let name = Some(reader.text("failoverKeyvaultName")).filter(|name| !name.is_empty())?;
    if name.eq_ignore_ascii_case(reader.text("keyvaultName")) {
        reader.mistake("failoverKeyvaultName must be another vault than keyvaultName".into());
    }
    reader.note(Vault::new("failoverKeyvaultName", name, domain))
}

fn read_content(reader: &mut Reader<'_>) -> Option<content::Options> {
    let ordered = reader.flag_or("constructPEMChain", true);
    let separate = reader.flag_or("writeCertAndKeyInSeparateFiles", false);
    Some(content::Options { ordered: ordered?, separate: separate? })
}

impl Settings {
    /// Everything that decides who the vault sees, apart from the credentials themselves.
    pub(crate) fn session_key(&self) -> String {
        session_key(&self.identity, &self.cloud.key(), &self.tenant)
    }
}

impl Tenant {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether AD FS stands in for Entra.
    pub(crate) fn is_adfs(&self) -> bool {
        self.0.eq_ignore_ascii_case("adfs")
    }

    /// `tenantID`, or the older spelling `tenantId` where that is empty. Where nobody is `asked` for it, it may be
    /// anything, as in the reference.
    fn read(reader: &mut Reader<'_>, asked: bool) -> Option<Self> {
        let tenant = match reader.text("tenantID") {
            "" => reader.text("tenantId"),
            tenant => tenant,
        };
        if tenant.is_empty() {
            reader.missing("tenantID", "tenantID or tenantId", "");
            None
        } else if !asked || is_tenant(tenant) {
            Some(Self(tenant.to_owned()))
        } else {
            let shown = tidy(tenant, 60);
            reader.mistake(format!("tenantID `{shown}` is not a tenant: write its id or one of its domains"));
            None
        }
    }
}

impl<'p> Reader<'p> {
    /// The trimmed value; empty where there is none.
    pub(crate) fn text(&self, key: &str) -> &'p str {
        debug_assert!(KNOWN.contains(&key), "{key} is not in the list that documentation and advice go by");
        self.parameters.get(key).map(|value| value.trim()).unwrap_or_default()
    }

    /// A boolean in the spellings of Go; false where there is none.
    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        self.flag_or(key, false)
    }

    /// As [`Self::flag`], with another value where there is none.
    pub(crate) fn flag_or(&mut self, key: &str, absent: bool) -> Option<bool> {
        let text = self.text(key);
        let flag = if text.is_empty() { Some(absent) } else { spelling::boolean(text) };
        if flag.is_none() {
            self.mistake(format!("failed to parse {key} flag: `{}` must be true or false", tidy(text, 40)));
        }
        flag
    }

    /// Adds a mistake.
    pub(crate) fn mistake(&mut self, mistake: String) {
        self.mistakes.push(mistake);
    }

    fn required(&mut self, key: &str) -> Option<&'p str> {
        let value = self.text(key);
        if value.is_empty() {
            self.missing(key, key, "");
            return None;
        }
        Some(value)
    }

    /// Adds the mistake that `key` is missing, under the name `shown` and with what else there is to say.
    pub(crate) fn missing(&mut self, key: &str, shown: &str, tail: &str) {
        let unknown = self.parameters.keys().map(String::as_str).filter(|key| !KNOWN.contains(key));
        let advice = spelling::advice(spelling::misspelt(key, unknown), key);
        // Both verbs are those of the reference, for people who search for them.
        let verb = if key == "objects" { "set" } else { "provided" };
        self.mistakes.push(format!("{shown} is not {verb}{advice}{tail}"));
    }

    /// The value, or its mistake among the others.
    pub(crate) fn note<T>(&mut self, judged: Result<T, impl std::fmt::Display>) -> Option<T> {
        judged.map_err(|mistake| self.mistakes.push(mistake.to_string())).ok()
    }
}

/// Letters, digits, dots and dashes, as the reference; not only dots, which a path would resolve.
fn is_tenant(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-') && text.chars().any(|c| c != '.')
}

/// A parameter of the driver, which every call brings along.
fn is_from_driver(key: &str) -> bool {
    key.starts_with("csi.storage.k8s.io/") || key == "secretProviderClass"
}

/// Unknown parameters that look like an optional one which is not there. A required one that is not there is a mistake
/// of its own.
fn remark_unknown(parameters: &Parameters) -> Vec<String> {
    let optional = KNOWN.into_iter().filter(|known| !REQUIRED.contains(known));
    let absent: Vec<&str> = optional.filter(|known| !parameters.contains_key(*known)).collect();
    let unknown = parameters.keys().filter(|key| !KNOWN.contains(&key.as_str()) && !is_from_driver(key));
    let remark = |key: &String| {
        let meant = spelling::nearest(key, &absent)?;
        Some(format!("the parameter `{}` is unknown and ignored: did you mean `{meant}`?", tidy(key, 60)))
    };
    unknown.filter_map(remark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: &str = "array:\n  - |\n    objectName: a\n    objectType: secret\n";

    /// A class without mistakes, with these parameters instead of or besides its own; `-` takes one away.
    fn judged(changes: &[(&str, &str)]) -> Judged {
        let mut parameters: Parameters = [("keyvaultName", "kv1"), ("tenantID", "contoso.com"), ("objects", OBJECTS)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        for (key, value) in changes {
            if *value == "-" {
                parameters.remove(*key);
            } else {
                parameters.insert((*key).to_owned(), (*value).to_owned());
            }
        }
        judge_request(&Request { parameters, ..Request::default() })
    }

    fn parse(changes: &[(&str, &str)]) -> Settings {
        let Judged { settings, mistakes, .. } = judged(changes);
        settings.unwrap_or_else(|| panic!("{mistakes:?}"))
    }

    /// The only mistake.
    fn mistake(changes: &[(&str, &str)]) -> String {
        let Judged { settings, mut mistakes, .. } = judged(changes);
        assert!(settings.is_none());
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes.remove(0)
    }

    #[test]
    fn values_are_trimmed() {
        let settings = parse(&[("keyvaultName", " kv1\n"), ("tenantID", "\tt "), ("usePodIdentity", " false ")]);
        assert_eq!((settings.vault.host(), settings.tenant.as_str()), ("kv1.vault.azure.net", "t"));
    }

    #[test]
    fn every_boolean_of_go_is_understood_and_nothing_else() {
        for text in ["0", "f", "F", "FALSE", "false", "False", "", "  "] {
            assert!(judged(&[("usePodIdentity", text)]).settings.is_some(), "{text}");
        }
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse(&[("usePodIdentity", text)]).identity, Identity::Pod, "{text}");
        }
        for key in ["usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy"] {
            assert_eq!(mistake(&[(key, "yes")]), format!("failed to parse {key} flag: `yes` must be true or false"));
        }
    }

    #[test]
    fn the_newer_spelling_of_the_tenant_wins_unless_it_is_empty() {
        assert_eq!(parse(&[("tenantID", "a"), ("tenantId", "b")]).tenant.as_str(), "a");
        assert_eq!(parse(&[("tenantID", " "), ("tenantId", "b")]).tenant.as_str(), "b");
        assert_eq!(mistake(&[("tenantID", "-")]), "tenantID or tenantId is not provided");
    }

    #[test]
    fn a_tenant_has_only_characters_of_ids_and_domains() {
        for text in ["a/b", "a b", "..", "a%2f", "ä"] {
            assert!(mistake(&[("tenantID", text)]).contains("is not a tenant"), "{text}");
        }
        // Nobody is asked for the tenant of a managed identity.
        assert!(judged(&[("tenantID", "a/b"), ("useVMManagedIdentity", "true")]).settings.is_some());
    }

    #[test]
    fn a_missing_parameter_names_what_it_was_misspelt_as() {
        assert_eq!(
            mistake(&[("keyvaultName", "-"), ("keyVaultName", "kv1")]),
            "keyvaultName is not provided (there is `keyVaultName`: did you mean `keyvaultName`?)"
        );
        assert_eq!(
            mistake(&[("objects", "-"), ("object", "x")]),
            "objects is not set (there is `object`: did you mean `objects`?)"
        );
        assert_eq!(
            mistake(&[("tenantID", "-"), ("tenantid", "x")]),
            "tenantID or tenantId is not provided (there is `tenantid`: did you mean `tenantID`?)"
        );
    }

    #[test]
    fn a_misspelt_optional_parameter_is_remarked_and_ignored() {
        let Judged { settings, remarks, .. } = judged(&[("cloudname", "AzureChinaCloud")]);
        assert_eq!(settings.unwrap().cloud.name, "AzurePublicCloud");
        assert_eq!(remarks, ["the parameter `cloudname` is unknown and ignored: did you mean `cloudName`?"]);
    }

    #[test]
    fn an_identity_of_another_way_to_sign_in_is_remarked() {
        let remarks = judged(&[("userAssignedIdentityID", "id")]).remarks;
        assert!(
            remarks[0].contains("userAssignedIdentityID has no effect without useVMManagedIdentity"),
            "{remarks:?}"
        );
    }

    #[test]
    fn keys_of_the_driver_and_of_older_classes_are_ignored_in_silence() {
        let Judged { settings, remarks, .. } = judged(&[
            ("csi.storage.k8s.io/pod.name", "p"),
            ("csi.storage.k8s.io/serviceAccount.tokens", "{}"),
            ("secretProviderClass", "c"),
            ("resourceGroup", "g"),
            ("subscriptionId", "s"),
            ("tenantid", "t"),
        ]);
        assert!(settings.is_some() && remarks.is_empty(), "{remarks:?}");
    }

    #[test]
    fn a_vault_name_is_three_to_twenty_four_letters_digits_and_dashes() {
        assert_eq!(parse(&[("keyvaultName", "My-Vault1")]).vault.host(), "My-Vault1.vault.azure.net");
        for text in ["ab", "a23456789012345678901234x", "a.b.c", "a_bc", "kv1.vault.azure.net", "k/v1"] {
            assert!(mistake(&[("keyvaultName", text)]).contains("keyvaultName"), "{text}");
        }
    }

    #[test]
    fn the_vault_to_fall_back_to_is_another_one() {
        assert_eq!(parse(&[]).failover, None);
        let settings = parse(&[("failoverKeyvaultName", "kv2"), ("cloudName", "AzureChinaCloud")]);
        assert_eq!(settings.failover.unwrap().host(), "kv2.vault.azure.cn");
        assert!(mistake(&[("failoverKeyvaultName", "KV1")]).contains("must be another vault"));
        assert!(
            mistake(&[("failoverKeyvaultName", "kv2.x")]).starts_with("failoverKeyvaultName `kv2.x` must be the name")
        );
    }

    #[test]
    fn what_becomes_of_certificates_is_a_pair_of_booleans() {
        let content = |changes: &[(&str, &str)]| {
            let content = parse(changes).content;
            (content.ordered, content.separate)
        };
        assert_eq!(content(&[]), (true, false));
        assert_eq!(
            content(&[("constructPEMChain", " False "), ("writeCertAndKeyInSeparateFiles", "T")]),
            (false, true)
        );
        let wrong = mistake(&[("constructPEMChain", "no")]);
        assert_eq!(wrong, "failed to parse constructPEMChain flag: `no` must be true or false");
    }

    #[test]
    fn an_unknown_cloud_is_a_mistake() {
        assert!(mistake(&[("cloudName", "AzureChina")]).starts_with("cloudName AzureChina is not valid"));
    }

    #[test]
    fn an_empty_cloud_is_the_public_one() {
        assert_eq!(parse(&[("cloudName", "")]).cloud.name, "AzurePublicCloud");
    }

    #[test]
    fn all_mistakes_and_remarks_come_at_once() {
        let Judged { settings, mistakes, remarks, .. } = judged(&[
            ("usePodIdentity", "no"),
            ("keyvaultName", "-"),
            ("tenantID", "-"),
            ("cloudName", "Mars"),
            ("clientId", "id"),
            ("objects", "array:\n  - |\n    objectName: x\n    filePermision: 0400\n"),
        ]);
        assert!(settings.is_none());
        let starts = [
            "failed to parse usePodIdentity",
            "cloudName",
            "keyvaultName",
            "tenantID",
            "objects.array[0] (x): objectType",
        ];
        assert_eq!(mistakes.len(), starts.len(), "{mistakes:?}");
        for (mistake, start) in mistakes.iter().zip(starts) {
            assert!(mistake.starts_with(start), "{mistake}");
        }
        assert!(remarks[0].contains("`clientID`") && remarks[1].contains("`filePermission`"), "{remarks:?}");
    }

    #[test]
    fn the_session_key_tells_clouds_and_tenants_apart_and_nothing_else() {
        let key = |changes: &[(&str, &str)]| parse(changes).session_key();
        let own = key(&[]);
        assert_eq!(own, "service-principal AzurePublicCloud contoso.com");
        assert_eq!(own, key(&[("keyvaultName", "another"), ("tenantID", "-"), ("tenantId", "Contoso.com")]));
        assert_ne!(own, key(&[("tenantID", "fabrikam.com")]));
        assert_ne!(own, key(&[("cloudName", "AzureChinaCloud")]));
    }
}
