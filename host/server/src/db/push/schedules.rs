//! Pushes that recur.

use sqlx::FromRow;

use super::PushRow;
use crate::db::{Database, DbError};

/// A recurring push as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ScheduleRow {
    /// The account.
    pub app_id: String,
    /// Names it; sorts by time.
    pub id: String,
    /// What kind of pushes it makes.
    pub kind: String,
    /// JSON: what they send.
    pub content: String,
    /// Whom they go to, a line each.
    pub open_ids: String,
    /// JSON of the audience that they go to.
    pub audience: Option<String>,
    /// What the tenant's system calls the matter.
    pub reference: Option<String>,
    /// When it fires: a cron pattern.
    pub cron: String,
    /// The time zone that the pattern is of.
    pub time_zone: String,
    /// What becomes of firings that no host was there for: `skip` or `once`.
    pub missed: String,
    /// `active` or `paused`.
    pub state: String,
    /// When it fires next; Unix milliseconds.
    pub next_at: Option<i64>,
    /// The push that it made last.
    pub last_push_id: Option<String>,
    /// When it came.
    pub created_at: i64,
}

/// Puts a schedule in, unless the account has `most` already.
///
/// # Errors
/// The database can't be reached.
pub async fn add(db: &Database, row: &ScheduleRow, most: i64) -> Result<bool, DbError> {
    let added = sqlx::query(
        "INSERT INTO push_schedules (app_id, id, kind, content, open_ids, audience, reference, cron, \
         time_zone, missed, state, next_at, created_at) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 \
         WHERE (SELECT count(*) FROM push_schedules WHERE app_id = $1) < $14",
    )
    .bind(&row.app_id)
    .bind(&row.id)
    .bind(&row.kind)
    .bind(&row.content)
    .bind(&row.open_ids)
    .bind(&row.audience)
    .bind(&row.reference)
    .bind(&row.cron)
    .bind(&row.time_zone)
    .bind(&row.missed)
    .bind(&row.state)
    .bind(row.next_at)
    .bind(row.created_at)
    .bind(most)
    .execute(&db.writers)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// An account's schedules, the oldest first.
///
/// # Errors
/// The database can't be reached.
pub async fn list(db: &Database, app_id: &str) -> Result<Vec<ScheduleRow>, DbError> {
    let query = sqlx::query_as("SELECT * FROM push_schedules WHERE app_id = $1 ORDER BY id");
    Ok(query.bind(app_id).fetch_all(&db.readers).await?)
}

/// One schedule.
///
/// # Errors
/// The database can't be reached.
pub async fn find(db: &Database, app_id: &str, id: &str) -> Result<Option<ScheduleRow>, DbError> {
    let query = sqlx::query_as("SELECT * FROM push_schedules WHERE app_id = $1 AND id = $2");
    let query = query.bind(app_id).bind(id);
    Ok(query.fetch_optional(&db.readers).await?)
}

/// Has a schedule make no pushes until it is resumed. False: there is none of that id.
///
/// # Errors
/// The database can't be reached.
pub async fn pause(db: &Database, app_id: &str, id: &str) -> Result<bool, DbError> {
    let paused =
        sqlx::query("UPDATE push_schedules SET state = 'paused' WHERE app_id = $1 AND id = $2")
            .bind(app_id)
            .bind(id)
            .execute(&db.writers)
            .await?;
    Ok(paused.rows_affected() == 1)
}

/// Has a schedule that is paused fire at `next_at` and go on from there; one that is not goes on as it was.
///
/// # Errors
/// The database can't be reached.
pub async fn resume(
    db: &Database,
    (app_id, id): (&str, &str),
    next_at: Option<i64>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE push_schedules SET state = 'active', next_at = $1 \
         WHERE app_id = $2 AND id = $3 AND state = 'paused'",
    )
    .bind(next_at)
    .bind(app_id)
    .bind(id)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Removes a schedule. The pushes that it made go on.
///
/// # Errors
/// The database can't be reached.
pub async fn remove(db: &Database, app_id: &str, id: &str) -> Result<bool, DbError> {
    let removed = sqlx::query("DELETE FROM push_schedules WHERE app_id = $1 AND id = $2")
        .bind(app_id)
        .bind(id)
        .execute(&db.writers)
        .await?;
    Ok(removed.rows_affected() == 1)
}

/// The schedule of any account that has been due for longest, if one is.
///
/// # Errors
/// The database can't be reached.
pub async fn due(db: &Database, now_ms: i64) -> Result<Option<ScheduleRow>, DbError> {
    let query = sqlx::query_as(
        "SELECT * FROM push_schedules WHERE state = 'active' AND next_at <= $1 \
         ORDER BY next_at LIMIT 1",
    );
    Ok(query.bind(now_ms).fetch_optional(&db.readers).await?)
}

/// Moves a schedule on, and makes the push of this firing, if there is to be one. False if somebody else
/// has moved it on, or it is not there as it was any more.
///
/// # Errors
/// The database can't be reached: nothing has happened.
pub async fn fire(
    db: &Database,
    schedule: &ScheduleRow,
    next_at: Option<i64>,
    push: Option<(&PushRow, &[&str])>,
) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let push_id = push.map(|(push, _)| push.id.as_str());
    let moved = sqlx::query(
        "UPDATE push_schedules SET next_at = $1, last_push_id = COALESCE($2, last_push_id) \
         WHERE app_id = $3 AND id = $4 AND state = 'active' AND next_at = $5",
    )
    .bind(next_at)
    .bind(push_id)
    .bind(&schedule.app_id)
    .bind(&schedule.id)
    .bind(schedule.next_at)
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some((push, open_ids)) = push {
        super::insert(&mut *connection, push, open_ids).await?;
    }
    transaction.commit().await?;
    Ok(true)
}
