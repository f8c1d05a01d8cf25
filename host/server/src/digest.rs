//! SHA-256 in hex: names what must not be stored itself, and what has no shorter name.

use sha2::{Digest, Sha256};

/// 64 hex digits.
pub(crate) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}
