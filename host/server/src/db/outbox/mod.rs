//! The outbox: what was decided to be sent, who sends it now, what came of it.
//!
//! A row is `waiting` until a host leases it (`due_at` is then when the lease runs out), `sending` from
//! just before the request leaves, and ended afterwards (`settled_at`). Two hosts never hold one row: a
//! lease is taken by moving `due_at`, whoever moves it first has it, and its `fence` is the number under
//! which the row may be changed. `lines` finds what may be leased, `tries` follows a leased row.

mod held;
mod history;
mod kind;
mod lines;
mod pauses;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod tests;
mod tries;

use std::collections::BTreeSet;

use sqlx::{AnyConnection, AssertSqlSafe};

pub use self::held::{Held, Receipt, ask_again, decide, held_of, holds_any, lease_held};
pub use self::history::{OutboxFilter, OutboxRow, forget, list};
pub use self::kind::{Facts, Idempotence, Kind, Order, Transport};
pub use self::lines::{SendLane, SendLanePage, adopt, lease, lease_expired, send_lanes};
pub use self::pauses::{NewPause, Pause, lift, pause, pauses};
pub use self::tries::{Begun, Postponement, begin, postpone, settle};
use super::values::placeholders;
use super::{DbError, Dialect};

/// How long a row may wait that says nothing else: 72 hours.
pub const MAX_AGE_MS: i64 = 72 * 3600 * 1000;
/// When WeChat is asked first what became of a message that it holds: it decides within half an hour.
const FIRST_VERDICT_MS: i64 = 30 * 60 * 1000;
/// Rows of one insertion.
const INSERT_ROWS: usize = 100;
const INSERT_COLUMNS: usize = 15;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is.
    pub kind: Kind,
    /// Whom it concerns.
    pub open_id: String,
    /// The API that takes it, such as `/cgi-bin/message/custom/send`.
    pub path: String,
    /// What is posted there: JSON.
    pub payload: String,
    /// When it is worth nothing any more; Unix milliseconds. [`MAX_AGE_MS`] after it was put in at the
    /// latest.
    pub expires_at: Option<i64>,
}

/// A row to be put into the outbox.
#[derive(Debug)]
pub(super) struct NewRow<'a> {
    /// Where it stands among those of its event.
    pub ordinal: i64,
    /// What is sent.
    pub outgoing: &'a Outgoing,
    /// Why it is not sent after all.
    pub skipped: Option<&'static str>,
}

/// The event that rows come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub app_id: &'a str,
    pub event_id: &'a str,
    pub trace_id: &'a str,
    /// Fresh for each commit.
    pub version: i64,
    pub now_ms: i64,
}

/// Names a row.
#[derive(Debug, Clone, Copy)]
pub struct RowId<'a> {
    /// The account.
    pub app_id: &'a str,
    /// Which of its rows.
    pub id: &'a str,
}

/// A row that this host is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Names it.
    pub id: String,
    /// The account.
    pub app_id: String,
    /// The event that it comes from.
    pub event_id: String,
    /// The trace of that event.
    pub trace_id: String,
    /// What is sent.
    pub outgoing: Outgoing,
    /// The number of this lease.
    pub fence: i64,
    /// Tries so far.
    pub attempts: i64,
    /// Tries of which nobody knows what came: no answer, or a host that went away.
    pub unsure: i64,
    /// When the first of them began.
    pub unsure_at: Option<i64>,
    /// Whether the contact's ledger has counted it.
    pub is_reserved: bool,
    /// WeChat has said lately, with this code, that the account has no right to the API.
    pub no_right: Option<i64>,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// How a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Final {
    /// WeChat took it.
    Sent,
    /// WeChat refused it.
    Failed,
    /// It was tried too often or for too long.
    Dead,
    /// It was not tried, because it would have been in vain or was not wanted.
    Skipped,
    /// It may have been sent; nobody knows, and another try might show it twice.
    Unknown,
    /// WeChat holds it for review and will deliver or block it by itself.
    Held,
}

impl Final {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
            Self::Held => "held",
        }
    }
}

/// What a try came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Why, as a stable word; absent for what was sent.
    pub reason: Option<&'static str>,
    /// WeChat's code.
    pub errcode: Option<i64>,
    /// WeChat's text, or ours.
    pub errmsg: Option<String>,
    /// WeChat's id of the message.
    pub msgid: Option<String>,
}

/// Puts rows into the outbox. What is there already stays as it is.
pub(super) async fn insert(
    dialect: Dialect,
    db: &mut AnyConnection,
    origin: Origin<'_>,
    rows: &[NewRow<'_>],
) -> Result<(), DbError> {
    for rows in rows.chunks(INSERT_ROWS) {
        let values = placeholders(dialect, rows.len(), INSERT_COLUMNS, ", 0, 0, 0");
        let statement = format!(
            "INSERT INTO outbox (id, app_id, event_id, ordinal, kind, open_id, path, payload, \
             state, reason, due_at, trace_id, created_at, settled_at, expires_at, attempts, \
             reserved, fence) \
             VALUES {values} ON CONFLICT (app_id, event_id, ordinal) DO NOTHING"
        );
        let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(rows.len() == 1);
        for row in rows {
            let state = match row.skipped {
                None => "waiting",
                Some(_) => Final::Skipped.as_str(),
            };
            query = query
                .bind(id_of(origin, row.ordinal))
                .bind(origin.app_id)
                .bind(origin.event_id)
                .bind(row.ordinal)
                .bind(row.outgoing.kind.as_str())
                .bind(&row.outgoing.open_id)
                .bind(&row.outgoing.path)
                .bind(&row.outgoing.payload)
                .bind(state)
                .bind(row.skipped)
                .bind(origin.now_ms)
                .bind(origin.trace_id)
                .bind(origin.now_ms)
                .bind(row.skipped.map(|_| origin.now_ms))
                .bind(expiry_of(row.outgoing, origin.now_ms));
        }
        query.execute(&mut *db).await?;
    }
    let open = rows.iter().filter(|row| row.skipped.is_none());
    let lines = open.map(|row| (origin.app_id, &*row.outgoing.open_id, &*row.outgoing.path));
    lines::ensure(db, lines.collect::<BTreeSet<_>>(), origin.now_ms).await
}

/// When a row ends that was not sent until then.
fn expiry_of(outgoing: &Outgoing, now_ms: i64) -> i64 {
    let latest = now_ms.saturating_add(MAX_AGE_MS);
    outgoing.expires_at.map_or(latest, |at| at.min(latest))
}

/// 32 hex digits that sort by time, and within an event by ordinal.
fn id_of(origin: Origin<'_>, ordinal: i64) -> String {
    format!(
        "{:012x}{:016x}{ordinal:04x}",
        origin.now_ms.max(0),
        origin.version
    )
}
