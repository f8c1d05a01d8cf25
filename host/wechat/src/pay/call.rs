//! A call of WeChat Pay, before it is signed.

use std::fmt;

use serde_json::Value;

use super::id::Serial;
use crate::api::Method;

/// A call.
#[derive(Clone)]
pub struct PayRequest {
    /// GET or POST.
    pub method: Method,
    /// Path and query, as they stand on the wire.
    pub path: String,
    /// JSON.
    pub body: Option<String>,
    /// The key that fields of the body are sealed with: it is named in `Wechatpay-Serial`.
    pub sealed_with: Option<Serial>,
    /// Whether WeChat Pay signs the answer: files it does not.
    pub is_signed_answer: bool,
}

impl PayRequest {
    /// Asks for something.
    pub(super) fn get(path: String) -> Self {
        Self {
            method: Method::Get,
            path,
            body: None,
            sealed_with: None,
            is_signed_answer: true,
        }
    }

    /// Has something done.
    pub(super) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self {
            method: Method::Post,
            path: path.into(),
            body: Some(body.to_string()),
            sealed_with: None,
            is_signed_answer: true,
        }
    }
}

// Bodies hold who pays how much.
impl fmt::Debug for PayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A number as it stands in a path: what is no plain character there is escaped.
pub(super) fn escaped(number: &str) -> String {
    let mut out = String::with_capacity(number.len());
    for byte in number.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'-' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
