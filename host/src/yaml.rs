//! YAML as a tree that knows where everything stands, for manifests: every mistake of a document can be told at once,
//! with its position, and nothing of a value ever gets into a message.
//!
//! The parser's own words are not shown, because they quote the source: each of its errors becomes a sentence of
//! [`explain`]. Scalars are wiped when dropped; the tree has no `Debug`. `manifest` and `config` are the callers.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{ExternalMessageSource, Location, Options, Spanned, granit_parser};
use zeroize::Zeroizing;

use crate::mistake::{Mistake, Position};

/// A node and where it stands.
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Line and column of its first character.
    pub place: Place,
}

/// Line and column, from 1.
#[derive(Clone, Copy)]
pub struct Place {
    line: u64,
    column: u64,
}

impl Place {
    /// The place that the parser says.
    pub fn of(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }

    /// The same place with its file.
    pub fn in_file(self, file: &str) -> Position {
        Position { file: file.to_owned(), line: self.line, column: self.column }
    }
}

/// What a node is.
pub enum Value {
    /// Nothing: empty, `~` or `null`.
    Null,
    /// A boolean without quotes.
    Bool,
    /// A number without quotes.
    Number,
    /// A string.
    Text(Zeroizing<String>),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the file; keys are unique.
    Mapping(Vec<Entry>),
}

impl Value {
    /// What to call it in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// One pair of a mapping.
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub value: Node,
}

/// The documents of a file; those that are not YAML are named in the second part. Empty documents are left out.
pub fn read(file: &str, text: &[u8]) -> (Vec<Node>, Vec<Mistake>) {
    let mut documents = Vec::new();
    let mut mistakes = Vec::new();
    let mut reader = text;
    for document in serde_saphyr::read_with_options::<_, Node>(&mut reader, options()) {
        match document {
            Ok(node) => documents.push(node),
            Err(error) => mistakes.push(explain(file, &error)),
        }
    }
    (documents, mistakes)
}

/// How all YAML is read: duplicate keys are errors, aliases cannot explode, and errors carry no copy of the source.
pub fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_nodes: 100_000,
            max_documents: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
        },
        // A password that starts with `!` would lose its first word otherwise.
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// A parser's error in our words. Nothing that stands in the file is repeated, but for names of keys that a type of
/// ours refused.
pub fn explain(file: &str, error: &serde_saphyr::Error) -> Mistake {
    use serde_saphyr::Error as E;
    let (message, help) = match error.without_snippet() {
        E::Message { msg, .. } => (msg.clone(), None),
        E::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), help_with_key(field, expected))
        }
        E::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), None),
        E::SerdeUnknownVariant { expected, .. } => (format!("must be one of: {}", expected.join(", ")), None),
        E::SerdeInvalidType { expected, .. } | E::SerdeInvalidValue { expected, .. } => {
            (format!("must be {expected}"), None)
        }
        E::NullIntoString { .. } => ("must not be empty".into(), None),
        E::InvalidScalar { ty, .. } => (format!("must be of type {ty}"), None),
        E::DuplicateMappingKey { .. } => ("this key stands twice in its mapping".into(), None),
        E::UnknownAnchor { .. } => {
            ("an alias refers to nothing".into(), Some("a value that starts with `*` needs quotes".into()))
        }
        E::UnsupportedTag { .. } => ("an unknown tag".into(), Some("a value that starts with `!` needs quotes".into())),
        E::MultipleDocuments { .. } => ("there is more than one document".into(), None),
        E::AliasReplayLimitExceeded { .. } | E::AliasReplayStackDepthExceeded { .. } | E::Budget { .. } => {
            ("too large: too many nodes, too deep, or too many aliases".into(), None)
        }
        E::InvalidUtf8Input | E::IOError { .. } => ("not valid UTF-8".into(), None),
        E::Unexpected { expected, .. } => (format!("not as expected here: {expected}"), None),
        E::ExternalMessage { source, .. } => (explain_syntax(source), None),
        _ => ("not valid YAML".into(), None),
    };
    let place = error.location().map(Place::of);
    let mistake = match place.filter(|place| place.line > 0) {
        Some(place) => Mistake::at(place.in_file(file), message),
        None => Mistake::at(Place { line: 1, column: 1 }.in_file(file), message),
    };
    mistake.help(help)
}

fn help_with_key(field: &str, expected: &[&'static str]) -> Option<String> {
    crate::nearest::did_you_mean(field, expected.iter().copied())
        .or_else(|| Some(format!("the keys here are: {}", expected.join(", "))))
}

/// The parser's sentences are fixed texts, but for two kinds of them.
fn explain_syntax(source: &ExternalMessageSource) -> String {
    use granit_parser::ErrorKind as K;
    let ExternalMessageSource::Parser(error) = source else { return "not valid YAML".into() };
    match error.kind() {
        K::UnexpectedCharacter { .. } => "not valid YAML: a value cannot start like this without quotes".into(),
        K::Custom(_) | K::InputIo { .. } | K::InputDecoding { .. } => "not valid YAML".into(),
        kind => format!("not valid YAML: {kind}"),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value, place: Place::of(referenced) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Value::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = pairs.next_key::<Spanned<String>>()? {
            let place = Place::of(key.referenced);
            entries.push(Entry { key: key.value, place, value: pairs.next_value()? });
        }
        Ok(Value::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let (_, mistakes) = read("f.yaml", text.as_bytes());
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let (documents, mistakes) = read("f", b"---\na: x\n---\n# nothing\n---\nb:\n  - 1\n  - c:\n");
        assert!(mistakes.is_empty());
        assert_eq!(documents.len(), 2);
        let Value::Mapping(entries) = &documents[1].value else { panic!() };
        assert_eq!((entries[0].key.as_str(), entries[0].place.line, entries[0].place.column), ("b", 6, 1));
        let Value::Sequence(items) = &entries[0].value.value else { panic!() };
        assert_eq!((items[0].value.kind(), items[0].place.line, items[0].place.column), ("a number", 7, 5));
        let Value::Mapping(entries) = &items[1].value else { panic!() };
        assert_eq!(entries[0].value.value.kind(), "nothing");
    }

    #[test]
    fn a_broken_document_is_named_with_its_position() {
        assert_eq!(mistakes("a: 1\na: 2\n"), ["f.yaml:2:1: this key stands twice in its mapping"]);
        assert_eq!(mistakes("a: [1, 2\n"), ["f.yaml:1:4: not valid YAML: unclosed bracket '['"]);
    }

    #[test]
    fn the_documents_after_a_wrong_one_are_still_read() {
        let (documents, mistakes) = read("f", b"a: 1\na: 2\n---\nb: 1\n");
        assert_eq!((documents.len(), mistakes.len()), (1, 1));
    }

    #[test]
    fn no_error_repeats_what_stands_in_the_file() {
        let broken = [
            "p: *CANARY\n",
            "p: @CANARY\n",
            "p: !CANARY:x y: z\n",
            "p: \"CANARY\n",
            "p: \"\\CANARY\"\n",
            "p: 'CANARY\n",
            "p: CANARY: x\n",
            "p: {CANARY\n",
            "CANARY: 1\nCANARY: 2\n",
            "p: CANARY\n x\n\t- y\n",
            "p: CANARY\nCANARY\nq: x\n",
            "p: !!int CANARY\n",
            "p: !!binary CANARY\n",
            "%CANARY x\n",
            "<<: CANARY\n",
            "p: &CANARY",
            "? [CANARY]\n: x\n",
            "p: |CANARY\n",
        ];
        for text in broken {
            for mistake in mistakes(text) {
                assert!(!mistake.to_uppercase().contains("CANARY"), "{text:?}: {mistake}");
            }
        }
    }

    #[test]
    fn aliases_cannot_explode() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e")] {
            let list = vec![format!("*{of}"); 10].join(", ");
            bomb.push_str(&format!("{name}: &{name} [{list}]\n"));
        }
        assert_eq!(mistakes(&bomb).len(), 1);
    }

    #[test]
    fn a_value_that_looks_like_a_tag_is_refused_instead_of_cut() {
        assert_eq!(mistakes("p: !pass word\n"), ["f.yaml:1:10: an unknown tag"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(read("f", b"a: \xff\xfe\n").1.len(), 1);
    }
}
