//! A callback as a typed value: who, when, what, and everything that has no type.
//!
//! Nothing that WeChat sent is dropped: a field is either in [`Message::content`] or, with its path, in
//! [`Message::extra`]. A kind that is not known here is [`Content::Other`], never an error.
//!
//! Of a repeated element the first counts, but for MsgId: WeChat writes it behind what users write,
//! so the last one is WeChat's.

mod content;
mod identity;
mod reading;

pub use content::*;

use crate::body::BodyError;
use crate::id::{OpenId, OriginalId};
use crate::lenient;
use crate::tree::Tree;

/// A message or an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The account (ToUserName).
    pub to_user: OriginalId,
    /// The user (FromUserName). For platform events it may be WeChat's own id.
    pub from_user: OpenId,
    /// CreateTime in Unix seconds; 0 when WeChat left it out.
    pub create_time: u64,
    /// MsgId, which messages have and events do not.
    pub msg_id: Option<String>,
    /// What it is.
    pub content: Content,
    /// Path and value of every field that `content` does not hold, MsgId among them; ToUserName,
    /// FromUserName, CreateTime, MsgType and an event's Event are told by the fields above.
    pub extra: Vec<(String, String)>,
    identity: String,
}

impl Message {
    /// Reads an authentic body, leniently where it is not well-formed: what WeChat really sends.
    ///
    /// # Errors
    ///
    /// [`BodyError`]: it can't be read all the same, or is no callback of an account.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        lenient::message(body)
    }

    /// Reads a body's tree.
    ///
    /// # Errors
    ///
    /// [`BodyError::Field`] when ToUserName, FromUserName or MsgType is missing or malformed: such a
    /// body is no callback of an account.
    pub fn from_tree(tree: Tree<'_>) -> Result<Self, BodyError> {
        let mut fields = tree;
        let identity = identity::of(&fields);

        let mut take = |name| fields.take(name).ok_or(BodyError::Field(name));
        let to_user = OriginalId::parse(&take("ToUserName")?);
        let to_user = to_user.map_err(|_| BodyError::Field("ToUserName"))?;
        let from_user = OpenId::parse(&take("FromUserName")?);
        let from_user = from_user.map_err(|_| BodyError::Field("FromUserName"))?;
        let msg_type = take("MsgType")?.into_owned();
        let create_time = fields
            .take_as("CreateTime", |text| text.parse().ok())
            .unwrap_or(0);
        let msg_id = fields
            .last_text("MsgId")
            .filter(|id| !id.is_empty())
            .map(str::to_owned);

        let kind = msg_type.to_ascii_lowercase();
        let content = if kind == "event" {
            let event = fields.take("Event").unwrap_or_default().into_owned();
            let content = reading::event(&event.to_ascii_lowercase(), &mut fields);
            content.unwrap_or(Content::Other(Other { msg_type, event }))
        } else {
            let other = || {
                Content::Other(Other {
                    msg_type,
                    event: String::new(),
                })
            };
            reading::message(&kind, &mut fields).unwrap_or_else(other)
        };
        let extra = fields.flatten();
        Ok(Self {
            to_user,
            from_user,
            create_time,
            msg_id,
            content,
            extra,
            identity,
        })
    }

    /// Names the message: equal for WeChat's repeated deliveries, different for everything else that
    /// the account receives. At most 200 bytes of printable ASCII.
    ///
    /// `m:<from>:<time>:<MsgId>` for messages, `e:<from>:<time>:<type>:<event>:<key>` for events.
    pub fn event_id(&self) -> String {
        self.identity.clone()
    }

    /// The name that earlier versions gave a message: `m:<MsgId>`. It is not one message's alone: WeChat
    /// gives the same MsgId to several users.
    pub fn earlier_event_id(&self) -> Option<String> {
        identity::earlier(&self.identity, self.msg_id.as_deref()?)
    }
}
