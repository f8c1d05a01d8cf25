//! The outbox: what was decided to be sent, who sends it now, what came of it.
//!
//! A row is `waiting` until a host leases it (`due_at` is then when the lease runs out), `sending` from
//! just before the request leaves, and final afterwards (`settled_at`). Two hosts never hold one row:
//! a lease is taken by moving `due_at`, and whoever moves it first has it. Of a person's rows only the
//! first that is not final can be leased, so that they arrive in order.

mod history;
#[cfg(test)]
mod tests;

use sqlx::{AnyConnection, AssertSqlSafe};

pub use self::history::{OutboxFilter, OutboxRow, forget, list};
use super::allowance::{self, Refusal, Scenes};
use super::values::placeholders;
use super::{Database, DbError, Dialect};

/// Rows of one insertion.
const INSERT_ROWS: usize = 100;
const INSERT_COLUMNS: usize = 15;

/// What kind of thing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An answer that came too late to be passive, as a customer-service message.
    LateAnswer,
    /// A customer-service message.
    CustomerMessage,
    /// A template message.
    Template,
    /// A subscription notice.
    Subscription,
    /// A tag that is given or taken.
    Tags,
    /// The account's remark of a person.
    Remark,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LateAnswer,
        Self::CustomerMessage,
        Self::Template,
        Self::Subscription,
        Self::Tags,
        Self::Remark,
    ];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LateAnswer => "late-answer",
            Self::CustomerMessage => "customer-message",
            Self::Template => "template",
            Self::Subscription => "subscription",
            Self::Tags => "tags",
            Self::Remark => "remark",
        }
    }

    /// Whether WeChat takes only so many of them after the person did something.
    pub fn is_counted(self) -> bool {
        matches!(self, Self::LateAnswer | Self::CustomerMessage)
    }

    /// Whether a person who opted out does not get it. A late answer was asked for.
    pub fn heeds_opt_out(self) -> bool {
        matches!(
            self,
            Self::CustomerMessage | Self::Template | Self::Subscription
        )
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

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
    /// Tries so far.
    pub attempts: i64,
    /// Whether a host went away in the middle of the last try, so that nobody knows what came of it.
    pub is_unsure: bool,
    /// Whether the contact's ledger has counted it.
    pub is_reserved: bool,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// Who leases, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// The host's loop.
    pub owner: &'a str,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// When the lease runs out.
    pub until_ms: i64,
}

/// Whether a leased row may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Yes: it is `sending`.
    Go,
    /// No: the person opted out since.
    OptedOut,
    /// No: WeChat would refuse it.
    Refused(Refusal),
    /// Another host has it.
    Lost,
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
}

impl Final {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
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
        let values = placeholders(dialect, rows.len(), INSERT_COLUMNS, "");
        let statement = format!(
            "INSERT INTO outbox (id, app_id, event_id, ordinal, kind, open_id, path, payload, \
             state, reason, due_at, trace_id, created_at, settled_at, attempts, reserved) \
             VALUES {} ON CONFLICT (app_id, event_id, ordinal) DO NOTHING",
            values.replace(')', ", 0)"),
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
                .bind(0_i64);
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// 32 hex digits that sort by time, and within an event by ordinal.
fn id_of(origin: Origin<'_>, ordinal: i64) -> String {
    format!(
        "{:012x}{:016x}{ordinal:04x}",
        origin.now_ms.max(0),
        origin.version
    )
}

/// Accounts after `after` that have rows to be looked at, in order, `limit` of them at most. Accounts
/// that are paused as a whole are left out.
///
/// # Errors
/// The database can't be reached.
pub async fn due_accounts(
    db: &Database,
    after: &str,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<String>, DbError> {
    // From account to account by the index, however many rows one of them has.
    Ok(sqlx::query_scalar(
        "WITH RECURSIVE due (app_id) AS ( \
           SELECT * FROM (SELECT app_id FROM outbox WHERE settled_at IS NULL AND app_id > $1 \
             AND due_at <= $2 ORDER BY app_id LIMIT 1) AS first \
           UNION ALL \
           SELECT (SELECT o.app_id FROM outbox o WHERE o.settled_at IS NULL \
             AND o.app_id > due.app_id AND o.due_at <= $2 ORDER BY o.app_id LIMIT 1) \
           FROM due WHERE due.app_id IS NOT NULL) \
         SELECT app_id FROM due WHERE app_id IS NOT NULL AND NOT EXISTS \
           (SELECT 1 FROM outbox_pauses p WHERE p.app_id = due.app_id AND p.path = '' \
            AND p.until_at > $2) LIMIT $3",
    )
    .bind(after)
    .bind(now_ms)
    .bind(limit)
    .fetch_all(&db.readers)
    .await?)
}

/// Leases rows of an account that are due, `limit` of them at most, the oldest first; of each person
/// one, and only the first that is not final.
///
/// # Errors
/// The database can't be reached.
pub async fn lease(
    db: &Database,
    app_id: &str,
    lease: Lease<'_>,
    limit: i64,
) -> Result<Vec<Leased>, DbError> {
    let rows: Vec<LeasedRow> = sqlx::query_as(
        "UPDATE outbox SET lease_owner = $1, due_at = $2 WHERE id IN ( \
           SELECT o.id FROM outbox o WHERE o.settled_at IS NULL AND o.app_id = $3 \
           AND o.due_at <= $4 \
           AND NOT EXISTS (SELECT 1 FROM outbox b WHERE b.settled_at IS NULL \
             AND b.app_id = o.app_id AND b.open_id = o.open_id AND b.id < o.id) \
           AND NOT EXISTS (SELECT 1 FROM outbox_pauses p WHERE p.app_id = o.app_id \
             AND p.path = o.path AND p.until_at > $4) \
           ORDER BY o.due_at, o.id LIMIT $5) \
         AND settled_at IS NULL AND due_at <= $4 \
         RETURNING id, app_id, event_id, trace_id, kind, open_id, path, payload, state, attempts, \
         reserved, created_at",
    )
    .bind(lease.owner)
    .bind(lease.until_ms)
    .bind(app_id)
    .bind(lease.now_ms)
    .bind(limit)
    .fetch_all(&db.writers)
    .await?;
    let mut leased: Vec<Leased> = rows.into_iter().filter_map(LeasedRow::leased).collect();
    leased.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(leased)
}

/// Marks a leased row as being sent, if it may be: the person has not opted out, and the ledger has
/// room, which is then taken.
///
/// # Errors
/// The database can't be reached: the row must not be sent.
pub async fn begin(
    db: &Database,
    row: &Leased,
    lease: Lease<'_>,
    scenes: &Scenes,
) -> Result<Begun, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let counted = row.outgoing.kind.is_counted();
    let taken = sqlx::query(
        "UPDATE outbox SET state = 'sending', attempts = attempts + 1, due_at = $1, \
         reserved = $2 WHERE id = $3 AND lease_owner = $4 AND settled_at IS NULL",
    )
    .bind(lease.until_ms)
    .bind(i64::from(counted))
    .bind(&row.id)
    .bind(lease.owner)
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() != 1 {
        return Ok(Begun::Lost);
    }
    let open_id = &row.outgoing.open_id;
    if row.outgoing.kind.heeds_opt_out()
        && opted_out_after(connection, &row.app_id, open_id, row.created_at).await?
    {
        return Ok(Begun::OptedOut);
    }
    if counted {
        let person = allowance::Person {
            app_id: &row.app_id,
            open_id,
        };
        let allowed = if row.is_reserved {
            allowance::check_open(connection, person, lease.now_ms).await?
        } else {
            allowance::reserve(connection, person, scenes, lease.now_ms).await?
        };
        if let Err(refusal) = allowed {
            return Ok(Begun::Refused(refusal));
        }
    }
    transaction.commit().await?;
    Ok(Begun::Go)
}

/// Whether the person opted out after the row was put in. What was put in together with the opt-out,
/// such as a goodbye, still goes.
async fn opted_out_after(
    db: &mut AnyConnection,
    app_id: &str,
    open_id: &str,
    created_at: i64,
) -> Result<bool, DbError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM contacts WHERE app_id = $1 AND open_id = $2 AND opted_out_at > $3",
    )
    .bind(app_id)
    .bind(open_id.as_bytes())
    .bind(created_at)
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// Ends a row. Returns whether it was still this host's.
///
/// # Errors
/// The database can't be reached: when the lease has run out, the row is taken up again.
pub async fn settle(
    db: &Database,
    row: &Leased,
    lease: Lease<'_>,
    end: Final,
    report: &Report,
) -> Result<bool, DbError> {
    let settled = sqlx::query(
        "UPDATE outbox SET state = $1, reason = $2, errcode = $3, errmsg = $4, msgid = $5, \
         settled_at = $6, lease_owner = NULL WHERE id = $7 AND lease_owner = $8 \
         AND settled_at IS NULL",
    )
    .bind(end.as_str())
    .bind(report.reason)
    .bind(report.errcode)
    .bind(&report.errmsg)
    .bind(&report.msgid)
    .bind(lease.now_ms)
    .bind(&row.id)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(settled.rows_affected() == 1)
}

/// Lets a row wait until `due_at`. A try that said nothing of this row (`counts` false) is not counted.
///
/// # Errors
/// The database can't be reached: the row waits until its lease has run out.
pub async fn postpone(
    db: &Database,
    row: &Leased,
    lease: Lease<'_>,
    due_at: i64,
    report: &Report,
    counts: bool,
) -> Result<bool, DbError> {
    let postponed = sqlx::query(
        "UPDATE outbox SET state = 'waiting', reason = $1, errcode = $2, errmsg = $3, due_at = $4, \
         attempts = attempts - $5, lease_owner = NULL WHERE id = $6 AND lease_owner = $7 \
         AND settled_at IS NULL",
    )
    .bind(report.reason)
    .bind(report.errcode)
    .bind(&report.errmsg)
    .bind(due_at)
    .bind(i64::from(!counts))
    .bind(&row.id)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(postponed.rows_affected() == 1)
}

/// Lets an account (empty path), or one API of it, rest until a time. A later end wins.
///
/// # Errors
/// The database can't be reached.
pub async fn pause(
    db: &Database,
    app_id: &str,
    path: &str,
    until_ms: i64,
    reason: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO outbox_pauses (app_id, path, until_at, reason) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (app_id, path) DO UPDATE SET until_at = excluded.until_at, \
         reason = excluded.reason WHERE outbox_pauses.until_at < excluded.until_at",
    )
    .bind(app_id)
    .bind(path)
    .bind(until_ms)
    .bind(reason)
    .execute(&db.writers)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct LeasedRow {
    id: String,
    app_id: String,
    event_id: String,
    trace_id: String,
    kind: String,
    open_id: String,
    path: String,
    payload: String,
    state: String,
    attempts: i64,
    reserved: i64,
    created_at: i64,
}

impl LeasedRow {
    /// None for a kind that only a newer host knows: its lease runs out for that one.
    fn leased(self) -> Option<Leased> {
        Some(Leased {
            outgoing: Outgoing {
                kind: Kind::of(&self.kind)?,
                open_id: self.open_id,
                path: self.path,
                payload: self.payload,
            },
            id: self.id,
            app_id: self.app_id,
            event_id: self.event_id,
            trace_id: self.trace_id,
            attempts: self.attempts,
            is_unsure: self.state == "sending",
            is_reserved: self.reserved == 1,
            created_at: self.created_at,
        })
    }
}
