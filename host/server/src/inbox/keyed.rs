//! Maps whose keys are hashes already, under keys of this process: to hash them again would be work for
//! nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from such a hash.
pub(super) type KeyedMap<K, V> = HashMap<K, V, BuildHasherDefault<AsItIs>>;

/// Takes a key of one or two numbers as its hash: the first turned by half, and the second over it.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = self.0.rotate_left(32) ^ hash;
    }
}
