//! How long to wait before something is tried again: longer after each failure, not in step with others,
//! and for as long as WeChat's own limits last.

use std::time::Duration;

use wxhost_wechat::errcode::{Advice, OnCall};

use crate::clock::until_midnight;
use crate::random::version;

/// How long calls rest after 45011: WeChat counts them by the minute.
pub(crate) const MINUTE_REST: Duration = Duration::from_secs(60);
/// The most that [`spread`] adds twice of.
const MAX_SPREAD: Duration = Duration::from_secs(600);

/// `first`, doubled so many times; `longest` at most.
pub(crate) fn doubled(first: Duration, doublings: u32, longest: Duration) -> Duration {
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

/// Between half of a time and the whole, so that hosts do not ask in step.
pub(crate) fn jittered(time: Duration) -> Duration {
    let part = u32::try_from(version().unsigned_abs() % 512).unwrap_or(0);
    time / 2 + time / 1024 * part
}

/// A bit longer, so that what was refused together is not tried together.
pub(crate) fn spread(wait: Duration) -> Duration {
    wait + jittered(wait.min(MAX_SPREAD)) / 2
}

/// How long a limit of WeChat's lasts that a call was refused for: a minute, or what is left of the day in
/// Beijing. None for other refusals.
pub(crate) fn limit_rest(refused: OnCall, now_ms: i64) -> Option<Duration> {
    if refused.code().is_minute_limit() {
        Some(MINUTE_REST)
    } else {
        (refused.advice() == Advice::NextDay).then(|| until_midnight(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use wxhost_wechat::errcode::Errcode;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(60));
        let seconds = [0, 1, 4, 5, 31, 32, u32::MAX].map(|n| doubled(first, n, longest).as_secs());
        assert_eq!(seconds, [2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn what_is_spread_is_later_and_no_two_hosts_are_in_step() {
        let day = Duration::from_secs(24 * 3600);
        let waits: Vec<_> = (0..64).map(|_| spread(day)).collect();
        let latest = day + MAX_SPREAD / 2;
        assert!(waits.iter().all(|wait| (day..=latest).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn only_limits_that_end_by_the_clock_have_a_rest() {
        // 2026-01-01 23:30 in Beijing.
        let late_evening = 1_767_281_400_000;
        let rest = |code| {
            limit_rest(
                Errcode(code).on("/cgi-bin/message/template/send"),
                late_evening,
            )
        };
        assert_eq!(rest(45011), Some(MINUTE_REST));
        assert_eq!(rest(45009), Some(Duration::from_secs(1800)));
        assert_eq!(rest(40003), None);
        assert_eq!(rest(-1), None);
    }
}
