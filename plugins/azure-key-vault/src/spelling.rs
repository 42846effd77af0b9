//! "Did you mean …?": the known name that is nearest to an unknown one. And the spellings of a boolean.
//!
//! Used for parameters, fields of an object, names of clouds and keys of a Secret. It only ever advises.

/// Spelling mistakes that are still taken for one: two changed, missing, added or swapped characters.
const FARTHEST: usize = 2;

/// A boolean in the spellings of Go.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        _ => None,
    }
}

/// The known name that `name` was probably meant to be: equal but for case, or at most two mistakes away.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |candidate: &str| {
        if candidate.eq_ignore_ascii_case(name) { 0 } else { strsim::osa_distance(name, candidate) }
    };
    let near = |candidate: &&'k str| distance(candidate) <= FARTHEST && candidate.len() > 2 * FARTHEST;
    known.iter().copied().filter(near).min_by_key(|candidate| distance(candidate))
}

/// The known name among `present` that `missing` was probably misspelt as: the reverse question.
pub(crate) fn misspelt<'p>(missing: &str, present: impl Iterator<Item = &'p str>) -> Option<&'p str> {
    let present: Vec<&str> = present.filter(|name| *name != missing).collect();
    nearest(missing, &present)
}

/// Advice to append to a message about a name that is not there; empty where there is none.
pub(crate) fn advice(found: Option<&str>, meant: &str) -> String {
    let advice = |found| format!(" (there is `{}`: did you mean `{meant}`?)", crate::failure::tidy(found, 60));
    found.map(advice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_up_to_two_mistakes_are_forgiven() {
        let known = ["keyvaultName", "tenantID", "cloudName"];
        assert_eq!(nearest("keyVaultName", &known), Some("keyvaultName"));
        assert_eq!(nearest("CLOUDNAME", &known), Some("cloudName"));
        assert_eq!(nearest("tennatID", &known), Some("tenantID"));
        assert_eq!(nearest("vaultName", &known), None);
        assert_eq!(nearest("resourceGroup", &known), None);
    }

    #[test]
    fn the_nearest_of_several_is_taken() {
        assert_eq!(nearest("objectNames", &["objectNxmex", "objectName"]), Some("objectName"));
    }

    #[test]
    fn advice_shows_a_name_without_its_control_characters() {
        assert_eq!(advice(Some("ar\t\u{7}ray"), "array"), " (there is `ar ray`: did you mean `array`?)");
    }
}
