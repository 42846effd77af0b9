//! What shall be in a volume. A [`FileSet`] is checked once, when it is made; after that nobody checks a path or a mode
//! again.
//!
//! The rules for paths are those of the Secrets Store CSI Driver and of `wit/provider.wit`; on top of them `.`, control
//! characters, duplicates, files that are folders of others and mode bits beyond 0o777 are refused. Nothing here
//! touches a disk. The caller is `publish`, with what a provider returned.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use coffer_sandbox::secret::SecretBytes;
use thiserror::Error;

const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;
const PERMISSIONS: u32 = 0o777;

/// Mistakes that one error spells out; the others are counted.
const SHOWN_MISTAKES: usize = 20;
/// Characters of a path that an error shows.
const SHOWN_PATH: usize = 120;

/// A file as somebody wants it; nothing about it is checked yet.
#[derive(Debug)]
pub struct NewFile {
    /// Relative to the volume, components separated by `/`.
    pub path: String,
    /// Permission bits; none for the default mode.
    pub mode: Option<u32>,
    /// The bytes.
    pub contents: SecretBytes,
}

/// How much a volume may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files.
    pub files: usize,
    /// Folders that the files need.
    pub folders: usize,
    /// Contents of all files together, in bytes.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 1_000, folders: 1_000, bytes: 4 << 20 }
    }
}

/// The whole content of a volume: safe paths, plain permissions, no conflicts, within the limits. Sorted by path.
#[derive(Debug)]
pub struct FileSet {
    files: Vec<File>,
}

/// One file of a [`FileSet`].
#[derive(Debug)]
pub struct File {
    path: String,
    mode: u32,
    contents: SecretBytes,
}

impl File {
    /// Relative to the volume.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Permission bits, 0 to 0o777.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Length of the contents in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Whether the file has no contents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// The contents. Every caller of this function handles a secret.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.contents.expose()
    }
}

impl FileSet {
    /// Checks every file; a file without a mode gets `default_mode`. An empty set is a valid one.
    ///
    /// # Errors
    /// All mistakes of all files in one error, or the first limit that is exceeded.
    pub fn new(
        files: impl IntoIterator<Item = NewFile>,
        default_mode: u32,
        limits: &Limits,
    ) -> Result<Self, FileError> {
        if default_mode & !PERMISSIONS != 0 {
            return Err(FileError::DefaultMode(default_mode));
        }
        let mut mistakes = Mistakes::default();
        let mut checked: BTreeMap<String, File> = BTreeMap::new();
        let mut bytes = 0_usize;
        for (index, NewFile { path, mode, contents }) in files.into_iter().enumerate() {
            if index == limits.files {
                return Err(FileError::TooManyFiles { limit: limits.files });
            }
            bytes = bytes.saturating_add(contents.len());
            if bytes > limits.bytes {
                return Err(FileError::TooLarge { limit: limits.bytes });
            }
            let mode = mode.unwrap_or(default_mode);
            let found = check_path(&path).and_then(|()| check_mode(mode));
            match found.err().or_else(|| checked.contains_key(&path).then_some(Rule::Duplicate)) {
                Some(rule) => mistakes.add(&path, rule),
                None => drop(checked.insert(path.clone(), File { path, mode, contents })),
            }
        }
        let folders = folders_of(checked.keys().map(String::as_str), limits.folders)
            .ok_or(FileError::TooManyFolders { limit: limits.folders })?;
        for folder in folders {
            if checked.contains_key(folder) {
                mistakes.add(folder, Rule::Folder);
            }
        }
        if mistakes.count > 0 {
            return Err(FileError::Mistakes(mistakes));
        }
        Ok(Self { files: checked.into_values().collect() })
    }

    /// The files, sorted by path.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &File> {
        self.files.iter()
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file at `path`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&File> {
        let index = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(index)
    }

    /// Every folder that the files need, sorted, so a folder comes before what is in it.
    pub(super) fn folders(&self) -> BTreeSet<&str> {
        folders_of(self.files.iter().map(File::path), usize::MAX).unwrap_or_default()
    }

    /// The first components of all paths.
    pub(super) fn top_level_names(&self) -> BTreeSet<&str> {
        self.files.iter().filter_map(|file| file.path.split('/').next()).collect()
    }
}

/// Why something cannot be the content of a volume. Paths are escaped and cut; contents are never shown.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FileError {
    /// One or more files are wrong.
    #[error("{0}")]
    Mistakes(Mistakes),
    /// The mode for files without one of their own is none.
    #[error("default mode {0:#o} has bits beyond 0o777: use permission bits only")]
    DefaultMode(u32),
    /// More files than a volume may hold.
    #[error("there are more than {limit} files: ask for fewer objects or raise the limit")]
    TooManyFiles {
        /// How many are allowed.
        limit: usize,
    },
    /// More folders than a volume may hold.
    #[error("the files need more than {limit} folders: use shorter paths or raise the limit")]
    TooManyFolders {
        /// How many are allowed.
        limit: usize,
    },
    /// More bytes than a volume may hold.
    #[error("the files hold more than {limit} bytes: ask for fewer objects or raise the limit")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
}

/// Everything that is wrong with the files of a set. Displayed as one line, with at most twenty of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    shown: Vec<(String, Rule)>,
    count: usize,
}

impl Mistakes {
    fn add(&mut self, path: &str, rule: Rule) {
        self.count += 1;
        if self.shown.len() < SHOWN_MISTAKES {
            self.shown.push((shorten(path), rule));
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, rule)) in self.shown.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            // Debug of text is quoted, and control and invisible characters in it are escaped.
            write!(f, "{separator}path {path:?} {rule}")?;
        }
        match self.count.saturating_sub(self.shown.len()) {
            0 => Ok(()),
            more => write!(f, "; and {more} more like these"),
        }
    }
}

/// The rule that a file breaks; displayed after its path.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
enum Rule {
    #[error("is empty: name the file")]
    Empty,
    #[error("is absolute: make it relative to the volume")]
    Absolute,
    #[error("is longer than {MAX_PATH} bytes: shorten it")]
    TooLong,
    #[error("has a component of more than {MAX_NAME} bytes: shorten it")]
    LongName,
    #[error("has a component '..': a file must stay in its volume")]
    Parent,
    #[error("starts with '..': such names are reserved for Coffer")]
    Reserved,
    #[error("has an empty component or a component '.': write it without")]
    Unclean,
    #[error("has a control character: remove it")]
    Control,
    #[error("is there more than once: give each file a path of its own")]
    Duplicate,
    #[error("is both a file and a folder of another file: rename one of them")]
    Folder,
    #[error("has mode {0:#o}, with bits beyond 0o777: use permission bits only")]
    Mode(u32),
}

/// Whether a file of a volume may be called so.
pub(super) fn is_path(path: &str) -> bool {
    check_path(path).is_ok()
}

fn check_path(path: &str) -> Result<(), Rule> {
    if path.is_empty() {
        return Err(Rule::Empty);
    }
    if path.len() > MAX_PATH {
        return Err(Rule::TooLong);
    }
    if path.chars().any(char::is_control) {
        return Err(Rule::Control);
    }
    if path.starts_with('/') {
        return Err(Rule::Absolute);
    }
    for name in path.split('/') {
        match name {
            ".." => return Err(Rule::Parent),
            "" | "." => return Err(Rule::Unclean),
            _ if name.len() > MAX_NAME => return Err(Rule::LongName),
            _ => {}
        }
    }
    if path.starts_with("..") { Err(Rule::Reserved) } else { Ok(()) }
}

fn check_mode(mode: u32) -> Result<(), Rule> {
    if mode & !PERMISSIONS == 0 { Ok(()) } else { Err(Rule::Mode(mode)) }
}

/// Every folder above `paths`, or none if there are more than `limit`. A path can have two thousand folders, so each
/// climb ends at the first one that is known, and with it everything above is.
fn folders_of<'a>(paths: impl Iterator<Item = &'a str>, limit: usize) -> Option<BTreeSet<&'a str>> {
    let mut folders = BTreeSet::new();
    for path in paths {
        let mut rest = path;
        while let Some((folder, _)) = rest.rsplit_once('/') {
            if !folders.insert(folder) {
                break;
            }
            if folders.len() > limit {
                return None;
            }
            rest = folder;
        }
    }
    Some(folders)
}

pub(super) fn shorten(path: &str) -> String {
    match path.char_indices().nth(SHOWN_PATH) {
        Some((end, _)) => format!("{}…", path.get(..end).unwrap_or_default()),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> NewFile {
        NewFile { path: path.into(), mode: None, contents: SecretBytes::from(String::from("canary")) }
    }

    fn set(paths: &[&str]) -> Result<FileSet, FileError> {
        FileSet::new(paths.iter().map(|path| file(path)), 0o644, &Limits::default())
    }

    fn message(paths: &[&str]) -> String {
        set(paths).unwrap_err().to_string()
    }

    #[test]
    fn paths_that_the_reference_allows_are_allowed() {
        let component = "n".repeat(MAX_NAME);
        let paths = ["a", "a-b", "a.b/c", "b/..b", "b/...", ".hidden", r"c\d", r"\..\e", "ключ/值", &component];
        for path in paths {
            assert_eq!(set(&[path]).unwrap().iter().next().unwrap().path(), path);
        }
    }

    #[test]
    fn a_path_that_breaks_a_rule_is_refused_with_the_rule() {
        let cases = [
            ("", "is empty"),
            ("/a", "is absolute"),
            ("/", "is absolute"),
            ("..", "'..'"),
            ("a/../b", "component '..'"),
            ("a/..", "component '..'"),
            ("../a", "component '..'"),
            ("..a", "starts with '..'"),
            ("...", "starts with '..'"),
            ("..a/b", "starts with '..'"),
            ("..data", "starts with '..'"),
            (".", "component '.'"),
            ("./a", "component '.'"),
            ("a/.", "component '.'"),
            ("a/./b", "component '.'"),
            ("a//b", "empty component"),
            ("a/", "empty component"),
            ("a\0b", "control character"),
            ("a\nb", "control character"),
            ("a\u{7f}", "control character"),
            ("a\u{85}", "control character"),
        ];
        for (path, rule) in cases {
            let message = message(&[path]);
            assert!(message.contains(rule), "{path:?}: {message}");
        }
    }

    #[test]
    fn a_path_may_have_4096_bytes_and_a_name_255_and_no_more() {
        let limits = Limits { folders: 2_000, ..Limits::default() };
        let path = |len: usize| file("ab/".repeat(2_000).get(..len).unwrap());
        assert!(FileSet::new([path(MAX_PATH)], 0o644, &limits).is_ok());
        let error = FileSet::new([path(MAX_PATH + 1)], 0o644, &limits).unwrap_err();
        assert!(error.to_string().contains("longer than 4096 bytes"), "{error}");
        assert!(message(&["n".repeat(256).as_str()]).contains("more than 255 bytes"));
        assert!(message(&[format!("a/{}", "ä".repeat(128)).as_str()]).contains("more than 255 bytes"));
    }

    #[test]
    fn every_mistake_is_in_the_one_error() {
        let message = message(&["/a", "good", "b/../c", "good"]);
        assert_eq!(
            message,
            "path \"/a\" is absolute: make it relative to the volume; \
             path \"b/../c\" has a component '..': a file must stay in its volume; \
             path \"good\" is there more than once: give each file a path of its own"
        );
    }

    #[test]
    fn a_file_that_is_a_folder_of_another_is_refused_whatever_sorts_between_them() {
        assert!(message(&["foo/a/b", "foo-x", "foo"]).contains("\"foo\" is both a file and a folder"));
        assert!(message(&["foo/a/b", "foo/a"]).contains("\"foo/a\" is both a file and a folder"));
        assert_eq!(set(&["foo/a", "foo-x", "foo.txt"]).unwrap().len(), 3);
    }

    #[test]
    fn modes_are_permission_bits_only() {
        for mode in [0o4755, 0o2755, 0o1777, 0o100_644, u32::MAX] {
            let wrong = NewFile { mode: Some(mode), ..file("a") };
            let error = FileSet::new([wrong], 0o644, &Limits::default()).unwrap_err();
            assert!(error.to_string().contains("bits beyond 0o777"), "{error}");
            assert_eq!(FileSet::new([], mode, &Limits::default()).unwrap_err(), FileError::DefaultMode(mode));
        }
        let files = [NewFile { mode: Some(0), ..file("a") }, NewFile { mode: Some(0o777), ..file("b") }, file("c")];
        let set = FileSet::new(files, 0o440, &Limits::default()).unwrap();
        assert_eq!(set.iter().map(File::mode).collect::<Vec<_>>(), [0, 0o777, 0o440]);
    }

    #[test]
    fn the_limits_are_reached_and_not_passed() {
        let limits = Limits { files: 2, folders: 2, bytes: 12 };
        let new = |paths: &[&str]| FileSet::new(paths.iter().map(|path| file(path)), 0o644, &limits).map(|_| ());
        assert_eq!(new(&["x/a", "y/b"]), Ok(()));
        assert_eq!(new(&["a", "b", "c"]), Err(FileError::TooManyFiles { limit: 2 }));
        assert_eq!(new(&["x/y/z/a"]), Err(FileError::TooManyFolders { limit: 2 }));
        let large = NewFile { contents: vec![0; 13].into(), ..file("a") };
        assert_eq!(FileSet::new([large], 0o644, &limits).unwrap_err(), FileError::TooLarge { limit: 12 });
    }

    #[test]
    fn endless_input_ends_at_the_limit() {
        let endless = (0_u64..).map(|n| file(&n.to_string()));
        assert_eq!(
            FileSet::new(endless, 0o644, &Limits { bytes: usize::MAX, ..Limits::default() }).unwrap_err(),
            FileError::TooManyFiles { limit: 1_000 }
        );
    }

    #[test]
    fn a_message_is_one_short_printable_line_without_contents() {
        let hostile: Vec<String> = (0..900).map(|n| format!("/{n}\n\u{1b}[31m\u{202e}{}", "x".repeat(3000))).collect();
        let message = message(&hostile.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(message.len() < 10_000, "{} bytes", message.len());
        assert!(!message.chars().any(|c| c.is_control() || c == '\u{202e}'), "{message}");
        assert!(message.ends_with("and 880 more like these"), "{message}");
        assert!(!message.contains("canary"));
    }

    #[test]
    fn files_are_sorted_and_folders_come_before_what_is_in_them() {
        let set = set(&["b/c/d", "a", "b/a", "b.txt"]).unwrap();
        assert_eq!(set.iter().map(File::path).collect::<Vec<_>>(), ["a", "b.txt", "b/a", "b/c/d"]);
        assert_eq!(set.folders().into_iter().collect::<Vec<_>>(), ["b", "b/c"]);
        assert_eq!(set.top_level_names().into_iter().collect::<Vec<_>>(), ["a", "b", "b.txt"]);
        assert_eq!(set.find("b/a").unwrap().expose(), b"canary");
        assert!(set.find("b").is_none());
    }

    #[test]
    fn debug_output_shows_no_contents() {
        assert!(!format!("{:?}", set(&["a"]).unwrap()).contains("canary"));
    }
}
