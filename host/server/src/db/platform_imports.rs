//! How far the list of a platform's authorisers has been read, so that any host can go on with it.

use sqlx::AssertSqlSafe;

use super::{Database, DbError, Lease};

/// A row of `platform_imports`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PlatformImportRow {
    /// The platform.
    pub platform: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// Whose accounts they become; nobody's yet where it is absent.
    pub tenant_id: Option<String>,
    /// Where the next page begins.
    pub next_offset: i64,
    /// Authorisers that WeChat has said there are.
    pub total: i64,
    /// Authorisers that were listed.
    pub listed: i64,
    /// Of these, ones that were not known before.
    pub added: i64,
    /// Failures since the last success.
    pub failures: i64,
    /// Why it is not done.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub started_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
}

const COLUMNS: &str = "platform, state, tenant_id, next_offset, total, listed, added, failures, \
     error, started_at, updated_at";

/// Begins to read the list from its start, unless it is being read already.
///
/// # Errors
/// The database failed.
pub async fn start(db: &Database, platform: &str, tenant_id: Option<&str>) -> Result<(), DbError> {
    let now_ms = db.now_ms();
    sqlx::query(
        "INSERT INTO platform_imports (platform, state, tenant_id, next_offset, total, listed, \
         added, failures, due_at, started_at, updated_at) \
         VALUES ($1, 'running', $2, 0, 0, 0, 0, 0, $3, $4, $5) \
         ON CONFLICT (platform) DO UPDATE SET state = 'running', tenant_id = excluded.tenant_id, \
         next_offset = 0, total = 0, listed = 0, added = 0, failures = 0, error = NULL, \
         lease_owner = NULL, due_at = excluded.due_at, started_at = excluded.started_at, \
         updated_at = excluded.updated_at WHERE platform_imports.state <> 'running'",
    )
    .bind(platform)
    .bind(tenant_id)
    .bind(now_ms)
    .bind(now_ms)
    .bind(now_ms)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// A platform's import, if there ever was one.
///
/// # Errors
/// The database failed.
pub async fn find(db: &Database, platform: &str) -> Result<Option<PlatformImportRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM platform_imports WHERE platform = $1");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(platform)
        .fetch_optional(&db.readers)
        .await?)
}

/// Leases one that is due.
///
/// # Errors
/// The database failed.
pub async fn lease(db: &Database, lease: Lease<'_>) -> Result<Option<PlatformImportRow>, DbError> {
    let statement = format!(
        "UPDATE platform_imports SET lease_owner = $1, due_at = $2 WHERE platform = \
         (SELECT platform FROM platform_imports WHERE state = 'running' AND due_at <= $3 \
         ORDER BY due_at LIMIT 1) AND due_at <= $4 RETURNING {COLUMNS}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(lease.now_ms)
        .bind(lease.now_ms)
        .fetch_optional(&db.writers)
        .await?)
}

/// Keeps how far an import has come, if the lease is still the owner's.
///
/// # Errors
/// The database failed.
pub async fn keep(
    db: &Database,
    row: &PlatformImportRow,
    lease: Lease<'_>,
) -> Result<bool, DbError> {
    let kept = sqlx::query(
        "UPDATE platform_imports SET state = $1, next_offset = $2, total = $3, listed = $4, \
         added = $5, failures = $6, error = $7, due_at = $8, updated_at = $9 \
         WHERE platform = $10 AND lease_owner = $11",
    )
    .bind(&row.state)
    .bind(row.next_offset)
    .bind(row.total)
    .bind(row.listed)
    .bind(row.added)
    .bind(row.failures)
    .bind(&row.error)
    .bind(lease.until_ms)
    .bind(lease.now_ms)
    .bind(&row.platform)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(kept.rows_affected() == 1)
}
