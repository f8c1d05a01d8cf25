//! What a call answers when it is not refused.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::refusal::Refusal;

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// A JSON object.
    Json(Value),
    /// A file, as `media/get` answers it.
    File {
        content_type: String,
        name: String,
        bytes: Bytes,
    },
}

/// What comes of a call.
pub(crate) type Outcome = Result<Answer, Refusal>;

/// `{"errcode":0,"errmsg":"ok"}`.
pub(crate) fn ok() -> Outcome {
    Ok(Answer::Json(json!({ "errcode": 0, "errmsg": "ok" })))
}

/// `{"errcode":0,"errmsg":"ok",…}`.
pub(crate) fn ok_with(more: Value) -> Outcome {
    let mut answer = json!({ "errcode": 0, "errmsg": "ok" });
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    Ok(Answer::Json(answer))
}

/// An object without errcode, as the calls answer that only give data.
pub(crate) fn data(value: Value) -> Outcome {
    Ok(Answer::Json(value))
}
