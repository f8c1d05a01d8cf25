//! Unpredictable bytes.

use crate::host;

/// `length` bytes from the operating system, 4,096 at most.
#[must_use]
pub fn bytes(length: u32) -> Vec<u8> {
    host::random::bytes(length)
}

/// Eight unpredictable bytes as a number.
#[must_use]
pub fn number() -> u64 {
    host::random::number()
}
