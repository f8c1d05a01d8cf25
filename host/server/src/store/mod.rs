//! What may be lost: events under way, their answers, the plugins' cache. In Redis, where hosts share
//! it, or in this process.
//!
//! Nothing durable rests on it. When Redis is away, a host goes on with what it knows itself, and the
//! database still sees to it that effects happen once.

pub mod cache;
mod connection;
pub mod credentials;
pub mod keys;
pub mod redis;

use std::sync::Arc;

pub use cache::MemoryCache;
pub use redis::{OLDEST, Redis};

/// Where losable state lives.
#[derive(Debug, Clone)]
pub enum Store {
    /// In this process: the embedded default.
    Memory(Arc<MemoryCache>),
    /// In Redis, shared with other hosts.
    Redis(Arc<Redis>),
}

impl Store {
    /// The shared store, if there is one.
    pub fn shared(&self) -> Option<&Arc<Redis>> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(redis) => Some(redis),
        }
    }

    /// A plugin's cached value.
    ///
    /// # Errors
    /// The store can't be reached.
    pub async fn cache_get(&self, app_id: &str, key: &str) -> Result<Option<Vec<u8>>, StoreAway> {
        match self {
            Self::Memory(cache) => Ok(cache.get(app_id, key)),
            Self::Redis(redis) => redis.cache_get(app_id, key).await,
        }
    }

    /// Keeps a plugin's value for `ttl_seconds`.
    ///
    /// # Errors
    /// The store can't be reached.
    pub async fn cache_set(
        &self,
        app_id: &str,
        key: &str,
        value: Vec<u8>,
        ttl_seconds: u32,
    ) -> Result<(), StoreAway> {
        match self {
            Self::Memory(cache) => {
                cache.set(app_id, key, value, ttl_seconds);
                Ok(())
            }
            Self::Redis(redis) => redis.cache_set(app_id, key, &value, ttl_seconds).await,
        }
    }

    /// Forgets a plugin's value.
    ///
    /// # Errors
    /// The store can't be reached.
    pub async fn cache_delete(&self, app_id: &str, key: &str) -> Result<(), StoreAway> {
        match self {
            Self::Memory(cache) => {
                cache.delete(app_id, key);
                Ok(())
            }
            Self::Redis(redis) => redis.cache_delete(app_id, key).await,
        }
    }
}

/// The shared store can't be reached now; go on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared store can't be reached")]
pub struct StoreAway;
