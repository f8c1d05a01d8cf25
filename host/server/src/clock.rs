//! The one place that asks what time it is. Everything else is given a [`Clock`].

use std::time::{SystemTime, UNIX_EPOCH};

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
