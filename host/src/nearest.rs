//! Finds the name that somebody probably meant. Used for every "did you mean" of the program.

/// The candidate closest to `name`, or none when none is close enough to be a slip of the finger.
///
/// A difference in case alone always counts; otherwise a third of the characters may be wrong, and transposed
/// neighbours count as one mistake.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let tolerance = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= tolerance && *candidate != name)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, when something is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        assert_eq!(nearest("paramters", ["provider", "parameters"]), Some("parameters"));
        assert_eq!(nearest("stringdata", ["data", "stringData"]), Some("stringData"));
        assert_eq!(nearest("azrue", ["azure", "aws"]), Some("azure"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("vault", ["azure", "gcp"]), None);
        assert_eq!(nearest("azure", ["azure"]), None);
    }
}
