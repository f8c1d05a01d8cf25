//! The one place that asks what time it is; everything else is given a [`Clock`]. How times are counted
//! stands here too: in milliseconds, and in days as WeChat has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds that clocks in Beijing are ahead (UTC+8, all year). WeChat counts days by them.
const BEIJING_MS: i64 = 8 * 3600 * 1000;
const DAY_MS: i64 = 24 * 3600 * 1000;

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

/// A duration in milliseconds, as times are counted; half of all that there are for one that is longer, so
/// that it can be added to a time.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// How much is left of WeChat's day, which ends at midnight in Beijing.
pub fn until_midnight(now_ms: i64) -> Duration {
    let passed = now_ms.saturating_add(BEIJING_MS).rem_euclid(DAY_MS);
    Duration::from_millis((DAY_MS - passed).unsigned_abs())
}

/// The day in Beijing, since 1970, of a time in Unix milliseconds.
pub fn beijing_day(now_ms: i64) -> i64 {
    now_ms.saturating_add(BEIJING_MS).div_euclid(DAY_MS)
}

/// When the day in Beijing began that a time is in. Both Unix milliseconds.
pub fn beijing_midnight(now_ms: i64) -> i64 {
    beijing_day(now_ms)
        .saturating_mul(DAY_MS)
        .saturating_sub(BEIJING_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wechats_day_turns_over_in_beijing() {
        // 2023-11-14 22:13:20 UTC is 06:13:20 on the 15th in Beijing.
        let now_ms = 1_700_000_000_000;
        let left = Duration::from_secs(24 * 3600 - (6 * 3600 + 13 * 60 + 20));
        assert_eq!(until_midnight(now_ms), left);
        let midnight = now_ms + i64::try_from(left.as_millis()).unwrap();
        assert_eq!(until_midnight(midnight), Duration::from_secs(24 * 3600));
        assert_eq!(beijing_day(midnight - 1) + 1, beijing_day(midnight));
        assert_eq!(beijing_day(midnight), 19_677);
        assert_eq!(beijing_midnight(midnight), midnight);
        assert_eq!(beijing_midnight(midnight + 5), midnight);
        assert_eq!(beijing_midnight(now_ms), midnight - 24 * 3600 * 1000);
    }
}
