//! Money: whole fen (分) of CNY.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest sum that is taken: a thousand million yuan. WeChat Pay's own limits are far below.
const MOST: i64 = 100_000_000_000;

/// Why something is no sum of money.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FenError {
    /// Nothing, less than nothing, or more than anybody has.
    #[error("a sum is 1 to {MOST} fen")]
    Range,
    /// No number of yuan with two decimals at most.
    #[error("it is no sum in yuan, such as 12.34")]
    Yuan,
}

/// Fen. What it is allowed to be is for who takes it to say: a sum to be paid is positive, a difference need not be.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Fen(i64);

impl Fen {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many fen.
    pub const fn new(fen: i64) -> Self {
        Self(fen)
    }

    /// A sum that can be paid.
    ///
    /// # Errors
    /// [`FenError::Range`].
    pub fn parse_positive(fen: i64) -> Result<Self, FenError> {
        match fen {
            1..=MOST => Ok(Self(fen)),
            _ => Err(FenError::Range),
        }
    }

    /// A sum of a bill, in yuan with a point and up to two decimals.
    ///
    /// # Errors
    /// [`FenError`].
    pub fn parse_yuan(text: &str) -> Result<Self, FenError> {
        let (negative, digits) = match text.strip_prefix('-') {
            None => (false, text),
            Some(digits) => (true, digits),
        };
        let (yuan, decimals) = digits.split_once('.').unwrap_or((digits, "00"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(yuan) || !is_number(decimals) || decimals.len() > 2 {
            return Err(FenError::Yuan);
        }
        let fen: i64 = format!("{decimals:0<2}")
            .parse()
            .map_err(|_| FenError::Yuan)?;
        let yuan: i64 = yuan.parse().map_err(|_| FenError::Range)?;
        let sum = yuan.checked_mul(100).and_then(|sum| sum.checked_add(fen));
        let sum = sum.filter(|sum| *sum <= MOST).ok_or(FenError::Range)?;
        Ok(Self(if negative { -sum } else { sum }))
    }

    /// The number of fen.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum of both, if there is one.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference of both, if there is one.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// In yuan, with two decimals.
    pub fn yuan(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        format!("{sign}{}.{:02}", fen / 100, fen % 100)
    }
}

impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_can_be_paid_are_positive_and_not_beyond_all_limits() {
        for good in [1, 100, MOST] {
            assert_eq!(Fen::parse_positive(good).unwrap().get(), good);
        }
        for bad in [0, -1, i64::MIN, MOST + 1, i64::MAX] {
            assert_eq!(Fen::parse_positive(bad), Err(FenError::Range));
        }
        assert_eq!(Fen::new(i64::MAX).checked_add(Fen::new(1)), None);
        assert_eq!(Fen::new(i64::MIN).checked_sub(Fen::new(1)), None);
    }

    #[test]
    fn json_takes_whole_numbers_only() {
        assert_eq!(serde_json::from_str::<Fen>("12").unwrap(), Fen::new(12));
        for bad in ["12.5", "\"12\"", "1e2", "9223372036854775808", "null"] {
            assert!(serde_json::from_str::<Fen>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bills_count_in_yuan() {
        for (text, fen, shown) in [
            ("12.34", 1234, "12.34"),
            ("-0.01", -1, "-0.01"),
            ("0.00", 0, "0.00"),
            ("5", 500, "5.00"),
            ("5.1", 510, "5.10"),
        ] {
            let sum = Fen::parse_yuan(text).unwrap();
            assert_eq!((sum.get(), &*sum.yuan()), (fen, shown));
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "1.234",
            "1,2",
            "+1",
            "--1",
            "１",
            "1e3",
            "99999999999999999999",
        ] {
            assert!(Fen::parse_yuan(bad).is_err(), "{bad}");
        }
    }
}
