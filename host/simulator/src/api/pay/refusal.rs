//! How WeChat Pay says no.

use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    field: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            field: None,
        }
    }

    /// A field that is missing or wrong.
    pub(crate) fn param(field: &'static str, issue: &str) -> Self {
        Self {
            field: Some(field),
            ..Self::new(400, "PARAM_ERROR", format!("参数错误: {field} {issue}"))
        }
    }

    /// A rule that is broken.
    pub(crate) fn rule(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_REQUEST", message)
    }

    pub(crate) fn signature(message: &str) -> Self {
        Self::new(401, "SIGN_ERROR", message)
    }

    pub(crate) fn no_order() -> Self {
        Self::new(404, "ORDER_NOT_EXIST", "订单不存在")
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(field) = self.field {
            body["detail"] = json!({ "field": field, "issue": self.message, "location": "body" });
        }
        body
    }
}
