//! One object of the vault and the file it becomes, with everything about it that can be judged without the vault.

use super::fields::Fields;
use super::path;

/// One object of the vault, as the class asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Which of the vault's collections it is in.
    pub(crate) kind: Kind,
    /// `objectName`.
    pub(crate) name: String,
    /// `objectVersion`; empty for the current one.
    pub(crate) version: String,
    /// The file: `objectAlias`, or the name.
    pub(crate) path: String,
    /// `filePermission`.
    pub(crate) mode: Option<u32>,
    /// `objectFormat`.
    pub(crate) format: Format,
    /// `objectEncoding`.
    pub(crate) encoding: Encoding,
}

/// `objectType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        note(&mut mistakes, name(fields));
        let version = note(&mut mistakes, version(fields));
        note(&mut mistakes, history(fields));
        let path = note(&mut mistakes, file(fields));
        let mode = note(&mut mistakes, mode(&fields.file_permission));
        match (kind, format, encoding, version, path, mode) {
            (Some(kind), Some(format), Some(encoding), Some(version), Some(path), Some(mode))
                if mistakes.is_empty() =>
            {
                Ok(Self { kind, name: fields.object_name.clone(), version, path, mode, format, encoding })
            }
            _ => Err(mistakes),
        }
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

fn history(fields: &Fields) -> Result<(), String> {
    match fields.object_version_history {
        ..=1 => Ok(()),
        more => Err(format!(
            "objectVersionHistory {more} asks for several versions, which this version of the provider cannot fetch: \
             leave it out for the current one"
        )),
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
    fn several_versions_are_refused_and_one_is_fine() {
        for one in ["1", "0", "-3"] {
            assert!(secret(&format!("objectVersionHistory: {one}")).is_ok());
        }
        assert!(only_mistake(secret("objectVersionHistory: 2")).contains("objectVersionHistory 2"));
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
