//! One object of the vault and the file it becomes, with everything about it that can be judged without the vault.

use super::expression;
use super::fields::{Fields, PathFields};
use super::path;
use super::selection::Selection;

/// One object of the vault, as the class asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Which of the vault's collections it is in.
    pub(crate) kind: Kind,
    /// `objectName`; what messages call it where it is chosen otherwise.
    pub(crate) name: String,
    /// `objectNamePattern` and `objectTags`: which secrets of the vault it stands for, instead of one.
    pub(crate) selection: Option<Selection>,
    /// `objectVersion`; empty for the current one.
    pub(crate) version: String,
    /// `objectVersionHistory`: how many versions at most, the newest first; 1 for one file, more for a folder.
    pub(crate) versions: usize,
    /// `objectOptional`: whether it is left out where the vault does not have it.
    pub(crate) optional: bool,
    /// The file: `objectAlias`, or the name. For a selection the folder, which is empty for the volume's own.
    pub(crate) path: String,
    /// `filePermission`.
    pub(crate) mode: Option<u32>,
    /// `objectFormat`.
    pub(crate) format: Format,
    /// `objectEncoding`.
    pub(crate) encoding: Encoding,
    /// `jmesPath`: parts of its JSON that become files beside it.
    pub(crate) parts: Vec<Part>,
}

/// A part of a JSON secret, and the file that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The JMESPath expression; it has been compiled once without an error.
    pub(crate) expression: String,
    /// The file.
    pub(crate) path: String,
    /// Its own permission; else it has the object's.
    pub(crate) mode: Option<u32>,
}

/// `objectType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Secret,
    Key,
    Certificate,
}

/// `objectFormat`: what becomes of a certificate with its private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Pem,
    Pfx,
}

/// `objectEncoding`: what the value of a secret has to be decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Hex,
    Base64,
}

impl Object {
    /// Judges the fields of one object.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn new(fields: &Fields) -> Result<Self, Vec<String>> {
        let mut mistakes = fields.mistakes().to_vec();
        let kind = note(&mut mistakes, kind(fields));
        let format = note(&mut mistakes, format(fields));
        let encoding = note(&mut mistakes, encoding(fields));
        let selection = note(&mut mistakes, selection(fields));
        if selection == Some(None) {
            note(&mut mistakes, name(fields));
        }
        let selection = selection.flatten();
        let version = note(&mut mistakes, version(fields));
        let optional = note(&mut mistakes, optional(&fields.object_optional));
        let path = note(&mut mistakes, file(fields));
        let mode = note(&mut mistakes, mode(&fields.file_permission));
        let parts: Vec<Part> =
            fields.jmes_path.iter().filter_map(|part| note(&mut mistakes, self::part(part))).collect();
        if !parts.is_empty() && fields.object_type != "secret" {
            mistakes.push("jmesPath is for objectType secret only".into());
        }
        match (kind, format, encoding, version, optional, path, mode) {
            (Some(kind), Some(format), Some(encoding), Some(version), Some(optional), Some(path), Some(mode))
                if mistakes.is_empty() =>
            {
                let versions = usize::try_from(fields.object_version_history).unwrap_or(0).max(1);
                let name = match &selection {
                    Some(selection) if !selection.pattern.is_empty() => selection.pattern.clone(),
                    Some(_) => "*".to_owned(),
                    None => fields.object_name.clone(),
                };
                Ok(Self { kind, name, selection, version, versions, optional, path, mode, format, encoding, parts })
            }
            _ => Err(mistakes),
        }
    }

    /// Every path that it is known to fill, folders if [`Self::is_folder`].
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let all = std::iter::once(&self.path).chain(self.parts.iter().map(|part| &part.path));
        all.map(String::as_str).filter(|path| !path.is_empty())
    }

    /// Whether its files stand in a folder of its path: several versions, or several secrets.
    pub(crate) fn is_folder(&self) -> bool {
        self.versions > 1 || self.selection.is_some()
    }

    /// `<objectType>/<objectName>`: how status and messages call it.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.kind.name(), self.name)
    }
}

impl Kind {
    /// As in `objectType`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Key => "key",
            Self::Certificate => "cert",
        }
    }

    /// As in the vault's paths.
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Key => "keys",
            Self::Certificate => "certificates",
        }
    }
}

fn note<T>(mistakes: &mut Vec<String>, judged: Result<T, String>) -> Option<T> {
    judged.map_err(|mistake| mistakes.push(mistake)).ok()
}

fn kind(fields: &Fields) -> Result<Kind, String> {
    match fields.object_type.as_str() {
        "secret" => Ok(Kind::Secret),
        "key" => Ok(Kind::Key),
        "cert" => Ok(Kind::Certificate),
        "" => Err(format!("objectType is missing{}: write secret, key or cert", fields.advice("objectType"))),
        other => {
            Err(format!("objectType `{}` must be secret, key or cert, in lower case", crate::failure::tidy(other, 40)))
        }
    }
}

fn format(fields: &Fields) -> Result<Format, String> {
    let format = fields.object_format.as_str();
    if format.is_empty() || format.eq_ignore_ascii_case("pem") {
        Ok(Format::Pem)
    } else if !format.eq_ignore_ascii_case("pfx") {
        Err(format!("objectFormat `{}` must be pem or pfx", crate::failure::tidy(format, 40)))
    } else if format == "pfx" && fields.object_type != "secret" {
        // Only this spelling is refused by the reference; `PFX` has always been accepted here, and ignored.
        Err("objectFormat pfx is for objectType secret only".into())
    } else {
        Ok(Format::Pfx)
    }
}

fn encoding(fields: &Fields) -> Result<Encoding, String> {
    let text = fields.object_encoding.as_str();
    let known = [("utf-8", Encoding::Utf8), ("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    if text.is_empty() {
        Ok(Encoding::Utf8)
    } else if fields.object_type != "secret" {
        Err("objectEncoding is for objectType secret only".into())
    } else {
        known
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, encoding)| encoding)
            .ok_or_else(|| format!("objectEncoding `{}` must be utf-8, hex or base64", crate::failure::tidy(text, 40)))
    }
}

/// What chooses several secrets, if anything does.
fn selection(fields: &Fields) -> Result<Option<Selection>, String> {
    let selection = Selection { pattern: fields.object_name_pattern.clone(), tags: fields.object_tags.clone() };
    if selection == Selection::default() {
        return Ok(None);
    }
    let given = |field, is_given: bool| is_given.then_some(field);
    let excluded = [
        given("objectName", !fields.object_name.is_empty()),
        given("objectVersion", !matches!(fields.object_version.as_str(), "" | "latest")),
        given("objectVersionHistory", fields.object_version_history > 1),
        given("jmesPath", !fields.jmes_path.is_empty()),
    ];
    if let Some(field) = excluded.into_iter().flatten().next() {
        return Err(format!("{field} is for one object: leave it out beside objectNamePattern and objectTags"));
    }
    if fields.object_type != "secret" {
        return Err("objectNamePattern and objectTags are for objectType secret only".into());
    }
    if !selection.pattern.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '*')
        || selection.pattern.len() > 127
    {
        let shown = crate::failure::tidy(&selection.pattern, 127);
        return Err(format!("objectNamePattern `{shown}` must be letters, digits, dashes and stars"));
    }
    Ok(Some(selection))
}

fn name(fields: &Fields) -> Result<(), String> {
    if fields.object_name.is_empty() {
        return Err(format!("objectName is missing{}", fields.advice("objectName")));
    }
    if is_segment(&fields.object_name) {
        return Ok(());
    }
    Err("objectName must be the name of an object in the vault: letters, digits and dashes".into())
}

/// The version to ask for. `latest` is a word of the reference's documentation for what an empty one means.
fn version(fields: &Fields) -> Result<String, String> {
    match fields.object_version.as_str() {
        "" | "latest" => Ok(String::new()),
        version if is_segment(version) => Ok(version.to_owned()),
        version => Err(format!(
            "objectVersion `{}` cannot be a version: copy the last part of the object identifier, or leave it empty",
            crate::failure::tidy(version, 60)
        )),
    }
}

/// Whether it can be one segment of a path. What else a name may be is the vault's to say.
fn is_segment(text: &str) -> bool {
    !text.contains(['/', '\\']) && text != "." && text != ".."
}

/// A boolean as in the parameters of a class.
fn optional(text: &str) -> Result<bool, String> {
    match text {
        "" => Ok(false),
        text => crate::spelling::boolean(text)
            .ok_or_else(|| format!("objectOptional `{}` must be true or false", crate::failure::tidy(text, 40))),
    }
}

fn file(fields: &Fields) -> Result<String, String> {
    let (field, path) = match fields.object_alias.as_str() {
        "" => ("objectName", &fields.object_name),
        _ => ("objectAlias", &fields.object_alias),
    };
    if path.is_empty() {
        // Reported as a missing name already.
        return Ok(String::new());
    }
    path::check(path).map_err(|problem| format!("{field} `{}` {problem}", crate::failure::tidy(path, 127)))?;
    Ok(path.clone())
}

fn part(fields: &PathFields) -> Result<Part, String> {
    let PathFields { path: expression, object_alias, file_permission } = fields;
    let shown = crate::failure::tidy(expression, 60);
    if expression.is_empty() || object_alias.is_empty() {
        return Err("every element of jmesPath needs a `path` and an `objectAlias`".into());
    }
    expression::check(expression).map_err(|problem| format!("the path `{shown}` of jmesPath {problem}"))?;
    path::check(object_alias)
        .map_err(|problem| format!("objectAlias `{}` {problem}", crate::failure::tidy(object_alias, 127)))?;
    Ok(Part { expression: expression.clone(), path: object_alias.clone(), mode: mode(file_permission)? })
}

fn mode(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(Some(mode)),
        _ => Err(format!(
            "filePermission `{}` must be octal, between 0 and 0777, for example 0400",
            crate::failure::tidy(text, 20)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Document;

    fn object(text: &str) -> Result<Object, Vec<String>> {
        Object::new(&Fields::read(&Document::parse(text).unwrap()))
    }

    fn secret(lines: &str) -> Result<Object, Vec<String>> {
        object(&format!("objectName: a\nobjectType: secret\n{lines}"))
    }

    fn only_mistake(found: Result<Object, Vec<String>>) -> String {
        let mistakes = found.unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes.into_iter().next().unwrap()
    }

    #[test]
    fn an_object_needs_a_name_and_a_type() {
        let mistakes = object("objectNam: a\nobjecttype: secret").unwrap_err();
        assert_eq!(
            mistakes,
            [
                "objectType is missing (there is `objecttype`: did you mean `objectType`?): write secret, key or cert",
                "objectName is missing (there is `objectNam`: did you mean `objectName`?)",
            ]
        );
    }

    #[test]
    fn types_are_exact() {
        for (text, kind) in [("secret", Kind::Secret), ("key", Kind::Key), ("cert", Kind::Certificate)] {
            assert_eq!(object(&format!("objectName: a\nobjectType: {text}")).unwrap().kind, kind);
        }
        for text in ["Secret", "secrets", "certificate"] {
            let mistake = only_mistake(object(&format!("objectName: a\nobjectType: {text}")));
            assert!(mistake.contains(text) && mistake.contains("secret, key or cert"), "{mistake}");
        }
    }

    #[test]
    fn formats_ignore_case_and_pfx_is_for_secrets() {
        for (text, format) in [("''", Format::Pem), ("PEM", Format::Pem), ("pfx", Format::Pfx), ("Pfx", Format::Pfx)] {
            assert_eq!(secret(&format!("objectFormat: {text}")).unwrap().format, format);
        }
        assert!(only_mistake(secret("objectFormat: der")).contains("must be pem or pfx"));
        assert!(only_mistake(object("objectName: a\nobjectType: cert\nobjectFormat: pfx")).contains("secret only"));
        // Accepted by the reference, and ignored.
        assert!(object("objectName: a\nobjectType: cert\nobjectFormat: PFX").is_ok());
    }

    #[test]
    fn encodings_ignore_case_and_are_for_secrets() {
        for (text, encoding) in
            [("''", Encoding::Utf8), ("UTF-8", Encoding::Utf8), ("Hex", Encoding::Hex), ("base64", Encoding::Base64)]
        {
            assert_eq!(secret(&format!("objectEncoding: {text}")).unwrap().encoding, encoding);
        }
        assert!(only_mistake(secret("objectEncoding: utf8")).contains("must be utf-8, hex or base64"));
        assert!(only_mistake(object("objectName: a\nobjectType: key\nobjectEncoding: hex")).contains("secret only"));
    }

    #[test]
    fn latest_and_empty_mean_the_current_version() {
        for (text, version) in [("latest", ""), ("''", ""), ("7", "7"), ("Latest", "Latest")] {
            assert_eq!(secret(&format!("objectVersion: {text}")).unwrap().version, version);
        }
    }

    #[test]
    fn names_and_versions_that_leave_their_path_are_refused() {
        assert!(only_mistake(object("objectName: a/b\nobjectType: key\nobjectAlias: c")).contains("objectName"));
        assert!(only_mistake(secret("objectVersion: ../x")).contains("objectVersion"));
    }

    #[test]
    fn one_version_is_what_every_number_below_two_means() {
        for (text, versions) in [("1", 1), ("0", 1), ("-3", 1), ("2", 2), ("0x10", 16), ("2147483647", 2_147_483_647)] {
            assert_eq!(secret(&format!("objectVersionHistory: {text}")).unwrap().versions, versions, "{text}");
        }
        assert_eq!(secret("").unwrap().versions, 1);
    }

    #[test]
    fn an_object_is_optional_only_where_the_class_says_so() {
        for (text, optional) in [("true", true), ("1", true), ("False", false), ("''", false)] {
            assert_eq!(secret(&format!("objectOptional: {text}")).unwrap().optional, optional, "{text}");
        }
        assert_eq!(only_mistake(secret("objectOptional: maybe")), "objectOptional `maybe` must be true or false");
    }

    #[test]
    fn parts_of_a_json_secret_are_expressions_with_a_file_each() {
        let object = secret(
            "jmesPath:\n  - path: db.user\n    objectAlias: user\n  - path: '\"a b\"[0]'\n    objectAlias: x/y\n    filePermission: 0400",
        )
        .unwrap();
        let parts: Vec<_> =
            object.parts.iter().map(|part| (part.expression.as_str(), part.path.as_str(), part.mode)).collect();
        assert_eq!(parts, [("db.user", "user", None), ("\"a b\"[0]", "x/y", Some(0o400))]);
        assert_eq!(object.paths().collect::<Vec<_>>(), ["a", "user", "x/y"]);
    }

    #[test]
    fn every_mistake_in_a_part_is_told() {
        for (text, part) in [
            ("jmesPath: user", "takes a list of mappings"),
            ("jmesPath: [user]", "takes a list of mappings"),
            ("jmesPath: [{path: user}]", "needs a `path` and an `objectAlias`"),
            ("jmesPath: [{path: user, objectAlias: ../x}]", "objectAlias `../x` contains `..`"),
            ("jmesPath: [{path: 'a..b', objectAlias: x}]", "path `a..b` of jmesPath is no JMESPath expression (at"),
            ("jmesPath: [{path: a, objectAlias: x, filePermission: rw}]", "filePermission `rw`"),
            ("jmesPath: [{path: a, alias: x}]", "has no field `alias`"),
        ] {
            let mistake = only_mistake(secret(text));
            assert!(mistake.contains(part), "{mistake}");
        }
        assert!(
            only_mistake(secret(&format!("jmesPath: [{{path: {}, objectAlias: x}}]", "a".repeat(501))))
                .contains("longer")
        );
        let key = object("objectName: a\nobjectType: key\njmesPath: [{path: a, objectAlias: x}]");
        assert_eq!(only_mistake(key), "jmesPath is for objectType secret only");
        assert!(secret("jmesPath:").unwrap().parts.is_empty());
    }

    #[test]
    fn a_selection_stands_for_secrets_by_name_and_tags() {
        let object = object("objectType: secret\nobjectNamePattern: app-*\nobjectTags: {env: prod, size: 07}").unwrap();
        let selection = object.selection.as_ref().unwrap();
        let tags: Vec<_> = selection.tags.iter().map(|(tag, value)| (tag.as_str(), value.as_str())).collect();
        assert_eq!((selection.pattern.as_str(), tags), ("app-*", vec![("env", "prod"), ("size", "07")]));
        assert_eq!((object.id(), object.path.as_str(), object.is_folder()), ("secret/app-*".into(), "", true));
    }

    #[test]
    fn what_is_for_one_object_is_refused_beside_a_selection() {
        for (lines, part) in [
            ("objectName: a", "objectName is for one object"),
            ("objectVersion: '1'", "objectVersion is for one object"),
            ("objectVersionHistory: 2", "objectVersionHistory is for one object"),
            ("jmesPath: [{path: a, objectAlias: b}]", "jmesPath is for one object"),
        ] {
            let mistake = only_mistake(object(&format!("objectType: secret\nobjectNamePattern: a*\n{lines}")));
            assert!(mistake.starts_with(part), "{mistake}");
        }
        assert!(only_mistake(object("objectType: key\nobjectTags: {a: b}")).contains("secret only"));
        assert!(only_mistake(object("objectType: secret\nobjectNamePattern: a/*")).contains("letters, digits"));
        assert!(object("objectType: secret\nobjectTags: a").unwrap_err()[0].contains("takes a mapping"));
        assert!(only_mistake(object("objectType: secret\nobjectTags: {}")).contains("objectName is missing"));
    }

    #[test]
    fn permissions_are_octal_with_or_without_a_leading_zero() {
        for (text, mode) in [("0755", 0o755), ("755", 0o755), ("0", 0), ("0400", 0o400), ("'0777'", 0o777)] {
            assert_eq!(secret(&format!("filePermission: {text}")).unwrap().mode, Some(mode));
        }
        assert_eq!(secret("filePermission: ''").unwrap().mode, None);
        for text in ["0900", "900", "493", "0o755", "rw", "-1", "7777", "1000"] {
            assert!(only_mistake(secret(&format!("filePermission: {text}"))).contains("must be octal"), "{text}");
        }
    }

    #[test]
    fn the_alias_is_the_file_and_never_the_id() {
        let object = secret("objectAlias: folder/file.txt").unwrap();
        assert_eq!((object.path.as_str(), object.id().as_str()), ("folder/file.txt", "secret/a"));
    }
}
