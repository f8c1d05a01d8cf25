//! What accounts have granted to third-party platforms.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::platforms::tests::add_platform;
    use crate::db::testing::databases;

    fn granted(refresh_token: Option<&str>, told_at: i64) -> Grant<'_> {
        Grant {
            app_id: "wx01",
            platform: "wx0c",
            refresh_token_sealed: refresh_token,
            permission_sets: "[1,7]",
            told_at,
            claim: Some(Claim {
                tenant_id: "acme",
                invitation: None,
            }),
        }
    }

    async fn row(db: &Database) -> AuthorisationRow {
        find(db, "wx01", "wx0c").await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn wechats_later_word_counts_whichever_comes_first() {
        for db in databases().await {
            add_platform(&db, "wx0c").await;
            let tell = async |is_grant: bool, told_at: i64| {
                let mut change = db.change().await.unwrap();
                let told = match is_grant {
                    true => grant(&mut change, &granted(Some("r"), told_at), 1).await,
                    false => withdraw(&mut change, "wx01", "wx0c", (told_at, 1)).await,
                };
                change.commit().await.unwrap();
                (told.unwrap(), row(&db).await.state)
            };
            let (standing, withdrawn) = (STANDING.to_owned(), WITHDRAWN.to_owned());
            // The end is told before the beginning.
            assert_eq!(tell(false, 20).await, (true, withdrawn.clone()));
            assert_eq!(tell(true, 10).await, (false, withdrawn.clone()));
            assert_eq!(row(&db).await.refresh_token_sealed, None);
            assert_eq!(tell(true, 30).await, (true, standing.clone()));
            assert_eq!(tell(false, 25).await, (false, standing.clone()));
            assert_eq!(tell(false, 40).await, (true, withdrawn.clone()));
            assert_eq!(row(&db).await.refresh_token_sealed, None);
            assert_eq!(tell(false, 41).await, (false, withdrawn));
        }
    }

    #[tokio::test]
    async fn a_refresh_token_is_changed_only_by_who_read_the_present_one() {
        for db in databases().await {
            add_platform(&db, "wx0c").await;
            let mut change = db.change().await.unwrap();
            grant(&mut change, &granted(Some("a"), 1), 1).await.unwrap();
            change.commit().await.unwrap();
            let read = row(&db).await;
            let key = ("wx01", "wx0c");
            assert!(rotate(&db, key, read.version, "b").await.unwrap());
            assert!(!rotate(&db, key, read.version, "late").await.unwrap());
            let now = row(&db).await;
            assert_eq!(now.refresh_token_sealed.as_deref(), Some("b"));
            assert_eq!(now.former_refresh_token_sealed.as_deref(), Some("a"));
            // A new authorisation overtakes a refresh that is under way.
            let mut change = db.change().await.unwrap();
            grant(&mut change, &granted(Some("c"), 2), 1).await.unwrap();
            change.commit().await.unwrap();
            assert!(!rotate(&db, key, now.version, "late").await.unwrap());
            // One that tells no token leaves the present one.
            let mut change = db.change().await.unwrap();
            grant(&mut change, &granted(None, 3), 1).await.unwrap();
            change.commit().await.unwrap();
            assert_eq!(row(&db).await.refresh_token_sealed.as_deref(), Some("c"));
        }
    }

    #[tokio::test]
    async fn a_list_adds_what_is_not_known_and_mends_what_is_lost() {
        for db in databases().await {
            add_platform(&db, "wx0c").await;
            let tell = async |token, told_at| {
                let mut change = db.change().await.unwrap();
                let added = add(&mut change, &granted(token, told_at), 1).await.unwrap();
                change.commit().await.unwrap();
                (added, row(&db).await.refresh_token_sealed)
            };
            let owned = |text: &str| Some(text.to_owned());
            assert_eq!(tell(None, 5).await, (true, None));
            assert_eq!(tell(Some("a"), 5).await, (true, owned("a")));
            assert_eq!(tell(Some("b"), 5).await, (false, owned("a")));
            assert_eq!(tell(Some("c"), 6).await, (true, owned("c")));
            assert_eq!(tell(None, 7).await, (false, owned("c")));
        }
    }

    #[tokio::test]
    async fn what_is_due_is_leased_once_and_only_its_owner_ends_it() {
        for db in databases().await {
            add_platform(&db, "wx0c").await;
            let mut change = db.change().await.unwrap();
            grant(&mut change, &granted(Some("a"), 1), 1).await.unwrap();
            change.commit().await.unwrap();
            let begin = |owner| Lease::begin(&db, owner, Duration::from_secs(60));
            assert_eq!(lease(&db, begin("one"), 9).await.unwrap().len(), 1);
            assert_eq!(lease(&db, begin("two"), 9).await.unwrap(), []);
            let key = ("wx01", "wx0c");
            assert_eq!(lease_one(&db, key, begin("two")).await.unwrap(), None);
            let looked = Looked {
                facts: "{}",
                permission_sets: "[1]",
                due_at: i64::MAX,
            };
            for (owner, expected) in [("two", false), ("one", true), ("one", false)] {
                let mut change = db.change().await.unwrap();
                let kept = keep_facts(&mut change, key, owner, (looked, 5)).await;
                change.commit().await.unwrap();
                assert_eq!(kept.unwrap(), expected, "{owner}");
            }
            let mut change = db.change().await.unwrap();
            assert!(!claim(&mut change, key, "other", 1).await.unwrap());
            assert!(claim(&mut change, key, "acme", 1).await.unwrap());
            change.commit().await.unwrap();
            assert!(lease_one(&db, key, begin("two")).await.unwrap().is_some());
        }
    }
}
