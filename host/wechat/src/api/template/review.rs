//! Messages that WeChat held for review (40252): some of a template's messages are looked at before they
//! are delivered. WeChat delivers them without a new call, or blocks them; no call tells what is still
//! being looked at.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use crate::api::limit::{self, InvalidCall};
use crate::api::{Call, Request, answer};
use crate::id::OpenId;

/// How long WeChat usually takes, in seconds: nothing else is to be done about a held message before.
pub const REVIEW_SECONDS: u64 = 30 * 60;
/// Most messages that are answered at once.
pub const MAX_BLOCKED: u32 = 100;

/// `POST /wxa/sec/queryblocktmplmsg`: messages of a template that were blocked for good. Those of
/// yesterday may be missing.
#[derive(Clone, Debug, Serialize)]
pub struct Blocked {
    /// Which template.
    #[serde(rename = "tmpl_msg_id")]
    pub template_id: String,
    /// [`BlockedMessage::id`] of the last one on the page before; 0 for the first page.
    #[serde(rename = "largest_id", serialize_with = "as_number_if_any")]
    pub after: String,
    /// How many to answer, 1 to [`MAX_BLOCKED`].
    pub limit: u32,
}

/// Messages that were blocked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct BlockedMessages {
    /// In WeChat's order.
    #[serde(default, rename = "msginfo", deserialize_with = "one_or_many")]
    pub messages: Vec<BlockedMessage>,
}

/// A message that was blocked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct BlockedMessage {
    /// Its place in WeChat's list.
    #[serde(deserialize_with = "answer::label")]
    pub id: String,
    /// Its template.
    #[serde(rename = "tmpl_msg_id")]
    pub template_id: String,
    /// The template's title.
    #[serde(default)]
    pub title: String,
    /// Its text.
    #[serde(default)]
    pub content: String,
    /// Unix seconds at which it was sent.
    #[serde(
        default,
        rename = "send_timestamp",
        deserialize_with = "answer::number"
    )]
    pub sent_at: u64,
    /// To whom.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
}

impl Call for Blocked {
    type Answer = BlockedMessages;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("tmpl_msg_id", &self.template_id)?;
        limit::range("limit", u64::from(self.limit), 1..=u64::from(MAX_BLOCKED))?;
        Request::ask("/wxa/sec/queryblocktmplmsg", self)
    }
}

/// WeChat's page shows a number; an id that is none is sent as it came.
fn as_number_if_any<S: serde::Serializer>(id: &str, out: S) -> Result<S::Ok, S::Error> {
    match id.parse::<u64>() {
        Ok(number) => out.serialize_u64(number),
        Err(_) if id.is_empty() => out.serialize_u64(0),
        Err(_) => out.serialize_str(id),
    }
}

/// WeChat's page shows one object; answers have a list.
fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<BlockedMessage>, D::Error> {
    struct Messages;

    impl<'de> Visitor<'de> for Messages {
        type Value = Vec<BlockedMessage>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a message or a list of them")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut messages = Vec::new();
            while let Some(message) = list.next_element()? {
                messages.push(message);
            }
            Ok(messages)
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            BlockedMessage::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
    }

    deserializer.deserialize_any(Messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{answer, line, refused};

    fn blocked() -> Blocked {
        Blocked {
            template_id: "T1".into(),
            after: String::new(),
            limit: 100,
        }
    }

    #[test]
    fn question_is_the_documents() {
        assert_eq!(
            line(&blocked()),
            r#"POST /wxa/sec/queryblocktmplmsg {"tmpl_msg_id":"T1","largest_id":0,"limit":100}"#
        );
        let next = Blocked {
            after: "17".into(),
            ..blocked()
        };
        assert!(line(&next).contains(r#""largest_id":17"#));
        let none = Blocked {
            limit: 0,
            ..blocked()
        };
        assert_eq!(refused(&none), "limit is 0, 1 to 100 is allowed");
    }

    #[test]
    fn answer_is_a_list_an_object_or_nothing() {
        let message = r#"{"id":7,"tmpl_msg_id":"T1","title":"t","content":"c","send_timestamp":1700000000,"openid":"oA"}"#;
        for (body, expected) in [
            (format!(r#"{{"errcode":0,"msginfo":[{message}]}}"#), 1),
            (format!(r#"{{"errcode":0,"msginfo":{message}}}"#), 1),
            (r#"{"errcode":0,"msginfo":[]}"#.to_owned(), 0),
            (r#"{"errcode":0,"msginfo":null}"#.to_owned(), 0),
            (r#"{"errcode":0}"#.to_owned(), 0),
        ] {
            let told = answer(&blocked(), &body);
            assert_eq!(told.messages.len(), expected, "{body}");
            assert!(told.messages.iter().all(|told| told.id == "7"));
        }
    }
}
