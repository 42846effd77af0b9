//! What a request is about: the verb as RBAC names it, the resource, the namespace and the name.
//!
//! Told from the method, the path and the query alone, before anything else happens to a request: faults, rights and
//! the log all speak in these terms.

use http::Method;

/// The group of Coffer's own resources.
pub const GROUP: &str = "secrets-store.csi.x-k8s.io";

/// What is done, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of RBAC")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

impl Verb {
    /// As RBAC spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// A kind of object, or one of the two things that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// SecretProviderClass.
    Classes,
    /// SecretProviderClassPodStatus.
    PodStatuses,
    /// CSIDriver.
    CsiDrivers,
    /// CSINode.
    CsiNodes,
    /// Event, in either group.
    Events,
    /// Secret.
    Secrets,
    /// Pod.
    Pods,
    /// Node.
    Nodes,
    /// The list of resources of a group's version.
    Discovery,
    /// Anything else; it is not served.
    Other,
}

/// A resource with the path it is served at.
struct Served {
    resource: Resource,
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
}

const SERVED: [Served; 9] = [
    Served {
        resource: Resource::Classes,
        group: GROUP,
        versions: &["v1", "v1alpha1"],
        plural: "secretproviderclasses",
        singular: "secretproviderclass",
        kind: "SecretProviderClass",
        namespaced: true,
    },
    Served {
        resource: Resource::PodStatuses,
        group: GROUP,
        versions: &["v1", "v1alpha1"],
        plural: "secretproviderclasspodstatuses",
        singular: "secretproviderclasspodstatus",
        kind: "SecretProviderClassPodStatus",
        namespaced: true,
    },
    Served {
        resource: Resource::CsiDrivers,
        group: "storage.k8s.io",
        versions: &["v1"],
        plural: "csidrivers",
        singular: "csidriver",
        kind: "CSIDriver",
        namespaced: false,
    },
    Served {
        resource: Resource::CsiNodes,
        group: "storage.k8s.io",
        versions: &["v1"],
        plural: "csinodes",
        singular: "csinode",
        kind: "CSINode",
        namespaced: false,
    },
    Served {
        resource: Resource::Events,
        group: "",
        versions: &["v1"],
        plural: "events",
        singular: "event",
        kind: "Event",
        namespaced: true,
    },
    Served {
        resource: Resource::Events,
        group: "events.k8s.io",
        versions: &["v1"],
        plural: "events",
        singular: "event",
        kind: "Event",
        namespaced: true,
    },
    Served {
        resource: Resource::Secrets,
        group: "",
        versions: &["v1"],
        plural: "secrets",
        singular: "secret",
        kind: "Secret",
        namespaced: true,
    },
    Served {
        resource: Resource::Pods,
        group: "",
        versions: &["v1"],
        plural: "pods",
        singular: "pod",
        kind: "Pod",
        namespaced: true,
    },
    Served {
        resource: Resource::Nodes,
        group: "",
        versions: &["v1"],
        plural: "nodes",
        singular: "node",
        kind: "Node",
        namespaced: false,
    },
];

impl Resource {
    /// The plural, as RBAC and paths name it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Other => "other",
            _ => self.served().map_or("other", |served| served.plural),
        }
    }

    /// The kind of its objects.
    pub fn kind(self) -> &'static str {
        self.served().map_or("", |served| served.kind)
    }

    /// `apiVersion` of an object that a test makes.
    pub(crate) fn api_version(self) -> String {
        self.served().map_or(String::new(), |served| joined(served.group, "v1"))
    }

    fn served(self) -> Option<&'static Served> {
        SERVED.iter().find(|served| served.resource == self)
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What is done.
    pub verb: Verb,
    /// To what.
    pub resource: Resource,
    /// The API group; the core group is empty.
    pub group: String,
    /// The group's version.
    pub version: String,
    /// The namespace; empty for what has none.
    pub namespace: String,
    /// The name; empty for a list or a creation.
    pub name: String,
}

impl Target {
    /// Reads method, path and query.
    pub(crate) fn of(method: &Method, path: &str, query: &[(String, String)]) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => ("", "", &[][..]),
        };
        let (namespace, plural, name) = match rest {
            ["namespaces", namespace, plural] => (*namespace, *plural, ""),
            ["namespaces", namespace, plural, name] => (*namespace, *plural, *name),
            [plural] => ("", *plural, ""),
            [plural, name] => ("", *plural, *name),
            _ => ("", "", ""),
        };
        let named = !name.is_empty();
        let resource = if rest.is_empty() && !version.is_empty() {
            Resource::Discovery
        } else {
            find(group, version, plural, !namespace.is_empty(), named || *method == Method::POST)
        };
        let verb = verb(method, named || resource == Resource::Discovery, query);
        let text = str::to_owned;
        let (group, version, namespace, name) = (text(group), text(version), text(namespace), text(name));
        Self { verb, resource, group, version, namespace, name }
    }

    /// `group/version`, or the version of the core group.
    pub(crate) fn api_version(&self) -> String {
        joined(&self.group, &self.version)
    }
}

fn find(group: &str, version: &str, plural: &str, in_namespace: bool, one: bool) -> Resource {
    let matches = |served: &&Served| {
        // A list over all namespaces has none in its path.
        let placed = served.namespaced == in_namespace || (served.namespaced && !one);
        served.group == group && served.versions.contains(&version) && served.plural == plural && placed
    };
    SERVED.iter().find(matches).map_or(Resource::Other, |served| served.resource)
}

fn verb(method: &Method, one: bool, query: &[(String, String)]) -> Verb {
    let watch = query.iter().any(|(name, value)| name == "watch" && matches!(value.as_str(), "" | "1" | "true"));
    match *method {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ if watch => Verb::Watch,
        _ if one => Verb::Get,
        _ => Verb::List,
    }
}

/// The resources of a group's version as discovery lists them; none when the group is not served.
pub(crate) fn discovery(group: &str, version: &str, hidden: &[Resource]) -> Option<serde_json::Value> {
    let here = |served: &&Served| {
        served.group == group && served.versions.contains(&version) && !hidden.contains(&served.resource)
    };
    let resources: Vec<serde_json::Value> = SERVED
        .iter()
        .filter(here)
        .map(|served| {
            serde_json::json!({
                "name": served.plural, "singularName": served.singular, "namespaced": served.namespaced,
                "kind": served.kind, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    (!resources.is_empty()).then(|| {
        serde_json::json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": joined(group, version),
            "resources": resources,
        })
    })
}

fn joined(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
