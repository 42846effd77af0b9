//! Reads Kubernetes manifests from files or stdin: SecretProviderClass and Secret objects, several documents to a file.
//!
//! All mistakes are collected, each with its position. The values of a Secret become [`SecretBytes`] here and are in
//! no message; the bytes of the files are wiped. `commands` is the caller.

mod class;
mod fields;
mod secret;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use coffer_sandbox::secret::SecretBytes;
use zeroize::Zeroizing;

use crate::api::class::{API_VERSIONS, KIND, SecretProviderClass};
use crate::mistake::{Mistake, Position};
use crate::nearest::{did_you_mean, nearest};
use crate::yaml::{self, Node, Value};
use fields::{Fields, Reader};

/// The most bytes that one file may have: the size limit of objects in Kubernetes is a third of this.
const LARGEST_FILE: u64 = 4 << 20;

/// What the files say.
#[derive(Default)]
pub struct Manifests {
    /// Classes, in order.
    pub classes: Vec<Class>,
    /// Secrets, in order.
    pub secrets: Vec<Secret>,
    /// What is neither, and was left out.
    pub skipped: Vec<Skipped>,
    /// Everything that is wrong. While this is not empty, classes and Secrets may lack parts.
    pub mistakes: Vec<Mistake>,
}

/// A class and where it stands.
#[derive(Clone, Debug)]
pub struct Class {
    /// The object.
    pub object: SecretProviderClass,
    /// Where it starts.
    pub position: Position,
    /// Where `spec.provider` has its value.
    pub provider_position: Option<Position>,
}

/// A Secret and where it stands. No `Debug`: nothing of it is to be printed but its name and the names of its keys.
pub struct Secret {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, if the manifest says one.
    pub namespace: Option<String>,
    /// `data`, decoded, with `stringData` laid over it.
    pub data: BTreeMap<String, SecretBytes>,
    /// Where it starts.
    pub position: Position,
}

/// An object that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its kind.
    pub kind: String,
    /// Where it starts.
    pub position: Position,
}

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system says no.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// More than [`LARGEST_FILE`].
    #[error("{0} is larger than {LARGEST_FILE} bytes; is it a manifest?")]
    TooLarge(String),
    /// `-` more than once.
    #[error("stdin is named twice; it can be read once")]
    StdinTwice,
}

/// Reads all files; `-` is stdin.
pub fn read(paths: &[PathBuf]) -> Result<Manifests, Error> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(Error::StdinTwice);
    }
    let mut manifests = Manifests::default();
    for path in paths {
        let text = read_file(path)?;
        manifests.add(&path.display().to_string(), &text);
    }
    manifests.refuse_duplicates();
    Ok(manifests)
}

impl Manifests {
    /// Reads one file's text.
    fn add(&mut self, file: &str, text: &[u8]) {
        let before = self.mistakes.len();
        let (documents, mistakes) = yaml::read(file, text);
        self.mistakes.extend(mistakes);
        for document in documents {
            self.add_object(file, document);
        }
        // In the order of the file, as people will mend them.
        let place = |mistake: &Mistake| mistake.position.as_ref().map(|at| (at.line, at.column));
        if let Some(new) = self.mistakes.get_mut(before..) {
            new.sort_by_key(place);
        }
    }

    fn add_object(&mut self, file: &str, node: Node) {
        let position = node.place.in_file(file);
        let mut reader = Reader { file, mistakes: &mut self.mistakes };
        let Some(mut fields) = reader.mapping("a manifest", node) else { return };
        let kind = fields.take_string(&mut reader, "kind").unwrap_or_default();
        let version = fields.take_string(&mut reader, "apiVersion").unwrap_or_default();
        if kind.is_empty() {
            reader.mistakes.push(missing(&position, "`kind`", &fields, "kind"));
            return;
        }
        match kind.as_str() {
            KIND => {
                check_version(&mut reader, &position, &kind, &version, &API_VERSIONS);
                self.classes.push(class::read(&mut reader, fields.named(KIND), position));
            }
            "Secret" => {
                check_version(&mut reader, &position, &kind, &version, &["v1"]);
                self.secrets.push(secret::read(&mut reader, fields.named("Secret"), position));
            }
            "List" | "SecretList" | "SecretProviderClassList" => self.add_list(file, fields),
            other => match nearest(other, [KIND, "Secret"]) {
                Some(_) => self.mistakes.push(
                    Mistake::at(position, format!("unknown kind `{other}`"))
                        .help(did_you_mean(other, [KIND, "Secret"])),
                ),
                None => self.skipped.push(Skipped { kind, position }),
            },
        }
    }

    fn add_list(&mut self, file: &str, mut fields: Fields) {
        let Some(items) = fields.take("items") else { return };
        match items.value.value {
            Value::Sequence(items) => items.into_iter().for_each(|item| self.add_object(file, item)),
            Value::Null => {}
            other => self.mistakes.push(Mistake::at(
                items.value.place.in_file(file),
                format!("`items` must be a list, not {}", other.kind()),
            )),
        }
    }

    fn refuse_duplicates(&mut self) {
        let classes = self.classes.iter().map(|c| (KIND, &c.object.namespace, c.object.name.as_str(), &c.position));
        let secrets = self.secrets.iter().map(|s| ("Secret", &s.namespace, s.name.as_str(), &s.position));
        let mut seen = BTreeMap::new();
        for (kind, namespace, name, position) in classes.chain(secrets).filter(|(_, _, name, _)| !name.is_empty()) {
            if let Some(first) = seen.insert((kind, namespace.clone(), name), position) {
                let message = format!("{kind} `{name}` stands here a second time; the first one is at {first}");
                self.mistakes.push(Mistake::at(position.clone(), message));
            }
        }
    }
}

fn check_version(reader: &mut Reader<'_>, position: &Position, kind: &str, version: &str, known: &[&str]) {
    if !known.contains(&version) {
        let message = match version {
            "" => format!("{kind}: `apiVersion` is missing"),
            _ => format!("{kind}: unknown `apiVersion: {version}`"),
        };
        let help = format!("known: {}", known.join(", "));
        reader.mistakes.push(Mistake::at(position.clone(), message).help(help));
    }
}

/// A mistake about a key that is missing, with the key that was probably meant to be it.
fn missing(position: &Position, what: &str, fields: &Fields, key: &str) -> Mistake {
    let help = nearest(key, fields.keys()).map(|near| format!("is `{near}` meant to be `{key}`?"));
    Mistake::at(position.clone(), format!("{what} is missing")).help(help)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The whole file, wiped when dropped.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let name = || if is_stdin(path) { "stdin".to_owned() } else { path.display().to_string() };
    let read = |source: std::io::Error| Error::Read { path: name(), source };
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    if is_stdin(path) {
        std::io::stdin().lock().take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    } else {
        let file = std::fs::File::open(path).map_err(read)?;
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    }
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Error::TooLarge(name()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The class and the Secret of Microsoft's page on the Arc extension, as they stand there.
    const ARC_CLASS: &str = r#"
# This is a SecretProviderClass example using service principal to access Keyvault
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: akvprovider-demo
spec:
  provider: azure
  parameters:
    usePodIdentity: "false"
    keyvaultName: kv
    cloudName:                           # Defaults to AzurePublicCloud
    objects:  |
      array:
        - |
          objectName: DemoSecret
          objectType: secret             # object types: secret, key or cert
          objectVersion: ""              # [OPTIONAL] object versions, default to latest if empty
    tenantId: 00000000-0000-0000-0000-000000000001   # The tenant ID of the Azure Key Vault instance
"#;

    fn read_text(text: &str) -> Manifests {
        let mut manifests = Manifests::default();
        manifests.add("f.yaml", text.as_bytes());
        manifests.refuse_duplicates();
        manifests
    }

    fn mistakes(text: &str) -> Vec<String> {
        read_text(text)
            .mistakes
            .iter()
            .map(|m| match &m.help {
                Some(help) => format!("{m} ({help})"),
                None => m.to_string(),
            })
            .collect()
    }

    #[test]
    fn the_class_of_the_arc_page_is_read_as_it_stands() {
        let manifests = read_text(ARC_CLASS);
        assert_eq!(manifests.mistakes, []);
        let class = &manifests.classes[0].object;
        assert_eq!((class.name.as_str(), class.provider.as_str()), ("akvprovider-demo", "azure"));
        assert_eq!(class.parameters.get("usePodIdentity").map(String::as_str), Some("false"));
        assert!(!class.parameters.contains_key("cloudName"), "a null parameter is no parameter");
        assert!(class.parameters["objects"].contains("  - |\n    objectName: DemoSecret\n"));
    }

    #[test]
    fn a_secret_is_read_from_data_and_string_data_with_string_data_on_top() {
        let manifests = read_text(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s, labels: {a: b}}\ntype: Opaque\n\
             data:\n  clientid: aWQ=\n  both: b2xk\nstringData:\n  clientsecret: word\n  both: new\n",
        );
        assert_eq!(manifests.mistakes, []);
        let data = &manifests.secrets[0].data;
        let values: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        let expected: [(&str, &[u8]); 3] = [("both", b"new"), ("clientid", b"id"), ("clientsecret", b"word")];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_misspelt_key_of_a_class_is_named_with_the_nearest_one() {
        let text = ARC_CLASS.replace("parameters:", "paramters:").replace("spec:", "spec: # here");
        assert_eq!(
            mistakes(&text),
            [
                "f.yaml:8:3: SecretProviderClass `akvprovider-demo`: `spec.parameters` is missing or empty",
                "f.yaml:9:3: unknown key `paramters` in `spec` (did you mean `parameters`?)"
            ]
        );
    }

    #[test]
    fn a_parameter_that_is_no_string_is_named() {
        let text = ARC_CLASS.replace("\"false\"", "false").replace("keyvaultName: kv", "keyvaultName: [kv]");
        assert_eq!(
            mistakes(&text),
            [
                "f.yaml:10:21: `spec.parameters.usePodIdentity` must be a string, not a boolean (put it into quotes)",
                "f.yaml:11:19: `spec.parameters.keyvaultName` must be a string, not a list",
            ]
        );
    }

    #[test]
    fn a_value_that_is_not_base64_is_named_and_not_shown() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata:\n  clientsecret: CANARY!\n";
        assert_eq!(
            mistakes(text),
            ["f.yaml:6:17: `data.clientsecret` of Secret `s` is not base64 (text as it is belongs into `stringData`)"]
        );
    }

    #[test]
    fn a_secret_whose_keys_are_misspelt_is_refused() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringdata:\n  a: CANARY\n";
        assert_eq!(mistakes(text), ["f.yaml:4:1: unknown key `stringdata` in Secret (did you mean `stringData`?)"]);
    }

    #[test]
    fn other_kinds_are_skipped_and_near_misses_are_not() {
        let manifests = read_text("apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Secert\n");
        assert_eq!(manifests.skipped.len(), 1);
        assert_eq!(manifests.mistakes[0].to_string(), "f.yaml:4:1: unknown kind `Secert`");
    }

    #[test]
    fn the_items_of_a_list_are_read() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: a}}\n\
                    - {apiVersion: v1, kind: Secret, metadata: {name: b}}\n";
        let manifests = read_text(text);
        assert_eq!((manifests.secrets.len(), manifests.mistakes.len()), (2, 0));
    }

    #[test]
    fn two_objects_of_one_name_are_refused() {
        let text = format!("{ARC_CLASS}---{ARC_CLASS}");
        assert_eq!(
            mistakes(&text),
            [
                "f.yaml:22:1: SecretProviderClass `akvprovider-demo` stands here a second time; the first one is at f.yaml:3:1"
            ]
        );
    }

    #[test]
    fn the_version_and_the_name_are_required() {
        assert_eq!(
            mistakes("apiVersion: v2\nkind: Secret\nmetadata: {nmae: s}\n"),
            [
                "f.yaml:1:1: Secret: unknown `apiVersion: v2` (known: v1)",
                "f.yaml:1:1: `metadata.name` is missing (is `nmae` meant to be `name`?)"
            ]
        );
        assert_eq!(
            mistakes("apiVersion: v1\nknd: Secret\n"),
            ["f.yaml:1:1: `kind` is missing (is `knd` meant to be `kind`?)"]
        );
        assert_eq!(mistakes("- a\n"), ["f.yaml:1:1: a manifest must be a mapping, not a list"]);
    }

    #[test]
    fn the_objects_of_secret_sync_are_checked_too() {
        let text = format!(
            "{ARC_CLASS}  secretObjects:\n  - secretName: s\n    typ: Opaque\n    data:\n    - objectName: a\n      kee: k\n"
        );
        assert_eq!(
            mistakes(&text),
            [
                "f.yaml:22:5: unknown key `typ` in `spec.secretObjects[0]` (did you mean `type`?)",
                "f.yaml:25:7: unknown key `kee` in `spec.secretObjects[0].data[0]` (did you mean `key`?)"
            ]
        );
    }

    /// Pieces that manifests are made of, so that random texts get past the first line.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "apiVersion: ",
            "v1",
            "secrets-store.csi.x-k8s.io/v1",
            "kind: ",
            "SecretProviderClass",
            "Secret",
            "List",
            "items: ",
            "metadata: ",
            "name: ",
            "spec: ",
            "provider: ",
            "azure",
            "parameters: ",
            "secretObjects: ",
            "data: ",
            "stringData: ",
            "canary",
            "Y2FuYXJ5",
            "\n",
            "\n  ",
            "\n- ",
            "\n---\n",
            "&x ",
            "*x",
            "<<: ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "!!int ",
            "|\n",
            "\"",
            "'",
            "\t",
            "~",
            "0755",
            "\u{feff}",
            "ä",
        ]);
        prop::collection::vec(piece, 0..50).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_manifest_is_too_strange(text in ".*", pieces in pieces(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            const CLASS: &str = "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nspec:\n  ";
            const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
            let texts = [format!("{CLASS}{pieces}"), format!("{SECRET}{pieces}"), text, pieces];
            for text in texts.iter().map(String::as_bytes).chain([bytes.as_slice()]) {
                let mut manifests = Manifests::default();
                manifests.add("f.yaml", text);
                let lines = 1 + text.split(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
                for position in manifests.mistakes.iter().filter_map(|mistake| mistake.position.as_ref()) {
                    prop_assert!((1..=lines).contains(&position.line), "{position:?}");
                }
            }
        }
    }
}
