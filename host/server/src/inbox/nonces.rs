//! The nonces that came with deliveries, and a hash of the body that each came with.
//!
//! In plain mode the signature covers timestamp and nonce, not the body: whoever has seen one
//! delivery could post any body under its signature. So a nonce is good for one body.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::keyed::KeyedMap;

/// Nonces remembered, in each of two generations. A nonce takes about 20 bytes.
const MAX_NONCES: usize = 1 << 21;
/// Locks that the nonces are spread over.
const SHARDS: usize = 64;

/// The nonces that came to this host.
#[derive(Debug)]
pub struct Nonces {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    most_per_shard: usize,
}

/// Two generations: the older one is dropped whole when the younger one is full or old enough.
#[derive(Debug, Default)]
struct Shard {
    young: KeyedMap<u64, u64>,
    old: KeyedMap<u64, u64>,
    young_since: Option<Instant>,
}

impl Nonces {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self::with_capacity(MAX_NONCES)
    }

    fn with_capacity(nonces: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most_per_shard: (nonces / SHARDS).max(1),
        }
    }

    /// Remembers a nonce with its body for `kept` at least (less in a flood); false if it came
    /// before with another body.
    pub fn admit(
        &self,
        app_id: &str,
        timestamp: &str,
        nonce: &str,
        body_hash: u64,
        kept: Duration,
        now: Instant,
    ) -> bool {
        let key = self.hasher.hash_one((app_id, timestamp, nonce));
        // Bits that the shard's map does not look at, else all its keys would begin at the same places.
        let mut shard = self.shards[(key >> 48) as usize % SHARDS].lock();
        shard.turn(kept, now, self.most_per_shard);
        match shard.old.get(&key) {
            Some(&body) => body == body_hash,
            None => *shard.young.entry(key).or_insert(body_hash) == body_hash,
        }
    }
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new()
    }
}

impl Shard {
    fn turn(&mut self, kept: Duration, now: Instant, most: usize) {
        let since = *self.young_since.get_or_insert(now);
        if now.duration_since(since) >= 2 * kept {
            self.old.clear();
            self.young.clear();
            self.young_since = Some(now);
        } else if now.duration_since(since) >= kept || self.young.len() >= most {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
            self.young_since = Some(now);
        }
    }
}

/// A hash of a body, equal on every host.
pub fn body_hash(body: &[u8]) -> u64 {
    use sha1::{Digest, Sha1};
    let digest = Sha1::digest(body);
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(600);

    fn admit(nonces: &Nonces, nonce: &str, body: &str, now: Instant) -> bool {
        nonces.admit(
            "wx1",
            "1411525903",
            nonce,
            body_hash(body.as_bytes()),
            KEPT,
            now,
        )
    }

    #[test]
    fn a_replayed_nonce_is_good_for_its_own_body_only() {
        let nonces = Nonces::new();
        let now = Instant::now();
        assert!(admit(&nonces, "1", "pay me 1", now));
        assert!(admit(&nonces, "1", "pay me 1", now));
        assert!(!admit(&nonces, "1", "pay me 1000", now));
        assert!(admit(&nonces, "2", "pay me 1000", now));
    }

    #[test]
    fn a_nonce_is_remembered_through_the_window() {
        let nonces = Nonces::new();
        let now = Instant::now();
        assert!(admit(&nonces, "1", "a", now));
        let late = now + KEPT - Duration::from_secs(1);
        assert!(!admit(&nonces, "1", "b", late));
        assert!(
            admit(&nonces, "1", "b", now + 3 * KEPT),
            "the window is over"
        );
    }

    #[test]
    fn a_flood_of_nonces_does_not_grow_without_end() {
        let nonces = Nonces::with_capacity(SHARDS * 8);
        let now = Instant::now();
        for nonce in 0..10_000 {
            admit(&nonces, &nonce.to_string(), "a", now);
        }
        let held: usize = nonces
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.lock();
                shard.young.len() + shard.old.len()
            })
            .sum();
        assert!(held <= SHARDS * 16, "{held} nonces are held");
    }
}
