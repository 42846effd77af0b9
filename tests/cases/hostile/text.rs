//! Guests that no compiler would write: core modules in text, made into components here.
//!
//! `tests/guests/text/NAME.wat` is the module, `NAME.wit` its world where that is not the contract's. Each is named in
//! [`for_each_text_guest`] and has the test of its name; one that is not named fails a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_sandbox::limits::Limits;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::sandbox::{Bench, chain, engine};

macro_rules! for_each_text_guest {
    ($then:ident) => {
        $then! {
            hoards_table_elements,
            starts_with_a_large_table,
            starts_with_a_huge_table,
            starts_with_a_large_memory,
            starts_with_a_huge_memory,
            loops_while_it_starts,
            answers_from_outside_its_memory,
            answers_beside_the_alignment,
            answers_with_an_unknown_case,
            answers_with_an_unknown_scope,
            answers_with_broken_text,
            answers_with_endless_text,
            imports_a_back_door,
            imports_http_of_wasi,
            speaks_another_contract,
            lacks_mount,
        }
    };
}

/// Does not compile without a test of each name.
macro_rules! assert_a_test_exists {
    ($($name:ident,)+) => {
        $(
            #[allow(unused_imports, reason = "naming it is the test")]
            use self::$name as _;
        )+
        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}
for_each_text_guest!(assert_a_test_exists);

#[test]
fn every_text_guest_is_named() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let modules = files.filter(|path| path.extension().is_some_and(|extension| extension == "wat"));
    let found: BTreeSet<String> = modules.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, NAMES.iter().map(ToString::to_string).collect());
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/text")
}

/// The component of a text guest.
fn assemble(name: &str) -> Vec<u8> {
    let mut module = wat::parse_file(folder().join(format!("{name}.wat"))).unwrap();
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (mut package, _) = resolve.push_dir(contract).unwrap();
    let own = folder().join(format!("{name}.wit"));
    if own.exists() {
        package = resolve.push_file(own).unwrap();
    }
    let world = resolve.select_world(&[package], None).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

async fn load(name: &str) -> Result<Bench, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), assemble(name)).unwrap();
    let limits = Limits { cpu: Duration::from_millis(100), ..Limits::default() };
    Bench::load(file.path(), limits, &engine()).await.map_err(|error| chain(&error))
}

/// It cannot be loaded, and this is why.
async fn refuses_to_load(name: &str, message: &str) {
    let error = load(name).await.err().unwrap();
    assert_eq!(error, format!("plugin \"guest\" cannot be loaded: {message}"));
}

/// `check` ends with this, every time: the one place of the bench is free again after each.
async fn refuses_to_check(name: &str, message: &str) {
    let bench = load(name).await.unwrap();
    for _ in 0..3 {
        let error = bench.check("", &[]).await.result.unwrap_err();
        assert_eq!(chain(&error), format!("plugin \"guest\" did not finish its check: {message}"));
    }
}

const TABLE: &str = "it exceeded its limit of 20000 table elements; if the provider is right to need more, raise \
                     `limits.tableElements` of its grant";
const MEMORY: &str = "it exceeded its limit of 64 MiB of memory; if the provider is right to need more, raise \
                      `limits.memory` of its grant";
const TIME: &str = "it exceeded its limit of 100ms of processor time; if the provider is right to need more, raise \
                    `limits.cpu` of its grant";

#[tokio::test]
async fn hoards_table_elements() {
    let bench = load("hoards_table_elements").await.unwrap();
    for _ in 0..3 {
        let error = bench.mount("", &[]).await.result.unwrap_err();
        assert_eq!(chain(&error), format!("plugin \"guest\" did not finish its mount: {TABLE}"));
        bench.check("", &[]).await.result.unwrap();
    }
}

#[tokio::test]
async fn starts_with_a_large_table() {
    refuses_to_check("starts_with_a_large_table", TABLE).await;
}

#[tokio::test]
async fn starts_with_a_huge_table() {
    refuses_to_load(
        "starts_with_a_huge_table",
        "the WebAssembly engine failed: module table does not fit in pooling allocator requirements: table index 0 has \
         a minimum element size of 1000000 which exceeds the limit of 100000",
    )
    .await;
}

#[tokio::test]
async fn starts_with_a_large_memory() {
    refuses_to_check("starts_with_a_large_memory", MEMORY).await;
}

#[tokio::test]
async fn starts_with_a_huge_memory() {
    refuses_to_load(
        "starts_with_a_huge_memory",
        "the WebAssembly engine failed: module memory does not fit in pooling allocator requirements: memory index 0 is \
         unsupported in this pooling allocator configuration: memory has a minimum byte size of 1073741824 which \
         exceeds the limit of 0x10000000 bytes",
    )
    .await;
}

#[tokio::test]
async fn loops_while_it_starts() {
    refuses_to_check("loops_while_it_starts", TIME).await;
}

#[tokio::test]
async fn answers_from_outside_its_memory() {
    let message = "its answer breaks the contract: pointer out of bounds of memory";
    refuses_to_check("answers_from_outside_its_memory", message).await;
}

#[tokio::test]
async fn answers_beside_the_alignment() {
    let message = "its answer breaks the contract: return pointer not aligned";
    refuses_to_check("answers_beside_the_alignment", message).await;
}

#[tokio::test]
async fn answers_with_an_unknown_case() {
    let message = "its answer breaks the contract: invalid expected discriminant";
    refuses_to_check("answers_with_an_unknown_case", message).await;
}

#[tokio::test]
async fn answers_with_an_unknown_scope() {
    let message = "its answer breaks the contract: unexpected discriminant: 7";
    refuses_to_check("answers_with_an_unknown_scope", message).await;
}

#[tokio::test]
async fn answers_with_broken_text() {
    let message = "its answer breaks the contract: invalid utf-8 sequence of 1 bytes from index 0";
    refuses_to_check("answers_with_broken_text", message).await;
}

#[tokio::test]
async fn answers_with_endless_text() {
    let message = "its answer breaks the contract: string pointer/length out of bounds of memory";
    refuses_to_check("answers_with_endless_text", message).await;
}

#[tokio::test]
async fn imports_a_back_door() {
    refuses_to_load(
        "imports_a_back_door",
        "the component imports `acme:backdoor/door@1.0.0`, which the contract does not offer; build it for \
         coffer:provider@0.1.0 without them",
    )
    .await;
}

#[tokio::test]
async fn imports_http_of_wasi() {
    refuses_to_load(
        "imports_http_of_wasi",
        "the component imports `wasi:http/outgoing-handler@0.2.0`, which the contract does not offer; build it for \
         coffer:provider@0.1.0 without them",
    )
    .await;
}

#[tokio::test]
async fn speaks_another_contract() {
    refuses_to_load(
        "speaks_another_contract",
        "the component was built for coffer:provider/log@0.9.0; this Coffer speaks coffer:provider@0.1.0, so build the \
         provider anew or use a Coffer that speaks it",
    )
    .await;
}

#[tokio::test]
async fn lacks_mount() {
    refuses_to_load(
        "lacks_mount",
        "the component does not fit the contract coffer:provider@0.1.0: no export `mount` found",
    )
    .await;
}
