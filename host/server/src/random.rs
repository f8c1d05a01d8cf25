//! Randomness and unique names. Everything else asks here.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Fills `bytes` from the operating system.
///
/// # Panics
/// The operating system has no randomness: nothing that wxhost does would be safe then.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// Sixteen random bytes.
pub fn sixteen() -> [u8; 16] {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    bytes
}

/// A version for a write: 63 random bits, never zero, so it does not come again.
pub fn version() -> i64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    (i64::from_ne_bytes(bytes) & i64::MAX).max(1)
}

/// A time between nothing and `longest`, so that those who failed together do not try again together.
pub fn up_to(longest: Duration) -> Duration {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    longest.mul_f64(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

/// What tells this process from all others. No secret.
pub fn process_mark() -> u64 {
    static MARK: LazyLock<u64> = LazyLock::new(|| version().unsigned_abs());
    *MARK
}

/// A name that no other host and no other moment has: 32 hex digits. Cheap, and no secret.
pub fn unique_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    hex::encode((u128::from(process_mark()) << 64 | u128::from(next)).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_positive_and_differ() {
        let (a, b) = (version(), version());
        assert!(a > 0 && b > 0);
        assert_ne!(a, b);
    }

    #[test]
    fn names_are_unique() {
        let (a, b) = (unique_name(), unique_name());
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
    }
}
