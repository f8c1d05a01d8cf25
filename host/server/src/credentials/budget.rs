//! How often a host may ask WeChat for one token: a mistake must not burn the day's quota.

use std::time::Duration;

use tokio::time::Instant;

use super::TokenLine;
use crate::bucket::Rate;

/// Asked at once after a quiet time. A life of two hours takes one.
const BURST: u32 = 20;
/// `cgi-bin/token` may be called 2,000 times a day: one a minute leaves room for others. Where hosts share
/// a Redis, it is one a minute for all of them.
const CLASSIC_PERIOD: Duration = Duration::from_secs(60);
/// The calls of third-party platforms have limits that WeChat does not publish: as careful as the classic
/// line's.
const PLATFORM_PERIOD: Duration = CLASSIC_PERIOD;
/// `cgi-bin/stable_token` may be called 500,000 times a day: one a second leaves room for five hosts.
const STABLE_PERIOD: Duration = Duration::from_secs(1);

/// Forced tokens are counted over this time.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How often WeChat may be asked on a line.
pub(crate) fn fetch_rate(line: TokenLine) -> Rate {
    let period = match line {
        TokenLine::Stable => STABLE_PERIOD,
        TokenLine::Classic => CLASSIC_PERIOD,
        TokenLine::Authorizer | TokenLine::Component => PLATFORM_PERIOD,
    };
    Rate {
        period,
        burst: BURST,
    }
}

/// Tokens that a host forced: WeChat allows so many a day, and not one right after the other. Where
/// hosts share a Redis it counts for all of them; this holds without it, too.
#[derive(Default)]
pub(crate) struct Forces {
    /// Until then none.
    paused_until: Option<Instant>,
    /// When the day of `count` began.
    day_begun: Option<Instant>,
    count: u32,
}

impl Forces {
    /// Whether one may be forced now, and counts it; else how long to wait.
    pub(crate) fn permit(
        &mut self,
        now: Instant,
        pause: Duration,
        most_a_day: u32,
    ) -> Result<(), Duration> {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return Err(until - now);
        }
        let passed = self.day_begun.map(|begun| now - begun);
        if let Some(passed) = passed.filter(|passed| *passed < DAY)
            && self.count >= most_a_day
        {
            return Err(DAY - passed);
        }
        self.count(now, pause);
        Ok(())
    }

    /// Counts one that was forced, whoever permitted it.
    pub(crate) fn count(&mut self, now: Instant, pause: Duration) {
        if self.day_begun.is_none_or(|begun| now - begun >= DAY) {
            self.day_begun = Some(now);
            self.count = 0;
        }
        self.count += 1;
        self.paused_until = Some(now + pause);
    }

    /// WeChat forces no more for this time.
    pub(crate) fn pause(&mut self, now: Instant, time: Duration) {
        self.paused_until = Some(now + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Bucket;

    #[test]
    fn a_day_has_so_many_forced_tokens_without_redis_too() {
        let (mut forces, start) = (Forces::default(), Instant::now());
        let pause = Duration::from_secs(31);
        let forced = (0..2 * 24 * 3600)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                forces.permit(now, pause, 10).is_ok()
            })
            .count();
        assert_eq!(forced, 20, "ten a day, for two days");
        let end = start + 2 * DAY;
        forces.pause(end, Duration::from_secs(3600));
        let wait = forces.permit(end + Duration::from_secs(600), pause, 10);
        assert_eq!(wait, Err(Duration::from_secs(3000)));
    }

    #[test]
    fn a_loop_of_refused_tokens_does_not_burn_the_days_quota() {
        for (line, most) in [(TokenLine::Classic, 2000), (TokenLine::Stable, 100_000)] {
            let mut budget = Bucket::default();
            let start = Instant::now();
            let day = 24 * 3600 * 10;
            let asked = (0..day)
                .filter(|tenth| {
                    budget.take(fetch_rate(line), start + Duration::from_millis(100 * tenth))
                })
                .count();
            assert!((1000..most).contains(&asked), "{line:?}: {asked}");
        }
    }
}
