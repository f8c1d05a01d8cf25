//! Facts that an account's plugin is told of: each once, with growing pauses until it has taken it.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::super::authorisations::skip_locked;
use super::super::{Database, DbError, Lease};
use super::Number;

/// An event to be added.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewEvent<'a> {
    /// The order.
    pub(super) number: Number<'a>,
    /// Names the event within the account.
    pub(super) id: &'a str,
    pub(super) kind: &'a str,
    pub(super) out_refund_no: Option<&'a str>,
}

/// A row of `pay_events`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct EventRow {
    /// The account.
    pub app_id: String,
    /// Names it within the account.
    pub id: String,
    /// The merchant.
    pub mch_id: String,
    /// `paid`, `closed`, `refunded` or `refund-failed`.
    pub kind: String,
    /// The order.
    pub out_trade_no: String,
    /// The refund, where it is of one.
    pub out_refund_no: Option<String>,
    /// `due`, `done` or `failed`.
    pub state: String,
    /// How often it was begun.
    pub attempts: i64,
    /// Why it is not done.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
}

const COLUMNS: &str =
    "app_id, id, mch_id, kind, out_trade_no, out_refund_no, state, attempts, error, created_at";

/// Adds an event, unless it is there.
pub(super) async fn add(
    db: &mut AnyConnection,
    event: NewEvent<'_>,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO pay_events (app_id, id, mch_id, kind, out_trade_no, out_refund_no, state, \
         attempts, due_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, 'due', 0, $7, $7) \
         ON CONFLICT (app_id, id) DO NOTHING",
    )
    .bind(event.number.app_id)
    .bind(event.id)
    .bind(event.number.mch_id)
    .bind(event.kind)
    .bind(event.number.number)
    .bind(event.out_refund_no)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Leases events that are due, `most` at most. A lease that began counts as an attempt.
///
/// # Errors
/// The database failed.
pub async fn lease(db: &Database, lease: Lease<'_>, most: u32) -> Result<Vec<EventRow>, DbError> {
    let statement = format!(
        "UPDATE pay_events SET lease_owner = $1, due_at = $2, attempts = attempts + 1 \
         WHERE (app_id, id) IN (SELECT app_id, id FROM pay_events \
         WHERE state = 'due' AND due_at <= $3 ORDER BY due_at LIMIT $4 {}) RETURNING {COLUMNS}",
        skip_locked(db.dialect())
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(lease.now_ms)
        .bind(i64::from(most))
        .fetch_all(&db.writers)
        .await?)
}

/// Takes an event for the commit of its effects: false if another host has, or it was taken before.
///
/// # Errors
/// The database failed.
pub async fn take(
    db: &mut AnyConnection,
    (app_id, id, owner): (&str, &str, &str),
) -> Result<bool, DbError> {
    let taken = sqlx::query(
        "UPDATE pay_events SET state = 'done', due_at = 0, error = NULL, lease_owner = NULL \
         WHERE app_id = $1 AND id = $2 AND lease_owner = $3 AND state = 'due'",
    )
    .bind(app_id)
    .bind(id)
    .bind(owner)
    .execute(db)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// How an attempt has ended that committed nothing.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// There is nothing to be done.
    Done,
    /// Again at this time, Unix milliseconds; why.
    Again(i64, &'a str),
    /// Somebody has to look at it: why.
    Failed(&'a str),
}

/// Notes how an attempt has ended, if the lease is still the owner's.
///
/// # Errors
/// The database failed.
pub async fn end(
    db: &Database,
    (app_id, id, owner): (&str, &str, &str),
    end: End<'_>,
) -> Result<(), DbError> {
    let (state, due_at, error) = match end {
        End::Done => ("done", 0, None),
        End::Again(due_at, error) => ("due", due_at, Some(error)),
        End::Failed(error) => ("failed", 0, Some(error)),
    };
    sqlx::query(
        "UPDATE pay_events SET state = $1, due_at = $2, error = $3, lease_owner = NULL \
         WHERE app_id = $4 AND id = $5 AND lease_owner = $6",
    )
    .bind(state)
    .bind(due_at)
    .bind(error)
    .bind(app_id)
    .bind(id)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// The newest events of an account in a state, or in all, made before a time.
///
/// # Errors
/// The database failed.
pub async fn list(
    db: &Database,
    (app_id, state): (&str, Option<&str>),
    (before_ms, limit): (i64, u32),
) -> Result<Vec<EventRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM pay_events WHERE app_id = $1 AND ($2 = '' OR state = $2) \
         AND created_at < $3 ORDER BY created_at DESC, id LIMIT $4"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(state.unwrap_or_default())
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}

/// Has an event tried again that somebody had to look at; false if there is none.
///
/// # Errors
/// The database failed.
pub async fn resume(db: &Database, app_id: &str, id: &str) -> Result<bool, DbError> {
    let resumed = sqlx::query(
        "UPDATE pay_events SET state = 'due', due_at = $3, attempts = 0 \
         WHERE app_id = $1 AND id = $2 AND state = 'failed'",
    )
    .bind(app_id)
    .bind(id)
    .bind(db.now_ms())
    .execute(&db.writers)
    .await?;
    Ok(resumed.rows_affected() == 1)
}
