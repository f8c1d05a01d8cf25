//! What a push sends: messages without their receivers, in the order in which they are tried.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wxhost_wechat::api::customer_message::{self, Content as ChatContent};
use wxhost_wechat::api::template;
use wxhost_wechat::id::OpenId;

use crate::db::outbox::{Idempotence, Kind, Outgoing};
use crate::digest::sha256_hex;
use crate::effects::outgoing;

/// Hex digits of a message's id: WeChat takes at least 32 everywhere.
const MESSAGE_ID_DIGITS: usize = 32;
/// The receiver, in everything that is sent to a contact.
const RECEIVER: &str = "touser";
/// What names a message, where WeChat sends the same one once.
const MESSAGE_ID: &str = "client_msg_id";

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
    /// All of them.
    const ALL: [Self; 3] = [Self::Text, Self::Template, Self::TextOrTemplate];

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::as_str)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Template => "template",
            Self::TextOrTemplate => "text-or-template",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    template_id: String,
    fields: BTreeMap<String, String>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextOrTemplate {
    text: Text,
    template: Template,
}

impl Text {
    fn way(self, open_id: &OpenId) -> Result<Way, String> {
        let call = customer_message::Send {
            open_id: open_id.clone(),
            content: ChatContent::Text {
                content: self.content,
            },
            kf_account: None,
        };
        Way::of(outgoing(Kind::CustomerMessage, open_id, &call).map_err(said)?)
    }
}

impl Template {
    fn way(self, open_id: &OpenId) -> Result<Way, String> {
        let call = template::Send {
            open_id: open_id.clone(),
            template_id: self.template_id,
            url: self.url,
            mini_program: None,
            data: template::Data(self.fields.into_iter().collect()),
            client_msg_id: None,
        };
        Way::of(outgoing(Kind::Template, open_id, &call).map_err(said)?)
    }
}

/// The messages that a built-in kind of push makes of its data.
///
/// # Errors
/// What is wrong with the data, or which limit of WeChat's it breaks.
pub fn built_in(kind: BuiltIn, data: &Value) -> Result<Ways, String> {
    // What WeChat takes for one person it takes for all.
    let somebody = OpenId::parse("o").map_err(said)?;
    let ways = match kind {
        BuiltIn::Text => vec![Text::deserialize(data).map_err(said)?.way(&somebody)?],
        BuiltIn::Template => vec![Template::deserialize(data).map_err(said)?.way(&somebody)?],
        BuiltIn::TextOrTemplate => {
            let both = TextOrTemplate::deserialize(data).map_err(said)?;
            vec![both.text.way(&somebody)?, both.template.way(&somebody)?]
        }
    };
    Ok(Ways(ways))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What a push was asked to send, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The same to everyone.
    Ways(Ways),
    /// What the account's plugin composes of these data.
    Composed(Value),
}

/// Messages, in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ways(pub Vec<Way>);

/// One message, without its receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Way {
    kind: Kind,
    path: String,
    payload: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl Ways {
    /// Whether a customer-service message is among them.
    pub fn has_chat(&self) -> bool {
        self.0.iter().any(Way::is_chat)
    }

    /// Whether nothing is shown twice if a message that may have been sent lately is sent again.
    pub fn may_be_repeated(&self) -> bool {
        let is_harmless = |way: &Way| way.kind.facts().idempotence != Idempotence::None;
        self.0.iter().all(is_harmless)
    }
}

impl Way {
    /// The message, whoever it was for.
    ///
    /// # Errors
    /// What is sent is no JSON object: not one of what WeChat takes for a contact.
    pub fn of(sent: Outgoing) -> Result<Self, String> {
        let mut payload: Map<String, Value> = serde_json::from_str(&sent.payload).map_err(said)?;
        payload.remove(RECEIVER);
        payload.remove(MESSAGE_ID);
        Ok(Self {
            kind: sent.kind,
            path: sent.path,
            payload,
            expires_at: sent.expires_at,
        })
    }

    /// Path of the API that it goes by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is a customer-service message.
    pub fn is_chat(&self) -> bool {
        self.kind.facts().is_counted
    }

    /// Whether it comes too late.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now_ms)
    }

    /// Whether a repetition is shown again.
    pub fn is_shown_twice(&self) -> bool {
        self.kind.facts().idempotence == Idempotence::None
    }

    /// What is sent to a contact. `message_id` names it, whatever is repeated.
    pub fn outgoing(&self, open_id: &str, message_id: &str) -> Outgoing {
        let mut payload = self.payload.clone();
        payload.insert(RECEIVER.to_owned(), open_id.into());
        if self.kind.facts().idempotence == Idempotence::ClientMsgId {
            payload.insert(MESSAGE_ID.to_owned(), message_id.into());
        }
        Outgoing {
            kind: self.kind,
            open_id: open_id.to_owned(),
            path: self.path.clone(),
            payload: Value::Object(payload).to_string(),
            expires_at: None,
        }
    }
}

impl Way {
    /// The template that it is a message of, and the fields that it fills in, if it is one.
    pub fn template(&self) -> Option<(&str, BTreeSet<&str>)> {
        let template_id = self.payload.get("template_id")?.as_str()?;
        let fields = self.payload.get("data")?.as_object()?.keys();
        (self.kind == Kind::Template).then(|| (template_id, fields.map(String::as_str).collect()))
    }
}

/// Names one message of a push to a contact: the same whatever is repeated, and nothing else's, not even
/// that of the message that is tried after it.
pub(super) fn message_id((app_id, push_id): (&str, &str), open_id: &str, number: u32) -> String {
    let name = format!("{app_id}\n{push_id}\n{open_id}\n{number}");
    let mut digits = sha256_hex(name);
    digits.truncate(MESSAGE_ID_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_plugin_can_have_a_kind_named_like_one_of_ours() {
        let names: Vec<&str> = BuiltIn::names().collect();
        assert_eq!(names, wxhost_runtime::BUILT_IN_PUSH_KINDS);
    }

    #[test]
    fn kinds_read_their_data_and_say_what_is_wrong_with_it() {
        let template = json!({"template_id": "T1", "fields": {"thing1": "tea"}});
        let both = json!({"text": {"content": "hi"}, "template": template});
        let ways = built_in(BuiltIn::TextOrTemplate, &both).expect("fits");
        assert_eq!(ways.0.len(), 2);
        assert!(ways.has_chat() && !ways.may_be_repeated());
        let ways = built_in(BuiltIn::Template, &template).expect("fits");
        assert!(ways.may_be_repeated());
        let content = Content::Ways(ways);
        let stored = serde_json::to_string(&content).expect("JSON");
        let read: Content = serde_json::from_str(&stored).expect("reads");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), stored);
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
            let error = built_in(kind, &data).expect_err("refused");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_message_has_an_id_that_its_repetitions_share() {
        let data = json!({"template_id": "T1", "fields": {}});
        let ways = built_in(BuiltIn::Template, &data).expect("fits");
        let to = |open_id: &str| {
            let sent = ways.0[0].outgoing(open_id, &message_id(("wx01", "p1"), open_id, 0));
            let payload: Value = serde_json::from_str(&sent.payload).expect("JSON");
            assert_eq!(payload["touser"], open_id);
            payload["client_msg_id"].as_str().expect("an id").to_owned()
        };
        assert_eq!(to("oA"), to("oA"));
        assert_ne!(to("oA"), to("oB"));
        let of = |push, number| message_id(("wx01", push), "oA", number);
        assert_ne!(of("p1", 0), of("p2", 0));
        assert_ne!(of("p1", 0), of("p1", 1));
    }
}
