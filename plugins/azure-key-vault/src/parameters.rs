//! The parameters of a class, read once: after [`judge`] nobody looks at a parameter again.
//!
//! Keys are case-sensitive and values are trimmed, as in the reference. Every mistake that can be found without the
//! network is found here and reported with the others; unknown keys have no effect, and one that looks like a misspelt
//! parameter is remarked. `check` and `mount` are the callers.

use crate::cloud::Cloud;
use crate::failure::tidy;
use crate::identity::Identity;
use crate::objects::{self, Object};
use crate::provider::Parameters;
use crate::spelling;
use crate::vault::Vault;

/// Every parameter that the reference has. Those of `csi.storage.k8s.io/` come from the driver.
const KNOWN: [&str; 11] = [
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
];

/// Those without which nothing works; of the two spellings of the tenant one will do.
const REQUIRED: [&str; 4] = ["keyvaultName", "tenantID", "tenantId", "objects"];

/// What a class asks for.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where sign-in and vaults are.
    pub(crate) cloud: &'static Cloud,
    /// Who vouches for the identity.
    pub(crate) tenant: Tenant,
    /// How to sign in.
    pub(crate) identity: Identity,
    /// Which vault to ask.
    pub(crate) vault: Vault,
    /// What to fetch; at least one.
    pub(crate) objects: Vec<Object>,
}

/// What came of the parameters.
#[derive(Debug)]
pub(crate) struct Judged {
    /// What the class asks for; none after a mistake.
    pub(crate) settings: Option<Settings>,
    /// Every mistake.
    pub(crate) mistakes: Vec<String>,
    /// What has no effect and looks like a mistake.
    pub(crate) remarks: Vec<String>,
}

/// An Entra tenant: letters, digits, dots and dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(String);

/// Reads single parameters and gathers the mistakes in them.
pub(crate) struct Reader<'p> {
    parameters: &'p Parameters,
    mistakes: Vec<String>,
}

/// Reads and judges all parameters.
pub(crate) fn judge(parameters: &Parameters) -> Judged {
    let mut reader = Reader { parameters, mistakes: Vec::new() };
    let identity = Identity::choose(&mut reader);
    let cloud = Cloud::named(reader.text("cloudName"));
    let cloud = reader.note(cloud);
    let name = reader.required("keyvaultName");
    // Where the cloud is unknown, any will do to judge the name.
    let vault = name.map(|name| Vault::new(name, cloud.map_or("vault", |cloud| cloud.vault_domain)));
    let vault = vault.and_then(|vault| reader.note(vault));
    let tenant = Tenant::read(&mut reader);
    let objects = reader.required("objects").map(objects::parse).unwrap_or_default();
    let mut remarks = remark_unknown(parameters);
    remarks.extend(identity.and_then(|identity| identity.remark(&reader)));
    remarks.extend(objects.remarks);
    let mut mistakes = reader.mistakes;
    mistakes.extend(objects.mistakes);
    let settings = match (identity, cloud, vault, tenant) {
        (Some(identity), Some(cloud), Some(vault), Some(tenant)) if mistakes.is_empty() => {
            Some(Settings { cloud, tenant, identity, vault, objects: objects.list })
        }
        _ => None,
    };
    Judged { settings, mistakes, remarks }
}

impl Settings {
    /// Everything that decides who the vault sees, apart from the credentials themselves.
    pub(crate) fn session_key(&self) -> String {
        format!("{} {} {}", self.identity.name(), self.cloud.name, self.tenant.as_str().to_ascii_lowercase())
    }
}

impl Tenant {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `tenantID`, or the older spelling `tenantId` where that is empty.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let tenant = match reader.text("tenantID") {
            "" => reader.text("tenantId"),
            tenant => tenant,
        };
        if tenant.is_empty() {
            reader.missing("tenantID");
            None
        } else if tenant.eq_ignore_ascii_case("adfs") {
            reader.mistake("tenantID `adfs` asks for AD FS, which this version of the provider does not have".into());
            None
        } else if is_tenant(tenant) {
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
        self.parameters.get(key).map(|value| value.trim()).unwrap_or_default()
    }

    /// A boolean in the spellings of Go; false where there is none.
    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        match self.text(key) {
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
            other => {
                let shown = tidy(other, 40);
                self.mistake(format!("{key} `{shown}` must be true or false"));
                None
            }
        }
    }

    /// Adds a mistake.
    pub(crate) fn mistake(&mut self, mistake: String) {
        self.mistakes.push(mistake);
    }

    fn required(&mut self, key: &str) -> Option<&'p str> {
        let value = self.text(key);
        if value.is_empty() {
            self.missing(key);
            return None;
        }
        Some(value)
    }

    fn missing(&mut self, key: &str) {
        let unknown = self.parameters.keys().map(String::as_str).filter(|key| !KNOWN.contains(key));
        let advice = spelling::advice(spelling::misspelt(key, unknown), key);
        self.mistakes.push(format!("the parameter {key} is missing{advice}"));
    }

    fn note<T>(&mut self, judged: Result<T, impl std::fmt::Display>) -> Option<T> {
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
        judge(&parameters)
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
            assert!(mistake(&[("usePodIdentity", text)]).contains("pod identity"), "{text}");
        }
        for key in ["usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy"] {
            assert_eq!(mistake(&[(key, "yes")]), format!("{key} `yes` must be true or false"));
        }
    }

    #[test]
    fn the_newer_spelling_of_the_tenant_wins_unless_it_is_empty() {
        assert_eq!(parse(&[("tenantID", "a"), ("tenantId", "b")]).tenant.as_str(), "a");
        assert_eq!(parse(&[("tenantID", " "), ("tenantId", "b")]).tenant.as_str(), "b");
        assert_eq!(mistake(&[("tenantID", "-")]), "the parameter tenantID is missing");
    }

    #[test]
    fn a_tenant_has_only_characters_of_ids_and_domains() {
        for text in ["a/b", "a b", "..", "a%2f", "ä"] {
            assert!(mistake(&[("tenantID", text)]).contains("is not a tenant"), "{text}");
        }
        assert!(mistake(&[("tenantID", "ADFS")]).contains("AD FS"));
    }

    #[test]
    fn a_missing_parameter_names_what_it_was_misspelt_as() {
        assert_eq!(
            mistake(&[("keyvaultName", "-"), ("keyVaultName", "kv1")]),
            "the parameter keyvaultName is missing (there is `keyVaultName`: did you mean `keyvaultName`?)"
        );
        assert_eq!(
            mistake(&[("objects", "-"), ("object", "x")]),
            "the parameter objects is missing (there is `object`: did you mean `objects`?)"
        );
        assert_eq!(
            mistake(&[("tenantID", "-"), ("tenantid", "x")]),
            "the parameter tenantID is missing (there is `tenantid`: did you mean `tenantID`?)"
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
    fn an_unknown_cloud_is_a_mistake() {
        assert!(mistake(&[("cloudName", "AzureChina")]).contains("cloudName `AzureChina` is not a cloud"));
    }

    #[test]
    fn an_empty_cloud_is_the_public_one() {
        assert_eq!(parse(&[("cloudName", "")]).cloud.name, "AzurePublicCloud");
    }

    #[test]
    fn all_mistakes_and_remarks_come_at_once() {
        let Judged { settings, mistakes, remarks } = judged(&[
            ("usePodIdentity", "no"),
            ("keyvaultName", "-"),
            ("tenantID", "-"),
            ("cloudName", "Mars"),
            ("clientId", "id"),
            ("objects", "array:\n  - |\n    objectName: x\n    filePermision: 0400\n"),
        ]);
        assert!(settings.is_none());
        let starts = [
            "usePodIdentity",
            "cloudName",
            "the parameter keyvaultName",
            "the parameter tenantID",
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
