//! Hours in which an account's pushes disturb nobody.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::settings::ChangeError;

/// From when to when pushes rest, each day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// When they begin, `HH:MM`.
    #[schema(example = "22:00")]
    pub from: String,
    /// When they end, `HH:MM`; the next morning, where that is earlier than they begin.
    #[schema(example = "08:00")]
    pub to: String,
    /// A name of IANA's; `Asia/Shanghai` if absent.
    #[serde(default = "beijing")]
    pub time_zone: String,
}

fn beijing() -> String {
    "Asia/Shanghai".to_owned()
}

impl QuietHours {
    /// Refuses what nobody can mean.
    ///
    /// # Errors
    /// Which value is not acceptable, and why.
    pub fn check(&self) -> Result<(), ChangeError> {
        let time = |field, text: &str| {
            time_of(text).ok_or_else(|| {
                ChangeError::invalid(field, format_args!("{text:?} is not a time such as 22:00"))
            })
        };
        let from = time("quiet_hours.from", &self.from)?;
        if from == time("quiet_hours.to", &self.to)? {
            return Err(ChangeError::invalid(
                "quiet_hours.to",
                "is when they begin: nothing would ever be pushed",
            ));
        }
        TimeZone::get(&self.time_zone)
            .map(drop)
            .map_err(|error| ChangeError::invalid("quiet_hours.time_zone", error))
    }

    /// When the quiet hours end that are now, Unix milliseconds; None where there are none now.
    pub fn end(&self, now_ms: i64) -> Option<i64> {
        let (from, to) = (time_of(&self.from)?, time_of(&self.to)?);
        let zone = TimeZone::get(&self.time_zone).ok()?;
        let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(zone);
        let (today, time) = (now.date(), now.time());
        let is_overnight = to < from;
        let ends_on = match (is_overnight, time >= from, time < to) {
            (false, true, true) | (true, _, true) => today,
            (true, true, false) => today.checked_add(1.day()).ok()?,
            _ => return None,
        };
        let end = ends_on.to_datetime(to);
        let end = end.to_zoned(now.time_zone().clone()).ok()?;
        Some(end.timestamp().as_millisecond())
    }
}

fn time_of(text: &str) -> Option<Time> {
    let is_shaped = text.len() == 5 && text.as_bytes()[2] == b':';
    let time = is_shaped.then(|| Time::strptime("%H:%M", text));
    time?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-28 11:30 in Shanghai, 04:30 in Berlin, whose clocks go forward the next night.
    const NOW: i64 = 1_774_668_600_000;
    const HOUR: i64 = 3_600_000;

    fn end(from: &str, to: &str, time_zone: &str, at: i64) -> Option<i64> {
        let hours = QuietHours {
            from: from.into(),
            to: to.into(),
            time_zone: time_zone.into(),
        };
        hours.check().unwrap();
        hours.end(at).map(|end| end - at)
    }

    #[test]
    fn they_end_by_the_clock_of_their_zone() {
        let shanghai = "Asia/Shanghai";
        assert_eq!(end("11:00", "13:00", shanghai, NOW), Some(3 * HOUR / 2));
        assert_eq!(end("11:30", "11:31", shanghai, NOW), Some(60_000));
        assert_eq!(end("12:00", "13:00", shanghai, NOW), None);
        assert_eq!(end("10:00", "11:30", shanghai, NOW), None);
        // Over midnight: before it, and after it.
        assert_eq!(end("22:00", "08:00", shanghai, NOW), None);
        assert_eq!(end("22:00", "12:00", shanghai, NOW), Some(HOUR / 2));
        assert_eq!(end("11:00", "08:00", shanghai, NOW), Some(41 * HOUR / 2));
        assert_eq!(
            end("22:00", "08:00", "Europe/Berlin", NOW),
            Some(7 * HOUR / 2)
        );
        // An hour of the next night is skipped.
        let evening = NOW + 18 * HOUR;
        assert_eq!(
            end("22:00", "08:00", "Europe/Berlin", evening),
            Some(17 * HOUR / 2)
        );
    }

    #[test]
    fn what_nobody_can_mean_is_refused_by_its_field() {
        let refused = |from: &str, to: &str, zone: &str| {
            let hours = QuietHours {
                from: from.into(),
                to: to.into(),
                time_zone: zone.into(),
            };
            match hours.check() {
                Err(ChangeError::Invalid { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        let zone = "Asia/Shanghai";
        assert_eq!(refused("22", "08:00", zone), "quiet_hours.from");
        assert_eq!(refused("24:00", "08:00", zone), "quiet_hours.from");
        assert_eq!(refused("22:00", "8:00", zone), "quiet_hours.to");
        assert_eq!(refused("08:00", "08:00", zone), "quiet_hours.to");
        assert_eq!(
            refused("22:00", "08:00", "Asia/Nowhere"),
            "quiet_hours.time_zone"
        );
    }
}
