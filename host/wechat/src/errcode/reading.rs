//! Searching an answer for a return code.
//!
//! WeChat answers 200 to everything and names its content at will, so only the content tells: an object
//! with an `errcode` other than 0 is an error, everything else is what was asked for ([`read`]). A call
//! that sends gives nothing back but its `errcode`, so there only an `errcode` of 0 is a success
//! ([`sent`]): a proxy's page of HTML says nothing about the message.
//!
//! Texts of users and of broken programs stand beside the code, so what JSON forbids inside a string
//! is mended before an answer counts as one without a code.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::Errcode;
use crate::body::BYTE_ORDER_MARK;
use crate::lenient;

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

/// Why nothing says that a message was sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotSent {
    /// WeChat refused it.
    #[error(transparent)]
    Refused(ApiError),
    /// The answer has no code: it is not WeChat's, or not the whole of it. Whether the message was
    /// sent is unknown.
    #[error("the answer has no errcode, so it does not say whether the message was sent")]
    Unsaid,
}

/// Whether an answer of any API is an error. What is not JSON, or has no code, is none: so this is for
/// calls whose answer is data, which then is judged by itself.
///
/// # Errors
///
/// The error that it is.
pub fn read(body: &[u8]) -> Result<(), ApiError> {
    match Seen::look(body).said() {
        Some(Err(refusal)) => Err(refusal),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Whether the answer of a call that sends something says that it was sent: `errcode` 0, and nothing
/// else.
///
/// # Errors
///
/// What it says instead.
pub fn sent(body: &[u8]) -> Result<(), NotSent> {
    match Seen::look(body).said() {
        Some(said) => said.map_err(NotSent::Refused),
        None => Err(NotSent::Unsaid),
    }
}

/// Spares files the work.
fn begins_an_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

impl Seen {
    fn look(body: &[u8]) -> Self {
        let mut seen = Self::default();
        let body = body
            .strip_prefix(BYTE_ORDER_MARK.as_bytes())
            .unwrap_or(body);
        if !begins_an_object(body) {
            return seen;
        }
        // Where the document is broken further on, what was seen before counts.
        let read = serde_json::Deserializer::from_slice(body).deserialize_map(&mut seen);
        if read.is_err() && seen.errcode.is_none() {
            seen = Self::default();
            let mended = lenient::mended_json(body);
            let _ = serde_json::Deserializer::from_str(&mended).deserialize_map(&mut seen);
        }
        seen
    }

    /// What the code says, where there is one.
    fn said(self) -> Option<Result<(), ApiError>> {
        Some(match self.errcode? {
            0 => Ok(()),
            code => Err(ApiError {
                errcode: Errcode(code),
                rid: self.rid.or_else(|| rid_in(&self.errmsg)),
                errmsg: tidied(&self.errmsg),
            }),
        })
    }
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
    fn broken_string_before_the_code_does_not_hide_it() {
        check(
            "{\"errmsg\":\"response out of time limit \u{1}\",\"errcode\":45015}",
            "45015|response out of time limit  |",
        );
        check("{\"errmsg\":\"a\nb\",\"errcode\":1}", "1|a b|");
        check(r#"{"errmsg":"\ud83d!","errcode":2}"#, "2|\u{fffd}!|");
        check("\u{feff}{\"errcode\":3}", "3||");
        let error = read(b"{\"errmsg\":\"\xe4\xbd\",\"errcode\":4}").unwrap_err();
        assert_eq!(error.errcode, Errcode(4));
    }

    #[test]
    fn message_was_sent_only_where_a_code_of_zero_says_so() {
        for body in [
            r#"{"errcode":0,"errmsg":"ok"}"#,
            r#"{"errcode":"0","msgid":7}"#,
            "{\"errmsg\":\"ok\u{2}\",\"errcode\":0}",
        ] {
            assert_eq!(sent(body.as_bytes()), Ok(()), "{body}");
        }
        for body in [
            "",
            "<html>200 OK</html>",
            "{}",
            r#"{"errmsg":"ok"}"#,
            r#"{"msgid":7}"#,
            r#"{"errcode":null}"#,
            r#"{"errcode":"none"}"#,
            r#"[{"errcode":0}]"#,
            r#"{"data":{"errcode":0}}"#,
        ] {
            assert_eq!(sent(body.as_bytes()), Err(NotSent::Unsaid), "{body}");
        }
        let refused = sent(br#"{"errcode":45015,"errmsg":"no"}"#).unwrap_err();
        assert!(matches!(refused, NotSent::Refused(error) if error.errcode == Errcode(45015)));
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
