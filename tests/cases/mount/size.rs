//! What a node downloads, compiles and maps for Azure stays small.

use crate::sandbox::components;

/// Every part of the provider is in it. It had 958 KiB when this limit was set: docs/performance.md.
const LIMIT: u64 = 1 << 20;

#[test]
fn the_azure_component_stays_below_one_mebibyte() {
    let path = components().join("azure-key-vault.wasm");
    let size = std::fs::metadata(&path).expect("run `make plugin`").len();
    assert!(
        size < LIMIT,
        "{} has {size} bytes; docs/adr/0015-size-of-the-azure-provider.md says what is large",
        path.display()
    );
}
