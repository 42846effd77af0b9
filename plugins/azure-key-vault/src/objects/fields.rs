//! The fields of one object as the class wrote them: texts, trimmed, with YAML's own types undone.
//!
//! `objectVersion: 7`, `filePermission: 0755` and `objectName: true` are the texts `7`, `0755` and `true`. Nothing is
//! judged here but shape; `object` does the rest.

use std::collections::BTreeMap;

use crate::spelling;
use crate::yaml::{Document, Node, Scalar, Value};

/// Every field that an object can have.
const KNOWN: [&str; 12] = [
    "objectName",
    "objectType",
    "objectVersion",
    "objectAlias",
    "objectVersionHistory",
    "objectFormat",
    "objectEncoding",
    "filePermission",
    "objectOptional",
    "jmesPath",
    "objectNamePattern",
    "objectTags",
];

/// Those that every object has.
const REQUIRED: [&str; 2] = ["objectName", "objectType"];

/// The fields of one object; an absent one is an empty text.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) object_name: String,
    pub(super) object_type: String,
    pub(super) object_version: String,
    pub(super) object_alias: String,
    pub(super) object_version_history: i32,
    pub(super) object_format: String,
    pub(super) object_encoding: String,
    pub(super) file_permission: String,
    pub(super) object_optional: String,
    pub(super) jmes_path: Vec<PathFields>,
    pub(super) object_name_pattern: String,
    pub(super) object_tags: BTreeMap<String, String>,
    keys: Vec<String>,
    mistakes: Vec<String>,
}

/// The fields of one element of `jmesPath`.
#[derive(Debug, Default)]
pub(super) struct PathFields {
    pub(super) path: String,
    pub(super) object_alias: String,
    pub(super) file_permission: String,
}

impl Fields {
    /// Reads one element. What has a wrong shape is left at its default and becomes one of [`Self::mistakes`].
    pub(super) fn read(document: &Document) -> Self {
        let mut fields = Self::default();
        let entries = match document.root().map(|root| root.value()) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Mapping(entries)) => entries,
            Some(_) => {
                fields.mistakes.push("this is not a mapping: write one `field: value` on each line".into());
                return fields;
            }
        };
        for (key, value) in &entries {
            let Some(name) = key.text() else { continue };
            fields.keys.push(name.to_owned());
            if let Err(mistake) = fields.set(name, *value) {
                fields.mistakes.push(format!("{}: {mistake}", value.place()));
            }
        }
        fields
    }

    /// Every field of a wrong shape.
    pub(super) fn mistakes(&self) -> &[String] {
        &self.mistakes
    }

    /// The object's name, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        Some(self.object_name.as_str()).filter(|name| !name.is_empty())
    }

    /// Advice for a field that is missing: the one it was probably misspelt as.
    pub(super) fn advice(&self, missing: &str) -> String {
        let unknown = self.keys.iter().map(String::as_str).filter(|key| !KNOWN.contains(key));
        spelling::advice(spelling::misspelt(missing, unknown), missing)
    }

    /// Unknown fields that look like an optional one which is not there. A required one that is not there is a mistake
    /// of its own.
    pub(super) fn remarks(&self) -> impl Iterator<Item = String> {
        let optional = KNOWN.into_iter().filter(|known| !REQUIRED.contains(known));
        let absent: Vec<&str> = optional.filter(|known| !self.keys.iter().any(|key| key == known)).collect();
        let unknown = self.keys.iter().filter(|key| !KNOWN.contains(&key.as_str()));
        unknown.filter_map(move |key| {
            let meant = spelling::nearest(key, &absent)?;
            let key = crate::failure::tidy(key, 60);
            Some(format!("the field `{key}` is unknown and ignored: did you mean `{meant}`?"))
        })
    }

    fn set(&mut self, name: &str, value: Node<'_>) -> Result<(), String> {
        if name == "objectVersionHistory" {
            self.object_version_history = integer(name, value)?;
            return Ok(());
        }
        if name == "objectTags" {
            self.object_tags = tags(value)?;
            return Ok(());
        }
        if name == "jmesPath" {
            self.jmes_path = paths(value)?;
            return Ok(());
        }
        let field = match name {
            "objectName" => &mut self.object_name,
            "objectType" => &mut self.object_type,
            "objectVersion" => &mut self.object_version,
            "objectAlias" => &mut self.object_alias,
            "objectFormat" => &mut self.object_format,
            "objectEncoding" => &mut self.object_encoding,
            "filePermission" => &mut self.file_permission,
            "objectOptional" => &mut self.object_optional,
            "objectNamePattern" => &mut self.object_name_pattern,
            _ => return Ok(()),
        };
        if let Some(scalar) = scalar(name, value)? {
            *field = scalar.text.trim().to_owned();
        }
        Ok(())
    }
}

/// The scalar of a field; none for null, which leaves the default.
fn scalar<'d>(name: &str, value: Node<'d>) -> Result<Option<Scalar<'d>>, String> {
    match value.value() {
        Value::Null => Ok(None),
        Value::Scalar(scalar) => Ok(Some(scalar)),
        Value::Sequence(_) | Value::Mapping(_) => Err(format!("{name} takes a single value")),
    }
}

/// Tags and their values.
fn tags(value: Node<'_>) -> Result<BTreeMap<String, String>, String> {
    let entries = match value.value() {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Mapping(entries) => entries,
        Value::Scalar(_) | Value::Sequence(_) => return Err("objectTags takes a mapping of tags to values".into()),
    };
    let tag = |(key, value): &(Node<'_>, Node<'_>)| {
        let value = scalar("a tag of objectTags", *value)?.map(|scalar| scalar.text.to_owned()).unwrap_or_default();
        Ok((key.text().unwrap_or_default().to_owned(), value))
    };
    entries.iter().map(tag).collect()
}

/// The elements of `jmesPath`, as other providers write them.
fn paths(value: Node<'_>) -> Result<Vec<PathFields>, String> {
    const SHAPE: &str = "jmesPath takes a list of mappings with `path` and `objectAlias`";
    let elements = match value.value() {
        Value::Null => return Ok(Vec::new()),
        Value::Sequence(elements) => elements,
        Value::Scalar(_) | Value::Mapping(_) => return Err(SHAPE.into()),
    };
    let read = |element: Node<'_>| {
        let Value::Mapping(entries) = element.value() else { return Err(SHAPE.to_owned()) };
        let mut fields = PathFields::default();
        for (key, value) in entries {
            let field = match key.text() {
                Some("path") => &mut fields.path,
                Some("objectAlias") => &mut fields.object_alias,
                Some("filePermission") => &mut fields.file_permission,
                other => {
                    let key = crate::failure::tidy(other.unwrap_or_default(), 60);
                    return Err(format!(
                        "jmesPath has no field `{key}`: there are path, objectAlias and filePermission"
                    ));
                }
            };
            if let Some(scalar) = scalar("a field of jmesPath", value)? {
                *field = scalar.text.trim().to_owned();
            }
        }
        Ok(fields)
    };
    elements.into_iter().map(read).collect()
}

/// A whole number as go-yaml reads one: decimal, 0x, 0o, 0 or 0b, with underscores; a fraction is cut off.
fn integer(name: &str, value: Node<'_>) -> Result<i32, String> {
    let Some(scalar) = scalar(name, value)? else { return Ok(0) };
    let mistake =
        || format!("{name} takes a whole number without quotes, not `{}`", crate::failure::tidy(scalar.text, 40));
    if scalar.is_string {
        return Err(mistake());
    }
    let text = scalar.text.trim().replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(p, r)| Some((lower.strip_prefix(p)?, r)));
    let octal = || lower.strip_prefix('0').filter(|rest| !rest.is_empty()).map(|rest| (rest, 8));
    let (digits, radix) = radix.or_else(octal).unwrap_or((&lower, 10));
    let is_number = digits.starts_with(|c: char| c.is_ascii_alphanumeric());
    if let Some(number) = Some(digits).filter(|_| is_number).and_then(|digits| i64::from_str_radix(digits, radix).ok())
    {
        return i32::try_from(if negative { -number } else { number }).map_err(|_| mistake());
    }
    // The first character keeps Rust's `inf` and `nan` out, which YAML writes otherwise.
    let starts_as_number = lower.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number = Some(&text).filter(|_| starts_as_number).and_then(|text| text.parse::<f64>().ok()).map(f64::trunc);
    match number {
        #[allow(clippy::cast_possible_truncation, reason = "whole, and inside the range of i32")]
        Some(number) if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number) => Ok(number as i32),
        _ => Err(mistake()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fields {
        Fields::read(&Document::parse(text).unwrap())
    }

    #[test]
    fn values_that_look_like_other_types_stay_text() {
        let fields = read("objectName: true\nobjectVersion: 7\nfilePermission: 0755\nobjectAlias: 1e3");
        assert_eq!(
            [fields.object_name, fields.object_version, fields.file_permission, fields.object_alias],
            ["true", "7", "0755", "1e3"]
        );
    }

    #[test]
    fn values_are_trimmed_and_null_leaves_the_default() {
        let fields = read("objectName: '  a\t'\nobjectVersion: ~\nobjectAlias:\nobjectVersionHistory: null");
        assert_eq!(fields.object_name, "a");
        assert!(fields.object_version.is_empty() && fields.object_alias.is_empty());
        assert_eq!(fields.object_version_history, 0);
    }

    #[test]
    fn field_names_are_case_sensitive() {
        let fields = read("ObjectName: a");
        assert_eq!(fields.object_name, "");
        assert_eq!(fields.advice("objectName"), " (there is `ObjectName`: did you mean `objectName`?)");
    }

    #[test]
    fn collections_as_values_are_located() {
        assert_eq!(
            read("objectName: [a]\nobjectType:\n  x: y").mistakes(),
            ["line 1, column 13: objectName takes a single value", "line 3, column 3: objectType takes a single value"]
        );
    }

    #[test]
    fn a_number_is_read_as_go_yaml_reads_it() {
        for (text, number) in [
            ("5", 5),
            ("-1", -1),
            ("+2", 2),
            ("0x10", 16),
            ("0o10", 8),
            ("010", 8),
            ("0b11", 3),
            ("1_000", 1000),
            ("2.9", 2),
            ("1e1", 10),
            ("0", 0),
        ] {
            let fields = read(&format!("objectVersionHistory: {text}"));
            assert_eq!(fields.object_version_history, number, "{text}");
        }
        for text in ["'5'", "five", "true", "2147483648", ".nan", "inf", "--1", "0x-1", "1e400"] {
            assert!(read(&format!("objectVersionHistory: {text}")).mistakes().len() == 1, "{text}");
        }
    }
}
