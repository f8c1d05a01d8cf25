//! Invitations: links by which a tenant's customer lets a platform serve one account.

use sqlx::AssertSqlSafe;

use super::{Change, Database, DbError};

/// A row of `invitations`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct InvitationRow {
    /// The platform.
    pub platform: String,
    /// Names it; not what stands in the link.
    pub id: String,
    /// Whose the account becomes.
    pub tenant_id: String,
    /// SHA-256 of what stands in the link, in hex.
    pub digest: String,
    /// The account's name for people until WeChat tells its own.
    pub name: String,
    /// The one account that is meant.
    pub biz_app_id: Option<String>,
    /// The account whose settings the new one gets.
    pub like_app_id: Option<String>,
    /// `open`, `used` or `revoked`.
    pub state: String,
    /// The account that has come by it.
    pub app_id: Option<String>,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub used_at: Option<i64>,
}

const COLUMNS: &str = "platform, id, tenant_id, digest, name, biz_app_id, like_app_id, state, \
     app_id, expires_at, created_at, used_at";

/// Adds an invitation; [`DbError::MissingReference`] when there is no such platform or tenant.
///
/// # Errors
/// The database failed.
pub async fn insert(change: &mut Change, row: &InvitationRow) -> Result<(), DbError> {
    let statement = format!(
        "INSERT INTO invitations ({COLUMNS}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(&row.platform)
        .bind(&row.id)
        .bind(&row.tenant_id)
        .bind(&row.digest)
        .bind(&row.name)
        .bind(&row.biz_app_id)
        .bind(&row.like_app_id)
        .bind(&row.state)
        .bind(&row.app_id)
        .bind(row.expires_at)
        .bind(row.created_at)
        .bind(row.used_at)
        .execute(change.connection())
        .await?;
    Ok(())
}

/// What an invitation is found by.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// Its id.
    Id(&'a str),
    /// The digest of what stands in the link.
    Digest(&'a str),
    /// The digest of a visit's state.
    State(&'a str),
    /// The digest of a visit's pre_auth_code.
    PreAuthCode(&'a str),
}

/// The invitation of a platform that is found so.
///
/// # Errors
/// The database failed.
pub async fn find(
    db: &Database,
    platform: &str,
    by: By<'_>,
) -> Result<Option<InvitationRow>, DbError> {
    let visit = |column: &str| {
        format!(
            "id = (SELECT invitation FROM invitation_visits \
             WHERE platform = $1 AND {column} = $2)"
        )
    };
    let (condition, value) = match by {
        By::Id(id) => ("id = $2".to_owned(), id),
        By::Digest(digest) => ("digest = $2".to_owned(), digest),
        By::State(digest) => (visit("state_digest"), digest),
        By::PreAuthCode(digest) => (visit("pre_auth_digest"), digest),
    };
    let statement =
        format!("SELECT {COLUMNS} FROM invitations WHERE platform = $1 AND {condition}");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(platform)
        .bind(value)
        .fetch_optional(&db.readers)
        .await?)
}

/// Notes a visit.
///
/// # Errors
/// The database failed.
pub async fn note_visit(
    db: &Database,
    (platform, invitation): (&str, &str),
    state_digest: &str,
    pre_auth_digest: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO invitation_visits (platform, state_digest, pre_auth_digest, invitation, \
         created_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(platform)
    .bind(state_digest)
    .bind(pre_auth_digest)
    .bind(invitation)
    .bind(db.now_ms())
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Uses an invitation up for an account. True also where it was used for this very account before.
///
/// # Errors
/// The database failed.
pub async fn use_up(
    change: &mut Change,
    (platform, id): (&str, &str),
    app_id: &str,
    now_ms: i64,
) -> Result<bool, DbError> {
    let used = sqlx::query(
        "UPDATE invitations SET state = 'used', app_id = $1, used_at = $2 \
         WHERE platform = $3 AND id = $4 AND (state = 'open' OR (state = 'used' AND app_id = $5))",
    )
    .bind(app_id)
    .bind(now_ms)
    .bind(platform)
    .bind(id)
    .bind(app_id)
    .execute(change.connection())
    .await?;
    Ok(used.rows_affected() == 1)
}

/// Revokes an open invitation; one that is not open stays as it is. What it is then.
///
/// # Errors
/// The database failed.
pub async fn revoke(
    change: &mut Change,
    platform: &str,
    id: &str,
) -> Result<Option<InvitationRow>, DbError> {
    sqlx::query(
        "UPDATE invitations SET state = 'revoked' WHERE platform = $1 AND id = $2 \
         AND state = 'open'",
    )
    .bind(platform)
    .bind(id)
    .execute(change.connection())
    .await?;
    let statement = format!("SELECT {COLUMNS} FROM invitations WHERE platform = $1 AND id = $2");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(platform)
        .bind(id)
        .fetch_optional(change.connection())
        .await?)
}

/// At most `limit` invitations of a platform after `after`, in order of their ids.
///
/// # Errors
/// The database failed.
pub async fn list(
    db: &Database,
    platform: &str,
    tenant_id: Option<&str>,
    (after, limit): (&str, u32),
) -> Result<Vec<InvitationRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM invitations WHERE platform = $1 AND id > $2 \
         AND ($3 = '' OR tenant_id = $3) ORDER BY id LIMIT $4"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(platform)
        .bind(after)
        .bind(tenant_id.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}
