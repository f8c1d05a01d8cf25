//! How WeChat Pay says no, and what follows from it.

use serde::Deserialize;

/// Bytes of a text that are kept.
const MAX_TEXT: usize = 512;

/// An answer that is no success.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PayRefusal {
    /// The HTTP status.
    pub status: u16,
    /// Such as `PARAM_ERROR`, in one spelling for those that WeChat Pay's pages spell differently; empty where there is
    /// none.
    pub code: String,
    /// WeChat Pay's own words.
    pub message: String,
    /// The field that is wrong, where that is told.
    pub field: Option<String>,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PayAdvice {
    /// Nothing was done, and asking again is in vain.
    Never,
    /// Nothing was done; the same may work later.
    Later,
    /// Whether it was done is unknown: ask about it, or ask for the very same again.
    Unknown,
    /// It has turned already: ask how it stands.
    Done,
    /// The merchant's owner has to mend something.
    Owner,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    code: String,
    message: String,
    detail: Option<Detail>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    field: Option<String>,
}

impl PayRefusal {
    /// Reads an answer; one that is none of WeChat Pay's has no code.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let read: Body = serde_json::from_slice(body).unwrap_or_default();
        let short = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
        Self {
            status,
            code: spelt(&short(&read.code)).to_owned(),
            message: short(&read.message),
            field: read
                .detail
                .and_then(|detail| detail.field)
                .map(|field| short(&field)),
        }
    }

    /// What follows from it.
    pub fn advice(&self) -> PayAdvice {
        match &*self.code {
            "ORDER_PAID" | "ORDER_CLOSED" | "OUT_TRADE_NO_USED" | "USER_PAYING" => PayAdvice::Done,
            // WeChat Pay has no code of its own for it everywhere.
            "INVALID_REQUEST" if self.message.contains("已支付") => PayAdvice::Done,
            "FREQUENCY_LIMITED" | "NOT_ENOUGH" | "STATEMENT_CREATING" => PayAdvice::Later,
            "SIGN_ERROR"
            | "NO_AUTH"
            | "MCH_NOT_EXISTS"
            | "APPID_MCHID_NOT_MATCH"
            | "ACCOUNT_ERROR" => PayAdvice::Owner,
            "PARAM_ERROR"
            | "INVALID_REQUEST"
            | "RULE_LIMIT"
            | "TRADE_ERROR"
            | "USER_ACCOUNT_ABNORMAL"
            | "ORDER_NOT_EXIST"
            | "RESOURCE_NOT_EXISTS"
            | "NO_STATEMENT_EXIST"
            | "INVALID_TRANSACTIONID"
            | "OPENID_MISMATCH" => PayAdvice::Never,
            _ => match self.status {
                401 => PayAdvice::Owner,
                429 => PayAdvice::Later,
                400..500 if !self.code.is_empty() => PayAdvice::Never,
                // Something between may have answered.
                _ => PayAdvice::Unknown,
            },
        }
    }
}

/// One spelling of a code.
fn spelt(code: &str) -> &str {
    match code {
        "NOAUTH" => "NO_AUTH",
        "NOTENOUGH" => "NOT_ENOUGH",
        "SYSTEMERROR" => "SYSTEM_ERROR",
        "ORDERPAID" => "ORDER_PAID",
        "ORDERCLOSED" => "ORDER_CLOSED",
        "ORDERNOTEXIST" => "ORDER_NOT_EXIST",
        "USERPAYING" => "USER_PAYING",
        "RULELIMIT" => "RULE_LIMIT",
        "ACCOUNTERROR" => "ACCOUNT_ERROR",
        "RATELIMIT_EXCEED" | "RATELIMIT_EXCEEDED" | "FREQUENCY_LIMIT_EXCEED" => "FREQUENCY_LIMITED",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_says_what_to_do() {
        for (status, code, advice) in [
            (400, "PARAM_ERROR", PayAdvice::Never),
            (400, "ORDERPAID", PayAdvice::Done),
            (400, "ORDER_CLOSED", PayAdvice::Done),
            (401, "SIGN_ERROR", PayAdvice::Owner),
            (403, "NOTENOUGH", PayAdvice::Later),
            (403, "NO_AUTH", PayAdvice::Owner),
            (404, "ORDERNOTEXIST", PayAdvice::Never),
            (429, "RATELIMIT_EXCEEDED", PayAdvice::Later),
            (500, "SYSTEMERROR", PayAdvice::Unknown),
            (500, "BANK_ERROR", PayAdvice::Unknown),
            (500, "OPENID_MISMATCH", PayAdvice::Never),
            (418, "NEW_CODE", PayAdvice::Never),
            (502, "", PayAdvice::Unknown),
            (404, "", PayAdvice::Unknown),
        ] {
            let body = format!(r#"{{"code":"{code}","message":"x"}}"#);
            let refusal = PayRefusal::read(status, body.as_bytes());
            assert_eq!(refusal.advice(), advice, "{code}");
        }
        let paid = r#"{"code":"INVALID_REQUEST","message":"该订单已支付"}"#;
        assert_eq!(
            PayRefusal::read(400, paid.as_bytes()).advice(),
            PayAdvice::Done
        );
        let page = PayRefusal::read(502, b"<html>");
        assert_eq!((&*page.code, &*page.message), ("", ""));
        let field = r#"{"code":"PARAM_ERROR","message":"m","detail":{"field":"/amount/currency"}}"#;
        let field = PayRefusal::read(400, field.as_bytes()).field;
        assert_eq!(field.as_deref(), Some("/amount/currency"));
    }
}
