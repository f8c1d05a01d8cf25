//! What this host knows of what one owner has in use: what the database said last, what this host has
//! used since, and what is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::limits::{COUNT, Limits, place};
use crate::bucket::{Bucket, Rate};
use crate::db::quotas::{Growth, Quota};

/// The share of a quota up to which what this host knows is enough; beyond it the database is asked.
const CLEAR: f64 = 0.9;

/// Amounts of all quotas.
pub(super) type Amounts = [i64; COUNT];

/// Amounts by quota, as a table.
pub(super) fn amounts(growth: &Growth) -> Amounts {
    let mut amounts = [0; COUNT];
    amounts[place(Quota::ValueBytes)] = growth.value_bytes;
    amounts[place(Quota::Values)] = growth.values;
    amounts[place(Quota::ContactsMade)] = growth.contacts_made;
    amounts[place(Quota::AttributeBytes)] = growth.attribute_bytes;
    amounts[place(Quota::WaitingMessages)] = growth.waiting_messages;
    amounts
}

/// What one owner has in use.
#[derive(Debug, Default)]
pub struct Meter {
    known: Mutex<Known>,
    /// Whether something was used since the database was asked.
    is_touched: AtomicBool,
    /// Those of a second may begin at once.
    callbacks: Mutex<Bucket>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the database said.
    seen: Option<Amounts>,
    /// What was used since.
    since: Amounts,
    /// What is under way.
    under_way: Amounts,
    /// The day of what begins anew each day.
    day: i64,
}

impl Known {
    fn in_use(&self, at: usize) -> i64 {
        self.seen.map_or(0, |seen| seen[at]) + self.since[at] + self.under_way[at]
    }

    fn begin_day(&mut self, day: i64) {
        if std::mem::replace(&mut self.day, day) < day {
            let log = place(Quota::LogBytesADay);
            self.since[log] = 0;
            if let Some(seen) = &mut self.seen {
                seen[log] = 0;
            }
        }
    }
}

/// How sure it must be that there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    /// Far from the limit, by what this host knows: other hosts may have used some since.
    Far,
    /// The database was asked just now.
    Asked,
}

/// A quota without room: which, how much may be used, how much is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) quota: Quota,
    pub(super) most: i64,
    pub(super) in_use: i64,
}

impl Meter {
    /// Takes room, if there is.
    pub(super) fn reserve(&self, limits: &Limits, asked: &Amounts, sure: Sure) -> Result<(), Full> {
        let mut known = self.known.lock();
        for quota in Quota::ALL {
            let at = place(quota);
            let Some(most) = limits.get(quota).filter(|_| asked[at] > 0) else {
                continue;
            };
            let in_use = known.in_use(at);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "a share need not be exact"
            )]
            let bound = match sure {
                Sure::Far if known.seen.is_none() => -1,
                Sure::Far => (most as f64 * CLEAR) as i64,
                Sure::Asked => most,
            };
            if in_use.saturating_add(asked[at]) > bound {
                return Err(Full {
                    quota,
                    most,
                    in_use,
                });
            }
        }
        for (under_way, asked) in known.under_way.iter_mut().zip(asked) {
            *under_way += asked;
        }
        Ok(())
    }

    /// What was taken is used, or given back.
    pub(super) fn end(&self, asked: &Amounts, is_used: bool) {
        let mut known = self.known.lock();
        for (at, asked) in asked.iter().enumerate() {
            known.under_way[at] -= asked;
            if is_used {
                known.since[at] += asked;
            }
        }
    }

    /// Counts bytes of a log, if there is room for them.
    pub(super) fn add_log(&self, limits: &Limits, bytes: i64, day: i64) -> Result<(), Full> {
        let quota = Quota::LogBytesADay;
        let at = place(quota);
        let mut known = self.known.lock();
        known.begin_day(day);
        let in_use = known.in_use(at);
        if let Some(most) = limits.get(quota)
            && in_use.saturating_add(bytes) > most
        {
            return Err(Full {
                quota,
                most,
                in_use,
            });
        }
        known.since[at] += bytes;
        Ok(())
    }

    /// Takes over what the database says.
    pub(super) fn see(&self, seen: Amounts, day: i64) {
        let mut known = self.known.lock();
        known.day = day;
        known.seen = Some(seen);
        known.since = [0; COUNT];
    }

    /// Marks it as used since the database was asked; tells whether it was not marked yet.
    pub(super) fn touch(&self) -> bool {
        !self.is_touched.swap(true, Ordering::Relaxed)
    }

    /// Takes the mark away.
    pub(super) fn untouch(&self) {
        self.is_touched.store(false, Ordering::Relaxed);
    }

    /// When a callback may begin, and takes that turn; none if it would be after `until`.
    pub(super) fn callback_turn(
        &self,
        limits: &Limits,
        (now, until): (Instant, Instant),
    ) -> Result<Instant, Full> {
        let quota = Quota::CallbacksASecond;
        let Some(most) = limits.get(quota) else {
            return Ok(now);
        };
        let burst = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        let rate = Rate {
            period: Duration::from_secs(1) / burst,
            burst,
        };
        let turn = self.callbacks.lock().turn(rate, now, until);
        turn.ok_or(Full {
            quota,
            most,
            in_use: most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(amounts: &[(Quota, i64)]) -> Limits {
        Limits::of(amounts.iter().map(|(quota, most)| (quota.as_str(), *most)))
    }

    fn values(count: i64) -> Amounts {
        amounts(&Growth {
            values: count,
            ..Growth::default()
        })
    }

    #[test]
    fn what_is_under_way_takes_room_until_it_ends() {
        let meter = Meter::default();
        let limits = limits(&[(Quota::Values, 10)]);
        let full = |in_use| {
            Err(Full {
                quota: Quota::Values,
                most: 10,
                in_use,
            })
        };
        // Nothing is known yet.
        assert_eq!(meter.reserve(&limits, &values(1), Sure::Far), full(0));
        meter.see(values(3), 0);
        assert_eq!(meter.reserve(&limits, &values(4), Sure::Far), Ok(()));
        // 3 and 4 and 3 would be just the limit: too near to know by oneself.
        assert_eq!(meter.reserve(&limits, &values(3), Sure::Far), full(7));
        assert_eq!(meter.reserve(&limits, &values(3), Sure::Asked), Ok(()));
        assert_eq!(meter.reserve(&limits, &values(1), Sure::Asked), full(10));
        meter.end(&values(4), false);
        meter.end(&values(3), true);
        assert_eq!(meter.reserve(&limits, &values(5), Sure::Asked), full(6));
        // What the database says includes what has ended.
        meter.see(values(2), 0);
        assert_eq!(meter.reserve(&limits, &values(8), Sure::Asked), Ok(()));
    }

    #[test]
    fn what_shrinks_or_has_no_limit_always_has_room() {
        let meter = Meter::default();
        meter.see(values(20), 0);
        let bound = limits(&[(Quota::Values, 10)]);
        assert_eq!(meter.reserve(&bound, &values(-1), Sure::Asked), Ok(()));
        assert_eq!(meter.reserve(&bound, &values(0), Sure::Far), Ok(()));
        assert_eq!(
            meter.reserve(&Limits::default(), &values(1 << 40), Sure::Far),
            Ok(())
        );
    }

    #[test]
    fn a_log_has_room_again_the_next_day() {
        let meter = Meter::default();
        let limits = limits(&[(Quota::LogBytesADay, 100)]);
        assert_eq!(meter.add_log(&limits, 60, 5), Ok(()));
        let full = meter.add_log(&limits, 60, 5).expect_err("full");
        assert_eq!((full.most, full.in_use), (100, 60));
        assert_eq!(meter.add_log(&limits, 60, 6), Ok(()));
    }

    #[test]
    fn callbacks_come_at_their_rate_after_a_burst() {
        let meter = Meter::default();
        let limits = limits(&[(Quota::CallbacksASecond, 10)]);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let turn = |now, until| {
            let turn = meter.callback_turn(&limits, (at(now), at(until)));
            turn.map(|at| (at - start).as_millis())
        };
        let burst: Vec<_> = (0..10).map(|_| turn(0, 150)).collect();
        assert_eq!(burst, [const { Ok(0) }; 10]);
        assert_eq!(turn(0, 150), Ok(100));
        // 200 ms is more than its patience; who does not wait takes no turn.
        assert!(turn(0, 150).is_err());
        assert_eq!(turn(0, 1_000), Ok(200));
        assert_eq!(turn(5_000, 5_000), Ok(5_000));
    }
}
