//! Messages that WeChat holds for review: neither sent nor failed until it delivers or blocks them.

use sqlx::FromRow;

use super::{Final, Report, RowId};
use crate::db::{Database, DbError};

/// How long a host has to ask what became of a message, before another one does.
const ASKING_MS: i64 = 60_000;

/// A message that is held.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Held {
    /// Names its row.
    pub id: String,
    /// The account.
    pub app_id: String,
    /// To whom.
    pub open_id: String,
    /// What was posted.
    pub payload: String,
    /// When it was; Unix milliseconds.
    pub tried_at: i64,
}

impl Held {
    /// Its row.
    pub fn row(&self) -> RowId<'_> {
        RowId {
            app_id: &self.app_id,
            id: &self.id,
        }
    }
}

/// What WeChat told of a message in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The account.
    pub app_id: String,
    /// To whom it was sent.
    pub open_id: String,
    /// WeChat's id of the message.
    pub msgid: String,
    /// Why it did not arrive, in WeChat's words; None if it did.
    pub failure: Option<String>,
}

/// Held messages of which it is time to ask what became, `limit` of them at most.
///
/// # Errors
/// The database can't be reached.
pub async fn lease_held(db: &Database, now_ms: i64, limit: i64) -> Result<Vec<Held>, DbError> {
    Ok(sqlx::query_as(
        "UPDATE outbox SET verdict_due_at = $1 WHERE (app_id, id) IN \
           (SELECT app_id, id FROM outbox WHERE verdict_due_at <= $2 ORDER BY verdict_due_at LIMIT $3) \
         AND verdict_due_at <= $2 \
         RETURNING id, app_id, open_id, payload, COALESCE(tried_at, created_at) AS tried_at",
    )
    .bind(now_ms + ASKING_MS)
    .bind(now_ms)
    .bind(limit)
    .fetch_all(&db.writers)
    .await?)
}

/// Whether anything is held whose verdict is awaited.
///
/// # Errors
/// The database can't be reached.
pub async fn holds_any(db: &Database) -> Result<bool, DbError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM outbox WHERE verdict_due_at IS NOT NULL LIMIT 1")
            .fetch_optional(&db.readers)
            .await?;
    Ok(found.is_some())
}

/// Ends a held message by WeChat's verdict. False if it had one.
///
/// # Errors
/// The database can't be reached.
pub async fn decide(
    db: &Database,
    row: RowId<'_>,
    end: Final,
    report: &Report,
    now_ms: i64,
) -> Result<bool, DbError> {
    let decided = sqlx::query(
        "UPDATE outbox SET state = $1, reason = $2, errcode = $3, errmsg = $4, \
         msgid = COALESCE($5, msgid), settled_at = $6, verdict_due_at = NULL \
         WHERE app_id = $7 AND id = $8 AND state = 'held'",
    )
    .bind(end.as_str())
    .bind(report.reason)
    .bind(report.errcode)
    .bind(&report.errmsg)
    .bind(&report.msgid)
    .bind(now_ms)
    .bind(row.app_id)
    .bind(row.id)
    .execute(&db.writers)
    .await?;
    Ok(decided.rows_affected() == 1)
}

/// Asks again at a time, or never: then nobody knows what became of it.
///
/// # Errors
/// The database can't be reached.
pub async fn ask_again(
    db: &Database,
    row: RowId<'_>,
    due_at: Option<i64>,
    reason: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE outbox SET verdict_due_at = $1, reason = $2 \
         WHERE app_id = $3 AND id = $4 AND state = 'held'",
    )
    .bind(due_at)
    .bind(reason)
    .bind(row.app_id)
    .bind(row.id)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Held messages of a contact: two are as many as all.
pub(super) const HELD_OF: &str = "\
    SELECT id FROM outbox WHERE app_id = $1 AND open_id = $2 AND verdict_due_at IS NOT NULL LIMIT 2";

/// The held message that a receipt is about. WeChat gives a held message no id: the receipt is about it
/// if its own id is that of no other message, and the contact has no other one that is held.
///
/// # Errors
/// The database can't be reached.
pub async fn held_of(db: &Database, receipt: &Receipt) -> Result<Option<String>, DbError> {
    let held: Vec<(String,)> = sqlx::query_as(HELD_OF)
        .bind(&receipt.app_id)
        .bind(&receipt.open_id)
        .fetch_all(&db.readers)
        .await?;
    let [(id,)] = &held[..] else {
        return Ok(None);
    };
    let of_another: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM outbox WHERE app_id = $1 AND msgid = $2 LIMIT 1")
            .bind(&receipt.app_id)
            .bind(&receipt.msgid)
            .fetch_optional(&db.readers)
            .await?;
    Ok(of_another.is_none().then(|| id.clone()))
}
