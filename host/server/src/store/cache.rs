//! The plugins' cache in this process: bounded in bytes, each value with its own time to live.

use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

/// Bytes of keys and values kept; the least recently used make way.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The plugins' cache in this process.
#[derive(Debug)]
pub struct MemoryCache {
    values: Cache<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    time_to_live: Duration,
}

struct EachItsOwn;

impl Expiry<String, Entry> for EachItsOwn {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.time_to_live)
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.time_to_live)
    }
}

impl MemoryCache {
    /// An empty cache.
    pub fn new() -> Self {
        let values = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(|key: &String, entry: &Entry| {
                u32::try_from(key.len() + entry.value.len()).unwrap_or(u32::MAX)
            })
            .expire_after(EachItsOwn)
            .build();
        Self { values }
    }

    /// The value under an account's key.
    pub fn get(&self, app_id: &str, key: &str) -> Option<Vec<u8>> {
        self.values
            .get(&super::keys::cache(app_id, key))
            .map(|entry| entry.value)
    }

    /// Keeps a value for `ttl_seconds`.
    pub fn set(&self, app_id: &str, key: &str, value: Vec<u8>, ttl_seconds: u32) {
        let time_to_live = Duration::from_secs(u64::from(ttl_seconds));
        let entry = Entry {
            value,
            time_to_live,
        };
        self.values.insert(super::keys::cache(app_id, key), entry);
    }

    /// Forgets a value.
    pub fn delete(&self, app_id: &str, key: &str) {
        self.values.invalidate(&super::keys::cache(app_id, key));
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_do_not_see_each_other() {
        let cache = MemoryCache::new();
        cache.set("wx1", "k", b"one".to_vec(), 60);
        cache.set("wx2", "k", b"two".to_vec(), 60);
        assert_eq!(cache.get("wx1", "k").as_deref(), Some(b"one".as_slice()));
        cache.delete("wx1", "k");
        assert_eq!(cache.get("wx1", "k"), None);
        assert_eq!(cache.get("wx2", "k").as_deref(), Some(b"two".as_slice()));
    }

    #[test]
    fn a_value_without_time_to_live_is_gone_at_once() {
        let cache = MemoryCache::new();
        cache.set("wx1", "k", b"v".to_vec(), 0);
        assert_eq!(cache.get("wx1", "k"), None);
    }
}
