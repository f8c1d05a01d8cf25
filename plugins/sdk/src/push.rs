//! Composing pushes: what a tenant's system has sent to many.
//!
//! ```
//! use serde::Deserialize;
//! use wxhost_sdk::prelude::*;
//! use wxhost_sdk::push::{Composition, Push, PushHandler, Recipient};
//!
//! pub struct Orders;
//!
//! #[derive(Deserialize)]
//! struct Shipped {
//!     order: String,
//! }
//!
//! impl PushHandler for Orders {
//!     fn compose(push: &Push, recipient: &Recipient) -> Result<Composition> {
//!         let shipped: Shipped = push.data()?;
//!         let text = recipient.text(format!("Order {} has left.", shipped.order));
//!         let notice = recipient.template("TEMPLATE-ID").field("thing1", &shipped.order);
//!         Ok(Composition::send(text).or(notice))
//!     }
//! }
//!
//! wxhost_sdk::register!(Orders, handlers = [push]);
//! # use wxhost_sdk::testing::{TestHost, push, recipient};
//! # let push = push("order-shipped", &serde_json::json!({"order": "42"}));
//! # let composed = TestHost::new().compose::<Orders>(&push, &[recipient("oA")]);
//! # assert_eq!(composed.result.unwrap()[0].texts(), ["Order 42 has left."]);
//! # fn main() {}
//! ```
//!
//! The kinds of pushes stand in the plugin's manifest, each with the JSON Schema of its data:
//!
//! ```toml
//! [[push]]
//! kind = "order-shipped"
//! schema = '''{"type": "object", "required": ["order"]}'''
//! ```

use serde::de::DeserializeOwned;

use crate::contacts::Contact;
use crate::error::{Error, Result};
use crate::message::{Body, CustomerMessage, SubscriptionMessage, TemplateMessage};

pub use crate::bindings::push::exports::wxhost::plugin::push_handler::{
    Composition, Message, Push, Recipient,
};

/// Composes what is sent to the recipients of pushes.
///
/// It reads like any handler and changes nothing. The host may call it again for the same recipient before
/// anything was sent to them.
pub trait PushHandler {
    /// Composes what is sent to one recipient.
    ///
    /// # Errors
    ///
    /// Yours. A failure of the fault [`Dependency`](crate::Fault::Dependency) is tried again later; after
    /// any other one, and after a trap, this recipient gets nothing, and the push tells why.
    fn compose(push: &Push, recipient: &Recipient) -> Result<Composition>;

    /// Composes for all recipients of a call, 100 at most. The default asks [`compose`](Self::compose) for
    /// each. A failure is not everyone's: the host asks again for fewer of them, until those are found that
    /// it belongs to.
    ///
    /// # Errors
    ///
    /// As [`compose`](Self::compose).
    fn compose_all(push: &Push, recipients: &[Recipient]) -> Result<Vec<Composition>> {
        let recipients = recipients.iter();
        recipients
            .map(|recipient| Self::compose(push, recipient))
            .collect()
    }
}

impl Push {
    /// The data as a value of your own type.
    ///
    /// # Errors
    ///
    /// When they don't fit the type; the schema in the manifest should see to it that they do.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.data)
            .map_err(|error| Error::bug(format!("the push's data do not fit: {error}")))
    }
}

impl Recipient {
    /// Whether the host knows that the person follows the account. Templates go to followers only.
    #[must_use]
    pub fn follows(&self) -> bool {
        let following = |contact: &Contact| contact.following;
        self.contact.as_ref().and_then(following) == Some(true)
    }

    /// A customer-service text to this person.
    #[must_use]
    pub fn text(&self, text: impl Into<String>) -> CustomerMessage {
        CustomerMessage::text(&self.open_id, text)
    }

    /// A customer-service message to this person.
    #[must_use]
    pub fn message(&self, body: impl Into<Body>) -> CustomerMessage {
        CustomerMessage::new(&self.open_id, body)
    }

    /// A template message to this person, with no data yet.
    #[must_use]
    pub fn template(&self, template_id: impl Into<String>) -> TemplateMessage {
        TemplateMessage::new(&self.open_id, template_id)
    }

    /// A subscription notice to this person, with no data yet.
    #[must_use]
    pub fn notice(&self, template_id: impl Into<String>) -> SubscriptionMessage {
        SubscriptionMessage::new(&self.open_id, template_id)
    }
}

impl Composition {
    /// Send this.
    pub fn send(message: impl Into<Message>) -> Self {
        Self::Send(vec![message.into()])
    }

    /// And where WeChat does not take it, this; 4 messages in all. Who is skipped stays skipped.
    #[must_use]
    pub fn or(mut self, message: impl Into<Message>) -> Self {
        if let Self::Send(messages) = &mut self {
            messages.push(message.into());
        }
        self
    }

    /// Send nothing to this recipient, for this reason.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::Skip(reason.into())
    }

    /// The customer-service texts in it.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let messages = match self {
            Self::Send(messages) => messages.as_slice(),
            Self::Skip(_) => &[],
        };
        let texts = messages.iter().filter_map(|message| match message {
            Message::Customer(message) => match &message.body {
                Body::Text(text) => Some(&**text),
                _ => None,
            },
            Message::Template(_) | Message::Subscription(_) => None,
        });
        texts.collect()
    }
}

impl From<CustomerMessage> for Message {
    fn from(message: CustomerMessage) -> Self {
        Self::Customer(message)
    }
}

impl From<TemplateMessage> for Message {
    fn from(message: TemplateMessage) -> Self {
        Self::Template(message)
    }
}

impl From<SubscriptionMessage> for Message {
    fn from(message: SubscriptionMessage) -> Self {
        Self::Subscription(message)
    }
}
