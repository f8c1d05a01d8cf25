//! The newest ticket of each third-party platform, sealed: for hosts whose database is away. What lasts is
//! there.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::{Redis, millis};
use crate::store::{StoreAway, keys};

/// How long WeChat takes a ticket.
const TICKET_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Keeps a ticket, unless a newer one is there.
static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local held = redis.call('HGET', KEYS[1], 'told_at')
if held and tonumber(held) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'told_at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
",
    )
});

/// What is kept.
static TAKE: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('HGET', KEYS[1], 'value') or ''"));

impl Redis {
    /// Keeps a sealed ticket that WeChat made at `told_at_ms`, unless a newer one is there.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn put_ticket(
        &self,
        platform: &str,
        sealed: &str,
        told_at_ms: i64,
    ) -> Result<(), StoreAway> {
        let mut script = PUT.key(keys::ticket(platform));
        script.arg(sealed).arg(told_at_ms).arg(millis(TICKET_LIFE));
        self.invoke::<i64>(&script).await.map(drop)
    }

    /// The sealed ticket of a platform.
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn ticket(&self, platform: &str) -> Result<Option<String>, StoreAway> {
        let sealed: String = self.invoke(&TAKE.key(keys::ticket(platform))).await?;
        Ok(Some(sealed).filter(|sealed| !sealed.is_empty()))
    }
}
