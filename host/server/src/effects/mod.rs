//! A plugin's effects, parsed and checked once, a file for each family, and sorted by who makes them
//! happen: writes to the tenant's values, and what concerns a contact. Both are committed in one
//! transaction with the event; see [`crate::db::commit`].
//!
//! What the contract says of an effect (`wit/effects.wit`) and WeChat's own limits are checked in one go,
//! where what WeChat takes is built.

mod contact;
mod messages;
mod money;
mod values;

use wxhost_runtime::effects::Effect;
use wxhost_runtime::push;
use wxhost_wechat::api::{Call, InvalidCall};
use wxhost_wechat::id::OpenId;

pub use self::money::MoneyStep;
use crate::db::commit::Write;
use crate::db::outbox::{Kind, Outgoing};
use crate::db::personal::Step;
use crate::digest::sha256_hex;

/// The longest open id, in bytes.
const MAX_OPEN_ID_BYTES: usize = 128;
/// Hex digits of a message's id: WeChat takes at least 32 everywhere.
const MESSAGE_ID_DIGITS: usize = 32;

/// What `call` sends, for the outbox.
///
/// # Errors
/// A limit of WeChat's that it breaks.
pub fn outgoing(kind: Kind, open_id: &OpenId, call: &impl Call) -> Result<Outgoing, InvalidCall> {
    let request = call.request()?;
    Ok(Outgoing {
        kind,
        open_id: open_id.as_str().to_owned(),
        payload: request.json().unwrap_or_default().to_owned(),
        path: request.path.into_owned(),
        expires_at: None,
    })
}

/// The event that effects belong to.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The event.
    pub event_id: &'a str,
}

impl Cause<'_> {
    /// Names what the effect at `position` sends: the same whatever is repeated, and nothing else's.
    fn message_id(self, position: usize) -> String {
        let name = format!("{}\n{}\n{position}", self.app_id, self.event_id);
        let mut digits = sha256_hex(name);
        digits.truncate(MESSAGE_ID_DIGITS);
        digits
    }
}

/// An outcome's effects.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Writes to the tenant's values.
    pub writes: Vec<Write>,
    /// What happens to people, in the plugin's order.
    pub steps: Vec<Step>,
    /// What happens to money, in the plugin's order.
    pub money: Vec<MoneyStep>,
}

impl Sorted {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.steps.is_empty() && self.money.is_empty()
    }

    /// Whether something is to be sent.
    pub fn sends(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Send(_)))
    }
}

/// An effect that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("effect {position} ({kind}): {reason}")]
pub struct InvalidEffect {
    /// Counted from 1.
    pub position: usize,
    /// Its name in the contract.
    pub kind: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// A contact stops or resumes messages by a word that the host answers itself.
pub fn opt_out(open_id: &OpenId, is_stopped: bool) -> Sorted {
    Sorted {
        steps: vec![contact::opted_out(open_id, is_stopped)],
        ..Sorted::default()
    }
}

/// What a plugin composed for a recipient of a push; whoever sends it names it.
///
/// # Errors
/// What is wrong with it, or which limit of WeChat's it breaks.
pub fn message(message: push::Message) -> Result<Outgoing, String> {
    match message {
        push::Message::Customer(message) => messages::customer(message),
        push::Message::Template(message) => messages::template(message, None),
        push::Message::Subscription(message) => messages::subscription(message),
    }
}

/// Sorts the effects of the outcome of an event. The runtime has checked their number, their sizes and the keys.
///
/// # Errors
/// The first effect that breaks the contract.
pub fn sort(effects: Vec<Effect>, cause: Cause<'_>) -> Result<Sorted, InvalidEffect> {
    let mut sorted = Sorted::default();
    for (index, effect) in effects.into_iter().enumerate() {
        let (position, kind) = (index + 1, kind_of(&effect));
        sorted
            .add(effect, cause, position)
            .map_err(|reason| InvalidEffect {
                position,
                kind,
                reason,
            })?;
    }
    Ok(sorted)
}

impl Sorted {
    fn add(&mut self, effect: Effect, cause: Cause<'_>, position: usize) -> Result<(), String> {
        match effect {
            Effect::KvPut(put) => {
                let write = values::write(put.key, Some(put.value), put.expect);
                self.writes.push(write);
            }
            Effect::KvDelete(delete) => {
                let write = values::write(delete.key, None, delete.expect);
                self.writes.push(write);
            }
            Effect::SendMessage(message) => self.send(messages::customer(message)?),
            Effect::SendTemplate(message) => {
                let id = cause.message_id(position);
                self.send(messages::template(message, Some(id))?);
            }
            Effect::SendSubscription(message) => self.send(messages::subscription(message)?),
            Effect::ChangeTags(change) => self.steps.extend(contact::tags(change)?),
            Effect::SetRemark(change) => self.steps.extend(contact::remark(change)?),
            Effect::SetAttributes(change) => self.steps.push(contact::attributes(&change)?),
            Effect::SetOptOut(change) => self.steps.push(contact::opt_out(&change)?),
            Effect::Refund(request) => self.money.push(money::refund(request)?),
            Effect::CloseOrder(out_trade_no) => self.money.push(money::close(out_trade_no)?),
        }
        Ok(())
    }

    fn send(&mut self, sent: Outgoing) {
        self.steps.push(Step::Send(sent));
    }
}

/// Its name in the contract.
fn kind_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::KvPut(_) => "kv-put",
        Effect::KvDelete(_) => "kv-delete",
        Effect::SendMessage(_) => "send-message",
        Effect::SendTemplate(_) => "send-template",
        Effect::SendSubscription(_) => "send-subscription",
        Effect::ChangeTags(_) => "change-tags",
        Effect::SetRemark(_) => "set-remark",
        Effect::SetAttributes(_) => "set-attributes",
        Effect::SetOptOut(_) => "set-opt-out",
        Effect::Refund(_) => "refund",
        Effect::CloseOrder(_) => "close-order",
    }
}

/// Whom an effect concerns.
fn open_id(text: &str) -> Result<OpenId, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || !(1..=MAX_OPEN_ID_BYTES).contains(&text.len()) {
        return Err(format!(
            "open-id must be 1 to {MAX_OPEN_ID_BYTES} printable ASCII characters without spaces"
        ));
    }
    OpenId::parse(text).map_err(said)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use wxhost_runtime::effects::{self as wit, AttributeChange, RemarkChange, TagChange};
    use wxhost_runtime::messages::{Body, CustomerMessage};

    use super::*;
    use crate::db::commit::Expectation;

    const CAUSE: Cause<'_> = Cause {
        app_id: "wx01",
        event_id: "m:1",
    };

    fn message(open_id: &str) -> Effect {
        Effect::SendMessage(CustomerMessage {
            open_id: open_id.into(),
            body: Body::Text("hello".into()),
            kf_account: None,
            expires_at: None,
        })
    }

    fn tags(add: usize, remove: usize) -> Effect {
        Effect::ChangeTags(TagChange {
            open_id: "o1".into(),
            add: vec![1; add],
            remove: vec![2; remove],
        })
    }

    fn remark(text: &str) -> Effect {
        Effect::SetRemark(RemarkChange {
            open_id: "o1".into(),
            remark: text.into(),
        })
    }

    fn attributes(text: &str) -> Effect {
        Effect::SetAttributes(AttributeChange {
            open_id: "o1".into(),
            attributes: text.into(),
        })
    }

    #[test]
    fn effects_go_to_who_makes_them_happen() {
        let put = Effect::KvPut(wit::KvPut {
            key: "k".into(),
            value: b"v".to_vec(),
            expect: wit::Expectation::Unchanged(u64::MAX),
        });
        let sorted = sort(vec![message("o1"), put, remark("VIP")], CAUSE).unwrap();
        assert_eq!(sorted.writes.len(), 1);
        assert_eq!(sorted.writes[0].expect, Expectation::Unchanged(-1));
        let kinds: Vec<_> = sorted
            .steps
            .iter()
            .map(|step| match step {
                Step::Send(outgoing) => outgoing.kind.as_str(),
                Step::Change { .. } => "change",
            })
            .collect();
        assert_eq!(kinds, ["customer-message", "remark", "change"]);
    }

    #[test]
    fn a_message_has_an_id_that_repetitions_share_and_no_other_has() {
        assert_eq!(CAUSE.message_id(1).len(), 32);
        assert_eq!(CAUSE.message_id(1), CAUSE.message_id(1));
        assert_ne!(CAUSE.message_id(1), CAUSE.message_id(2));
        let other = Cause {
            event_id: "m:2",
            ..CAUSE
        };
        assert_ne!(CAUSE.message_id(1), other.message_id(1));
    }

    #[test]
    fn effects_at_their_limits_are_taken() {
        let effects = vec![
            message(&"o".repeat(128)),
            tags(20, 20),
            remark(&"贵".repeat(29)),
            remark(""),
            attributes("{}"),
            attributes(&format!(r#"{{"a":"{}"}}"#, "x".repeat(8184))),
        ];
        assert_eq!(
            sort(effects, CAUSE).unwrap().steps.len(),
            1 + 41 + 2 + 2 + 1 + 1
        );
    }

    #[test]
    fn effects_that_break_the_contract_are_named() {
        for (effect, expected) in [
            (message(""), "effect 2 (send-message): open-id must be"),
            (message("o 1"), "effect 2 (send-message): open-id must be"),
            (
                message(&"o".repeat(129)),
                "effect 2 (send-message): open-id",
            ),
            (tags(21, 0), "effect 2 (change-tags): at most 20"),
            (tags(0, 21), "effect 2 (change-tags): at most 20"),
            (remark(&"贵".repeat(30)), "effect 2 (set-remark): a remark"),
            (
                attributes("[]"),
                "effect 2 (set-attributes): attributes are not",
            ),
            (
                attributes("{"),
                "effect 2 (set-attributes): attributes are not",
            ),
            (
                attributes(&format!(r#"{{"a":"{}"}}"#, "x".repeat(8185))),
                "effect 2 (set-attributes): attributes have at most 8192",
            ),
        ] {
            let error = sort(vec![message("o1"), effect], CAUSE)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
