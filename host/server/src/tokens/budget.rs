//! How often a host may ask WeChat for one token: a mistake must not burn the day's quota.

use std::time::Duration;

use tokio::time::Instant;

use crate::accounts::TokenLine;

/// Asked at once after a quiet time. A life of two hours takes one.
const BURST: f64 = 20.0;
/// `cgi-bin/token` may be called 2,000 times a day: one a minute leaves room for others.
const CLASSIC_PERIOD: Duration = Duration::from_secs(60);
/// `cgi-bin/stable_token` may be called 500,000 times a day: one a second leaves room for five hosts.
const STABLE_PERIOD: Duration = Duration::from_secs(1);

/// A bucket that fills again with time.
#[derive(Default)]
pub(super) struct Budget {
    spent: f64,
    at: Option<Instant>,
}

impl Budget {
    /// Whether WeChat may be asked now.
    pub(super) fn take(&mut self, line: TokenLine, now: Instant) -> bool {
        let period = match line {
            TokenLine::Stable => STABLE_PERIOD,
            TokenLine::Classic => CLASSIC_PERIOD,
        };
        let passed = self.at.map_or(Duration::ZERO, |at| now - at);
        self.at = Some(now);
        let refilled = passed.as_secs_f64() / period.as_secs_f64();
        self.spent = (self.spent - refilled).max(0.0);
        if self.spent + 1.0 > BURST {
            return false;
        }
        self.spent += 1.0;
        true
    }

    /// WeChat has not been asked after all.
    pub(super) fn give_back(&mut self) {
        self.spent = (self.spent - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_refused_tokens_does_not_burn_the_days_quota() {
        for (line, most) in [(TokenLine::Classic, 2000), (TokenLine::Stable, 100_000)] {
            let mut budget = Budget::default();
            let start = Instant::now();
            let day = 24 * 3600 * 10;
            let asked = (0..day)
                .filter(|tenth| budget.take(line, start + Duration::from_millis(100 * tenth)))
                .count();
            assert!((1000..most).contains(&asked), "{line:?}: {asked}");
        }
    }
}
