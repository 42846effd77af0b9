//! Azure Key Vault: vaults with secrets, keys and certificates in versions, and who may do what with them.
//!
//! This file holds the state and the handles by which a test furnishes it; `request`, `api`, `list` and `refusal` are
//! the REST side. Values are never shown: no type that holds one is `Debug`.

mod api;
mod content;
mod list;
mod refusal;
mod request;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;

use super::answer::random_hex;
use super::cloud::Cloud;
use super::emulator::Services;

pub(crate) use api::answer;
pub use content::{CertificateBundle, Content, Jwk, Options, SecretValue};

/// The three kinds of things in a vault, named as in URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collection {
    /// `secrets`
    Secrets,
    /// `keys`
    Keys,
    /// `certificates`
    Certificates,
}

impl Collection {
    const ALL: [Self; 3] = [Self::Secrets, Self::Keys, Self::Certificates];

    /// As in a path: `secrets`.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Keys => "keys",
            Self::Certificates => "certificates",
        }
    }

    /// As in an error code or a sentence: `Secret`.
    fn noun(self) -> &'static str {
        match self {
            Self::Secrets => "Secret",
            Self::Keys => "Key",
            Self::Certificates => "Certificate",
        }
    }
}

/// What an application may do with the things of one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read one version.
    Get,
    /// List names and versions.
    List,
    /// Add a version.
    Set,
}

impl Action {
    const ALL: [Self; 3] = [Self::Get, Self::List, Self::Set];

    fn verb(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Set => "set",
        }
    }
}

/// What a vault answers as `nextLink` of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NextLink {
    /// The next page of the same list, or null when there is none.
    #[default]
    Honest,
    /// This URL, on every page.
    Always(String),
    /// The page that was asked for, for ever.
    SamePage,
}

/// A vault, by its host, to be furnished.
#[derive(Clone)]
pub struct Vault {
    services: Arc<Services>,
    host: String,
}

impl Vault {
    pub(crate) fn open(services: &Arc<Services>, cloud: &Cloud, tenant: &str, name: &str) -> Self {
        let host = cloud.vault_host(name);
        let record = || Record::new(cloud, tenant, name);
        services.vaults().0.entry(host.clone()).or_insert_with(record);
        Self { services: Arc::clone(services), host }
    }

    /// `<vault>.<suffix>`, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Gives an application permissions, beside those it has.
    pub fn allow(&self, client_id: &str, collection: Collection, actions: &[Action]) -> &Self {
        let client_id = client_id.to_ascii_lowercase();
        self.change(|vault| {
            vault.permissions.extend(actions.iter().map(|action| (client_id.clone(), collection, *action)));
        })
    }

    /// Gives an application every permission.
    pub fn allow_all(&self, client_id: &str) -> &Self {
        for collection in Collection::ALL {
            self.allow(client_id, collection, &Action::ALL);
        }
        self
    }

    /// Takes every permission from an application.
    pub fn deny(&self, client_id: &str) -> &Self {
        let client_id = client_id.to_ascii_lowercase();
        self.change(|vault| vault.permissions.retain(|(kept, _, _)| *kept != client_id))
    }

    /// Whether refusals speak of role assignments instead of access policies.
    pub fn role_based(&self, role_based: bool) -> &Self {
        self.change(|vault| vault.role_based = role_based)
    }

    /// Whether the vault's firewall refuses every caller.
    pub fn firewalled(&self, firewalled: bool) -> &Self {
        self.change(|vault| vault.firewalled = firewalled)
    }

    /// What lists say about where they go on.
    pub fn next_link(&self, next_link: NextLink) -> &Self {
        self.change(|vault| vault.next_link = next_link)
    }

    /// A secret, whether it exists or not.
    pub fn secret(&self, name: &str) -> Object<SecretValue> {
        self.object(Collection::Secrets, name)
    }

    /// A key, whether it exists or not.
    pub fn key(&self, name: &str) -> Object<Jwk> {
        self.object(Collection::Keys, name)
    }

    /// A certificate, whether it exists or not. Setting it sets the key and the secret of the same name too, as the
    /// service does.
    pub fn certificate(&self, name: &str) -> Object<CertificateBundle> {
        self.object(Collection::Certificates, name)
    }

    fn object<C>(&self, collection: Collection, name: &str) -> Object<C> {
        Object { vault: self.clone(), collection, name: name.to_owned(), content: PhantomData }
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> &Self {
        if let Some(vault) = self.services.vaults().find(&self.host) {
            change(vault);
        }
        self
    }
}

/// A secret, key or certificate of a vault, by its name.
pub struct Object<C> {
    vault: Vault,
    collection: Collection,
    name: String,
    content: PhantomData<fn(C)>,
}

impl<C: Into<Content>> Object<C> {
    /// Adds a version and makes it the current one. The version id is the answer.
    pub fn set(&self, content: impl Into<C>) -> String {
        self.set_with(content, Options::default())
    }

    /// As [`Object::set`], with attributes.
    pub fn set_with(&self, content: impl Into<C>, options: Options) -> String {
        let id = options.version.clone().unwrap_or_else(random_hex);
        let now = self.vault.services.clock.now();
        let content = content.into().into();
        self.vault.change(|vault| vault.add(&self.name, &id, content, &options, now));
        id
    }

    /// Enables or disables a version, or all of them.
    pub fn enable(&self, version: Option<&str>, enabled: bool) -> &Self {
        self.change(|object| {
            for kept in object.versions.iter_mut().filter(|kept| version.is_none_or(|wanted| wanted == kept.id)) {
                kept.enabled = enabled;
            }
        })
    }

    /// Deletes the object with all its versions.
    pub fn remove(&self) {
        self.vault.change(|vault| {
            vault.objects.remove(&(self.collection, self.name.to_ascii_lowercase()));
        });
    }

    /// The ids of its versions, oldest first.
    pub fn versions(&self) -> Vec<String> {
        let mut ids = Vec::new();
        self.change(|object| ids = object.versions.iter().map(|version| version.id.clone()).collect());
        ids
    }

    fn change(&self, change: impl FnOnce(&mut Stored)) -> &Self {
        let key = (self.collection, self.name.to_ascii_lowercase());
        self.vault.change(|vault| {
            vault.objects.get_mut(&key).map(change);
        });
        self
    }
}

/// Every vault, by its host.
#[derive(Default)]
pub(crate) struct Vaults(HashMap<String, Record>);

impl Vaults {
    pub(crate) fn has(&self, host: &str) -> bool {
        self.0.contains_key(host)
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.0.keys().cloned().collect();
        hosts.sort();
        hosts
    }

    pub(crate) fn find(&mut self, host: &str) -> Option<&mut Record> {
        self.0.get_mut(host)
    }
}

/// One vault.
pub(crate) struct Record {
    /// As its owner wrote it; ids use the lower-case host.
    name: String,
    cloud: Cloud,
    tenant: String,
    role_based: bool,
    firewalled: bool,
    next_link: NextLink,
    permissions: BTreeSet<(String, Collection, Action)>,
    /// By name in lower case: names are not case-sensitive.
    objects: BTreeMap<(Collection, String), Stored>,
}

/// One secret, key or certificate; there is at least one version, and the last is the current one.
struct Stored {
    name: String,
    versions: Vec<Version>,
}

struct Version {
    id: String,
    enabled: bool,
    created: i64,
    updated: i64,
    not_before: Option<i64>,
    expires: Option<i64>,
    content_type: Option<String>,
    tags: BTreeMap<String, String>,
    /// Belongs to the certificate of the same name and version.
    managed: bool,
    content: Content,
}

impl Record {
    fn new(cloud: &Cloud, tenant: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cloud: cloud.clone(),
            tenant: tenant.to_owned(),
            role_based: false,
            firewalled: false,
            next_link: NextLink::default(),
            permissions: BTreeSet::new(),
            objects: BTreeMap::new(),
        }
    }

    fn add(&mut self, name: &str, id: &str, content: Content, options: &Options, now: i64) {
        let (collection, content_type) = match &content {
            Content::Secret(_) => (Collection::Secrets, options.content_type.clone()),
            Content::Key(_) => (Collection::Keys, None),
            Content::Certificate(bundle) => {
                let exported = Content::Secret(SecretValue(bundle.exported.clone()));
                self.insert(
                    Collection::Secrets,
                    name,
                    Version {
                        content_type: Some(bundle.content_type.clone()),
                        ..Version::new(id, exported, options, true, now)
                    },
                );
                let key = Content::Key(bundle.key.clone());
                self.insert(Collection::Keys, name, Version::new(id, key, options, true, now));
                (Collection::Certificates, None)
            }
        };
        self.insert(collection, name, Version { content_type, ..Version::new(id, content, options, false, now) });
    }

    fn insert(&mut self, collection: Collection, name: &str, version: Version) {
        let key = (collection, name.to_ascii_lowercase());
        let stored = self.objects.entry(key).or_insert_with(|| Stored { name: name.to_owned(), versions: Vec::new() });
        stored.versions.push(version);
    }

    /// The URL of an object or, with `version`, of one version of it.
    fn url(&self, collection: Collection, name: &str, version: Option<&str>) -> String {
        let base = format!("https://{}/{}/{name}", self.cloud.vault_host(&self.name), collection.segment());
        version.map_or_else(|| base.clone(), |version| format!("{base}/{version}"))
    }
}

impl Version {
    fn new(id: &str, content: Content, options: &Options, managed: bool, now: i64) -> Self {
        let created = options.created.unwrap_or(now);
        Self {
            id: id.to_owned(),
            enabled: !options.disabled,
            created,
            updated: created,
            not_before: options.not_before,
            expires: options.expires,
            content_type: None,
            tags: options.tags.clone(),
            managed,
            content,
        }
    }
}
