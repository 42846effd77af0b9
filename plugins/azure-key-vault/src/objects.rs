//! The `objects` parameter: which objects of the vault become which files.
//!
//! It is YAML in YAML: an outer mapping with the key `array`, a list of texts, each of them again YAML and one object.
//! [`parse`] reads both and reports every mistake of every object at once, each with the element that holds it. What
//! works with the reference works here: unknown fields are ignored, and only remarked when they look misspelt.
//! `parameters` is the caller.

mod expression;
mod fields;
mod object;
mod path;
mod selection;

use std::collections::HashMap;

pub(crate) use object::{Encoding, Format, Kind, Object, Part};

use crate::spelling;
use crate::yaml::{Document, Node, Value};
use fields::Fields;

/// What came of the parameter.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Every object without a mistake, in order; not empty unless there are mistakes.
    pub(crate) list: Vec<Object>,
    /// Every mistake.
    pub(crate) mistakes: Vec<String>,
    /// What looks like a mistake and has no effect.
    pub(crate) remarks: Vec<String>,
}

/// Reads the parameter.
pub(crate) fn parse(text: &str) -> Objects {
    let mut objects = Objects::default();
    // The reference trims first, so that a first line may be indented.
    let document = Document::parse(text.trim()).map_err(|error| format!("objects is not YAML: {error}"));
    let elements = match document.as_ref() {
        Ok(document) => elements(document),
        Err(mistake) => Err(mistake.clone()),
    };
    match elements {
        Ok(elements) => elements.into_iter().enumerate().for_each(|(index, element)| objects.read(index, element)),
        Err(mistake) => objects.mistakes.push(mistake),
    }
    objects.mistakes.extend(find_folders(&objects.list));
    if objects.mistakes.is_empty() && objects.list.is_empty() {
        objects.mistakes.push("objects.array is empty: name at least one object of the vault".into());
    }
    objects
}

impl Objects {
    fn read(&mut self, index: usize, element: Node<'_>) {
        let position = format!("objects.array[{index}]");
        let text = match element.value() {
            // The reference drops elements that are null.
            Value::Null => return,
            Value::Scalar(scalar) => scalar.text,
            Value::Mapping(_) => {
                return self.mistakes.push(format!(
                    "{position} is a mapping, but must be a block of text: write `- |` and put the fields on the next \
                     lines"
                ));
            }
            Value::Sequence(_) => {
                return self.mistakes.push(format!("{position} is a list, but must be a block of text"));
            }
        };
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => return self.mistakes.push(format!("{position}, {error}")),
        };
        let fields = Fields::read(&document);
        let name = fields.name().map(|name| format!(" ({})", crate::failure::tidy(name, 127))).unwrap_or_default();
        let placed = |message: String| format!("{position}{name}: {message}");
        self.remarks.extend(fields.remarks().map(placed));
        match Object::new(&fields) {
            Ok(object) => self.list.push(object),
            Err(mistakes) => self.mistakes.extend(mistakes.into_iter().map(placed)),
        }
    }
}

/// The elements of `array`.
fn elements(document: &Document) -> Result<Vec<Node<'_>>, String> {
    const SHAPE: &str = "objects must be a mapping with the key `array`, a list with one block of text for each object";
    let entries = match document.root().map(|root| root.value()) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Mapping(entries)) => entries,
        Some(_) => return Err(SHAPE.into()),
    };
    match entries.iter().find(|(key, _)| key.text() == Some("array")) {
        Some((_, value)) => match value.value() {
            Value::Null => Ok(Vec::new()),
            Value::Sequence(elements) => Ok(elements),
            _ => Err(format!("{}: {SHAPE}", value.place())),
        },
        None => {
            let present = entries.iter().filter_map(|(key, _)| key.text());
            let advice = spelling::advice(spelling::misspelt("array", present), "array");
            Err(format!("objects has no key `array`{advice}: {SHAPE}"))
        }
    }
}

/// A file cannot be a folder as well. Equal paths are no mistake: the last one wins, as in the reference.
fn find_folders(objects: &[Object]) -> Vec<String> {
    let single = objects.iter().filter(|object| !object.is_folder());
    let files: HashMap<&str, &Object> =
        single.flat_map(|object| object.paths().map(move |path| (path, object))).collect();
    let mut mistakes = Vec::new();
    for object in objects {
        for path in object.paths() {
            let folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
            let folders = folders.chain(object.is_folder().then_some(path));
            for (folder, other) in folders.filter_map(|folder| Some((folder, files.get(folder)?))) {
                mistakes.push(format!(
                    "{} is to become the file `{folder}`, but {} needs a folder of that name: change an objectAlias",
                    other.id(),
                    object.id()
                ));
            }
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Vec<Object> {
        let objects = parse(text);
        assert!(objects.mistakes.is_empty(), "{:?}", objects.mistakes);
        objects.list
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(text).mistakes
    }

    /// One element with these lines.
    fn element(lines: &str) -> String {
        format!("array:\n  - |\n    {}\n", lines.replace('\n', "\n    "))
    }

    #[test]
    fn an_indented_first_line_still_parses() {
        let text = "\n    array:\n      - |\n        objectName: a\n        objectType: secret\n";
        assert_eq!(parsed(text)[0].name, "a");
    }

    #[test]
    fn every_shape_without_objects_is_empty() {
        for text in ["array:", "array: []", "array: ~", "array: [~]", "# nothing"] {
            assert_eq!(mistakes(text), ["objects.array is empty: name at least one object of the vault"], "{text}");
        }
    }

    #[test]
    fn a_missing_array_names_the_key_it_was_misspelt_as() {
        let found = mistakes("arrays:\n  - |\n    objectName: a\n");
        assert!(found[0].contains("there is `arrays`: did you mean `array`?"), "{found:?}");
    }

    #[test]
    fn lists_and_scalars_are_no_objects() {
        assert!(mistakes("- a")[0].starts_with("objects must be a mapping"));
        assert!(mistakes("a")[0].starts_with("objects must be a mapping"));
        assert!(mistakes("array: 7")[0].starts_with("line 1, column 8: objects must be a mapping"));
    }

    #[test]
    fn a_mapping_as_element_is_told_to_be_a_block_of_text() {
        let found = mistakes("array:\n  - objectName: a\n    objectType: secret\n");
        assert!(found[0].starts_with("objects.array[0] is a mapping") && found[0].contains("`- |`"), "{found:?}");
    }

    #[test]
    fn a_null_element_is_dropped_and_the_others_keep_their_position() {
        assert_eq!(parsed("array:\n  - ~\n  - 'objectName: a\n\n    objectType: key'\n")[0].kind, Kind::Key);
        let found = mistakes("array:\n  - ~\n  - 7\n");
        assert!(found[0].starts_with("objects.array[1]"), "{found:?}");
    }

    #[test]
    fn broken_yaml_is_located_in_its_element() {
        let found = mistakes(
            "array:\n  - |\n    objectName: a\n    objectType: key\n  - |\n    objectName: b\n   objectType: x\n",
        );
        assert!(found[0].starts_with("objects is not YAML: line "), "{found:?}");
        let found = mistakes(&format!(
            "{}  - |\n    objectName: b\n      objectType: key\n",
            element("objectName: a\nobjectType: key")
        ));
        assert!(found[0].starts_with("objects.array[1], line 2, column "), "{found:?}");
    }

    #[test]
    fn a_duplicate_field_is_located_in_its_element() {
        let found = mistakes(&element("objectName: a\nobjectType: key\nobjectName: b"));
        assert_eq!(found, ["objects.array[0], line 3, column 1: the key `objectName` is there twice"]);
    }

    #[test]
    fn all_mistakes_of_all_objects_come_at_once() {
        let text = format!(
            "{}  - |\n    objectName: b\n    objectType: cert\n    filePermission: rw\n",
            element("objectName: a\nobjectType: scret\nobjectEncoding: base46")
        );
        let found = mistakes(&text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("objects.array[0] (a): "), "{found:?}");
        assert!(found[2].starts_with("objects.array[1] (b): filePermission"), "{found:?}");
    }

    #[test]
    fn a_file_that_is_a_folder_of_another_is_a_mistake() {
        let text = format!(
            "{}  - |\n    objectName: b\n    objectType: key\n    objectAlias: a/b\n",
            element("objectName: a\nobjectType: secret")
        );
        assert_eq!(
            mistakes(&text),
            ["secret/a is to become the file `a`, but key/b needs a folder of that name: change an objectAlias"]
        );
    }

    #[test]
    fn several_versions_are_a_folder_and_no_file() {
        let history = "objectName: a\nobjectType: secret\nobjectVersionHistory: 2";
        let other = |alias: &str| format!("  - |\n    objectName: b\n    objectType: key\n    objectAlias: {alias}\n");
        assert!(parse(&format!("{}{}", element(history), other("a/b"))).mistakes.is_empty());
        assert_eq!(
            mistakes(&format!("{}{}", element(history), other("a"))),
            ["key/b is to become the file `a`, but secret/a needs a folder of that name: change an objectAlias"]
        );
    }

    #[test]
    fn a_misspelt_optional_field_is_ignored_and_remarked() {
        let objects = parse(&element("objectName: a\nobjectType: secret\nobjectAlais: b"));
        assert_eq!(objects.list[0].path, "a");
        assert_eq!(
            objects.remarks,
            ["objects.array[0] (a): the field `objectAlais` is unknown and ignored: did you mean `objectAlias`?"]
        );
    }

    #[test]
    fn unknown_fields_that_resemble_nothing_are_ignored_in_silence() {
        let objects = parse(&element("objectName: a\nobjectType: secret\ncomment: b\nowner: c"));
        assert!(objects.remarks.is_empty() && objects.mistakes.is_empty());
    }

    /// Pieces that YAML and objects are made of, so that random texts get past the first line.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "array:",
            "\n",
            "\n  - ",
            "\n  - |\n    ",
            "\n    ",
            "objectName: ",
            "objectType: ",
            "secret",
            "objectAlias: ",
            "objectVersionHistory: ",
            "filePermission: ",
            "0755",
            "9223372036854775808",
            "a/b",
            "..",
            "&x ",
            "*x",
            "<<: ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            ": ",
            "? ",
            "!!int ",
            "!!binary ",
            "\"",
            "'",
            "\t",
            "---",
            "%TAG ! x",
            "~",
            "\u{feff}",
            "ä",
        ]);
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".*", pieces in pieces()) {
            for text in [text, pieces] {
                let objects = parse(&text);
                prop_assert!(!objects.list.is_empty() || !objects.mistakes.is_empty());
                let nested = element(&text);
                parse(&nested);
            }
        }
    }
}
