//! How often something may be done: so often at once, and then as often as a bucket fills again with time.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Time between two turns of somebody who takes each as it comes.
    pub(crate) period: Duration,
    /// Turns that may be taken at once after a quiet time.
    pub(crate) burst: u32,
}

/// A bucket that fills with time, kept as the moment at which it is full.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a turn, if there is one now.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.turn(rate, now, now).is_some()
    }

    /// Takes the next turn and tells when it begins, unless that is after `until`.
    pub(crate) fn turn(&mut self, rate: Rate, now: Instant, until: Instant) -> Option<Instant> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let at_once = rate.period * rate.burst.saturating_sub(1);
        let begins = full_at.checked_sub(at_once);
        let begins = begins.map_or(now, |begins| begins.max(now));
        if begins > until.max(now) {
            return None;
        }
        self.full_at = Some(full_at + rate.period);
        Some(begins)
    }

    /// Gives a turn back that was not used.
    pub(crate) fn give_back(&mut self, rate: Rate) {
        self.full_at = self.full_at.and_then(|at| at.checked_sub(rate.period));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_turns_at_once_then_one_each_period() {
        let rate = Rate {
            period: Duration::from_secs(2),
            burst: 3,
        };
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        let taken = |bucket: &mut Bucket, seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..9).filter(|_| bucket.take(rate, now)).count()
        };
        for (seconds, expected) in [(0, 3), (1, 0), (2, 1), (3, 0), (5, 1), (100, 3)] {
            assert_eq!(taken(&mut bucket, seconds), expected, "after {seconds} s");
        }
        bucket.give_back(rate);
        assert_eq!(taken(&mut bucket, 100), 1);
        let (now, soon) = (start + Duration::from_secs(100), Duration::from_secs(2));
        assert_eq!(bucket.turn(rate, now, now + soon / 2), None);
        assert_eq!(bucket.turn(rate, now, now + soon), Some(now + soon));
    }
}
