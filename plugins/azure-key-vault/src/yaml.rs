//! YAML as the class writes it: a tree whose scalars keep the text of the source, and every error with its place.
//!
//! The parser is `granit-parser`; this module adds what a tree needs: aliases, merge keys, and the refusal of duplicate
//! keys. A typed deserializer would lose `0755`, would not say which key is unknown, and would be larger than the rest
//! of the provider. Nodes live in one list and refer to each other by index, so hostile nesting and aliases cost
//! neither stack nor copies. `objects` is the only caller.

use std::collections::{HashMap, HashSet};
use std::fmt;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};

/// Characters of one document; an etcd object cannot be larger.
const MAX_BYTES: usize = 1_500_000;
/// Entries that merge keys may add to the mappings of one document, all together.
const MAX_MERGED: usize = 10_000;

/// The first document of a text.
#[derive(Debug)]
pub(crate) struct Document {
    nodes: Vec<Stored>,
    root: Option<Id>,
}

/// One node of a document, aliases and merge keys resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'d> {
    document: &'d Document,
    stored: &'d Stored,
}

/// What a node is.
pub(crate) enum Value<'d> {
    /// `null`, `~`, or nothing at all.
    Null,
    /// Any other scalar.
    Scalar(Scalar<'d>),
    /// A list.
    Sequence(Vec<Node<'d>>),
    /// Keys with their values; no key twice.
    Mapping(Vec<(Node<'d>, Node<'d>)>),
}

/// A scalar that is not null.
#[derive(Clone, Copy)]
pub(crate) struct Scalar<'d> {
    /// The text of the source without quotes, whatever type it looks like.
    pub(crate) text: &'d str,
    /// Whether YAML reads it as text even where it looks like a number.
    pub(crate) is_string: bool,
}

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Why a text is not a document that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct Error {
    pub(crate) place: Place,
    pub(crate) problem: Problem,
}

/// What is wrong at a place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{0}")]
    Syntax(ErrorKind),
    #[error("the key `{0}` is there twice")]
    Duplicate(String),
    #[error("a key must be plain text")]
    Key,
    #[error("an alias stands inside the value that it refers to")]
    Circular,
    #[error("a merge key `<<` takes a mapping or a list of mappings")]
    Merge,
    #[error("the document is too large")]
    TooLarge,
}

impl Document {
    /// Reads the first document of `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut builder = Builder::default();
        let start = Place { line: 1, column: 1 };
        if text.len() > MAX_BYTES {
            return Err(Error { place: start, problem: Problem::TooLarge });
        }
        let mut options = granit_parser::Options::default();
        options.set_emit_comments(false);
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| Error {
                place: Place::of(error.marker()),
                problem: Problem::Syntax(error.kind().clone()),
            })?;
            if matches!(event, Event::DocumentEnd) {
                break;
            }
            builder.take(event, Place::of(&span.start))?;
        }
        Ok(Self { nodes: builder.nodes, root: builder.root })
    }

    /// The outermost node; none in an empty document.
    pub(crate) fn root(&self) -> Option<Node<'_>> {
        self.root.and_then(|id| self.node(id))
    }

    fn node(&self, id: Id) -> Option<Node<'_>> {
        self.nodes.get(id.0).map(|stored| Node { document: self, stored })
    }
}

impl<'d> Node<'d> {
    /// What it is.
    pub(crate) fn value(&self) -> Value<'d> {
        let document = self.document;
        match &self.stored.shape {
            Shape::Null => Value::Null,
            Shape::Scalar { text, is_string } => Value::Scalar(Scalar { text, is_string: *is_string }),
            Shape::Sequence(items) => Value::Sequence(items.iter().filter_map(|id| document.node(*id)).collect()),
            Shape::Mapping(entries) => Value::Mapping(
                entries.iter().filter_map(|(k, v)| Some((document.node(*k)?, document.node(*v)?))).collect(),
            ),
        }
    }

    /// Its text, if it is a scalar and not null.
    pub(crate) fn text(&self) -> Option<&'d str> {
        match &self.stored.shape {
            Shape::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Where it starts.
    pub(crate) fn place(&self) -> Place {
        self.stored.place
    }
}

impl Place {
    fn of(marker: &granit_parser::Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// An index into `Document::nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id(usize);

#[derive(Debug)]
struct Stored {
    place: Place,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Null,
    Scalar { text: String, is_string: bool },
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
}

/// Makes nodes of events; collections are stored when they end, so an alias inside itself finds nothing.
#[derive(Default)]
struct Builder {
    nodes: Vec<Stored>,
    root: Option<Id>,
    open: Vec<Open>,
    anchors: HashMap<usize, Id>,
    merged: usize,
}

/// A collection that has not ended.
struct Open {
    place: Place,
    anchor: usize,
    is_mapping: bool,
    /// The items, or keys and values in turn.
    items: Vec<Id>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Error> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let shape = scalar(text.into_owned(), style, tag.as_deref());
                self.store(place, anchor, shape);
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { place, anchor, is_mapping: false, items: Vec::new() });
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open { place, anchor, is_mapping: true, items: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let shape = if open.is_mapping { self.mapping(&open.items)? } else { Shape::Sequence(open.items) };
                    self.store(open.place, open.anchor, shape);
                }
            }
            Event::Alias(anchor) => {
                let id = self.anchors.get(&anchor).ok_or(Error { place, problem: Problem::Circular })?;
                self.attach(*id);
            }
            _ => {}
        }
        Ok(())
    }

    fn store(&mut self, place: Place, anchor: usize, shape: Shape) {
        let id = Id(self.nodes.len());
        self.nodes.push(Stored { place, shape });
        // The parser numbers anchors from 1; 0 is "no anchor".
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
    }

    fn attach(&mut self, id: Id) {
        match self.open.last_mut() {
            Some(open) => open.items.push(id),
            None => self.root = Some(id),
        }
    }

    /// The entries with merge keys expanded: what a mapping says itself wins over what it merges, and an earlier merge
    /// over a later one.
    fn mapping(&mut self, items: &[Id]) -> Result<Shape, Error> {
        let mut entries = Vec::new();
        let mut keys = HashSet::new();
        let mut merged = Vec::new();
        for pair in items.chunks_exact(2) {
            let [key, value] = *pair else { continue };
            let Some(Shape::Scalar { text, is_string }) = self.shape(key) else {
                return Err(self.error(key, Problem::Key));
            };
            if text == "<<" && !is_string {
                self.merge(value, &mut merged)?;
            } else if keys.insert(text.clone()) {
                entries.push((key, value));
            } else {
                return Err(self.error(key, Problem::Duplicate(crate::failure::tidy(text, 60))));
            }
        }
        self.merged += merged.len();
        for (key, value) in merged {
            if let Some(Shape::Scalar { text, .. }) = self.shape(key)
                && keys.insert(text.clone())
            {
                entries.push((key, value));
            }
        }
        Ok(Shape::Mapping(entries))
    }

    /// Appends the entries of what a merge key names.
    fn merge(&self, value: Id, merged: &mut Vec<(Id, Id)>) -> Result<(), Error> {
        let sources = match self.shape(value) {
            Some(Shape::Mapping(_)) => vec![value],
            Some(Shape::Sequence(items)) => items.clone(),
            _ => return Err(self.error(value, Problem::Merge)),
        };
        for source in sources {
            let Some(Shape::Mapping(entries)) = self.shape(source) else {
                return Err(self.error(value, Problem::Merge));
            };
            if self.merged + merged.len() + entries.len() > MAX_MERGED {
                return Err(self.error(value, Problem::TooLarge));
            }
            merged.extend_from_slice(entries);
        }
        Ok(())
    }

    fn error(&self, at: Id, problem: Problem) -> Error {
        let place = self.nodes.get(at.0).map_or(Place { line: 1, column: 1 }, |stored| stored.place);
        Error { place, problem }
    }

    fn shape(&self, id: Id) -> Option<&Shape> {
        self.nodes.get(id.0).map(|stored| &stored.shape)
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Shape {
    let plain = matches!(style, ScalarStyle::Plain);
    match tag.and_then(Tag::core_suffix) {
        Some("null") => Shape::Null,
        None if tag.is_none() && plain && is_null(&text) => Shape::Null,
        Some("int" | "float" | "bool") => Shape::Scalar { text, is_string: false },
        Some(_) => Shape::Scalar { text, is_string: true },
        None => Shape::Scalar { text, is_string: !plain },
    }
}

/// YAML 1.2, section 10.3.2.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document as text, for comparison: strings quoted, other scalars as in the source.
    fn show(text: &str) -> String {
        match Document::parse(text) {
            Ok(document) => document.root().map(show_node).unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    fn show_node(node: Node<'_>) -> String {
        match node.value() {
            Value::Null => "null".into(),
            Value::Scalar(scalar) if scalar.is_string => format!("{:?}", scalar.text),
            Value::Scalar(scalar) => scalar.text.into(),
            Value::Sequence(items) => format!("[{}]", items.into_iter().map(show_node).collect::<Vec<_>>().join(", ")),
            Value::Mapping(entries) => {
                let entry = |(key, value)| format!("{}: {}", show_node(key), show_node(value));
                format!("{{{}}}", entries.into_iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn scalars_keep_the_text_of_the_source() {
        assert_eq!(
            show("a: 0755\nb: 7\nc: true\nd: 1e3\ne: 2024-01-01\nf: 'x'\n"),
            "{a: 0755, b: 7, c: true, d: 1e3, e: 2024-01-01, f: \"x\"}"
        );
    }

    #[test]
    fn every_spelling_of_null_is_null_unless_quoted() {
        assert_eq!(
            show("[~, null, Null, NULL, !!null x, 'null', !!str null]"),
            "[null, null, null, null, null, \"null\", \"null\"]"
        );
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        assert_eq!(
            show("base: &b {x: 1, y: 2}\nall:\n  <<: *b\n  y: 3\nagain: *b\n"),
            "{base: {x: 1, y: 2}, all: {y: 3, x: 1}, again: {x: 1, y: 2}}"
        );
        assert_eq!(show("<<: [{a: 1}, {a: 2, b: 3}]"), "{a: 1, b: 3}");
    }

    #[test]
    fn a_quoted_merge_key_is_a_key() {
        assert_eq!(show("'<<': {a: 1}"), "{\"<<\": {a: 1}}");
    }

    #[test]
    fn a_duplicate_key_is_refused_at_the_second_one() {
        assert_eq!(show("a: 1\nb: 2\na: 3\n"), "line 3, column 1: the key `a` is there twice");
    }

    #[test]
    fn a_broken_document_is_refused_where_it_breaks() {
        assert!(show("a: b\n  c: d\n").starts_with("line 2, column 4: "), "{}", show("a: b\n  c: d\n"));
    }

    #[test]
    fn an_alias_inside_its_own_value_is_refused() {
        assert_eq!(show("&a [*a]"), "line 1, column 5: an alias stands inside the value that it refers to");
    }

    #[test]
    fn keys_that_are_not_text_and_merges_of_scalars_are_refused() {
        assert_eq!(show("[1, 2]: x"), "line 1, column 1: a key must be plain text");
        assert_eq!(show("<<: 7"), "line 1, column 5: a merge key `<<` takes a mapping or a list of mappings");
    }

    #[test]
    fn only_the_first_document_is_read() {
        assert_eq!(show("a: 1\n---\nb: 2\n"), "{a: 1}");
        assert_eq!(show(""), "");
    }

    #[test]
    fn merges_that_multiply_are_refused() {
        let mut bomb = String::from("m0: &m0 {a: 1, b: 2, c: 3, d: 4}\n");
        for level in 1..4 {
            let sources = vec![format!("*m{}", level - 1); 1_000].join(", ");
            bomb.push_str(&format!("m{level}: &m{level}\n  <<: [{sources}]\n"));
        }
        assert!(show(&bomb).ends_with("the document is too large"));
    }

    #[test]
    fn aliases_of_aliases_cost_no_copies() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let document = Document::parse(&bomb).unwrap();
        assert!(document.nodes.len() < 1_000);
    }
}
