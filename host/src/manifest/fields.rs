//! Takes a YAML mapping apart, key by key, and notes what is wrong on the way.

use zeroize::Zeroizing;

use crate::mistake::Mistake;
use crate::nearest::did_you_mean;
use crate::yaml::{Entry, Node, Value};

/// Where mistakes go.
pub struct Reader<'a> {
    /// The file that is being read.
    pub file: &'a str,
    /// What was wrong so far.
    pub mistakes: &'a mut Vec<Mistake>,
}

impl Reader<'_> {
    /// Notes a mistake at a node.
    pub fn refuse(&mut self, at: &Node, message: String, help: Option<String>) {
        self.mistakes.push(Mistake::at(at.place.in_file(self.file), message).help(help));
    }

    /// The node as a mapping; `name` is what to call it.
    pub fn mapping(&mut self, name: impl Into<String>, node: Node) -> Option<Fields> {
        let name = name.into();
        match node.value {
            Value::Mapping(entries) => Some(Fields { name, entries }),
            Value::Null => None,
            ref other => {
                let message = format!("{name} must be a mapping, not {}", other.kind());
                self.refuse(&node, message, None);
                None
            }
        }
    }

    /// The node as a list; nothing counts as an empty one.
    pub fn sequence(&mut self, name: &str, node: Node) -> Vec<Node> {
        match node.value {
            Value::Sequence(items) => items,
            Value::Null => Vec::new(),
            ref other => {
                let message = format!("{name} must be a list, not {}", other.kind());
                self.refuse(&node, message, None);
                Vec::new()
            }
        }
    }

    /// The node as a string, or none when it is nothing or something else.
    pub fn string(&mut self, name: &str, node: Node) -> Option<Zeroizing<String>> {
        match node.value {
            Value::Text(text) => Some(text),
            Value::Null => None,
            ref other => {
                let scalar = matches!(other, Value::Bool | Value::Number);
                let message = format!("{name} must be a string, not {}", other.kind());
                self.refuse(&node, message, scalar.then(|| "put it into quotes".to_owned()));
                None
            }
        }
    }
}

/// A mapping that is being taken apart.
pub struct Fields {
    name: String,
    entries: Vec<Entry>,
}

impl Fields {
    /// The same under another name.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The keys that are left.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Takes one pair out.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }

    /// Takes a string out; not for secrets.
    pub fn take_string(&mut self, reader: &mut Reader<'_>, key: &str) -> Option<String> {
        let entry = self.take(key)?;
        reader.string(&format!("`{key}`"), entry.value).map(|text| text.as_str().to_owned())
    }

    /// Takes a mapping out.
    pub fn take_mapping(&mut self, reader: &mut Reader<'_>, key: &str, name: &str) -> Option<Self> {
        let entry = self.take(key)?;
        reader.mapping(name, entry.value)
    }

    /// All pairs.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Refuses what is left; `known` are all keys of this mapping, taken or not.
    pub fn refuse_others(self, reader: &mut Reader<'_>, known: &[&str]) {
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let message = format!("unknown key `{}` in {}", entry.key, self.name);
            let help = did_you_mean(&entry.key, known.iter().copied())
                .unwrap_or_else(|| format!("the keys here are: {}", known.join(", ")));
            reader.mistakes.push(Mistake::at(entry.place.in_file(reader.file), message).help(help));
        }
    }
}

/// `metadata`: name and namespace. Everything else in it belongs to the API server.
pub fn read_metadata(
    reader: &mut Reader<'_>,
    fields: &mut Fields,
    position: &crate::mistake::Position,
) -> (String, Option<String>) {
    let metadata = fields.take_mapping(reader, "metadata", "`metadata`");
    let mut metadata = metadata.unwrap_or(Fields { name: "`metadata`".into(), entries: Vec::new() });
    let name = metadata.take_string(reader, "name").filter(|name| !name.is_empty());
    let namespace = metadata.take_string(reader, "namespace").filter(|namespace| !namespace.is_empty());
    match &name {
        None => reader.mistakes.push(super::missing(position, "`metadata.name`", &metadata, "name")),
        Some(name) if !is_object_name(name) => {
            let message = "`metadata.name` must be lower case letters, digits, `-` and `.`, at most 253 of them";
            reader.mistakes.push(Mistake::at(position.clone(), message));
        }
        Some(_) => {}
    }
    (name.unwrap_or_default(), namespace)
}

/// A DNS subdomain name (RFC 1123), as Kubernetes wants names of objects to be.
fn is_object_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
