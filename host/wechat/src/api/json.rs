//! JSON as WeChat wants it: every character as itself.
//!
//! WeChat shows a `\u` escape as it was typed, or refuses it (40033). Control characters can't be
//! written without one; they are left out, as nothing shows them.

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
}
