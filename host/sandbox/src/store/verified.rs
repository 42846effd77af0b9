//! The second step: the bytes are what the administrator meant. Signature policies will stand here, too.

use std::sync::Arc;

use crate::error::{Cause, Error, Stage};
use crate::limits::Limits;
use crate::store::{Digest, Source};

/// A component that is what was pinned.
pub struct Verified {
    pub(super) plugin: String,
    pub(super) digest: Digest,
    pub(super) bytes: Arc<[u8]>,
    pub(super) limits: Limits,
}

impl Verified {
    pub(super) fn new(source: Source, pin: Option<&Digest>) -> Result<Self, Error> {
        let Source { plugin, path, bytes, limits } = source;
        let found = Digest::of(&bytes);
        let refused = match (pin, foreign(&bytes)) {
            (Some(pinned), _) if *pinned != found => Some(Cause::Digest { pinned: *pinned, found }),
            (_, Some(what)) => Some(Cause::NotAComponent { path, found: what }),
            _ => None,
        };
        match refused {
            Some(cause) => Err(Error { plugin, stage: Stage::Verify, cause }),
            None => Ok(Self { plugin, digest: found, bytes: bytes.into(), limits }),
        }
    }

    /// The name in `spec.provider`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plugin
    }

    /// The digest of the component.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the component in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// What the bytes are, if not a component. Preambles: WebAssembly core specification 5.5.16, Component Model
/// Binary.md.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => None,
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Some("a core module (make a component of it: docs/writing-a-provider.md)")
        }
        [] => Some("an empty file"),
        [0x7f, b'E', b'L', b'F', ..] => Some("native code (Coffer compiles components itself and loads no other code)"),
        _ => Some("something else"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn source(bytes: &[u8]) -> Source {
        let path = Path::new("plugin.wasm").to_owned();
        Source { plugin: "azure".into(), path, bytes: bytes.to_vec(), limits: Limits::default() }
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_pinned_component_must_have_that_digest() {
        let pin = Digest::of(b"something else");
        let error = source(COMPONENT).verify(Some(&pin)).err().unwrap();
        assert!(
            matches!(error.cause, Cause::Digest { pinned, found } if pinned == pin && found == Digest::of(COMPONENT))
        );
        assert!(source(COMPONENT).verify(Some(&Digest::of(COMPONENT))).is_ok());
    }

    #[test]
    fn without_a_pin_any_component_passes() {
        assert!(source(COMPONENT).verify(None).is_ok());
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        for (bytes, word) in [
            (b"\0asm\x01\0\0\0".as_slice(), "core module"),
            (b"".as_slice(), "empty"),
            (b"\x7fELF\x02\x01\x01\0".as_slice(), "native code"),
            (b"(component)".as_slice(), "something else"),
        ] {
            let error = source(bytes).verify(None).err().unwrap();
            assert!(matches!(error.cause, Cause::NotAComponent { found, .. } if found.contains(word)));
        }
    }
}
