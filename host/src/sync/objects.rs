//! From one `secretObject` of a class and the files of a volume to the Secret that shall be.
//!
//! Pure. Texts are trimmed and mistakes told as in the Secrets Store CSI Driver; a type has to be allowed, keys and sizes
//! are checked before anybody is asked. No mistake holds any content. `worker` is the caller.

use std::collections::{BTreeMap, BTreeSet};

use coffer_sandbox::secret::SecretBytes;

use super::tls;
use crate::api::class::SecretObject;
use crate::config::document::SERVICE_ACCOUNT_TOKEN;
use crate::kube::is_name;
use crate::kube::secrets::MANAGED_LABEL;
use crate::volume::LARGEST;

const TLS: &str = "kubernetes.io/tls";
/// The type where a class says none.
const OPAQUE: &str = "Opaque";
/// The types that Kubernetes knows and whose content is somebody's credentials, not Kubernetes' own.
const ALLOWED: [&str; 7] = [
    OPAQUE,
    TLS,
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/dockercfg",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
    "bootstrap.kubernetes.io/token",
];
/// The longest key of a Secret.
const LONGEST_KEY: usize = 253;

/// A Secret as a class wants it.
pub(super) struct Desired {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) data: BTreeMap<String, SecretBytes>,
}

/// Why there is no Secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    #[error("secretName is empty: name the Secret")]
    NoName,
    #[error("secretName {0:?} cannot be the name of a Secret: use a lowercase DNS name")]
    Name(String),
    #[error("type is empty: say `Opaque`, or which one")]
    NoType,
    #[error("type {0:?} is not allowed: the administrator can add it to syncSecrets.types of Coffer's configuration")]
    Type(String),
    #[error("type {SERVICE_ACCOUNT_TOKEN} is never made: such Secrets are credentials of service accounts")]
    ServiceAccountToken,
    #[error("data is empty: name the files that it is made of")]
    NoData,
    #[error("objectName in data is empty: name a mounted file")]
    NoFile,
    #[error("key in data is empty: name the key for file {0:?}")]
    NoKey(String),
    #[error("key {0:?} cannot be a key of a Secret: use letters, digits, `-`, `_` and `.`")]
    Key(String),
    #[error("file matching objectName {0:?} not found in the pod: it has to be the path of a file in the volume")]
    Missing(String),
    #[error("the files are larger than {LARGEST} bytes together, which no Secret can hold")]
    TooLarge,
    #[error("failed to get certificate data from file {file:?}: {source}")]
    Tls { file: String, source: tls::Error },
}

/// The name of the Secret, if it can have one.
pub(super) fn name(object: &SecretObject) -> Result<&str, Mistake> {
    match object.secret_name.trim() {
        "" => Err(Mistake::NoName),
        name if is_name(name) => Ok(name),
        name => Err(Mistake::Name(shown(name))),
    }
}

/// The paths of the files that it is made of.
pub(super) fn paths(object: &SecretObject) -> impl Iterator<Item = &str> {
    object.data.iter().map(|data| data.object_name.trim()).filter(|path| !path.is_empty())
}

/// The Secret. `types` are those that are allowed besides, `file` knows the contents of files.
pub(super) fn desire<'f>(
    object: &SecretObject,
    types: &BTreeSet<String>,
    file: impl Fn(&str) -> Option<&'f [u8]>,
) -> Result<Desired, Mistake> {
    let name = name(object)?.to_owned();
    let kind = kind(object, types)?.to_owned();
    if object.data.is_empty() {
        return Err(Mistake::NoData);
    }
    let mut data = BTreeMap::new();
    for entry in &object.data {
        let (path, key) = (entry.object_name.trim(), entry.key.trim());
        if path.is_empty() {
            return Err(Mistake::NoFile);
        }
        if key.is_empty() {
            return Err(Mistake::NoKey(shown(path)));
        }
        if !is_key(key) {
            return Err(Mistake::Key(shown(key)));
        }
        let contents = file(path).ok_or_else(|| Mistake::Missing(shown(path)))?;
        // The last one wins, as in the Secrets Store CSI Driver.
        data.insert(key.to_owned(), value(&kind, key, path, contents)?);
    }
    if data.values().map(SecretBytes::len).sum::<usize>() > LARGEST {
        return Err(Mistake::TooLarge);
    }
    let mut labels = object.labels.clone();
    labels.insert(MANAGED_LABEL.to_owned(), "true".to_owned());
    Ok(Desired { name, kind, labels, annotations: object.annotations.clone(), data })
}

fn kind<'o>(object: &'o SecretObject, types: &BTreeSet<String>) -> Result<&'o str, Mistake> {
    if object.kind.is_empty() {
        return Err(Mistake::NoType);
    }
    match object.kind.trim() {
        "" => Ok(OPAQUE),
        SERVICE_ACCOUNT_TOKEN => Err(Mistake::ServiceAccountToken),
        kind if ALLOWED.contains(&kind) || types.contains(kind) => Ok(kind),
        kind => Err(Mistake::Type(shown(kind))),
    }
}

fn value(kind: &str, key: &str, path: &str, contents: &[u8]) -> Result<SecretBytes, Mistake> {
    if kind != TLS {
        // Larger ones are not read to their end.
        return if contents.len() > LARGEST { Err(Mistake::TooLarge) } else { Ok(contents.to_vec().into()) };
    }
    let mut extracted = tls::extract(key, contents).map_err(|source| Mistake::Tls { file: shown(path), source })?;
    Ok(std::mem::take(&mut *extracted).into())
}

fn is_key(key: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    key.len() <= LONGEST_KEY && key.bytes().all(inner) && key != "." && !key.starts_with("..")
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::class::SecretData;

    fn data(object_name: &str, key: &str) -> SecretData {
        SecretData { object_name: object_name.into(), key: key.into() }
    }

    fn object(kind: &str, entries: &[(&str, &str)]) -> SecretObject {
        SecretObject {
            secret_name: "app".into(),
            kind: kind.into(),
            data: entries.iter().map(|(file, key)| data(file, key)).collect(),
            ..SecretObject::default()
        }
    }

    fn desired(object: &SecretObject) -> Result<Desired, Mistake> {
        let files = |path: &str| match path {
            "a" => Some(&b"1"[..]),
            "b/c" => Some(&b"\xff\n"[..]),
            _ => None,
        };
        desire(object, &BTreeSet::from(["example.com/own".to_owned()]), files)
    }

    fn mistake(object: &SecretObject) -> Mistake {
        desired(object).map(|_| ()).unwrap_err()
    }

    #[test]
    fn texts_are_trimmed_and_bytes_are_taken_as_they_are() {
        let mut object = object(" Opaque\n", &[(" a ", " x "), ("b/c", "y"), ("b/c", "x")]);
        object.secret_name = " app ".into();
        object.labels = [("l".to_owned(), "1".to_owned()), (MANAGED_LABEL.to_owned(), "no".to_owned())].into();
        let desired = desired(&object).unwrap();
        assert_eq!((desired.name.as_str(), desired.kind.as_str()), ("app", "Opaque"));
        let bytes: Vec<_> = desired.data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        assert_eq!(bytes, [("x", &b"\xff\n"[..]), ("y", b"\xff\n")], "the last one wins");
        assert_eq!(desired.labels[MANAGED_LABEL], "true");
        assert_eq!(desired.labels["l"], "1");
    }

    #[test]
    fn types_have_to_be_allowed_and_service_account_tokens_never_are() {
        for kind in ALLOWED.iter().filter(|kind| **kind != TLS).chain(&["example.com/own"]) {
            assert_eq!(&desired(&object(kind, &[("a", "k")])).unwrap().kind, kind);
        }
        assert_eq!(desired(&object(" ", &[("a", "k")])).unwrap().kind, "Opaque");
        assert_eq!(mistake(&object("", &[("a", "k")])), Mistake::NoType);
        assert_eq!(mistake(&object("helm.sh/release.v1", &[("a", "k")])), Mistake::Type("helm.sh/release.v1".into()));
        assert_eq!(mistake(&object(&format!(" {SERVICE_ACCOUNT_TOKEN}"), &[("a", "k")])), Mistake::ServiceAccountToken);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(mistake(&object("Opaque", &[])), Mistake::NoData);
        assert_eq!(mistake(&object("Opaque", &[(" ", "k")])), Mistake::NoFile);
        assert_eq!(mistake(&object("Opaque", &[("a", " ")])), Mistake::NoKey("a".into()));
        assert_eq!(mistake(&object("Opaque", &[("a", "k/l")])), Mistake::Key("k/l".into()));
        assert_eq!(mistake(&object("Opaque", &[("a", "..k")])), Mistake::Key("..k".into()));
        assert_eq!(mistake(&object("Opaque", &[("a", "k"), ("z", "l")])), Mistake::Missing("z".into()));
        for (name, wrong) in
            [(" ", Mistake::NoName), ("A", Mistake::Name("A".into())), ("a/b", Mistake::Name("a/b".into()))]
        {
            assert_eq!(mistake(&SecretObject { secret_name: name.into(), ..object("Opaque", &[("a", "k")]) }), wrong);
        }
        let tls = mistake(&object(TLS, &[("a", "tls.crt")])).to_string();
        assert!(tls.contains("file \"a\"") && tls.contains("no certificate"), "{tls}");
    }

    #[test]
    fn a_secret_holds_a_mebibyte_and_no_more() {
        let half = vec![0; LARGEST / 2];
        let file = |_: &str| Some(half.as_slice());
        let of = |keys: &[(&str, &str)]| desire(&object("Opaque", keys), &BTreeSet::new(), file).map(|_| ());
        assert_eq!(of(&[("a", "x"), ("a", "y")]), Ok(()));
        assert_eq!(of(&[("a", "x"), ("a", "y"), ("a", "z")]), Err(Mistake::TooLarge));
    }
}
