//! Reading answers: errors first, then what the document promises, with room for what it does not.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::errcode::{self, ApiError};
use crate::lenient;

/// Why an answer gives nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerError {
    /// WeChat refused.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// Not what WeChat's document promises: no JSON, or a field is missing or of another type. The
    /// answer itself may hold secrets and is not repeated.
    #[error("the answer is not what wechat documents, at line {line}, column {column}")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1; 0 at the end of a line.
        column: usize,
    },
}

/// An answer that says no more than that the call was taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Done {}

/// The answer, unless it is an error. Fields that are not known are passed over.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, AnswerError> {
    errcode::read(body)?;
    data(body)
}

/// What the answer holds, whatever its errcode.
pub(super) fn data<T: DeserializeOwned>(body: &[u8]) -> Result<T, AnswerError> {
    let first = match serde_json::from_slice(body) {
        Ok(answer) => return Ok(answer),
        Err(first) => first,
    };
    leniently(body).ok_or(AnswerError::Malformed {
        line: first.line(),
        column: first.column(),
    })
}

/// Control characters that users typed come as they are, which JSON forbids; and where there is
/// nothing to say of a field, some answers say `null`, though it is a text, a number or a list.
fn leniently<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let mended = lenient::mended_json(body);
    serde_json::from_str(&mended).ok().or_else(|| {
        let mut document = serde_json::from_str(&mended).ok()?;
        drop_nulls(&mut document);
        // Read from a text, as some answers are kept in WeChat's own spelling.
        serde_json::from_str(&document.to_string()).ok()
    })
}

/// Takes members that are null out, as deep as serde reads.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// An id of up to 64 bits, exact: JSON numbers above 2^53 lose digits in many programs, so WeChat and
/// those between write them as texts, too.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct LongId(#[serde(deserialize_with = "number")] pub u64);

impl fmt::Display for LongId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A whole number, also one in quotation marks.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<u64, E> {
            let number = value.trim().parse();
            number.map_err(|_| E::invalid_value(Unexpected::Other("a text"), &self))
        }
    }

    deserializer.deserialize_any(Number)
}

/// The same where it may be missing, null, or no number at all.
pub(super) fn optional_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

/// A text; an empty one is none.
pub(super) fn non_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A text that WeChat sometimes writes as a number.
pub(super) fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Label {
        Text(String),
        Number(u64),
    }
    Ok(match Label::deserialize(deserializer)? {
        Label::Text(text) => text,
        Label::Number(number) => number.to_string(),
    })
}

/// Writes WeChat's truth.
pub(super) fn as_number<S: Serializer>(truth: &bool, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u8((*truth).into())
}

/// WeChat's truth: a number, 0 for false.
pub(super) fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(number(deserializer)? != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sent {
        msgid: LongId,
    }

    #[test]
    fn long_ids_are_exact_in_either_form() {
        let check = |body: &str, id: u64| {
            assert_eq!(
                read::<Sent>(body.as_bytes()).unwrap().msgid,
                LongId(id),
                "{body}"
            );
        };
        check(r#"{"errcode":0,"msgid":200228332,"new":[1]}"#, 200_228_332);
        check(r#"{"msgid":9007199254740993}"#, 9_007_199_254_740_993);
        check(r#"{"msgid":"18446744073709551615"}"#, u64::MAX);
        for body in [
            r#"{"msgid":1.5}"#,
            r#"{"msgid":-1}"#,
            r#"{"msgid":"x"}"#,
            r#"{"msgid":null}"#,
        ] {
            assert!(read::<Sent>(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(
            serde_json::to_string(&LongId(u64::MAX)).unwrap(),
            u64::MAX.to_string()
        );
    }

    #[test]
    fn refusal_comes_before_missing_fields() {
        let error = read::<Sent>(br#"{"errcode":40003,"errmsg":"invalid openid"}"#).unwrap_err();
        assert_eq!(error.to_string(), "wechat answers 40003: invalid openid");
    }

    #[test]
    fn broken_answer_names_the_place_and_not_the_content() {
        let error = read::<Sent>(br#"{"msgid":"topsecret"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answer is not what wechat documents, at line 1, column 20"
        );
        assert!(read::<Sent>(b"<html>502 Bad Gateway</html>").is_err());
        assert!(read::<Sent>(b"").is_err());
    }

    #[test]
    fn nulls_are_absent() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Told {
            #[serde(default)]
            remark: String,
            #[serde(default)]
            tags: Vec<u32>,
            #[serde(default, deserialize_with = "number")]
            scene: u64,
            msgid: LongId,
        }
        let body = r#"{"remark":null,"tags":null,"scene":null,"msgid":9007199254740993}"#;
        let told: Told = read(body.as_bytes()).unwrap();
        assert_eq!(
            told,
            Told {
                remark: String::new(),
                tags: Vec::new(),
                scene: 0,
                msgid: LongId(9_007_199_254_740_993)
            }
        );
        // What must be there still must.
        assert!(read::<Sent>(br#"{"msgid":null}"#).is_err());
    }

    #[test]
    fn control_characters_and_broken_utf8_of_a_person_hurt_no_answer() {
        let body = b"{\"remark\":\"a\x01\nb \xff\",\"msgid\":7}";
        assert_eq!(read::<Sent>(body).unwrap().msgid, LongId(7));
    }
}
