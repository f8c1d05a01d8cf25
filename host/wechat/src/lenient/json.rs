//! JSON with everything mended that is not allowed inside a string.

/// The document with each string made one: what is not UTF-8 and half a pair of surrogates become
/// U+FFFD, a raw control character its escape, a backslash that escapes nothing itself; NUL is dropped.
pub(crate) fn mended(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len() + 64);
    let (mut at, mut written, mut is_inside) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        let (length, instead) = match (is_inside, byte) {
            (_, b'"') => {
                is_inside = !is_inside;
                (1, None)
            }
            (_, 0) => (1, Some("")),
            (true, b'\\') => escape(&bytes[at..]),
            (true, b'\n') => (1, Some("\\n")),
            (true, b'\r') => (1, Some("\\r")),
            (true, b'\t') => (1, Some("\\t")),
            (true, ..b' ') => (1, Some(CONTROLS[usize::from(byte)])),
            _ => (1, None),
        };
        if let Some(instead) = instead {
            out.push_str(&text[written..at]);
            out.push_str(instead);
            written = at + length;
        }
        at += length;
    }
    out.push_str(&text[written..]);
    out
}

/// How long an escape is, and what stands instead of it.
fn escape(bytes: &[u8]) -> (usize, Option<&'static str>) {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => (2, None),
        Some(b'u') => match (unit(bytes), unit(bytes.get(6..).unwrap_or_default())) {
            (Some(0), _) => (6, Some("")),
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, None),
            (Some(0xd800..=0xdfff), _) => (6, Some("\u{fffd}")),
            (Some(_), _) => (6, None),
            (None, _) => (1, Some("\\\\")),
        },
        _ => (1, Some("\\\\")),
    }
}

/// The UTF-16 unit that an escape such as `\ud83d` names.
fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let digit = |value: u32, byte: &u8| Some(value << 4 | char::from(*byte).to_digit(16)?);
    digits.iter().try_fold(0, digit)
}

/// The escapes of the control characters.
const CONTROLS: [&str; 32] = [
    "", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007", "\\u0008",
    "\\u0009", "\\u000a", "\\u000b", "\\u000c", "\\u000d", "\\u000e", "\\u000f", "\\u0010",
    "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017", "\\u0018",
    "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_mended_and_nothing_else() {
        for (body, expected) in [
            ("{\"a\":\"x\ny\"}", r#"{"a":"x\ny"}"#),
            ("{\n\"a\":\t\"\u{1}\"}", "{\n\"a\":\t\"\\u0001\"}"),
            (r#"{"a":"\ud83d"}"#, "{\"a\":\"\u{fffd}\"}"),
            (r#"{"a":"\ude00\ud83d"}"#, "{\"a\":\"\u{fffd}\u{fffd}\"}"),
            (r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\ud83d\ude00"}"#),
            (
                r#"{"a":"\ud83d\ud83d\ude00"}"#,
                "{\"a\":\"\u{fffd}\\ud83d\\ude00\"}",
            ),
            (r#"{"a":"\u0000\"\\"}"#, r#"{"a":"\"\\"}"#),
            (r#"{"a":"\x\u12"}"#, r#"{"a":"\\x\\u12"}"#),
            ("{\"a\":\"\0b\"}\0", r#"{"a":"b"}"#),
            (r#"{"a":"\"#, "{\"a\":\"\\\\"),
        ] {
            assert_eq!(mended(body.as_bytes()), expected, "{body:?}");
        }
        assert_eq!(mended(b"{\"a\":\"\xe4\xbd\"}"), "{\"a\":\"\u{fffd}\"}");
    }
}
