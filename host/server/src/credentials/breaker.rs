//! A circuit breaker for one account's calls: when WeChat has left several in a row without an answer,
//! further ones fail at once instead of waiting as long, so that a sick account holds no places that
//! others need. After a rest, which grows, one call is let through to see.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backoff;

/// Calls in a row without an answer that open it.
const FAILURES: u32 = 5;
/// The first rest; doubled each time that the call that was let through fails, too.
const FIRST_REST: Duration = Duration::from_secs(1);
/// An account is noticed to be well again after this time.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// How long the call that was let through is waited for before another one is: longer than any call
/// takes.
const TRIAL: Duration = Duration::from_secs(15);

/// Of one account, on one host.
#[derive(Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// Calls in a row without an answer.
    failures: u32,
    /// Until when none is made.
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made now; else how long to rest. Past the rest, one caller is told yes.
    pub(crate) fn permit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.0.lock();
        match state.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                state.open_until = Some(now + TRIAL);
                Ok(())
            }
        }
    }

    /// For how long no call is made.
    pub(crate) fn rest(&self, now: Instant) -> Option<Duration> {
        let until = self.0.lock().open_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// WeChat has answered, whatever it said.
    pub(crate) fn note_answer(&self) {
        let mut state = self.0.lock();
        state.failures = 0;
        state.open_until = None;
    }

    /// WeChat has not answered. `jitter` keeps hosts from asking in step. True if calls rest from now on
    /// that did not before.
    pub(crate) fn note_failure(
        &self,
        now: Instant,
        jitter: impl FnOnce(Duration) -> Duration,
    ) -> bool {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        let Some(beyond) = state.failures.checked_sub(FAILURES) else {
            return false;
        };
        let rest = backoff::doubled(FIRST_REST, beyond, LONGEST_REST);
        state.open_until = Some(now + jitter(rest));
        beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sick_account_rests_ever_longer_and_one_call_tells_that_it_is_well() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for _ in 1..FAILURES {
            assert!(!breaker.note_failure(start, |rest| rest));
            assert_eq!(breaker.permit(start), Ok(()));
        }
        assert!(breaker.note_failure(start, |rest| rest));
        assert_eq!(breaker.permit(start), Err(FIRST_REST));
        assert_eq!(breaker.rest(start), Some(FIRST_REST));

        assert_eq!(breaker.permit(at(1)), Ok(()), "one is let through");
        assert_eq!(breaker.permit(at(1)), Err(TRIAL));
        assert!(!breaker.note_failure(at(2), |rest| rest));
        assert_eq!(breaker.permit(at(2)), Err(2 * FIRST_REST));
        for second in 3..30 {
            breaker.note_failure(at(second), |rest| rest);
        }
        assert_eq!(breaker.rest(at(29)), Some(LONGEST_REST));

        breaker.note_answer();
        assert_eq!(
            (breaker.permit(at(30)), breaker.rest(at(30))),
            (Ok(()), None)
        );
        assert!(!breaker.note_failure(at(30), |rest| rest), "it begins anew");
    }

    #[test]
    fn a_call_that_is_let_through_and_never_ends_blocks_nobody_for_long() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.note_failure(start, |rest| rest);
        }
        let trial = start + FIRST_REST;
        assert_eq!(breaker.permit(trial), Ok(()));
        assert_eq!(breaker.permit(trial + TRIAL), Ok(()));
    }
}
