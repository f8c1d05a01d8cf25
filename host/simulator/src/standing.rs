//! Auto-mute (MarkFail): WeChat stops calling a host that keeps failing, for a minute.

use std::time::Duration;

/// How long a mute lasts.
pub(crate) const MUTE_TIME: Duration = Duration::from_secs(60);

/// How WeChat thinks of one account's host.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    failed_in_a_row: u32,
    muted_until: Option<Duration>,
}

impl Standing {
    /// Whether callbacks are withheld now. The minute over, the host starts with a clean sheet.
    pub(crate) fn is_muted(&mut self, now: Duration) -> bool {
        match self.muted_until {
            Some(until) if now < until => true,
            Some(_) => {
                *self = Self::default();
                false
            }
            None => false,
        }
    }

    /// A callback was answered with 200.
    pub(crate) fn succeeded(&mut self) {
        self.failed_in_a_row = 0;
    }

    /// No delivery of a callback was answered with 200.
    pub(crate) fn failed(&mut self, now: Duration, mute_after: u32) {
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        if self.failed_in_a_row >= mute_after {
            self.muted_until = Some(now + MUTE_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    #[test]
    fn a_mute_begins_with_the_last_failure_and_lasts_a_minute() {
        let mut standing = Standing::default();
        standing.failed(NOON, 2);
        assert!(!standing.is_muted(NOON));
        standing.failed(NOON, 2);
        assert!(standing.is_muted(NOON));
        assert!(standing.is_muted(NOON + Duration::from_millis(59_999)));
        assert!(!standing.is_muted(NOON + MUTE_TIME));
        standing.failed(NOON + MUTE_TIME, 2);
        assert!(!standing.is_muted(NOON + MUTE_TIME), "a clean sheet");
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut standing = Standing::default();
        standing.failed(NOON, 2);
        standing.succeeded();
        standing.failed(NOON, 2);
        assert!(!standing.is_muted(NOON));
    }
}
