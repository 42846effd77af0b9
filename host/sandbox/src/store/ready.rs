//! The last step: linked to the contract, callable.
//!
//! The only file that turns bytes into executable code.

use std::sync::Arc;

use tokio::time::Instant;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::bindings::{CONTRACT, Provider, ProviderPre};
use crate::engine::Engine;
use crate::error::{Cause, Error, Stage};
use crate::instance::{self, Call, Called, State};
use crate::limits::Limits;
use crate::provider::{Checked, Outcome, Parameters, Request};
use crate::store::{Compiled, Digest};

/// The packages of WASI that are linked, inert, for components whose standard library imports them.
const WASI: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// The package of the contract.
const PACKAGE: &str = "coffer:provider/";

/// A plugin that can be called, any number of times at once. Clones are the same plugin.
#[derive(Clone)]
pub struct Ready(Arc<Inner>);

struct Inner {
    plugin: String,
    digest: Digest,
    limits: Limits,
    engine: Engine,
    pre: ProviderPre<State>,
}

impl Ready {
    pub(super) fn new(compiled: Compiled, engine: &Engine) -> Result<Self, Error> {
        let Compiled { plugin, digest, code, limits, .. } = compiled;
        match link(&code, engine) {
            Ok(pre) => Ok(Self(Arc::new(Inner { plugin, digest, limits, engine: engine.clone(), pre }))),
            Err(cause) => Err(Error { plugin, stage: Stage::Load, cause }),
        }
    }

    /// Says whether parameters make sense, without HTTP.
    pub async fn check(&self, parameters: &Parameters, deadline: Instant) -> Called<Checked> {
        instance::check(self, parameters, deadline).await
    }

    /// Fetches what the request asks for.
    pub async fn mount(&self, request: &Request, call: Call) -> Called<Outcome> {
        instance::mount(self, request, call).await
    }

    /// The name in `spec.provider`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.plugin
    }

    /// The digest of the component.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// What one call may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn pre(&self) -> &ProviderPre<State> {
        &self.0.pre
    }
}

fn link(code: &[u8], engine: &Engine) -> Result<ProviderPre<State>, Cause> {
    let component = load(code, engine)?;
    let imports: Vec<String> =
        component.component_type().imports(&engine.inner).map(|(name, _)| name.to_owned()).collect();
    check_imports(&imports)?;
    let mut linker = Linker::new(&engine.inner);
    let refused = |error: wasmtime::Error| Cause::Engine { message: format!("{error:#}") };
    Provider::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(refused)?;
    if imports.iter().any(|name| name.starts_with("wasi:")) {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(refused)?;
    }
    let mismatch = |error: wasmtime::Error| Cause::Mismatch { message: format!("{error:#}"), contract: CONTRACT };
    linker.instantiate_pre(&component).and_then(ProviderPre::new).map_err(mismatch)
}

#[allow(unsafe_code, reason = "the one place where bytes become executable code")]
fn load(code: &[u8], engine: &Engine) -> Result<Component, Cause> {
    // SAFETY: `Component::deserialize` wants bytes that wasmtime made and nobody changed. `Compiled` is built in one
    // file only, from the pipe of our own compiling child, or from a cache entry in a folder that only we can write,
    // whose checksum, component and engine were compared. The bytes are read into memory: a file that changes later
    // changes nothing here.
    unsafe { Component::deserialize(&engine.inner, code) }
        .map_err(|error| Cause::Engine { message: format!("{error:#}") })
}

/// Everything that a component asks for must be in the contract or in the inert WASI.
fn check_imports(imports: &[String]) -> Result<(), Cause> {
    let ours = |name: &str| ["http", "log", "types"].iter().any(|i| name == format!("{PACKAGE}{i}@{CONTRACT}"));
    if let Some(found) = imports.iter().find(|name| name.starts_with(PACKAGE) && !ours(name)) {
        return Err(Cause::ForeignContract { found: found.clone(), contract: CONTRACT });
    }
    let inert = |name: &str| WASI.iter().any(|package| name.starts_with(package)) && name.contains("@0.2.");
    let mut foreign: Vec<String> = imports.iter().filter(|name| !ours(name) && !inert(name)).cloned().collect();
    foreign.sort_unstable();
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(Cause::ForeignImport { imports: foreign, contract: CONTRACT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(imports: &[&str]) -> Result<(), String> {
        let imports: Vec<String> = imports.iter().map(ToString::to_string).collect();
        check_imports(&imports).map_err(|cause| cause.to_string())
    }

    #[test]
    fn the_contract_and_inert_wasi_may_be_imported() {
        assert_eq!(check(&["coffer:provider/http@0.1.0", "coffer:provider/types@0.1.0", "wasi:io/poll@0.2.9"]), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let error = check(&["wasi:http/outgoing-handler@0.2.0", "coffer:provider/http@0.1.0", "acme:backdoor/door"]);
        let error = error.unwrap_err();
        assert!(error.contains("`acme:backdoor/door`, `wasi:http/outgoing-handler@0.2.0`"), "{error}");
    }

    #[test]
    fn another_version_of_the_contract_is_told_apart_from_a_foreign_import() {
        let error = check(&["coffer:provider/http@0.2.0"]).unwrap_err();
        assert!(error.contains("coffer:provider/http@0.2.0") && error.contains("coffer:provider@0.1.0"), "{error}");
    }
}
