//! Pauses: accounts, or one API of an account, for which nothing is sent until a time.

use sqlx::AnyConnection;

use crate::db::{DELETE_BLOCK, Database, DbError, Dialect};

/// A pause that is to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewPause<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The API; empty for all of them.
    pub path: &'a str,
    /// Unix milliseconds.
    pub until_ms: i64,
    /// Why, as a stable word.
    pub reason: &'a str,
    /// WeChat's code.
    pub errcode: Option<i64>,
    /// Whether messages end meanwhile rather than wait.
    pub ends: bool,
}

/// A pause, to look at.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Pause {
    /// The API; empty for all of them.
    pub path: String,
    /// Unix milliseconds.
    pub until_at: i64,
    /// Why, as a stable word.
    pub reason: String,
    /// WeChat's code.
    pub errcode: Option<i64>,
    /// 1 where messages end meanwhile rather than wait.
    pub ends: Option<i64>,
}

impl Pause {
    /// Whether messages over this API wait for its end.
    pub fn holds(&self, path: &str) -> bool {
        self.ends != Some(1) && (self.path.is_empty() || self.path == path)
    }
}

/// Begins a pause. Of two, the one that ends later counts.
///
/// # Errors
/// The database can't be reached.
pub async fn pause(db: &Database, pause: NewPause<'_>) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO outbox_pauses (app_id, path, until_at, reason, errcode, ends) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (app_id, path) DO UPDATE SET until_at = excluded.until_at, \
         reason = excluded.reason, errcode = excluded.errcode, ends = excluded.ends \
         WHERE outbox_pauses.until_at < excluded.until_at",
    )
    .bind(pause.app_id)
    .bind(pause.path)
    .bind(pause.until_ms)
    .bind(pause.reason)
    .bind(pause.errcode)
    .bind(i64::from(pause.ends))
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// The pauses of an account at a time.
///
/// # Errors
/// The database can't be reached.
pub async fn pauses(db: &Database, app_id: &str, now_ms: i64) -> Result<Vec<Pause>, DbError> {
    let mut connection = db.readers.acquire().await?;
    pauses_in(&mut connection, app_id, now_ms).await
}

pub(super) async fn pauses_in(
    db: &mut AnyConnection,
    app_id: &str,
    now_ms: i64,
) -> Result<Vec<Pause>, DbError> {
    Ok(sqlx::query_as(
        "SELECT path, until_at, reason, errcode, ends FROM outbox_pauses \
         WHERE app_id = $1 AND until_at > $2 ORDER BY path",
    )
    .bind(app_id)
    .bind(now_ms)
    .fetch_all(db)
    .await?)
}

/// Ends a pause, in the transaction of an operator's change, and makes due what waits over its API, or over
/// all of the account's; false if there is none.
///
/// # Errors
/// The database can't be reached.
pub async fn lift(
    db: &Database,
    change: &mut crate::db::Change,
    app_id: &str,
    path: &str,
) -> Result<bool, DbError> {
    let lifted = sqlx::query("DELETE FROM outbox_pauses WHERE app_id = $1 AND path = $2")
        .bind(app_id)
        .bind(path)
        .execute(change.connection())
        .await?;
    if lifted.rows_affected() != 1 {
        return Ok(false);
    }
    let lock = match db.dialect() {
        Dialect::Sqlite => None,
        Dialect::Postgres => Some(LOCK_LATER_LINES),
    };
    // What was refused was put off until the pause would have ended.
    for statement in lock.into_iter().chain([HURRY_ROWS, HURRY_LINES]) {
        sqlx::query(statement)
            .bind(app_id)
            .bind(path)
            .bind(db.now_ms())
            .execute(change.connection())
            .await?;
    }
    Ok(true)
}

/// Lines before rows, and in one order: see `lines`.
const LOCK_LATER_LINES: &str = "SELECT path FROM outbox_lines \
     WHERE app_id = $1 AND ($2 = '' OR path = $2) AND due_at > $3 ORDER BY open_id, path FOR UPDATE";
const HURRY_ROWS: &str = "UPDATE outbox SET due_at = $3 WHERE settled_at IS NULL \
     AND lease_owner IS NULL AND app_id = $1 AND ($2 = '' OR path = $2) AND due_at > $3";
/// A line whose first row is leased is found out when it is looked at.
const HURRY_LINES: &str = "UPDATE outbox_lines SET due_at = $3 \
     WHERE app_id = $1 AND ($2 = '' OR path = $2) AND due_at > $3";

/// Deletes pauses that ended before a time.
pub(super) async fn forget(db: &Database, time_ms: i64) -> Result<u64, DbError> {
    let statement = "DELETE FROM outbox_pauses WHERE (app_id, path) IN \
         (SELECT app_id, path FROM outbox_pauses WHERE until_at < $1 ORDER BY until_at LIMIT $2)";
    db.delete_in_blocks(statement, time_ms, DELETE_BLOCK).await
}
