//! The templates that an account has, and the template messages that it sent of late.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::Environment;
use crate::api::refusal::Refusal;
use crate::api::shown::ShownMessage;

/// Templates of an account.
const MAX_TEMPLATES: usize = 25;
/// How long a client_msg_id is remembered.
const REPEAT_MS: u64 = 600_000;
/// How long a review takes.
const REVIEW_MS: u64 = 30 * 60_000;
/// Messages that are held or blocked, per app.
const MAX_HELD: usize = 10_000;
/// How many are remembered per app.
const MAX_REMEMBERED: usize = 100_000;

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TemplateKind {
    /// Template messages (模板消息).
    #[default]
    Template,
    /// Subscription notices, one per acceptance (一次性订阅).
    OneTime,
    /// Subscription notices, any number after one acceptance (长期订阅).
    LongTerm,
}

/// What the platform's review does with a template's messages, half an hour after they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Review {
    /// It delivers them.
    Pass,
    /// It blocks them.
    Block,
}

/// A template.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    pub(crate) template_id: String,
    #[serde(default)]
    pub(crate) kind: TemplateKind,
    #[serde(default)]
    pub(crate) title: String,
    /// With keywords such as `{{thing1.DATA}}`.
    pub(crate) content: String,
    /// Whether its messages are held for review (40252), and how that ends.
    #[serde(default)]
    pub(crate) review: Option<Review>,
}

/// A message that is held for review.
#[derive(Debug)]
pub(crate) struct HeldMessage {
    pub(crate) template_id: String,
    pub(crate) review: Review,
    pub(crate) message: ShownMessage,
}

/// A message that the review has blocked.
#[derive(Debug, Clone)]
pub(crate) struct BlockedMessage {
    /// Counted from 1.
    pub(crate) id: u64,
    pub(crate) template_id: String,
    pub(crate) message: ShownMessage,
}

/// A message that may be repeated by its client_msg_id.
#[derive(Debug)]
struct Sent {
    at_ms: u64,
    open_id: String,
    client_msg_id: String,
    msg_id: u64,
}

/// All templates of one app, by id.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    by_id: BTreeMap<String, Template>,
    sent: VecDeque<Sent>,
    held: VecDeque<HeldMessage>,
    blocked: Vec<BlockedMessage>,
}

impl Templates {
    /// Adds a template: 45026 where there are 25 of its kind already.
    pub(crate) fn add(&mut self, template: Template) -> Result<(), Refusal> {
        let notices = |kind| kind != TemplateKind::Template;
        let alike = |given: &&Template| notices(given.kind) == notices(template.kind);
        let count = self.by_id.values().filter(alike).count();
        if count >= MAX_TEMPLATES && !self.by_id.contains_key(&template.template_id) {
            return Err(Refusal::because(45026, "template num exceeds limit"));
        }
        self.by_id.insert(template.template_id.clone(), template);
        Ok(())
    }

    /// A template id that nobody has yet.
    pub(crate) fn fresh_id(chance: &dyn Environment) -> String {
        chance.letters(43)
    }

    /// A template of one of these kinds: 40037 otherwise.
    pub(crate) fn find(&self, id: &str, kinds: &[TemplateKind]) -> Result<&Template, Refusal> {
        let template = self.by_id.get(id).ok_or_else(|| Refusal::of(40037))?;
        if kinds.contains(&template.kind) {
            Ok(template)
        } else {
            Err(Refusal::of(40037))
        }
    }

    /// Removes a template of one of these kinds: 40037 where there is none.
    pub(crate) fn remove(&mut self, id: &str, kinds: &[TemplateKind]) -> Result<(), Refusal> {
        self.find(id, kinds)?;
        self.by_id.remove(id);
        Ok(())
    }

    /// The templates of one sort.
    pub(crate) fn of(&self, kinds: &'static [TemplateKind]) -> impl Iterator<Item = &Template> {
        let templates = self.by_id.values();
        templates.filter(|template| kinds.contains(&template.kind))
    }

    /// The msgid of the same message, where it was sent less than 10 minutes ago.
    pub(crate) fn repeated(&self, open_id: &str, client_msg_id: &str, now_ms: u64) -> Option<u64> {
        let mut latest = self.sent.iter().rev();
        let latest = latest.by_ref();
        latest
            .take_while(|sent| now_ms < sent.at_ms + REPEAT_MS)
            .find(|sent| sent.open_id == open_id && sent.client_msg_id == client_msg_id)
            .map(|sent| sent.msg_id)
    }

    /// Holds a message for review.
    pub(crate) fn hold(&mut self, held: HeldMessage) -> Result<(), Refusal> {
        if self.held.len() + self.blocked.len() >= MAX_HELD {
            return Err(Refusal::of(-1));
        }
        self.held.push_back(held);
        Ok(())
    }

    /// Ends the reviews that are over; the messages that are to be shown.
    pub(crate) fn end_reviews(&mut self, now_ms: u64) -> Vec<ShownMessage> {
        let mut passed = Vec::new();
        while let Some(held) = self
            .held
            .pop_front_if(|held| now_ms >= held.message.at_ms + REVIEW_MS)
        {
            match held.review {
                Review::Pass => passed.push(held.message),
                Review::Block => self.blocked.push(BlockedMessage {
                    id: self.blocked.len() as u64 + 1,
                    template_id: held.template_id,
                    message: held.message,
                }),
            }
        }
        passed
    }

    /// Blocked messages of a template, after the one of this id.
    pub(crate) fn blocked(&self, id: &str, after: u64) -> impl Iterator<Item = &BlockedMessage> {
        let of_template =
            move |blocked: &&BlockedMessage| blocked.template_id == id && blocked.id > after;
        self.blocked.iter().filter(of_template)
    }

    /// Remembers a message by its client_msg_id.
    pub(crate) fn remember(
        &mut self,
        open_id: &str,
        client_msg_id: &str,
        msg_id: u64,
        now_ms: u64,
    ) {
        let is_over = |sent: &Sent| now_ms >= sent.at_ms + REPEAT_MS;
        while self.sent.len() >= MAX_REMEMBERED || self.sent.front().is_some_and(is_over) {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            at_ms: now_ms,
            open_id: open_id.to_owned(),
            client_msg_id: client_msg_id.to_owned(),
            msg_id,
        });
    }
}
