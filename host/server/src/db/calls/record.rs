//! One record: what is told of a call, and how it is kept.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use wxhost_runtime::Digest;
use wxhost_wechat::id::AppId;

/// Room for a record without error and log.
const USUAL_BYTES: usize = 320;

/// What is told of one call of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// The event.
    #[serde(borrow)]
    pub event_id: Cow<'a, str>,
    /// What kind of event, as in WIT.
    #[serde(borrow)]
    pub event_kind: Cow<'a, str>,
    /// How it ended: a stable word.
    #[serde(borrow)]
    pub outcome: Cow<'a, str>,
    /// What went wrong, for the tenant.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// The plugin's log, and the backtrace of a trap.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Cow<'a, str>>,
    /// From the first delivery to the outcome, microseconds.
    pub duration_us: i64,
    /// Runs of the handler: more than one after conflicts.
    pub runs: i64,
    /// Trace of the first delivery.
    #[serde(borrow)]
    pub trace_id: Cow<'a, str>,
    /// When the first delivery came, Unix milliseconds.
    pub created_at: i64,
}

impl Entry<'_> {
    /// The same, on its own.
    pub fn into_owned(self) -> Entry<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Entry {
            event_id: own(self.event_id),
            event_kind: own(self.event_kind),
            outcome: own(self.outcome),
            error: self.error.map(own),
            log: self.log.map(own),
            trace_id: own(self.trace_id),
            ..self
        }
    }
}

/// What was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callee {
    /// The account.
    pub app_id: AppId,
    /// Version of the deployment; 0 if there was none.
    pub version: i64,
    /// The plugin, if there was one.
    pub digest: Option<Digest>,
}

impl Callee {
    /// In the order of the blocks' index.
    pub(super) fn order(&self) -> (&AppId, i64) {
        (&self.app_id, self.version)
    }
}

/// An entry as it waits to be written: its text is made where it is told, so that nothing else of the
/// event must be kept for it.
#[derive(Debug)]
pub struct Record {
    pub(super) callee: Callee,
    pub(super) outcome: Cow<'static, str>,
    pub(super) created_at: i64,
    /// Another one for each record of this process.
    pub(super) serial: u64,
    pub(super) text: String,
    /// Bytes of the log in it.
    pub(super) log_bytes: usize,
}

impl Record {
    /// A record of what came of a call.
    ///
    /// # Panics
    /// Never: every entry has a JSON form.
    pub fn new(callee: Callee, outcome: Cow<'static, str>, entry: &Entry<'_>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let told = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        let mut text = Vec::with_capacity(USUAL_BYTES + told(&entry.error) + told(&entry.log));
        serde_json::to_writer(&mut text, entry).expect("a vector takes texts and numbers");
        Self {
            callee,
            outcome,
            created_at: entry.created_at,
            log_bytes: told(&entry.log),
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
            text: String::from_utf8(text).expect("JSON is UTF-8"),
        }
    }

    /// Bytes that the record takes while it waits.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.capacity()
    }

    /// Drops the plugin's log. Tells whether there was one.
    pub fn drop_log(&mut self) -> bool {
        // Written above, so it parses.
        let Ok(mut entry) = serde_json::from_str::<Entry<'_>>(&self.text) else {
            return false;
        };
        if entry.log.take().is_none() {
            return false;
        }
        let Ok(text) = serde_json::to_string(&entry) else {
            return false;
        };
        self.text = text;
        self.log_bytes = 0;
        true
    }
}
