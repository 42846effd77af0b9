//! Guests that want files where no file may be. The sandbox hands names and modes on as they are; the set of files,
//! the only thing that the volume's writer takes, refuses them.

use coffer::volume::{FileError, FileSet, Limits as VolumeLimits, NewFile};
use coffer_sandbox::limits::Limits;

use crate::sandbox::Bench;

/// The mode's files are refused as content of a volume, and an honest call after it works.
async fn refuses(mode: &str, more: &[(&str, &str)], message: &str) {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    let found = volume(&bench, mode, more).await.unwrap_err();
    assert_eq!(found.to_string(), message, "{more:?}");
    assert_eq!(volume(&bench, "behaves", &[]).await.unwrap().len(), 1);
}

async fn volume(bench: &Bench, mode: &str, more: &[(&str, &str)]) -> Result<FileSet, FileError> {
    let outcome = bench.mount(mode, more).await.result.unwrap();
    let files = outcome.mounted.unwrap().files.into_iter();
    let files = files.map(|file| NewFile { path: file.path, mode: file.mode, contents: file.contents });
    FileSet::new(files, 0o644, &VolumeLimits::default())
}

#[tokio::test]
pub(super) async fn escapes_the_volume() {
    for (path, message) in [
        ("../outside", r#"path "../outside" has a component '..': a file must stay in its volume"#),
        ("a/../../outside", r#"path "a/../../outside" has a component '..': a file must stay in its volume"#),
        ("..", r#"path ".." has a component '..': a file must stay in its volume"#),
        ("a/..", r#"path "a/.." has a component '..': a file must stay in its volume"#),
        ("..data", r#"path "..data" starts with '..': such names are reserved for Coffer"#),
        ("..data/file", r#"path "..data/file" starts with '..': such names are reserved for Coffer"#),
        (".", r#"path "." has an empty component or a component '.': write it without"#),
        ("./file", r#"path "./file" has an empty component or a component '.': write it without"#),
        ("a//b", r#"path "a//b" has an empty component or a component '.': write it without"#),
        ("a/", r#"path "a/" has an empty component or a component '.': write it without"#),
        ("", r#"path "" is empty: name the file"#),
        ("a\0b", r#"path "a\0b" has a control character: remove it"#),
        ("a\nb", r#"path "a\nb" has a control character: remove it"#),
    ] {
        refuses("escapes_the_volume", &[("path", path)], message).await;
    }
}

#[tokio::test]
pub(super) async fn writes_to_an_absolute_path() {
    let message = r#"path "/etc/passwd" is absolute: make it relative to the volume"#;
    refuses("writes_to_an_absolute_path", &[], message).await;
}

#[tokio::test]
pub(super) async fn writes_to_an_overlong_path() {
    let bench = Bench::new("guest-modes", Limits::default()).await;
    let component = volume(&bench, "writes_to_an_overlong_path", &[]).await.unwrap_err().to_string();
    assert!(component.ends_with("…\" has a component of more than 255 bytes: shorten it"), "{component}");
    let whole = volume(&bench, "writes_to_an_overlong_path", &[("whole", "")]).await.unwrap_err().to_string();
    assert!(whole.ends_with("…\" is longer than 4096 bytes: shorten it"), "{whole}");
    bench.is_well().await;
}

#[tokio::test]
pub(super) async fn writes_a_file_twice() {
    let message = r#"path "twice" is there more than once: give each file a path of its own"#;
    refuses("writes_a_file_twice", &[], message).await;
}

#[tokio::test]
pub(super) async fn writes_below_a_file() {
    let message = r#"path "file" is both a file and a folder of another file: rename one of them"#;
    refuses("writes_below_a_file", &[], message).await;
}

#[tokio::test]
pub(super) async fn sets_the_setuid_bit() {
    let message = |bits| format!("path \"file\" has mode {bits:#o}, with bits beyond 0o777: use permission bits only");
    for bits in [0o4755, 0o2755, 0o1755, 0o100_644, u32::MAX] {
        refuses("sets_the_setuid_bit", &[("bits", &bits.to_string())], &message(bits)).await;
    }
}
