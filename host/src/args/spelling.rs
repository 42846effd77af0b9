//! Rewrites the flags of `coffer node` from Go's spelling to GNU's, and takes out those of the Secrets Store CSI
//! Driver that have no meaning here. A pure function; which flags there are is asked of the definitions themselves.
//!
//! Go: one dash or two, `-flag=value` or `-flag value`, and a boolean's value needs the `=`. The last one counts.

use std::ffi::{OsStr, OsString};

use clap::{Args, Command};

use super::Node;

/// A flag that is accepted and forgotten.
pub(super) struct Ignored {
    pub(super) name: &'static str,
    /// Whether the next word is its value, where there is no `=`.
    value: bool,
}

const fn value(name: &'static str) -> Ignored {
    Ignored { name, value: true }
}

const fn switch(name: &'static str) -> Ignored {
    Ignored { name, value: false }
}

/// Flags of the reference that have no meaning here: gRPC providers, its profiler, its metrics exporter, its log
/// library.
pub(super) const IGNORED: [Ignored; 20] = [
    value("provider-volume"),
    value("additional-provider-volume-paths"),
    value("max-call-recv-msg-size"),
    switch("provider-health-check"),
    value("provider-health-check-interval"),
    switch("enable-pprof"),
    value("pprof-port"),
    value("metrics-backend"),
    switch("add_dir_header"),
    switch("alsologtostderr"),
    value("log_backtrace_at"),
    value("log_dir"),
    value("log_file"),
    value("log_file_max_size"),
    switch("logtostderr"),
    switch("one_output"),
    switch("skip_headers"),
    switch("skip_log_headers"),
    value("stderrthreshold"),
    value("vmodule"),
];

/// The words as clap is to read them, and the flags that were taken out, each once. Other commands than `node` are left
/// as they are.
pub(super) fn normalise(words: Vec<OsString>) -> (Vec<OsString>, Vec<&'static str>) {
    match position_of_node(&words) {
        Some(node) => {
            let mut words = words;
            let flags = words.split_off(node + 1);
            let (flags, ignored) = rewrite(flags);
            words.extend(flags);
            (words, ignored)
        }
        None => (words, Vec::new()),
    }
}

/// Only the global flag may stand before the command.
fn position_of_node(words: &[OsString]) -> Option<usize> {
    let mut words = words.iter().enumerate().skip(1);
    while let Some((position, word)) = words.next() {
        match word.to_str()? {
            "node" => return Some(position),
            "--log-level" => drop(words.next()),
            word if word.starts_with("--log-level=") => {}
            _ => return None,
        }
    }
    None
}

fn rewrite(words: Vec<OsString>) -> (Vec<OsString>, Vec<&'static str>) {
    let definition = Node::augment_args(Command::new("node"));
    let (mut rewritten, mut ignored) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some((name, value)) = split(&word) else {
            let last = word == "--";
            rewritten.push(word);
            if last {
                rewritten.extend(words.by_ref());
            }
            continue;
        };
        if let Some(flag) = IGNORED.iter().find(|flag| flag.name == name) {
            if flag.value && value.is_none() {
                words.next();
            }
            if !ignored.contains(&flag.name) {
                ignored.push(flag.name);
            }
            continue;
        }
        let value = match value {
            None if takes_next(&definition, name) => words.next(),
            value => value.map(Into::into),
        };
        rewritten.push(join(name, value));
    }
    (rewritten, ignored)
}

/// Name and value of a flag. `-v5` is GNU's way to write `-v 5`.
fn split(word: &OsStr) -> Option<(&str, Option<&str>)> {
    // Words that are not UTF-8 can only be values, or wrong; clap knows how to say it.
    let word = word.to_str()?;
    let single = word.strip_prefix('-')?;
    let double = single.strip_prefix('-');
    let flag = double.unwrap_or(single);
    if flag.is_empty() {
        return None;
    }
    match flag.strip_prefix('v') {
        Some(digits) if double.is_none() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(("v", Some(digits)))
        }
        _ => Some(flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)))),
    }
}

/// Whether the word behind a flag is its value.
fn takes_next(definition: &Command, name: &str) -> bool {
    let of_node = definition.get_arguments().find(|argument| argument.get_long() == Some(name));
    name == "log-level" || of_node.is_some_and(|argument| !argument.is_require_equals_set())
}

fn join(name: &str, value: Option<OsString>) -> OsString {
    let mut word = OsString::from(match name {
        "h" => "--help".to_owned(),
        name => format!("--{name}"),
    });
    if let Some(value) = value {
        word.push("=");
        word.push(value);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(line: &str) -> (String, Vec<&'static str>) {
        let words = line.split(' ').map(OsString::from).collect();
        let (words, ignored) = normalise(words);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        (words.join(" "), ignored)
    }

    #[test]
    fn both_spellings_become_one() {
        let table = [
            ("-endpoint=unix://x", "--endpoint=unix://x"),
            ("-endpoint unix://x", "--endpoint=unix://x"),
            ("--endpoint unix://x", "--endpoint=unix://x"),
            ("--endpoint=unix://x", "--endpoint=unix://x"),
            ("-endpoint=a=b", "--endpoint=a=b"),
            ("-endpoint=", "--endpoint="),
            ("-nodeid -dash", "--nodeid=-dash"),
            ("-nodeid --endpoint", "--nodeid=--endpoint"),
            ("-v=5", "--v=5"),
            ("-v 5", "--v=5"),
            ("--v=5", "--v=5"),
            ("--v 5", "--v=5"),
            ("-v5", "--v=5"),
            ("-version", "--version"),
            ("-enable-secret-rotation", "--enable-secret-rotation"),
            ("-enable-secret-rotation=F", "--enable-secret-rotation=F"),
            // A boolean does not take the next word, in either spelling.
            ("-enable-secret-rotation true", "--enable-secret-rotation true"),
            ("-log-level debug", "--log-level=debug"),
            ("-help", "--help"),
            ("-h", "--help"),
            ("-filtered-watch-secret=false", "--filtered-watch-secret=false"),
            ("-x -nodeid n", "--x --nodeid=n"),
            ("word -nodeid=n", "word --nodeid=n"),
            ("- -- -nodeid n", "- -- -nodeid n"),
            ("-nodeid", "--nodeid"),
        ];
        for (given, expected) in table {
            assert_eq!(normal(&format!("coffer node {given}")), (format!("coffer node {expected}"), vec![]), "{given}");
        }
    }

    #[test]
    fn flags_without_a_meaning_are_taken_out_with_their_values() {
        let table = [
            ("-provider-volume=/a -nodeid=n", "provider-volume"),
            ("--provider-volume /a -nodeid=n", "provider-volume"),
            ("-provider-volume /a --provider-volume=/b -nodeid n", "provider-volume"),
            ("-nodeid n -provider-health-check", "provider-health-check"),
            ("--provider-health-check=false --nodeid=n", "provider-health-check"),
            ("--logtostderr=true --nodeid=n", "logtostderr"),
            ("-stderrthreshold 2 --nodeid=n", "stderrthreshold"),
            ("--nodeid=n -metrics-backend", "metrics-backend"),
        ];
        for (given, ignored) in table {
            let expected = ("coffer node --nodeid=n".to_owned(), vec![ignored]);
            assert_eq!(normal(&format!("coffer node {given}")), expected, "{given}");
        }
    }

    #[test]
    fn a_flag_has_one_meaning() {
        let definition = Node::augment_args(Command::new("node"));
        for flag in &IGNORED {
            assert!(definition.get_arguments().all(|argument| argument.get_long() != Some(flag.name)), "{}", flag.name);
        }
    }

    #[test]
    fn only_node_is_rewritten() {
        for line in ["coffer", "coffer -v node", "coffer mount node -v", "coffer --log-level", "coffer --help node -v"]
        {
            assert_eq!(normal(line), (line.to_owned(), vec![]));
        }
        for line in ["coffer --log-level debug node -v 5", "coffer --log-level=debug node -v 5"] {
            assert_eq!(normal(line).0, line.replace("-v 5", "--v=5"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn words_that_are_not_utf_8_stay_as_they_are() {
        use std::os::unix::ffi::OsStringExt;
        let folder = OsString::from_vec(b"/\xff".to_vec());
        let (words, _) =
            normalise(vec!["coffer".into(), "node".into(), "-config".into(), folder.clone(), folder.clone()]);
        let joined = OsString::from_vec(b"--config=/\xff".to_vec());
        assert_eq!(words, [OsString::from("coffer"), "node".into(), joined, folder]);
    }
}
