//! The one place that asks what time it is. Everything else is given a [`Clock`].

use std::time::{SystemTime, UNIX_EPOCH};

/// Beijing's clock, by which WeChat counts days, before UTC's, in milliseconds.
const BEIJING_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// The day in Beijing, since 1970, of a time in Unix milliseconds.
pub fn beijing_day(now_ms: i64) -> i64 {
    now_ms.saturating_add(BEIJING_MS).div_euclid(DAY_MS)
}

/// Wall-clock time of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Milliseconds since the Unix epoch.
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is where the system clock is read"
    )]
    pub fn now_ms(self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    /// Seconds since the Unix epoch.
    pub fn now_seconds(self) -> i64 {
        self.now_ms() / 1000
    }
}
