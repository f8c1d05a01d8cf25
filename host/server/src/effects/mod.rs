//! A plugin's effects, sorted by who makes them happen: writes to the tenant's values, and what concerns
//! a person. Both are committed in one transaction with the event; see [`crate::db::commit`].
//!
//! What is checked here is what the contract says of an effect by itself (`wit/effects.wit`). WeChat's own
//! limits of a message are checked where its JSON is built.

mod compose;

use serde_json::{Map, Value};
use wxhost_runtime::effects as wit;

pub use self::compose::Cause;
use crate::db::commit::{Expectation, Write};
pub use crate::db::personal::MAX_ATTRIBUTE_BYTES;
use crate::db::personal::Step;

pub use wxhost_runtime::effects::{AttributeChange, Effect, OptOutChange, RemarkChange, TagChange};
pub use wxhost_runtime::messages::{CustomerMessage, SubscriptionMessage, TemplateMessage};

/// The longest open id, in bytes.
const MAX_OPEN_ID_BYTES: usize = 128;
/// Tags of one effect that are added, and that are removed.
const MAX_TAGS: usize = 20;
/// Characters of a remark (WeChat: less than 30).
const MAX_REMARK_CHARS: usize = 29;

/// An outcome's effects.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Writes to the tenant's values.
    pub writes: Vec<Write>,
    /// What happens to people, in the plugin's order.
    pub steps: Vec<Step>,
}

impl Sorted {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.steps.is_empty()
    }

    /// Whether something is to be sent.
    pub fn sends(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Send(_)))
    }
}

/// An effect that concerns a person: a message, or a change of the contact.
#[derive(Debug, Clone)]
pub enum Personal {
    /// Send a customer-service message.
    Message(CustomerMessage),
    /// Send a template message.
    Template(TemplateMessage),
    /// Send a subscription notice.
    Subscription(SubscriptionMessage),
    /// Change the contact's tags, at WeChat's and here.
    Tags(TagChange),
    /// Change the contact's remark, at WeChat's and here.
    Remark(RemarkChange),
    /// Change the contact's attributes: a JSON object, whose members are set one by one.
    Attributes(AttributeChange),
    /// Note an opt-out or its end.
    OptOut(OptOutChange),
}

impl Personal {
    /// Whom it concerns.
    pub fn open_id(&self) -> &str {
        match self {
            Self::Message(message) => &message.open_id,
            Self::Template(message) => &message.open_id,
            Self::Subscription(message) => &message.open_id,
            Self::Tags(change) => &change.open_id,
            Self::Remark(change) => &change.open_id,
            Self::Attributes(change) => &change.open_id,
            Self::OptOut(change) => &change.open_id,
        }
    }

    /// Its name in the contract.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "send-message",
            Self::Template(_) => "send-template",
            Self::Subscription(_) => "send-subscription",
            Self::Tags(_) => "change-tags",
            Self::Remark(_) => "set-remark",
            Self::Attributes(_) => "set-attributes",
            Self::OptOut(_) => "set-opt-out",
        }
    }

    fn check(&self) -> Result<(), String> {
        let open_id = self.open_id();
        let plain = open_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || !(1..=MAX_OPEN_ID_BYTES).contains(&open_id.len()) {
            return Err(format!(
                "open-id must be 1 to {MAX_OPEN_ID_BYTES} printable ASCII characters without spaces"
            ));
        }
        match self {
            Self::Tags(change) if change.add.len().max(change.remove.len()) > MAX_TAGS => {
                Err(format!("at most {MAX_TAGS} tags can be added and removed"))
            }
            Self::Remark(change) if change.remark.chars().count() > MAX_REMARK_CHARS => Err(
                format!("a remark has at most {MAX_REMARK_CHARS} characters"),
            ),
            Self::Attributes(change) => check_attributes(&change.attributes),
            _ => Ok(()),
        }
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

/// Sorts the effects of the outcome of an event. The runtime has checked their number, their sizes and the keys.
///
/// # Errors
/// The first effect that breaks the contract.
pub fn sort(effects: Vec<Effect>, cause: Cause<'_>) -> Result<Sorted, InvalidEffect> {
    let mut sorted = Sorted::default();
    for (index, effect) in effects.into_iter().enumerate() {
        let personal = match effect {
            Effect::KvPut(put) => {
                sorted.writes.push(Write {
                    key: put.key,
                    value: Some(put.value),
                    expect: expectation_of(put.expect),
                });
                continue;
            }
            Effect::KvDelete(delete) => {
                sorted.writes.push(Write {
                    key: delete.key,
                    value: None,
                    expect: expectation_of(delete.expect),
                });
                continue;
            }
            Effect::SendMessage(message) => Personal::Message(message),
            Effect::SendTemplate(message) => Personal::Template(message),
            Effect::SendSubscription(message) => Personal::Subscription(message),
            Effect::ChangeTags(change) => Personal::Tags(change),
            Effect::SetRemark(change) => Personal::Remark(change),
            Effect::SetAttributes(change) => Personal::Attributes(change),
            Effect::SetOptOut(change) => Personal::OptOut(change),
        };
        let (position, kind) = (index + 1, personal.kind());
        let steps = personal
            .check()
            .and_then(|()| compose::steps(personal, cause, position));
        let steps = steps.map_err(|reason| InvalidEffect {
            position,
            kind,
            reason,
        })?;
        sorted.steps.extend(steps);
    }
    Ok(sorted)
}

fn check_attributes(text: &str) -> Result<(), String> {
    if text.len() > MAX_ATTRIBUTE_BYTES {
        return Err(format!(
            "attributes have at most {MAX_ATTRIBUTE_BYTES} bytes"
        ));
    }
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("attributes are not a JSON object: {error}")),
    }
}

fn expectation_of(expect: wit::Expectation) -> Expectation {
    match expect {
        wit::Expectation::Any => Expectation::Any,
        wit::Expectation::Absent => Expectation::Absent,
        // A version that can't be ours fits nothing.
        wit::Expectation::Unchanged(version) => {
            Expectation::Unchanged(i64::try_from(version).unwrap_or(-1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wxhost_runtime::messages::Body;

    const CAUSE: Cause<'_> = Cause {
        app_id: "wx01",
        event_id: "m:1",
    };

    fn message(open_id: &str) -> Effect {
        Effect::SendMessage(CustomerMessage {
            open_id: open_id.into(),
            body: Body::Text("hello".into()),
            kf_account: None,
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
