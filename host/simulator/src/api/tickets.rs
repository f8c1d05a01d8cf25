//! JS-SDK and card tickets: one of each kind at a time, the same until it ends.

use serde_json::{Value, json};

use crate::Environment;

/// Values that are remembered for [`Tickets::values`].
const MAX_REMEMBERED: usize = 64;

/// What a ticket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketKind {
    /// `jsapi`
    JsApi,
    /// `wx_card`
    Card,
}

impl TicketKind {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "jsapi" => Some(Self::JsApi),
            "wx_card" => Some(Self::Card),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Present {
    value: String,
    expires_at_ms: u64,
    fetches: u64,
    issued: u64,
}

/// One app's tickets.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    present: [Present; 2],
    values: Vec<String>,
}

impl Tickets {
    /// The present ticket, or a new one where it has ended; with the whole seconds that it lives.
    pub(crate) fn fetch(
        &mut self,
        kind: TicketKind,
        now_ms: u64,
        lifetime_ms: u64,
        chance: &dyn Environment,
    ) -> (&str, u64) {
        let present = &mut self.present[kind as usize];
        present.fetches += 1;
        if now_ms >= present.expires_at_ms {
            present.value = chance.letters(86);
            present.expires_at_ms = now_ms + lifetime_ms;
            present.issued += 1;
            if self.values.len() == MAX_REMEMBERED {
                self.values.remove(0);
            }
            self.values.push(present.value.clone());
        }
        let seconds = (present.expires_at_ms - now_ms) / 1000;
        (&present.value, seconds)
    }

    /// The latest values, ended ones included.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// The counts, for the control surface.
    pub(crate) fn counts(&self) -> Value {
        let [js_api, card] = &self.present;
        json!({
            "jsapi_fetches": js_api.fetches,
            "jsapi_issued": js_api.issued,
            "wx_card_fetches": card.fetches,
            "wx_card_issued": card.issued,
        })
    }
}
