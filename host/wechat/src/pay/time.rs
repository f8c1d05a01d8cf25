//! Times as WeChat Pay writes them: RFC 3339, of Beijing.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::de::{Deserialize, Deserializer, Error as _};

/// A time as WeChat Pay writes it. `seconds` are Unix seconds; None beyond all calendars.
pub(super) fn written(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?;
    let beijing = time.to_zoned(TimeZone::fixed(Offset::constant(8)));
    Some(beijing.strftime("%Y-%m-%dT%H:%M:%S+08:00").to_string())
}

/// Unix seconds of a time that WeChat Pay writes; fractions are let go.
pub(super) fn read(text: &str) -> Option<i64> {
    let time: Timestamp = text.trim().parse().ok()?;
    Some(time.as_second())
}

/// For a field that may be absent.
pub(super) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    match text.is_empty() {
        true => Ok(None),
        false => read(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom("no time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_wechat_pay_does() {
        for (seconds, text) in [
            (1_528_425_296, "2018-06-08T10:34:56+08:00"),
            (0, "1970-01-01T08:00:00+08:00"),
            (1_798_732_799, "2026-12-31T23:59:59+08:00"),
        ] {
            assert_eq!(written(seconds).as_deref(), Some(text));
            assert_eq!(read(text), Some(seconds));
        }
        assert_eq!(read("2018-06-08T10:34:56.123+08:00"), Some(1_528_425_296));
        for bad in [
            "",
            "2018-06-08",
            "2018-13-08T10:34:56+08:00",
            "x",
            "2018-06-08T10:34:56",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(written(i64::MAX), None);
    }
}
