//! What a handler returns: a reply, and what is to be changed.

use crate::error::{Error, Result};
use crate::kv::Version;
use crate::reply::Reply;
use serde::Serialize;

pub use crate::bindings::exports::wxhost::plugin::callback_handler::Outcome;
pub use crate::bindings::wxhost::plugin::effects::{
    AttributeChange, Effect, Expectation, KvDelete, KvPut, OptOutChange, RefundRequest,
    RemarkChange, TagChange,
};

impl Outcome {
    /// No reply and no change.
    #[must_use]
    pub fn none() -> Self {
        Self {
            reply: None,
            effects: Vec::new(),
        }
    }

    /// A reply.
    pub fn reply(reply: impl Into<Reply>) -> Self {
        Self {
            reply: Some(reply.into()),
            effects: Vec::new(),
        }
    }

    /// And store a value: 64 KiB at most, under a key of 1 to 256 bytes.
    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.put_expecting(key, value, Expectation::Any)
    }

    /// And store a value as JSON.
    ///
    /// # Errors
    ///
    /// When the value has no JSON form.
    pub fn put_json(self, key: impl Into<String>, value: &impl Serialize) -> Result {
        let value = serde_json::to_vec(value).map_err(|error| Error::bug(error.to_string()))?;
        Ok(self.put(key, value))
    }

    /// And store a value, if the key does not exist. If it does, nothing of this outcome happens.
    #[must_use]
    pub fn put_new(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.put_expecting(key, value, Expectation::Absent)
    }

    /// And store a value, if the key's value is still of this version. If not, nothing of this outcome
    /// happens.
    #[must_use]
    pub fn put_unchanged(
        self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        version: Version,
    ) -> Self {
        self.put_expecting(key, value, Expectation::Unchanged(version))
    }

    /// And remove a value; removing what is not there is no error.
    #[must_use]
    pub fn delete(self, key: impl Into<String>) -> Self {
        self.effect(Effect::KvDelete(KvDelete {
            key: key.into(),
            expect: Expectation::Any,
        }))
    }

    /// And send a message, after everything else is committed: a customer-service message, a template
    /// message or a subscription notice. See [`message`](crate::message).
    #[must_use]
    pub fn send(self, message: impl Into<Effect>) -> Self {
        self.effect(message.into())
    }

    /// And give a person tags, by their ids: 20 at most.
    #[must_use]
    pub fn tag(self, open_id: impl Into<String>, ids: impl IntoIterator<Item = u32>) -> Self {
        self.effect(Effect::ChangeTags(TagChange {
            open_id: open_id.into(),
            add: ids.into_iter().collect(),
            remove: Vec::new(),
        }))
    }

    /// And take tags from a person, by their ids: 20 at most.
    #[must_use]
    pub fn untag(self, open_id: impl Into<String>, ids: impl IntoIterator<Item = u32>) -> Self {
        self.effect(Effect::ChangeTags(TagChange {
            open_id: open_id.into(),
            add: Vec::new(),
            remove: ids.into_iter().collect(),
        }))
    }

    /// And set the account's remark of a person: less than 30 characters; empty removes it.
    #[must_use]
    pub fn remark(self, open_id: impl Into<String>, remark: impl Into<String>) -> Self {
        self.effect(Effect::SetRemark(RemarkChange {
            open_id: open_id.into(),
            remark: remark.into(),
        }))
    }

    /// And set attributes of a person: each member of the value's JSON object by itself; `null` removes
    /// it.
    ///
    /// # Errors
    ///
    /// When the value's JSON form is not an object.
    pub fn attributes(self, open_id: impl Into<String>, attributes: &impl Serialize) -> Result {
        let text = serde_json::to_string(attributes).map_err(|e| Error::bug(e.to_string()))?;
        if !text.starts_with('{') {
            return Err(Error::bug("attributes must be a JSON object"));
        }
        Ok(self.effect(Effect::SetAttributes(AttributeChange {
            open_id: open_id.into(),
            attributes: text,
        })))
    }

    /// And note whether a person wants no messages any more. The host sends none by effects then.
    #[must_use]
    pub fn opt_out(self, open_id: impl Into<String>, opted_out: bool) -> Self {
        self.effect(Effect::SetOptOut(OptOutChange {
            open_id: open_id.into(),
            opted_out,
        }))
    }

    /// And give all that is left of a paid order back; `out_refund_no` names the refund, which is made once.
    #[must_use]
    pub fn refund(
        self,
        out_trade_no: impl Into<String>,
        out_refund_no: impl Into<String>,
        reason: Option<String>,
    ) -> Self {
        self.effect(Effect::Refund(RefundRequest {
            out_refund_no: out_refund_no.into(),
            out_trade_no: out_trade_no.into(),
            amount: None,
            reason,
        }))
    }

    /// And give this much of a paid order back, in fen.
    #[must_use]
    pub fn refund_part(
        self,
        out_trade_no: impl Into<String>,
        out_refund_no: impl Into<String>,
        fen: u64,
    ) -> Self {
        self.effect(Effect::Refund(RefundRequest {
            out_refund_no: out_refund_no.into(),
            out_trade_no: out_trade_no.into(),
            amount: Some(fen),
            reason: None,
        }))
    }

    /// And close an order, if nobody has paid it yet.
    #[must_use]
    pub fn close_order(self, out_trade_no: impl Into<String>) -> Self {
        self.effect(Effect::CloseOrder(out_trade_no.into()))
    }

    /// And make any change. An outcome holds 64 at most, 256 KiB in all.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// And store a value under a condition.
    fn put_expecting(
        self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        expect: Expectation,
    ) -> Self {
        self.effect(Effect::KvPut(KvPut {
            key: key.into(),
            value: value.into(),
            expect,
        }))
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self::none()
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::reply(reply)
    }
}

impl From<Reply> for Result {
    fn from(reply: Reply) -> Self {
        Ok(reply.into())
    }
}
