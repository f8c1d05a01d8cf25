//! JSON as WeChat wants it: every character as itself.
//!
//! WeChat shows a `\u` escape as it was typed, or refuses it (40033). Control characters can't be
//! written without one; they are left out, as nothing shows them.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::limit::InvalidCall;

/// Writes a body.
pub(super) fn to_string(body: &impl Serialize) -> Result<String, InvalidCall> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = Serializer::with_formatter(&mut out, Plain);
    let written = body.serialize(&mut serializer);
    // Our own types always can be written; a caller's map may have keys that are no strings.
    let text = written.ok().and_then(|()| String::from_utf8(out).ok());
    text.ok_or(InvalidCall::Malformed {
        field: "body",
        fault: "is not JSON",
    })
}

/// A document that is JSON, with each character of its strings as itself; numbers and names keep their
/// spelling and their order.
pub(super) fn plain(document: String) -> String {
    let is_plain = |bytes: &[u8]| !matches!(bytes, [b'\\', b'u' | b'/' | b'b' | b'f']);
    if document.as_bytes().windows(2).all(is_plain) {
        return document;
    }
    let mut out = String::with_capacity(document.len());
    let mut rest = document.as_str();
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let (length, character) = unescaped(escape);
        out.push_str(&character);
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// How many bytes an escape takes behind its backslash, and what WeChat is sent instead.
fn unescaped(escape: &str) -> (usize, Cow<'static, str>) {
    let unit = |from: usize| {
        let digits = escape.get(from..from + 4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    match escape.as_bytes().first() {
        Some(b'"') => (1, r#"\""#.into()),
        Some(b'/') => (1, "/".into()),
        Some(b'b' | b'f') => (1, "".into()),
        Some(b'n') => (1, r"\n".into()),
        Some(b'r') => (1, r"\r".into()),
        Some(b't') => (1, r"\t".into()),
        Some(b'u') => {
            let first = unit(1).unwrap_or_default();
            let second = escape.get(5..7).filter(|next| *next == "\\u");
            let second = second.and_then(|_| unit(7));
            let pair = [first, second.unwrap_or_default()];
            match char::decode_utf16(pair).next() {
                Some(Ok(character)) if character.len_utf16() == 2 => (11, written(character)),
                Some(Ok(character)) => (5, written(character)),
                // Half a pair is no character.
                Some(Err(_)) | None => (5, "\u{fffd}".into()),
            }
        }
        // A backslash; the document is JSON, so there is no other escape.
        _ => (1, r"\\".into()),
    }
}

fn written(character: char) -> Cow<'static, str> {
    match character {
        '"' => r#"\""#.into(),
        '\\' => r"\\".into(),
        '\n' => r"\n".into(),
        '\r' => r"\r".into(),
        '\t' => r"\t".into(),
        '\0'..' ' => "".into(),
        _ => character.to_string().into(),
    }
}

struct Plain;

impl Formatter for Plain {
    fn write_char_escape<W>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()>
    where
        W: io::Write + ?Sized,
    {
        out.write_all(match escape {
            CharEscape::Quote => br#"\""#,
            CharEscape::ReverseSolidus => br"\\",
            CharEscape::Solidus => b"/",
            CharEscape::LineFeed => br"\n",
            CharEscape::CarriageReturn => br"\r",
            CharEscape::Tab => br"\t",
            CharEscape::Backspace | CharEscape::FormFeed | CharEscape::AsciiControl(_) => b"",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn every_character_is_itself_or_left_out() {
        let check = |text: &str, expected: &str| assert_eq!(to_string(&text).unwrap(), expected);
        check("你好 😀 é\u{2028}\u{7f}", "\"你好 😀 é\u{2028}\u{7f}\"");
        check("a\"b\\c/d\n\r\t", r#""a\"b\\c/d\n\r\t""#);
        check("\0a\u{1}\u{8}\u{c}\u{1f}b", r#""ab""#);
        // Typed by someone; no escape of ours.
        check(r"\u4f60", r#""\\u4f60""#);
    }

    #[test]
    fn document_of_others_is_made_plain() {
        let check = |document: &str, expected: &str| {
            assert_eq!(plain(document.to_owned()), expected, "{document}");
            assert!(serde_json::from_str::<IgnoredAny>(document).is_ok());
            assert!(serde_json::from_str::<serde_json::Value>(expected).is_ok());
        };
        check(
            r#"{"name":"\u83dc\u5355","url":"http://a.example/?x=1\u0026y=2"}"#,
            r#"{"name":"菜单","url":"http://a.example/?x=1&y=2"}"#,
        );
        check(r#""\ud83d\ude00\u00e9\/""#, "\"😀é/\"");
        check(
            r#""\u0022\u005c\"\\\n\u000a\u0000\b\f\u001f""#,
            r#""\"\\\"\\\n\n""#,
        );
        // Half a pair is no character; a backslash that was written stays one.
        check(r#""\ude00\ud83dx""#, "\"\u{fffd}\u{fffd}x\"");
        check(r#""\\u4f60""#, r#""\\u4f60""#);
        check(
            r#"{"a":18446744073709551615,"b":1.10}"#,
            r#"{"a":18446744073709551615,"b":1.10}"#,
        );
    }
}
