//! Fuzz targets for everything that the Azure Key Vault provider reads and a stranger wrote.
//!
//! Each [`Target`] takes one input, mounts something with it through the provider's public interface, and panics where
//! a promise is broken: no input panics the provider, no answer leads a token to another host, no file stands outside of
//! its volume, what is called PEM is PEM. `make fuzz` lets libFuzzer make up the inputs; `cargo test` only replays the
//! seeds, among them every input that ever broke a promise. One program holds all targets, for it links once.
//!
//! Nothing of it ships.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a panic is what a fuzz target is for")]

mod answers;
mod class;
mod content;
mod identity;
mod promises;
mod wire;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One thing to fuzz.
pub struct Target {
    /// What `FUZZ_TARGET` calls it; also the folder of its seeds.
    pub name: &'static str,
    /// Takes an input; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Files of the provider's test vectors that are inputs as well.
    vectors: &'static [&'static str],
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    target("objects", class::objects, &[]),
    target("cloud", class::cloud, &[]),
    target("session", class::session, &[]),
    target("jwk", content::jwk, &["p256.json", "p256-short-x.json", "p384.json", "p521.json", "rsa-2048-e3.json"]),
    target("pfx", content::pfx, &["no-password.pfx", "no-password-no-mac.pfx"]),
    target("pem", content::pem, &["no-password.pem", "client/rsa.pem", "client/rsa-encrypted-traditional.pem"]),
    target("jmespath", content::jmespath, &[]),
    target("bundle", answers::bundle, &[]),
    target("versions", answers::versions, &[]),
    target("names", answers::names, &[]),
    target("refusal", answers::refusal, &[]),
    target("grant", identity::grant, &[]),
    target(
        "certificate",
        identity::certificate,
        &["client/rsa.pem", "client/p256.pem", "client/p256-traditional.pem", "client/ed25519.pem"],
    ),
];

const fn target(name: &'static str, run: fn(&[u8]), vectors: &'static [&'static str]) -> Target {
    Target { name, run, vectors }
}

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Every seed with its file. A file that ends with `.base64` holds an input that is no text.
    ///
    /// # Errors
    /// The sources of this crate are not where they were when it was built.
    pub fn seeds(&self) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let vectors = crate_folder.join("../plugins/azure-key-vault/tests/vectors");
        let mut paths: Vec<PathBuf> = self.vectors.iter().map(|name| vectors.join(name)).collect();
        let folder = crate_folder.join("seeds").join(self.name);
        for entry in std::fs::read_dir(&folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        paths.into_iter().map(|path| read(&path).map(|bytes| (path, bytes))).collect()
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    if path.extension().is_none_or(|extension| extension != "base64") {
        return Ok(bytes);
    }
    let compact: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_err(std::io::Error::other)
}
