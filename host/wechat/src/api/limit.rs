//! WeChat's limits on what a call holds, checked before it costs anything.

use std::fmt;
use std::ops::RangeInclusive;

/// Why WeChat would refuse a call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidCall {
    /// Too short, too long, too few or too many.
    #[error("{field} has {size} {unit}, {min} to {max} are allowed")]
    Size {
        /// The field, as WeChat names it.
        field: &'static str,
        /// What it has.
        size: usize,
        /// What is counted.
        unit: Unit,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// A number outside of its range.
    #[error("{field} is {value}, {min} to {max} is allowed")]
    Range {
        /// The field, as WeChat names it.
        field: &'static str,
        /// The number.
        value: u64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// Not of the form that WeChat demands.
    #[error("{field} {fault}")]
    Malformed {
        /// The field, as WeChat names it.
        field: &'static str,
        /// What is wrong with it, to be read after the field's name.
        fault: &'static str,
    },
}

/// What a size counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// Unicode characters.
    Characters,
    /// Entries of a list.
    Items,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Bytes => "bytes",
            Unit::Characters => "characters",
            Unit::Items => "items",
        })
    }
}

type Sizes = RangeInclusive<usize>;

/// A text of so many bytes.
pub(super) fn bytes(field: &'static str, text: &str, allowed: Sizes) -> Result<(), InvalidCall> {
    size(field, text.len(), Unit::Bytes, allowed)
}

/// A text of so many characters.
pub(super) fn characters(
    field: &'static str,
    text: &str,
    allowed: Sizes,
) -> Result<(), InvalidCall> {
    size(field, text.chars().count(), Unit::Characters, allowed)
}

/// A list of so many entries.
pub(super) fn items<T>(field: &'static str, list: &[T], allowed: Sizes) -> Result<(), InvalidCall> {
    size(field, list.len(), Unit::Items, allowed)
}

/// A text that WeChat demands and names no limit for.
pub(super) fn given(field: &'static str, text: &str) -> Result<(), InvalidCall> {
    demand(!text.is_empty(), field, "is empty")
}

/// A list that WeChat demands and names no limit for.
pub(super) fn filled<T>(field: &'static str, list: &[T]) -> Result<(), InvalidCall> {
    demand(!list.is_empty(), field, "is empty")
}

/// A number in a range.
pub(super) fn range(
    field: &'static str,
    value: impl Into<u64>,
    allowed: RangeInclusive<u64>,
) -> Result<(), InvalidCall> {
    let value = value.into();
    if allowed.contains(&value) {
        return Ok(());
    }
    let (min, max) = allowed.into_inner();
    Err(InvalidCall::Range {
        field,
        value,
        min,
        max,
    })
}

/// Any other condition; `fault` is what is wrong where it does not hold.
pub(super) fn demand(
    holds: bool,
    field: &'static str,
    fault: &'static str,
) -> Result<(), InvalidCall> {
    match holds {
        true => Ok(()),
        false => Err(InvalidCall::Malformed { field, fault }),
    }
}

fn size(field: &'static str, size: usize, unit: Unit, allowed: Sizes) -> Result<(), InvalidCall> {
    if allowed.contains(&size) {
        return Ok(());
    }
    let (min, max) = allowed.into_inner();
    Err(InvalidCall::Size {
        field,
        size,
        unit,
        min,
        max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_field_limit_and_value() {
        let check = |result: Result<(), InvalidCall>, expected: &str| {
            assert_eq!(result.unwrap_err().to_string(), expected);
        };
        check(
            bytes("content", "你", 1..=2),
            "content has 3 bytes, 1 to 2 are allowed",
        );
        check(
            characters("title", "你好吗", 0..=2),
            "title has 3 characters, 0 to 2 are allowed",
        );
        check(
            items("openid_list", &[0; 0], 1..=50),
            "openid_list has 0 items, 1 to 50 are allowed",
        );
        check(
            range("count", 21_u32, 1..=20),
            "count is 21, 1 to 20 is allowed",
        );
        check(given("media_id", ""), "media_id is empty");
        assert_eq!(bytes("content", "你", 3..=3), Ok(()));
        assert_eq!(characters("title", "你好", 2..=2), Ok(()));
    }
}
