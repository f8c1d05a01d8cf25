//! How often a key may ask: so many requests in a minute that begins with the first of them.
//!
//! Hosts that share a Redis share the count; without one, or while it is away, each host counts for
//! itself. Both count in the same way, so that a limit means one thing (a token bucket for this
//! process alone would not).

use crate::{
    clock::Clock,
    keys::ApiKey,
    store::{Redis, Store},
};

/// What a rate is counted over.
const WINDOW_MS: i64 = 60_000;

/// Requests of a minute, in this process.
#[derive(Debug, Default)]
pub(super) struct Window {
    began_ms: i64,
    count: u32,
}

impl Window {
    /// Counts a request; returns how many there were and how long the minute still lasts.
    fn count(&mut self, now_ms: i64) -> (u32, i64) {
        let age = now_ms - self.began_ms;
        // A clock that was put back begins a new one, or it might last for hours.
        if !(0..WINDOW_MS).contains(&age) {
            *self = Self {
                began_ms: now_ms,
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        (self.count, self.began_ms + WINDOW_MS - now_ms)
    }
}

/// A key has asked too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimited {
    /// Requests a minute that it has.
    pub limit: u32,
    /// Whole seconds until it may ask again, at least one.
    pub retry_after_seconds: u32,
}

/// Counts requests.
#[derive(Clone, Debug)]
pub struct RateLimits {
    store: Store,
    clock: Clock,
}

impl RateLimits {
    /// Counts in Redis if there is one.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Counts a request of a key.
    ///
    /// # Errors
    /// [`RateLimited`]: it is one too many.
    pub async fn admit(&self, key: &ApiKey) -> Result<(), RateLimited> {
        let shared = match self.store.shared() {
            Some(redis) => Self::count_shared(redis, key).await,
            None => None,
        };
        let (count, left_ms) =
            shared.unwrap_or_else(|| key.window.lock().count(self.clock.now_ms()));
        if count <= key.rate_per_minute {
            return Ok(());
        }
        let seconds = left_ms.max(0).unsigned_abs().div_ceil(1000).max(1);
        Err(RateLimited {
            limit: key.rate_per_minute,
            retry_after_seconds: u32::try_from(seconds).unwrap_or(60),
        })
    }

    async fn count_shared(redis: &Redis, key: &ApiKey) -> Option<(u32, i64)> {
        // Redis logs its own absence.
        redis.count_request(&key.id, WINDOW_MS).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{db::keys::KeyRow, random, store::MemoryCache};

    fn key(rate: i64) -> ApiKey {
        ApiKey::from_row(&KeyRow {
            id: random::unique_name(),
            tenant_id: "acme".into(),
            name: String::new(),
            digest: String::new(),
            app_ids: None,
            grants: "[]".into(),
            rate_per_minute: rate,
            created_at: 1,
            revoked_at: None,
            last_used_at: None,
            signing_secret_sealed: None,
        })
        .unwrap()
    }

    #[test]
    fn a_minute_begins_with_its_first_request() {
        let mut window = Window::default();
        for (now_ms, expected) in [
            (1_000_000, (1, 60_000)),
            (1_000_500, (2, 59_500)),
            (1_059_999, (3, 1)),
            (1_060_000, (1, 60_000)),
            (900_000, (1, 60_000)),
        ] {
            assert_eq!(window.count(now_ms), expected, "at {now_ms}");
        }
    }

    #[tokio::test]
    async fn one_too_many_is_told_its_limit_and_when_to_come_back() {
        let limits = RateLimits::new(Store::Memory(Arc::new(MemoryCache::new())), Clock);
        let key = key(2);
        assert_eq!(limits.admit(&key).await, Ok(()));
        assert_eq!(limits.admit(&key).await, Ok(()));
        let refused = limits.admit(&key).await.unwrap_err();
        assert_eq!(refused.limit, 2);
        assert!(
            (1..=60).contains(&refused.retry_after_seconds),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn hosts_share_the_count_and_go_on_alone_without_redis() {
        let key = key(3);
        if let Ok(url) = std::env::var("WXHOST_TEST_REDIS_URL") {
            let host = || Store::Redis(Arc::new(Redis::open(&url.clone().into()).unwrap()));
            let hosts = [
                RateLimits::new(host(), Clock),
                RateLimits::new(host(), Clock),
            ];
            for turn in 0..3 {
                assert_eq!(hosts[turn % 2].admit(&key).await, Ok(()));
            }
            for host in &hosts {
                let refused = host.admit(&key).await.unwrap_err();
                assert!((1..=60).contains(&refused.retry_after_seconds));
            }
        }
        // Nobody listens there: this host counts alone, from nothing.
        let nowhere = Redis::open(&"redis://127.0.0.1:1".to_owned().into()).unwrap();
        let alone = RateLimits::new(Store::Redis(Arc::new(nowhere)), Clock);
        for _ in 0..3 {
            assert_eq!(alone.admit(&key).await, Ok(()));
        }
        assert!(alone.admit(&key).await.is_err());
    }
}
