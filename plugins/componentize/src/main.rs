//! Build tool: turns the core module that `cargo build --target wasm32-unknown-unknown` makes of a provider into a
//! component.
//!
//! `coffer-componentize IN.wasm OUT.wasm` reads the world that wit-bindgen left in a custom section of the module. It
//! never leaves half a file behind, and it does not touch a file that is already right, so nothing downstream is
//! rebuilt. `plugins/build.sh` calls it; no other part of Coffer does.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use wit_component::ComponentEncoder;

const USAGE: &str = "usage: coffer-componentize IN.wasm OUT.wasm";

fn main() -> ExitCode {
    match run(env::args_os().skip(1).map(PathBuf::from).collect()) {
        Ok(report) => {
            let printed = writeln!(io::stdout(), "{report}");
            if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            // Nothing is left to be done when even standard error is closed.
            let _ = writeln!(io::stderr(), "coffer-componentize: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<PathBuf>) -> Result<String> {
    let [input, output] = arguments.as_slice() else { bail!("{USAGE}") };
    let module = fs::read(input).with_context(|| format!("cannot read the module {}", input.display()))?;
    let component = componentize(&module).with_context(|| format!("cannot make a component of {}", input.display()))?;
    replace(output, &component).with_context(|| format!("cannot write {}", output.display()))?;
    Ok(report(output, &component))
}

/// The component of `module`, checked by the validator of wasmparser.
fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    if !module.starts_with(b"\0asm\x01\0\0\0") {
        bail!("it is not a core WebAssembly module (a component needs no second treatment)");
    }
    // Without this check the encoder makes an empty component of it.
    let (without_world, _) = wit_component::metadata::decode(module).context("the module or its world is malformed")?;
    if without_world.is_none() {
        bail!("the module names no world; call wit_bindgen::generate! and export! in the crate");
    }
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// Writes `bytes` to a neighbour of `path` and renames it, unless `path` holds these bytes already.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let name = path.file_name().context("the path has no file name")?;
    let neighbour = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = fs::write(&neighbour, bytes).and_then(|()| fs::rename(&neighbour, path));
    if written.is_err() {
        // The first error says why; what is left of the file may not even exist.
        let _ = fs::remove_file(&neighbour);
    }
    Ok(written?)
}

/// Name, size and digest, as `coffer plugin inspect` shows them and as a configuration pins them.
fn report(path: &Path, component: &[u8]) -> String {
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(component) {
        // Writing to a string cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    format!("{}  {} bytes  {digest}", path.display(), component.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_world_is_refused() {
        let error = componentize(b"\0asm\x01\0\0\0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the module names no world; call wit_bindgen::generate! and export! in the crate"
        );
    }

    #[test]
    fn a_component_is_refused_as_input() {
        let error = componentize(b"\0asm\x0d\0\x01\0").unwrap_err();
        assert_eq!(error.to_string(), "it is not a core WebAssembly module (a component needs no second treatment)");
    }

    #[test]
    fn a_wrong_number_of_arguments_is_answered_with_the_usage() {
        assert_eq!(run(vec![PathBuf::from("one")]).unwrap_err().to_string(), USAGE);
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = run(vec![PathBuf::from("no-such.wasm"), PathBuf::from("out.wasm")]).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the module no-such.wasm");
    }

    #[test]
    fn the_report_names_file_size_and_digest() {
        assert_eq!(
            report(Path::new("x.wasm"), b"abc"),
            "x.wasm  3 bytes  sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_file_that_is_right_already_is_left_alone_and_a_wrong_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wasm");
        replace(&path, b"one").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        replace(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), long_ago);
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wasm");
        fs::create_dir(&path).unwrap();
        replace(&path, b"one").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
