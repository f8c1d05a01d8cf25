//! Requests of an API key, counted for all hosts together.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::Redis;
use crate::clock::millis;
use crate::store::{StoreAway, keys};

/// Counts a request in a window that begins with its first one. A counter without an end (a host died
/// in between would be one, were these two commands) is given one.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
",
    )
});

impl Redis {
    /// Counts a request of an API key; returns how many there were in this window, and for how many
    /// milliseconds it still lasts.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn count_request(
        &self,
        key_id: &str,
        window_ms: i64,
    ) -> Result<(u32, i64), StoreAway> {
        let mut invocation = COUNT.key(keys::rate(key_id));
        invocation.arg(window_ms);
        self.invoke(&invocation).await
    }

    /// How often a nonce of a key has come within `kept`, this time included.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn count_nonce(
        &self,
        key_id: &str,
        nonce: &str,
        kept: Duration,
    ) -> Result<u32, StoreAway> {
        let mut invocation = COUNT.key(keys::signed_nonce(key_id, nonce));
        invocation.arg(millis(kept));
        let (count, _): (u32, i64) = self.invoke(&invocation).await?;
        Ok(count)
    }
}
