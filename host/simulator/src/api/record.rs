//! What was received, the latest first to be kept.

use std::collections::VecDeque;

use serde::Serialize;

/// Requests that are kept at most.
const MAX_KEPT: usize = 50_000;
/// Bytes of bodies that are kept at most.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// One request, as it is shown.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    /// From 1, without a gap.
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    pub(crate) app_id: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Without access token and secret.
    pub(crate) query: String,
    /// `stable#3`, `unknown`, or none.
    pub(crate) token: Option<String>,
    pub(crate) client_ip: String,
    /// None where it is not text.
    pub(crate) body: Option<String>,
    pub(crate) body_bytes: usize,
    /// Whether users see a `\uXXXX` escape as it was typed.
    pub(crate) shown_escaped: bool,
    pub(crate) fault: Option<&'static str>,
    /// Whether the call was carried out.
    pub(crate) performed: bool,
    /// What was answered; None where it was no JSON, or nothing.
    pub(crate) errcode: Option<i64>,
    pub(crate) rid: Option<String>,
}

impl Record {
    fn size(&self) -> usize {
        self.body.as_ref().map_or(0, String::len)
    }
}

/// The records that are kept.
#[derive(Debug, Default)]
pub(crate) struct Records {
    kept: VecDeque<Record>,
    bytes: usize,
    received: u64,
}

/// Which records are shown.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) app_id: Option<&'a str>,
    /// What the path begins with.
    pub(crate) path: Option<&'a str>,
    /// Only records with a greater id.
    pub(crate) after: u64,
    pub(crate) limit: usize,
}

impl Records {
    /// Keeps a record and numbers it; the oldest go where there is no room.
    pub(crate) fn keep(&mut self, mut record: Record) {
        self.received += 1;
        record.id = self.received;
        self.bytes += record.size();
        self.kept.push_back(record);
        while (self.kept.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.size();
        }
    }

    /// Forgets what was received; the numbering goes on.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// How many were received in all.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The oldest records of a selection, up to its limit.
    pub(crate) fn select<'a>(
        &'a self,
        selection: &'a Selection<'a>,
    ) -> impl Iterator<Item = &'a Record> {
        let wanted = |record: &&Record| {
            let app_id = selection.app_id;
            let path = selection.path.unwrap_or("");
            (app_id.is_none() || app_id == record.app_id.as_deref())
                && record.path.starts_with(path)
                && record.id > selection.after
        };
        self.kept.iter().filter(wanted).take(selection.limit)
    }
}
