//! From a file to something callable: `Source → Verified → Compiled → Ready`.
//!
//! Each arrow is a type that only the file before it can build, so no component runs that was not verified, and no
//! native code is loaded that did not come from our own compiler or our own cache. The process that mounts never runs
//! the compiler: `child` does, in a process of its own.

mod cache;
mod child;
mod compiled;
mod digest;
mod ready;
mod source;
mod verified;

pub use cache::{Cache, CacheError};
pub use child::{ChildLimits, run as run_child};
pub use compiled::{Compiled, Compiler, Origin};
pub use digest::{Digest, DigestError};
pub use ready::Ready;
pub use source::Source;
pub use verified::Verified;
