//! What became of template messages that WeChat held for review (40252): it delivers them by itself or
//! blocks them, and lists those that it has blocked.

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, LongId, Request};

/// Messages that one call lists at most.
pub const MAX_LISTED: u32 = 100;

/// `POST /wxa/sec/queryblocktmplmsg`: messages of a template that were blocked for good. Those of
/// yesterday may not be listed any more.
#[derive(Clone, Debug, Serialize)]
pub struct ListBlocked {
    /// The template.
    #[serde(rename = "tmpl_msg_id")]
    pub template_id: String,
    /// The id of the last one of the page before; 0 for the first page.
    #[serde(rename = "largest_id")]
    pub after: u64,
    /// [`MAX_LISTED`] at most.
    pub limit: u32,
}

/// Blocked messages.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Blocked {
    /// In the order of their ids. WeChat's page shows one object, its answers hold a list.
    #[serde(rename = "msginfo", default, deserialize_with = "one_or_many")]
    pub messages: Vec<BlockedMessage>,
}

/// A message that was blocked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct BlockedMessage {
    /// Its number in this list; no msgid.
    pub id: LongId,
    /// To whom.
    #[serde(rename = "openid", default)]
    pub open_id: String,
    /// When it was sent; Unix seconds.
    #[serde(default)]
    pub send_timestamp: LongId,
}

fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<BlockedMessage>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Shape {
        Many(Vec<BlockedMessage>),
        One(Box<BlockedMessage>),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Shape::Many(messages)) => messages,
        Some(Shape::One(message)) => vec![*message],
        None => Vec::new(),
    })
}

impl Call for ListBlocked {
    type Answer = Blocked;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("tmpl_msg_id", &self.template_id)?;
        let mut request = Request::post("/wxa/sec/queryblocktmplmsg", self)?;
        request.idempotent = true;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_many_and_none_are_read() {
        let message = |id: &str| {
            format!(
                r#"{{"id":{id},"tmpl_msg_id":"T1","title":"t","content":"c","send_timestamp":"1620","openid":"oA"}}"#
            )
        };
        let expected = |id| BlockedMessage {
            id: LongId(id),
            open_id: "oA".into(),
            send_timestamp: LongId(1620),
        };
        for (info, messages) in [
            (message("7"), vec![expected(7)]),
            (
                format!("[{},{}]", message("7"), message("\"8\"")),
                vec![expected(7), expected(8)],
            ),
            ("[]".to_owned(), Vec::new()),
            ("null".to_owned(), Vec::new()),
        ] {
            let body = format!(r#"{{"errcode":0,"errmsg":"ok","msginfo":{info}}}"#);
            let answer = ListBlocked::answer(body.as_bytes()).unwrap();
            assert_eq!(answer.messages, messages, "{info}");
        }
        let none = ListBlocked::answer(br#"{"errcode":0,"errmsg":"ok"}"#).unwrap();
        assert_eq!(none, Blocked::default());
    }

    #[test]
    fn a_page_is_asked_for() {
        let call = ListBlocked {
            template_id: "T1".into(),
            after: 8,
            limit: MAX_LISTED,
        };
        let request = call.request().unwrap();
        assert_eq!(request.path, "/wxa/sec/queryblocktmplmsg");
        assert_eq!(
            request.json().unwrap(),
            r#"{"tmpl_msg_id":"T1","largest_id":8,"limit":100}"#
        );
    }
}
