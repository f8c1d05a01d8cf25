//! What users have been shown: every message that was accepted, the latest of them kept.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::Value;

/// Messages that are kept per app.
const MAX_KEPT: usize = 5_000;

/// A message that users see.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ShownMessage {
    pub(crate) at_ms: u64,
    /// `customer-message`, `template`, `subscription` or `mass`.
    pub(crate) way: &'static str,
    pub(crate) open_id: String,
    /// As a number, or 0 where this way has none.
    pub(crate) msg_id: u64,
    /// Type and content as they were posted.
    pub(crate) message: Value,
    /// Whether a `\uXXXX` escape is to be seen in it.
    pub(crate) shown_escaped: bool,
}

/// The messages of one app.
#[derive(Debug, Default)]
pub(crate) struct ShownMessages {
    kept: VecDeque<ShownMessage>,
}

impl ShownMessages {
    /// Keeps a message; the oldest goes where there is no room.
    pub(crate) fn keep(&mut self, message: ShownMessage) {
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(message);
    }

    /// The messages to one user, or to all.
    pub(crate) fn to<'a>(
        &'a self,
        open_id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a ShownMessage> {
        let wanted =
            move |message: &&ShownMessage| open_id.is_none_or(|open_id| message.open_id == open_id);
        self.kept.iter().filter(wanted)
    }
}
