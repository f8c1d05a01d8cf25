//! JSON bodies the way WeChat reads them: a `\uXXXX` escape stays as it was typed.
//!
//! Field access follows one rule: what is absent gives the errcode that the caller of the accessor
//! names, what is there with a wrong type gives 47001.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::refusal::Refusal;

/// A parsed body.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) fields: Map<String, Value>,
    /// Whether it held a `\uXXXX` escape, which users now see as typed.
    pub(crate) shown_escaped: bool,
}

impl Body {
    /// Parses a body, whose root must be an object: 44002 empty, 47001 anything else.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Err(Refusal::of(44002));
        }
        let malformed = || Refusal::of(47001);
        let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
        let (text, shown_escaped) = keep_escapes(text);
        let fields: Map<String, Value> = serde_json::from_str(&text).map_err(|_| malformed())?;
        Ok(Self {
            fields,
            shown_escaped,
        })
    }
}

/// Doubles the backslash of each `\uXXXX`, so that the parser leaves six characters of it.
fn keep_escapes(text: &str) -> (String, bool) {
    let mut kept = String::with_capacity(text.len());
    let mut found = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        kept.push(character);
        if character == '\\'
            && let Some(escaped) = characters.next()
        {
            if escaped == 'u' {
                kept.push('\\');
                found = true;
            }
            kept.push(escaped);
        }
    }
    (kept, found)
}

/// Typed access to the fields of a JSON object.
pub(crate) trait Fields {
    /// A string that must be there and not be empty; `absent` is the errcode otherwise.
    fn text(&self, name: &str, absent: i64) -> Result<&str, Refusal>;
    /// A string, where there is one.
    fn optional_text(&self, name: &str) -> Result<Option<&str>, Refusal>;
    /// A whole number from 0 that must be there.
    fn number(&self, name: &str, absent: i64) -> Result<u64, Refusal>;
    /// A whole number from 0, where there is one.
    fn optional_number(&self, name: &str) -> Result<Option<u64>, Refusal>;
    /// A boolean, where there is one.
    fn optional_flag(&self, name: &str) -> Result<Option<bool>, Refusal>;
    /// An object that must be there.
    fn object(&self, name: &str, absent: i64) -> Result<&Map<String, Value>, Refusal>;
    /// An array that must be there.
    fn list(&self, name: &str, absent: i64) -> Result<&[Value], Refusal>;
    /// An array of strings that must be there.
    fn texts(&self, name: &str, absent: i64) -> Result<Vec<&str>, Refusal>;
}

fn wrong_type(name: &str) -> Refusal {
    Refusal::because(47001, format!("data format error, {name}"))
}

impl Fields for Map<String, Value> {
    fn text(&self, name: &str, absent: i64) -> Result<&str, Refusal> {
        match self.optional_text(name)? {
            None | Some("") => Err(Refusal::of(absent)),
            Some(text) => Ok(text),
        }
    }

    fn optional_text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn number(&self, name: &str, absent: i64) -> Result<u64, Refusal> {
        self.optional_number(name)?
            .ok_or_else(|| Refusal::of(absent))
    }

    fn optional_number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong_type(name)),
        }
    }

    fn optional_flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn object(&self, name: &str, absent: i64) -> Result<&Map<String, Value>, Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Err(Refusal::of(absent)),
            Some(Value::Object(object)) => Ok(object),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn list(&self, name: &str, absent: i64) -> Result<&[Value], Refusal> {
        match self.get(name) {
            None | Some(Value::Null) => Err(Refusal::of(absent)),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn texts(&self, name: &str, absent: i64) -> Result<Vec<&str>, Refusal> {
        self.list(name, absent)?
            .iter()
            .map(|value| value.as_str().ok_or_else(|| wrong_type(name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &'static str, expected: &str, escaped: bool) {
        let body = Body::parse(&Bytes::from_static(body.as_bytes())).unwrap();
        assert_eq!(body.fields.text("t", 0).unwrap(), expected);
        assert_eq!(body.shown_escaped, escaped);
    }

    #[test]
    fn an_escape_stays_as_typed_and_other_escapes_do_not() {
        check(r#"{"t":"你好"}"#, "你好", false);
        check(r#"{"t":"\u4f60\u597d"}"#, r"\u4f60\u597d", true);
        check(r#"{"t":"a\n\"\\"}"#, "a\n\"\\", false);
        check(r#"{"t":"\\u4f60"}"#, r"\u4f60", false);
        check(r#"{"t":"\ud83d"}"#, r"\ud83d", true);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let code = |body: &'static [u8]| {
            Body::parse(&Bytes::from_static(body))
                .map(|_| ())
                .unwrap_err()
                .errcode
        };
        assert_eq!(code(b""), 44002);
        for body in [&b"[]"[..], b"1", b"{", b"\xff", b"touser=o", b"{} {}"] {
            assert_eq!(code(body), 47001);
        }
    }
}
