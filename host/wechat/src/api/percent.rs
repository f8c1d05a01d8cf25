//! Percent-encoding of a value in an address that we hand out.

use std::fmt::Write as _;

/// Every byte but letters, digits and `-._~` as `%XX`.
pub(super) fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_breaks_out_of_a_value() {
        assert_eq!(super::encoded("aZ0-._~"), "aZ0-._~");
        assert_eq!(
            super::encoded("a&b=c#d e+页/"),
            "a%26b%3Dc%23d%20e%2B%E9%A1%B5%2F"
        );
    }
}
