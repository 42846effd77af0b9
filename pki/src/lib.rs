//! PEM and PFX as secret stores hand them out: read forgivingly, written in one form.
//!
//! Shared by the provider, where it runs in the sandbox, and by the host, which takes certificates apart for Kubernetes
//! Secrets of type `kubernetes.io/tls`. A function of its input: no clock, no randomness, no file. What it opens is
//! somebody's upload, so all work and all sizes are limited. No error holds any of the content.

pub mod asn1;
pub mod pem;
pub mod pfx;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Bytes that are wiped when they are dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// Standard alphabet, padding required, bits after the last byte ignored: what Go's decoder accepts.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);
