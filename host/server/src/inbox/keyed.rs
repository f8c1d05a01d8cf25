//! Maps whose keys are hashes already, under keys of this process: to hash them again would be work for
//! nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from such a hash.
pub(super) type KeyedMap<K, V> = HashMap<K, V, BuildHasherDefault<AsItIs>>;

/// Takes the first eight bytes of a key as its hash.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = self.0.rotate_left(32) ^ hash;
    }
}
