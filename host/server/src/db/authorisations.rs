//! What accounts have granted to third-party platforms, and the codes by which they did.
//!
//! A refresh token is written only where nothing has changed it since it was read (`version`), and the one
//! before stays beside it. What WeChat says of an account counts by WeChat's time (`told_at`).

use sqlx::AssertSqlSafe;

use super::{Change, Database, DbError, Dialect, Lease};

/// A row of `authorisations`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AuthorisationRow {
    /// The account.
    pub app_id: String,
    /// The platform that serves it.
    pub platform: String,
    /// `standing` or `withdrawn`.
    pub state: String,
    /// Raised by whatever changes the refresh token.
    pub version: i64,
    /// What the next access token is got with, sealed.
    pub refresh_token_sealed: Option<String>,
    /// The one before, sealed.
    pub former_refresh_token_sealed: Option<String>,
    /// JSON: ids of permission sets.
    pub permission_sets: String,
    /// WeChat's time of the last word about it, Unix milliseconds.
    pub told_at: i64,
    /// JSON: what the account is.
    pub facts: Option<String>,
    /// When that was read, Unix milliseconds.
    pub facts_at: Option<i64>,
    /// For whom an account is to be made.
    pub tenant_id: Option<String>,
    /// By which invitation.
    pub invitation: Option<String>,
    /// When a host looks at it next, Unix milliseconds.
    pub due_at: Option<i64>,
    /// Looks in vain since the last good one.
    pub attempts: i64,
    /// Why the last one was in vain.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
}

const COLUMNS: &str = "app_id, platform, state, version, refresh_token_sealed, \
     former_refresh_token_sealed, permission_sets, told_at, facts, facts_at, tenant_id, \
     invitation, due_at, attempts, error, created_at, updated_at";

/// It stands.
pub const STANDING: &str = "standing";
/// The account's owner has taken it back.
pub const WITHDRAWN: &str = "withdrawn";

/// What an account grants, as WeChat has just told.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The platform.
    pub platform: &'a str,
    /// Sealed; where WeChat tells none, the one that is there stays.
    pub refresh_token_sealed: Option<&'a str>,
    /// JSON: ids of permission sets.
    pub permission_sets: &'a str,
    /// WeChat's time, Unix milliseconds.
    pub told_at: i64,
    /// For whom, if that is known.
    pub claim: Option<Claim<'a>>,
}

/// For whom an account is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The tenant.
    pub tenant_id: &'a str,
    /// The invitation by which it came, if one was.
    pub invitation: Option<&'a str>,
}

/// Keeps what an account grants, and has a host look at it now. A later word of WeChat's stays: false.
///
/// # Errors
/// The database failed: nothing is kept.
pub async fn grant(change: &mut Change, grant: &Grant<'_>, now_ms: i64) -> Result<bool, DbError> {
    let kept = sqlx::query(
        "INSERT INTO authorisations (app_id, platform, state, version, refresh_token_sealed, \
         permission_sets, told_at, tenant_id, invitation, due_at, attempts, created_at, updated_at) \
         VALUES ($1, $2, 'standing', 1, $3, $4, $5, $6, $7, $8, 0, $9, $10) \
         ON CONFLICT (app_id, platform) DO UPDATE SET state = 'standing', \
         version = authorisations.version + 1, \
         former_refresh_token_sealed = CASE WHEN excluded.refresh_token_sealed IS NULL \
         THEN authorisations.former_refresh_token_sealed \
         ELSE authorisations.refresh_token_sealed END, \
         refresh_token_sealed = COALESCE(excluded.refresh_token_sealed, \
         authorisations.refresh_token_sealed), \
         permission_sets = excluded.permission_sets, told_at = excluded.told_at, \
         tenant_id = COALESCE(authorisations.tenant_id, excluded.tenant_id), \
         invitation = COALESCE(excluded.invitation, authorisations.invitation), \
         due_at = excluded.due_at, attempts = 0, error = NULL, lease_owner = NULL, \
         updated_at = excluded.updated_at WHERE authorisations.told_at <= excluded.told_at",
    )
    .bind(grant.app_id)
    .bind(grant.platform)
    .bind(grant.refresh_token_sealed)
    .bind(grant.permission_sets)
    .bind(grant.told_at)
    .bind(grant.claim.map(|claim| claim.tenant_id))
    .bind(grant.claim.and_then(|claim| claim.invitation))
    .bind(now_ms)
    .bind(now_ms)
    .bind(now_ms)
    .execute(change.connection())
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Adds an authorisation that a list or a table names, and has a host look at it. What is known stays, unless
/// it lacks a refresh token or the list tells of a later authorisation. True if it was added.
///
/// # Errors
/// The database failed.
pub async fn add(change: &mut Change, grant: &Grant<'_>, now_ms: i64) -> Result<bool, DbError> {
    let added = sqlx::query(
        "INSERT INTO authorisations (app_id, platform, state, version, refresh_token_sealed, \
         permission_sets, told_at, tenant_id, due_at, attempts, created_at, updated_at) \
         VALUES ($1, $2, 'standing', 1, $3, $4, $5, $6, $7, 0, $8, $9) \
         ON CONFLICT (app_id, platform) DO UPDATE SET state = 'standing', \
         version = authorisations.version + 1, \
         refresh_token_sealed = excluded.refresh_token_sealed, \
         told_at = excluded.told_at, \
         tenant_id = COALESCE(authorisations.tenant_id, excluded.tenant_id), \
         due_at = excluded.due_at, attempts = 0, error = NULL, lease_owner = NULL, \
         updated_at = excluded.updated_at WHERE excluded.refresh_token_sealed IS NOT NULL \
         AND (authorisations.told_at < excluded.told_at OR (authorisations.state = 'standing' \
         AND authorisations.refresh_token_sealed IS NULL))",
    )
    .bind(grant.app_id)
    .bind(grant.platform)
    .bind(grant.refresh_token_sealed)
    .bind(grant.permission_sets)
    .bind(grant.told_at)
    .bind(grant.claim.map(|claim| claim.tenant_id))
    .bind(now_ms)
    .bind(now_ms)
    .bind(now_ms)
    .execute(change.connection())
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Notes that an account's owner has taken the authorisation back, unless a later word of WeChat's is there.
/// Both refresh tokens go. That nobody knew of it makes no difference: a word from before may come later.
///
/// # Errors
/// The database failed.
pub async fn withdraw(
    change: &mut Change,
    app_id: &str,
    platform: &str,
    (told_at, now_ms): (i64, i64),
) -> Result<bool, DbError> {
    let taken = sqlx::query(
        "INSERT INTO authorisations (app_id, platform, state, version, permission_sets, told_at, \
         attempts, created_at, updated_at) VALUES ($1, $2, 'withdrawn', 1, '[]', $3, 0, $4, $5) \
         ON CONFLICT (app_id, platform) DO UPDATE SET state = 'withdrawn', \
         version = authorisations.version + 1, refresh_token_sealed = NULL, \
         former_refresh_token_sealed = NULL, told_at = excluded.told_at, due_at = NULL, \
         lease_owner = NULL, updated_at = excluded.updated_at \
         WHERE authorisations.told_at <= excluded.told_at AND authorisations.state = 'standing'",
    )
    .bind(app_id)
    .bind(platform)
    .bind(told_at)
    .bind(now_ms)
    .bind(now_ms)
    .execute(change.connection())
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Keeps the refresh token that came with an access token, if nothing has changed it since `version` was
/// read; the one before stays beside it.
///
/// # Errors
/// The database failed: whether it is kept is unknown.
pub async fn rotate(
    db: &Database,
    (app_id, platform): (&str, &str),
    version: i64,
    refresh_token_sealed: &str,
) -> Result<bool, DbError> {
    let rotated = sqlx::query(
        "UPDATE authorisations SET former_refresh_token_sealed = refresh_token_sealed, \
         refresh_token_sealed = $1, version = version + 1, updated_at = $2 \
         WHERE app_id = $3 AND platform = $4 AND version = $5 AND state = 'standing'",
    )
    .bind(refresh_token_sealed)
    .bind(db.now_ms())
    .bind(app_id)
    .bind(platform)
    .bind(version)
    .execute(&db.writers)
    .await?;
    Ok(rotated.rows_affected() == 1)
}

/// What a look has found out.
#[derive(Clone, Copy, Debug)]
pub struct Looked<'a> {
    /// JSON: what the account is.
    pub facts: &'a str,
    /// JSON: ids of permission sets.
    pub permission_sets: &'a str,
    /// When to look again.
    pub due_at: i64,
}

/// Keeps what a look has found out. False if the lease is not the owner's any more.
///
/// # Errors
/// The database failed.
pub async fn keep_facts(
    change: &mut Change,
    (app_id, platform): (&str, &str),
    owner: &str,
    (looked, now_ms): (Looked<'_>, i64),
) -> Result<bool, DbError> {
    let kept = sqlx::query(
        "UPDATE authorisations SET facts = $1, facts_at = $2, permission_sets = $3, due_at = $4, \
         attempts = 0, error = NULL, lease_owner = NULL, updated_at = $5 \
         WHERE app_id = $6 AND platform = $7 AND lease_owner = $8",
    )
    .bind(looked.facts)
    .bind(now_ms)
    .bind(looked.permission_sets)
    .bind(looked.due_at)
    .bind(now_ms)
    .bind(app_id)
    .bind(platform)
    .bind(owner)
    .execute(change.connection())
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Has a host look again at `due_at`, or nobody any more, because a look was in vain.
///
/// # Errors
/// The database failed.
pub async fn postpone(
    db: &Database,
    (app_id, platform): (&str, &str),
    owner: &str,
    (error, due_at): (&str, Option<i64>),
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE authorisations SET due_at = $1, attempts = attempts + 1, error = $2, \
         lease_owner = NULL WHERE app_id = $3 AND platform = $4 AND lease_owner = $5",
    )
    .bind(due_at)
    .bind(error)
    .bind(app_id)
    .bind(platform)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Says for whom an account is to be made, and has a host look at it now. False if there is no such
/// authorisation, or it is another tenant's.
///
/// # Errors
/// The database failed.
pub async fn claim(
    change: &mut Change,
    (app_id, platform): (&str, &str),
    tenant_id: &str,
    now_ms: i64,
) -> Result<bool, DbError> {
    let claimed = sqlx::query(
        "UPDATE authorisations SET tenant_id = $1, due_at = $2, attempts = 0, lease_owner = NULL \
         WHERE app_id = $3 AND platform = $4 AND state = 'standing' \
         AND (tenant_id IS NULL OR tenant_id = $5)",
    )
    .bind(tenant_id)
    .bind(now_ms)
    .bind(app_id)
    .bind(platform)
    .bind(tenant_id)
    .execute(change.connection())
    .await?;
    Ok(claimed.rows_affected() == 1)
}

/// Leases authorisations that are due, `most` at most.
///
/// # Errors
/// The database failed.
pub async fn lease(
    db: &Database,
    lease: Lease<'_>,
    most: u32,
) -> Result<Vec<AuthorisationRow>, DbError> {
    let statement = format!(
        "UPDATE authorisations SET lease_owner = $1, due_at = $2 WHERE (app_id, platform) IN \
         (SELECT app_id, platform FROM authorisations WHERE due_at <= $3 ORDER BY due_at \
         LIMIT $4 {}) RETURNING {COLUMNS}",
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

/// What is appended to a question for rows to be leased: those that another host has in hand are passed over.
pub(super) fn skip_locked(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => "FOR UPDATE SKIP LOCKED",
    }
}

/// Leases the authorisation of one account, if it is due.
///
/// # Errors
/// The database failed.
pub async fn lease_one(
    db: &Database,
    (app_id, platform): (&str, &str),
    lease: Lease<'_>,
) -> Result<Option<AuthorisationRow>, DbError> {
    let statement = format!(
        "UPDATE authorisations SET lease_owner = $1, due_at = $2 \
         WHERE app_id = $3 AND platform = $4 AND due_at <= $5 RETURNING {COLUMNS}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(app_id)
        .bind(platform)
        .bind(lease.now_ms)
        .fetch_optional(&db.writers)
        .await?)
}

/// Prolongs the lease of an authorisation.
///
/// # Errors
/// The database failed.
pub async fn renew(
    db: &Database,
    (app_id, platform): (&str, &str),
    lease: Lease<'_>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE authorisations SET due_at = $1 \
         WHERE app_id = $2 AND platform = $3 AND lease_owner = $4",
    )
    .bind(lease.until_ms)
    .bind(app_id)
    .bind(platform)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// What an account has granted to a platform.
///
/// # Errors
/// The database failed.
pub async fn find(
    db: &Database,
    app_id: &str,
    platform: &str,
) -> Result<Option<AuthorisationRow>, DbError> {
    let statement =
        format!("SELECT {COLUMNS} FROM authorisations WHERE app_id = $1 AND platform = $2");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(platform)
        .fetch_optional(&db.readers)
        .await?)
}

/// The authorisations by which the accounts call WeChat that were changed after `revision`; all for `-1`.
///
/// # Errors
/// The database failed.
pub async fn of_accounts_changed_after(
    db: &Database,
    revision: i64,
) -> Result<Vec<AuthorisationRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT z.* FROM authorisations z \
         JOIN credential_settings c ON c.app_id = z.app_id AND c.platform = z.platform \
         JOIN accounts a ON a.app_id = z.app_id WHERE a.revision > $1",
    )
    .bind(revision)
    .fetch_all(&db.readers)
    .await?)
}

/// Which authorisations of a platform to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorisationFilter<'a> {
    /// `standing`, `withdrawn`, or `unclaimed` (it stands, and no tenant has it).
    pub state: Option<&'a str>,
    /// Of this tenant.
    pub tenant_id: Option<&'a str>,
}

/// At most `limit` authorisations of a platform after `after`, in order of their accounts.
///
/// # Errors
/// The database failed.
pub async fn list(
    db: &Database,
    platform: &str,
    filter: AuthorisationFilter<'_>,
    (after, limit): (&str, u32),
) -> Result<Vec<AuthorisationRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM authorisations WHERE platform = $1 AND app_id > $2 \
         AND ($3 = '' OR state = $3 OR ($3 = 'unclaimed' AND state = 'standing' \
         AND tenant_id IS NULL)) AND ($4 = '' OR tenant_id = $4) ORDER BY app_id LIMIT $5"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(platform)
        .bind(after)
        .bind(filter.state.unwrap_or_default())
        .bind(filter.tenant_id.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is this caller's to exchange.
    Taken,
    /// Another one exchanges it now.
    UnderWay,
    /// It was exchanged; it is this account's.
    Done(String),
    /// It can't be exchanged any more: why.
    Failed(String),
}

/// Takes the turn to exchange a code, by its hash.
///
/// # Errors
/// The database failed.
pub async fn take_code(
    db: &Database,
    platform: &str,
    hash: &str,
    lease: Lease<'_>,
) -> Result<Code, DbError> {
    let taken = sqlx::query(
        "INSERT INTO authorisation_codes (platform, hash, state, owner, leased_until, created_at) \
         VALUES ($1, $2, 'taken', $3, $4, $5) ON CONFLICT (platform, hash) DO UPDATE \
         SET owner = excluded.owner, leased_until = excluded.leased_until \
         WHERE authorisation_codes.state = 'taken' AND authorisation_codes.leased_until <= $6",
    )
    .bind(platform)
    .bind(hash)
    .bind(lease.owner)
    .bind(lease.until_ms)
    .bind(lease.now_ms)
    .bind(lease.now_ms)
    .execute(&db.writers)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(Code::Taken);
    }
    let found: Option<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT state, app_id, error FROM authorisation_codes WHERE platform = $1 AND hash = $2",
    )
    .bind(platform)
    .bind(hash)
    .fetch_optional(&db.readers)
    .await?;
    Ok(match found {
        Some((state, Some(app_id), _)) if state == "done" => Code::Done(app_id),
        Some((state, _, error)) if state == "failed" => Code::Failed(error.unwrap_or_default()),
        _ => Code::UnderWay,
    })
}

/// Prolongs the turn to exchange a code.
///
/// # Errors
/// The database failed.
pub async fn renew_code(
    db: &Database,
    (platform, hash): (&str, &str),
    lease: Lease<'_>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE authorisation_codes SET leased_until = $1 \
         WHERE platform = $2 AND hash = $3 AND owner = $4 AND state = 'taken'",
    )
    .bind(lease.until_ms)
    .bind(platform)
    .bind(hash)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Notes that a code was exchanged, along with what it brought.
///
/// # Errors
/// The database failed.
pub async fn end_code(
    change: &mut Change,
    platform: &str,
    hash: &str,
    app_id: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE authorisation_codes SET state = 'done', app_id = $1 WHERE platform = $2 AND hash = $3",
    )
    .bind(app_id)
    .bind(platform)
    .bind(hash)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// Notes that a code can't be exchanged any more, or gives the turn back for another try.
///
/// # Errors
/// The database failed.
pub async fn fail_code(
    db: &Database,
    (platform, hash): (&str, &str),
    owner: &str,
    error: Option<&str>,
) -> Result<(), DbError> {
    let statement = match error {
        Some(_) => {
            "UPDATE authorisation_codes SET state = 'failed', error = $1 \
             WHERE platform = $2 AND hash = $3 AND owner = $4 AND state = 'taken'"
        }
        None => {
            "UPDATE authorisation_codes SET leased_until = 0, error = $1 \
             WHERE platform = $2 AND hash = $3 AND owner = $4 AND state = 'taken'"
        }
    };
    sqlx::query(statement)
        .bind(error)
        .bind(platform)
        .bind(hash)
        .bind(owner)
        .execute(&db.writers)
        .await?;
    Ok(())
}

/// Forgets codes and visits that were made before `before_ms`: none is good for so long.
///
/// # Errors
/// The database failed.
pub async fn forget_codes(db: &Database, before_ms: i64) -> Result<(), DbError> {
    for statement in [
        "DELETE FROM authorisation_codes WHERE created_at < $1",
        "DELETE FROM invitation_visits WHERE created_at < $1",
    ] {
        sqlx::query(statement)
            .bind(before_ms)
            .execute(&db.writers)
            .await?;
    }
    Ok(())
}
