//! When a push recurs: a cron pattern in a time zone.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// When something recurs.
#[derive(Debug)]
pub struct Recurrence {
    cron: Cron,
    zone: TimeZone,
}

impl Recurrence {
    /// A pattern of five fields (minute, hour, day, month, day of the week) in a time zone of IANA's names.
    ///
    /// # Errors
    /// The field of the two that is wrong, and what is wrong with it.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, (&'static str, String)> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(pattern);
        let zone = TimeZone::get(zone);
        Ok(Self {
            cron: cron.map_err(|error| ("cron", error.to_string()))?,
            zone: zone.map_err(|error| ("time_zone", error.to_string()))?,
        })
    }

    /// The first time after `after_ms`, Unix milliseconds; none if there is none for years.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?;
        let after = after.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-28 11:30 in Shanghai, 04:30 in Berlin, whose clocks go forward the next night.
    const NOW: i64 = 1_774_668_600_000;
    const HOUR: i64 = 3_600_000;

    fn next(pattern: &str, zone: &str) -> Option<i64> {
        let recurrence = Recurrence::parse(pattern, zone).expect("a recurrence");
        recurrence.next_after(NOW).map(|at| at - NOW)
    }

    #[test]
    fn it_recurs_by_the_clock_of_its_zone() {
        assert_eq!(next("30 12 * * *", "Asia/Shanghai"), Some(HOUR));
        assert_eq!(next("30 5 * * *", "Europe/Berlin"), Some(HOUR));
        // Noon comes an hour sooner where the night is an hour shorter.
        assert_eq!(next("0 4 * * *", "Europe/Berlin"), Some(45 * HOUR / 2));
        assert_eq!(next("*/5 * * * *", "Asia/Shanghai"), Some(300_000));
    }

    #[test]
    fn what_nobody_can_mean_is_named_and_what_never_comes_is_none() {
        for (pattern, zone, field) in [
            ("every day", "Asia/Shanghai", "cron"),
            ("61 * * * *", "Asia/Shanghai", "cron"),
            ("* * * * * *", "Asia/Shanghai", "cron"),
            ("0 8 * * *", "Asia/Nowhere", "time_zone"),
        ] {
            let error = Recurrence::parse(pattern, zone).expect_err(pattern);
            assert_eq!(error.0, field, "{error:?}");
        }
        assert_eq!(next("0 0 30 2 *", "Asia/Shanghai"), None);
    }
}
