//! Looking at the outbox, and letting the old rows go.

use sqlx::AssertSqlSafe;

use crate::db::{DELETE_BLOCK, Database, DbError};

/// Deletes final rows that ended before `time_ms`, and pauses that are over, block by block.
///
/// # Errors
/// The database can't be reached.
pub async fn forget(db: &Database, time_ms: i64) -> Result<u64, DbError> {
    super::pauses::forget(db, time_ms).await?;
    db.delete_in_blocks(FORGET, time_ms, DELETE_BLOCK).await
}

pub(super) const FORGET: &str = "DELETE FROM outbox WHERE (app_id, id) IN \
     (SELECT app_id, id FROM outbox WHERE settled_at < $1 ORDER BY settled_at LIMIT $2)";

/// A row, to look at.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OutboxRow {
    /// Names it; sorts by time.
    pub id: String,
    /// The event that it comes from.
    pub event_id: String,
    /// Where it stands among those of its event.
    pub ordinal: i64,
    /// What it is.
    pub kind: String,
    /// Whom it concerns.
    pub open_id: String,
    /// `waiting`, `sending`, `sent`, `failed`, `dead`, `skipped`, `unknown` or `held`.
    pub state: String,
    /// Why it ended or waits, as a stable word.
    pub reason: Option<String>,
    /// When it is looked at next; Unix milliseconds.
    pub due_at: i64,
    /// Tries so far.
    pub attempts: i64,
    /// WeChat's code.
    pub errcode: Option<i64>,
    /// WeChat's text, or ours.
    pub errmsg: Option<String>,
    /// WeChat's id of the message.
    pub msgid: Option<String>,
    /// The trace of the event.
    pub trace_id: String,
    /// When the first try began of which nobody knows what came: the contact may have been sent it then.
    pub unsure_at: Option<i64>,
    /// When it ends if it was not sent until then.
    pub expires_at: Option<i64>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// When it ended.
    pub settled_at: Option<i64>,
}

/// Which rows to list.
#[derive(Debug, Clone, Copy)]
pub struct OutboxFilter<'a> {
    /// The account.
    pub app_id: &'a str,
    /// In this state only.
    pub state: Option<&'a str>,
    /// Of this contact only.
    pub open_id: Option<&'a str>,
    /// Older than the row of this id.
    pub before: Option<&'a str>,
    /// So many at most.
    pub limit: u32,
}

/// Rows of an account, newest first.
///
/// # Errors
/// The database can't be reached.
pub async fn list(db: &Database, filter: OutboxFilter<'_>) -> Result<Vec<OutboxRow>, DbError> {
    let (statement, values) = statement(&filter);
    let mut query = sqlx::query_as(AssertSqlSafe(statement));
    for value in values {
        query = query.bind(value);
    }
    let rows = query.bind(i64::from(filter.limit));
    Ok(rows.fetch_all(&db.readers).await?)
}

/// The statement of a list, and what is bound before the limit. It names only what it asks for, so that
/// each kind of list has its index.
pub(super) fn statement<'a>(filter: &OutboxFilter<'a>) -> (String, Vec<&'a str>) {
    let mut statement = String::from(
        "SELECT id, event_id, ordinal, kind, open_id, state, reason, due_at, attempts, errcode, \
         errmsg, msgid, trace_id, unsure_at, expires_at, created_at, settled_at FROM outbox \
         WHERE app_id = $1",
    );
    let mut values = vec![filter.app_id];
    for (condition, value) in [
        (" AND state = $", filter.state),
        (" AND open_id = $", filter.open_id),
        (" AND id < $", filter.before),
    ] {
        if let Some(value) = value {
            values.push(value);
            statement.push_str(&format!("{condition}{}", values.len()));
        }
    }
    statement.push_str(&format!(" ORDER BY id DESC LIMIT ${}", values.len() + 1));
    (statement, values)
}
