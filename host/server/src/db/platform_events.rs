//! What WeChat tells platforms, tickets aside: kept before it is acknowledged, until it is done, and for a
//! while after.

use sqlx::AssertSqlSafe;

use super::authorisations::skip_locked;
use super::{Database, DbError, Lease};

/// A row of `platform_events`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PlatformEventRow {
    /// The platform.
    pub platform: String,
    /// The digest of what was told.
    pub id: String,
    /// InfoType.
    pub kind: String,
    /// The account that it is about.
    pub app_id: Option<String>,
    /// WeChat's time, Unix milliseconds.
    pub told_at: i64,
    /// When it came, Unix milliseconds.
    pub received_at: i64,
    /// The body, sealed.
    pub body_sealed: String,
    /// `due`, `done` or `failed`.
    pub state: String,
    /// How often it was begun.
    pub attempts: i64,
    /// Why it is not done.
    pub error: Option<String>,
}

const COLUMNS: &str = "platform, id, kind, app_id, told_at, received_at, body_sealed, state, \
     attempts, error";

/// Keeps an event, for a host to see to from `due_at` on; where nobody has to, it is done at once. False if
/// it came before.
///
/// # Errors
/// The database failed: nothing is kept.
pub async fn keep(db: &Database, row: &PlatformEventRow) -> Result<bool, DbError> {
    let kept = sqlx::query(
        "INSERT INTO platform_events (platform, id, kind, app_id, told_at, received_at, \
         body_sealed, state, attempts, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9) \
         ON CONFLICT (platform, id) DO NOTHING",
    )
    .bind(&row.platform)
    .bind(&row.id)
    .bind(&row.kind)
    .bind(&row.app_id)
    .bind(row.told_at)
    .bind(row.received_at)
    .bind(&row.body_sealed)
    .bind(&row.state)
    .bind(row.received_at)
    .execute(&db.writers)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Whether a platform was told of an authorisation that is not seen to yet.
///
/// # Errors
/// The database failed.
pub async fn is_authorisation_due(db: &Database, platform: &str) -> Result<bool, DbError> {
    let found: Option<(i32,)> = sqlx::query_as(
        "SELECT 1 FROM platform_events WHERE platform = $1 AND state = 'due' \
         AND kind IN ('authorized', 'updateauthorized') LIMIT 1",
    )
    .bind(platform)
    .fetch_optional(&db.readers)
    .await?;
    Ok(found.is_some())
}

/// Leases events that are due, `most` at most. A lease that began counts as an attempt.
///
/// # Errors
/// The database failed.
pub async fn lease(
    db: &Database,
    lease: Lease<'_>,
    most: u32,
) -> Result<Vec<PlatformEventRow>, DbError> {
    let statement = format!(
        "UPDATE platform_events SET lease_owner = $1, due_at = $2, attempts = attempts + 1 \
         WHERE (platform, id) IN (SELECT platform, id FROM platform_events \
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

/// Prolongs the lease of an event.
///
/// # Errors
/// The database failed.
pub async fn renew(
    db: &Database,
    (platform, id): (&str, &str),
    lease: Lease<'_>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE platform_events SET due_at = $1 \
         WHERE platform = $2 AND id = $3 AND lease_owner = $4 AND state = 'due'",
    )
    .bind(lease.until_ms)
    .bind(platform)
    .bind(id)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// How an attempt has ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It is done.
    Done,
    /// Again at this time, Unix milliseconds; why.
    Again(i64, &'a str),
    /// It can't be done: why.
    Failed(&'a str),
}

/// Notes how an attempt has ended, if the lease is still the owner's.
///
/// # Errors
/// The database failed.
pub async fn end(
    db: &Database,
    (platform, id): (&str, &str),
    owner: &str,
    end: End<'_>,
) -> Result<(), DbError> {
    let (state, due_at, error) = match end {
        End::Done => ("done", 0, None),
        End::Again(due_at, error) => ("due", due_at, Some(error)),
        End::Failed(error) => ("failed", 0, Some(error)),
    };
    sqlx::query(
        "UPDATE platform_events SET state = $1, due_at = $2, error = $3, lease_owner = NULL \
         WHERE platform = $4 AND id = $5 AND lease_owner = $6",
    )
    .bind(state)
    .bind(due_at)
    .bind(error)
    .bind(platform)
    .bind(id)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// The newest events of a platform that came before `before_ms`, at most `limit`.
///
/// # Errors
/// The database failed.
pub async fn list(
    db: &Database,
    platform: &str,
    (before_ms, limit): (i64, u32),
) -> Result<Vec<PlatformEventRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM platform_events WHERE platform = $1 AND received_at < $2 \
         ORDER BY received_at DESC, id LIMIT $3"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(platform)
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}

/// Forgets events that came before `before_ms` and that nobody has to see to any more, a block of them.
/// Whether there may be more.
///
/// # Errors
/// The database failed.
pub async fn forget(db: &Database, before_ms: i64) -> Result<bool, DbError> {
    let gone = sqlx::query(
        "DELETE FROM platform_events WHERE (platform, id) IN (SELECT platform, id \
         FROM platform_events WHERE received_at < $1 AND state <> 'due' LIMIT $2)",
    )
    .bind(before_ms)
    .bind(super::DELETE_BLOCK)
    .execute(&db.writers)
    .await?;
    Ok(gone.rows_affected() > 0)
}
