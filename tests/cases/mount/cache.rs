//! Compiled code that cannot be trusted is not used.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::World;

/// Nobody, on most systems; anybody but the user of the tests.
const SOMEBODY_ELSE: u32 = 65534;

/// A world with a cache of its own, which holds the compiled component.
async fn world_with_cache() -> (World, PathBuf) {
    let world = World::new().await;
    let cache = world.path("cache");
    fs::DirBuilder::new().mode(0o700).create(&cache).unwrap();
    for entry in fs::read_dir(&world.program.cache).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "code") {
            fs::copy(entry.path(), cache.join(entry.file_name())).unwrap();
        }
    }
    world.config(&world.grant().replace(&world.program.cache.display().to_string(), "cache"));
    (world, cache)
}

/// The files of a cache.
fn entries(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_damaged_entry_is_compiled_again() {
    let (world, cache) = world_with_cache().await;
    assert_eq!(world.mount(&[]).await.stderr, "", "the copy is as good as the original");
    for entry in entries(&cache) {
        let mut bytes = fs::read(&entry).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&entry, bytes).unwrap();
    }
    let run = world.mount(&[]).await;
    assert!(run.stderr.contains("WARN ignoring a cached plugin, compiling it again"), "{run:#?}");
    assert!(run.stderr.contains("it is damaged or made for something else"), "{run:#?}");
    assert_eq!(world.file("DemoSecret"), "MyExampleSecret");
    assert_eq!(world.mount(&[]).await.stderr, "", "the new entry is used");
}

/// A component with nothing in it, which takes no time to compile: magic number, version of components, layer.
const EMPTY: [u8; 8] = *b"\0asm\x0d\0\x01\0";

#[tokio::test]
async fn an_entry_that_others_may_have_written_is_compiled_again() {
    let world = World::new().await;
    fs::write(world.path("empty.wasm"), EMPTY).unwrap();
    world.config("cache: cache\nproviders: {azure: {plugin: {file: empty.wasm}}}\n");
    let warned = async || {
        let run = world.refused(70, &["the component does not fit the contract"], &[]).await;
        run.stderr.contains("others may have written it")
    };
    assert!(!warned().await, "it is compiled for the first time");
    let [entry] = entries(&world.path("cache")).try_into().unwrap();
    let exposures: [fn(&Path) -> io::Result<()>; 2] = [
        |entry| fs::set_permissions(entry, PermissionsExt::from_mode(0o660)),
        |entry| chown(entry, Some(SOMEBODY_ELSE), None),
    ];
    for expose in exposures {
        if expose(&entry).is_err() {
            // Only root can give a file away.
            continue;
        }
        assert!(warned().await);
        let status = fs::metadata(&entry).unwrap();
        assert_eq!((status.uid(), status.mode() & 0o7777), (rustix::process::geteuid().as_raw(), 0o600));
        assert!(!warned().await, "the new entry is used");
    }
}
