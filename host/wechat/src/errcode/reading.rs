//! Searching an answer for a return code.
//!
//! WeChat answers 200 to everything and names its content at will, so only the content tells: an object
//! with an `errcode` other than 0 is an error, everything else is what was asked for.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::Errcode;

/// Most bytes kept of an error's text.
pub const MAX_ERRMSG_BYTES: usize = 1024;

/// WeChat's refusal of a call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("wechat answers {errcode}: {errmsg}")]
pub struct ApiError {
    /// The code, never 0.
    pub errcode: Errcode,
    /// WeChat's text as it came, without control characters, [`MAX_ERRMSG_BYTES`] at most.
    pub errmsg: String,
    /// The id that WeChat's support and `/cgi-bin/openapi/rid/get` ask for.
    pub rid: Option<String>,
}

/// Whether an answer of any API is an error. What is not JSON, or has no code, is none.
///
/// # Errors
///
/// The error that it is.
pub fn read(body: &[u8]) -> Result<(), ApiError> {
    let mut seen = Seen::default();
    if begins_an_object(body) {
        // Where the document is broken further on, what was seen before counts.
        let _ = serde_json::Deserializer::from_slice(body).deserialize_map(&mut seen);
    }
    match seen.errcode {
        None | Some(0) => Ok(()),
        Some(code) => Err(ApiError {
            errcode: Errcode(code),
            rid: seen.rid.or_else(|| rid_in(&seen.errmsg)),
            errmsg: tidied(&seen.errmsg),
        }),
    }
}

/// Spares files the work.
fn begins_an_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

#[derive(Default)]
struct Seen {
    errcode: Option<i64>,
    errmsg: String,
    rid: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Errcode,
    Errmsg,
    Rid,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for &mut Seen {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Errcode => self.errcode = number(&map.next_value()?),
                Name::Errmsg => self.errmsg = text(map.next_value()?).unwrap_or_default(),
                Name::Rid => self.rid = text(map.next_value()?),
                Name::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A number, also one in quotation marks.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The rid at the end of ` rid: 5f1ba7a1-1c1b2a3b-4d5e6f70`.
fn rid_in(errmsg: &str) -> Option<String> {
    let (_, rest) = errmsg.rsplit_once("rid:")?;
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let rest = rest.trim_start();
    let end = rest.bytes().position(|byte| !is_part(byte));
    let rid = &rest[..end.unwrap_or(rest.len())];
    (!rid.is_empty()).then(|| rid.to_owned())
}

/// Fit for one line of a log.
fn tidied(errmsg: &str) -> String {
    let end = errmsg.floor_char_boundary(MAX_ERRMSG_BYTES);
    errmsg[..end].replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        let error = read(body.as_bytes()).unwrap_err();
        let ApiError {
            errcode,
            errmsg,
            rid,
        } = error;
        assert_eq!(
            format!("{errcode}|{errmsg}|{}", rid.unwrap_or_default()),
            expected
        );
    }

    #[test]
    fn finds_code_text_and_rid() {
        check(
            r#"{"errcode":40013,"errmsg":"invalid appid rid: 5f1ba7a1-1c1b2a3b-4d5e6f70"}"#,
            "40013|invalid appid rid: 5f1ba7a1-1c1b2a3b-4d5e6f70|5f1ba7a1-1c1b2a3b-4d5e6f70",
        );
        // The wording of sns/*.
        check(
            r#"{"errcode":40029,"errmsg":"invalid code, rid: 6a-7b"}"#,
            "40029|invalid code, rid: 6a-7b|6a-7b",
        );
        check(
            r#" {"errmsg":"busy","errcode":-1,"rid":"1-2-3"} "#,
            "-1|busy|1-2-3",
        );
        check(r#"{"errcode":"45009","errmsg":null}"#, "45009||");
        check(r#"{"errcode":987654321}"#, "987654321||");
    }

    #[test]
    fn success_has_no_code_or_a_zero() {
        for body in [
            r#"{"errcode":0,"errmsg":"ok"}"#,
            r#"{"errcode":"0"}"#,
            r#"{"access_token":"t","expires_in":7200}"#,
            r#"{"list":[{"errcode":1}],"errmsg":"ok"}"#,
            "{}",
        ] {
            assert_eq!(read(body.as_bytes()), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_no_error() {
        for body in [
            "",
            "{",
            "[1]",
            "null",
            "<html>502</html>",
            "errcode",
            "\u{feff}",
        ] {
            assert_eq!(read(body.as_bytes()), Ok(()), "{body}");
        }
        assert_eq!(read(b"\xff\xd8\xff\xe0 a picture"), Ok(()));
        assert_eq!(read("[".repeat(100_000).as_bytes()), Ok(()));
    }

    #[test]
    fn broken_rest_does_not_hide_the_code() {
        check(r#"{"errcode":40001,"errmsg":"cut o"#, "40001||");
        check(
            "{\"errcode\":40001,\"errmsg\":\"raw \u{1} control\"}",
            "40001||",
        );
        check(r#"{"errcode":40001,"errmsg":"ok"} trailing"#, "40001|ok|");
        check(
            &format!(r#"{{"errcode":1,"deep":{}"#, "[".repeat(9999)),
            "1||",
        );
    }

    #[test]
    fn hostile_text_is_cut_and_kept_on_one_line() {
        check(
            r#"{"errcode":1,"errmsg":"a\nERROR forged"}"#,
            "1|a ERROR forged|",
        );
        let long = format!(r#"{{"errcode":1,"errmsg":"x{}"}}"#, "字".repeat(1000));
        assert_eq!(read(long.as_bytes()).unwrap_err().errmsg.len(), 1 + 341 * 3);
    }

    #[test]
    fn repeated_code_is_read_as_most_readers_do() {
        check(r#"{"errcode":0,"errcode":40001}"#, "40001||");
    }
}
