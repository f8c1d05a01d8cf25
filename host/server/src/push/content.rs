//! What a push of a built-in kind sends: one message, or one after the other until WeChat takes one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wxhost_wechat::api::customer_message::{self, Content as ChatContent};
use wxhost_wechat::api::template;
use wxhost_wechat::id::OpenId;

use crate::db::outbox::{Kind, Outgoing};
use crate::effects::outgoing;

/// Hex digits of a message's id: WeChat takes at least 32 everywhere.
const MESSAGE_ID_DIGITS: usize = 32;

/// The kinds of pushes that need no plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// `text`: a customer-service text.
    Text,
    /// `template`: a template message.
    Template,
    /// `text-or-template`: a customer-service text; to whom WeChat takes none for, a template message.
    TextOrTemplate,
}

impl BuiltIn {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "template" => Some(Self::Template),
            "text-or-template" => Some(Self::TextOrTemplate),
            _ => None,
        }
    }
}

/// A customer-service text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// 1 to 2,048 bytes.
    pub content: String,
}

/// A template message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Which template of the account's.
    pub template_id: String,
    /// The template's fields.
    pub fields: BTreeMap<String, String>,
    /// Where a tap leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextOrTemplate {
    text: Text,
    template: Template,
}

/// One message of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A customer-service text.
    Text(Text),
    /// A template message.
    Template(Template),
}

/// The messages of a push, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content(Vec<Way>);

impl Content {
    /// The content that `data` describes.
    ///
    /// # Errors
    /// What is wrong with the data, or which limit of WeChat's it breaks.
    pub fn read(kind: BuiltIn, data: &serde_json::Value) -> Result<Self, String> {
        let said = |error: serde_json::Error| error.to_string();
        let content = Self(match kind {
            BuiltIn::Text => vec![Way::Text(Deserialize::deserialize(data).map_err(said)?)],
            BuiltIn::Template => {
                vec![Way::Template(Deserialize::deserialize(data).map_err(said)?)]
            }
            BuiltIn::TextOrTemplate => {
                let both = TextOrTemplate::deserialize(data).map_err(said)?;
                vec![Way::Text(both.text), Way::Template(both.template)]
            }
        });
        // What WeChat takes for one person it takes for all.
        let somebody = OpenId::parse("o").map_err(|error| error.to_string())?;
        for way in &content.0 {
            way.outgoing(&somebody, &message_id("", "", ""))
                .map_err(|error| error.to_string())?;
        }
        Ok(content)
    }

    /// The messages.
    pub fn ways(&self) -> &[Way] {
        &self.0
    }

    /// Whether a customer-service message is among them.
    pub fn has_chat(&self) -> bool {
        self.0.iter().any(Way::is_chat)
    }

    /// Whether nothing is shown twice if a message that may have been sent lately is sent again.
    pub fn may_be_repeated(&self) -> bool {
        !self.has_chat()
    }
}

impl Way {
    /// Whether it is a customer-service message.
    pub fn is_chat(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// What is sent to a person. `message_id` names it, whatever is repeated.
    ///
    /// # Errors
    /// A limit of WeChat's that it breaks.
    pub fn outgoing(
        &self,
        open_id: &OpenId,
        message_id: &str,
    ) -> Result<Outgoing, wxhost_wechat::api::InvalidCall> {
        match self {
            Self::Text(text) => {
                let call = customer_message::Send {
                    open_id: open_id.clone(),
                    content: ChatContent::Text {
                        content: text.content.clone(),
                    },
                    kf_account: None,
                };
                outgoing(Kind::CustomerMessage, open_id, &call)
            }
            Self::Template(message) => {
                let fields = message.fields.clone().into_iter();
                let call = template::Send {
                    open_id: open_id.clone(),
                    template_id: message.template_id.clone(),
                    url: message.url.clone(),
                    mini_program: None,
                    data: template::Data(fields.collect()),
                    client_msg_id: Some(message_id.to_owned()),
                };
                outgoing(Kind::Template, open_id, &call)
            }
        }
    }
}

/// Names what a push sends to a person: the same whatever is repeated, and nothing else's.
pub(super) fn message_id(app_id: &str, push_id: &str, open_id: &str) -> String {
    let name = format!("{app_id}\n{push_id}\n{open_id}");
    let mut digits = hex::encode(Sha256::digest(name));
    digits.truncate(MESSAGE_ID_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn kinds_read_their_data_and_say_what_is_wrong_with_it() {
        let template = json!({"template_id": "T1", "fields": {"thing1": "tea"}});
        let both = json!({"text": {"content": "hi"}, "template": template});
        let content = Content::read(BuiltIn::TextOrTemplate, &both).expect("fits");
        assert_eq!(content.ways().len(), 2);
        assert!(content.has_chat() && !content.may_be_repeated());
        let content = Content::read(BuiltIn::Template, &template).expect("fits");
        assert!(content.may_be_repeated());
        let stored = serde_json::to_string(&content).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Content>(&stored).expect("reads"),
            content
        );
        for (kind, data, part) in [
            (BuiltIn::Text, json!({"content": ""}), "text.content"),
            (
                BuiltIn::Text,
                json!({"content": "x".repeat(2049)}),
                "text.content",
            ),
            (BuiltIn::Text, json!({"contents": "x"}), "contents"),
            (BuiltIn::Template, json!({"template_id": "T1"}), "fields"),
            (
                BuiltIn::Template,
                json!({"template_id": "T1", "fields": {"a.DATA": "1"}}),
                "data",
            ),
            (
                BuiltIn::TextOrTemplate,
                json!({"text": {"content": "hi"}}),
                "template",
            ),
        ] {
            let error = Content::read(kind, &data).expect_err("refused");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_message_has_an_id_that_its_repetitions_share() {
        let content = Content(vec![Way::Template(Template {
            template_id: "T1".into(),
            fields: BTreeMap::new(),
            url: None,
        })]);
        let to = |open_id: &str| {
            let id = message_id("wx01", "p1", open_id);
            let open_id = OpenId::parse(open_id).expect("an open id");
            let sent = content.ways()[0].outgoing(&open_id, &id).expect("fits");
            let payload: Value = serde_json::from_str(&sent.payload).expect("JSON");
            payload["client_msg_id"].as_str().expect("an id").to_owned()
        };
        assert_eq!(to("oA"), to("oA"));
        assert_ne!(to("oA"), to("oB"));
        assert_ne!(
            message_id("wx01", "p1", "oA"),
            message_id("wx01", "p2", "oA")
        );
    }
}
