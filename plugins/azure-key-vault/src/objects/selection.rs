//! Secrets that are chosen by their names and tags instead of being named one by one.

use std::collections::BTreeMap;

/// `objectNamePattern` and `objectTags`. At least one of them says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// What the name has to look like: a `*` stands for any characters, none included. Empty for every name.
    pub(super) pattern: String,
    /// Tags that all have to be there, with these values.
    pub(super) tags: BTreeMap<String, String>,
}

impl Selection {
    /// Whether it chooses a secret. Case does not matter in names, as in a vault.
    pub(crate) fn takes(&self, name: &str, tags: &BTreeMap<String, String>) -> bool {
        let pattern = self.pattern.to_ascii_lowercase();
        (pattern.is_empty() || matches(&pattern, &name.to_ascii_lowercase()))
            && self.tags.iter().all(|(tag, value)| tags.get(tag) == Some(value))
    }
}

/// Each part between two stars is taken where it comes first, so that no text is tried twice.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in between.split('*').filter(|part| !part.is_empty()) {
        match name.split_once(part) {
            Some((_, after)) => name = after,
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_characters_and_everything_else_itself() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "a-b-b-c"),
            ("**", "a"),
            ("app-*-key", "app-db-key"),
            ("abc", "abc"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("a*", "ba"),
            ("*c", "cb"),
            ("a*a", "a"),
            ("ab*bc", "abc"),
            ("a*b*c", "acb"),
            ("a?c", "abc"),
            ("a.c", "abc"),
            ("*bb*", "bab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn all_tags_have_to_be_there_with_their_values() {
        let tags = |tags: &[(&str, &str)]| tags.iter().map(|(t, v)| ((*t).to_owned(), (*v).to_owned())).collect();
        let selection = Selection { pattern: "App*".into(), tags: tags(&[("env", "prod"), ("team", "")]) };
        assert!(selection.takes("aPP1", &tags(&[("env", "prod"), ("team", ""), ("x", "y")])));
        assert!(!selection.takes("app1", &tags(&[("env", "prod")])));
        assert!(!selection.takes("app1", &tags(&[("env", "Prod"), ("team", "")])));
        assert!(!selection.takes("other", &tags(&[("env", "prod"), ("team", "")])));
    }
}
