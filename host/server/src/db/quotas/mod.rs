//! Quotas: what operators have set, and what is in use.
//!
//! What is in use is kept by the transactions that use it (`triggers`); here it is read. What begins anew
//! each day, a host adds itself.

mod growth;
#[cfg(test)]
mod tests;
mod triggers;

use std::str::FromStr;

use sqlx::{AnyConnection, AssertSqlSafe};

pub use self::growth::{Growth, growth};
pub(super) use self::triggers::make as make_triggers;
use super::values::placeholders;
use super::{Change, DELETE_BLOCK, Database, DbError, Dialect};

/// Accounts whose use is read by one statement.
pub const ACCOUNTS_AT_ONCE: usize = 256;

/// What is bounded for each account, and for all accounts of a tenant where the operator says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quota {
    /// Bytes of the values that plugins keep, keys included.
    ValueBytes,
    /// How many values they keep.
    Values,
    /// Contacts that effects made and that have not been met otherwise.
    ContactsMade,
    /// Bytes of contacts' attributes.
    AttributeBytes,
    /// Messages and other calls that wait to be sent.
    WaitingMessages,
    /// Bytes that plugins write into logs in a day (Beijing).
    LogBytesADay,
    /// Callbacks that a host begins in a second.
    CallbacksASecond,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ValueBytes,
        Self::Values,
        Self::ContactsMade,
        Self::AttributeBytes,
        Self::WaitingMessages,
        Self::LogBytesADay,
        Self::CallbacksASecond,
    ];

    /// Its name in errors, in the API and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValueBytes => "value-bytes",
            Self::Values => "values",
            Self::ContactsMade => "contacts-made",
            Self::AttributeBytes => "attribute-bytes",
            Self::WaitingMessages => "waiting-messages",
            Self::LogBytesADay => "log-bytes-a-day",
            Self::CallbacksASecond => "callbacks-a-second",
        }
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|quota| quota.as_str() == name);
        named.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("there is no quota {name:?}; there are {}", names.join(", "))
        })
    }
}

/// Whose a quota is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// An account's, by its app id.
    Account(&'a str),
    /// A tenant's, by its id: for all its accounts together.
    Tenant(&'a str),
}

impl<'a> Owner<'a> {
    fn id(self) -> &'a str {
        match self {
            Self::Account(id) | Self::Tenant(id) => id,
        }
    }
}

/// What an operator has set of one owner's quotas.
///
/// # Errors
/// The database failed.
pub async fn set_of(db: &Database, owner: Owner<'_>) -> Result<Vec<(String, i64)>, DbError> {
    let statement = match owner {
        Owner::Account(_) => "SELECT quota, most FROM account_quotas WHERE app_id = $1",
        Owner::Tenant(_) => "SELECT quota, most FROM tenant_quotas WHERE tenant_id = $1",
    };
    let query = sqlx::query_as(statement).bind(owner.id());
    Ok(query.fetch_all(&db.readers).await?)
}

/// What operators have set for the accounts that were changed after `revision`: app id, quota, how much.
///
/// # Errors
/// The database failed.
pub async fn of_accounts_changed_after(
    db: &Database,
    revision: i64,
) -> Result<Vec<(String, String, i64)>, DbError> {
    let query = sqlx::query_as(
        "SELECT q.app_id, q.quota, q.most FROM account_quotas q \
         JOIN accounts a ON a.app_id = q.app_id WHERE a.revision > $1",
    );
    Ok(query.bind(revision).fetch_all(&db.readers).await?)
}

/// The same for the tenants that were changed after `revision`.
///
/// # Errors
/// The database failed.
pub async fn of_tenants_changed_after(
    db: &Database,
    revision: i64,
) -> Result<Vec<(String, String, i64)>, DbError> {
    let query = sqlx::query_as(
        "SELECT q.tenant_id, q.quota, q.most FROM tenant_quotas q \
         JOIN tenants t ON t.id = q.tenant_id WHERE t.revision > $1",
    );
    Ok(query.bind(revision).fetch_all(&db.readers).await?)
}

/// Sets a quota, or leaves it to the host's settings again. Hosts see it as a change of its owner.
///
/// # Errors
/// The database failed.
pub async fn set(
    change: &mut Change,
    owner: Owner<'_>,
    quota: Quota,
    most: Option<i64>,
) -> Result<(), DbError> {
    let (table, column, touch) = match owner {
        Owner::Account(_) => (
            "account_quotas",
            "app_id",
            "UPDATE accounts SET revision = $2 WHERE app_id = $1",
        ),
        Owner::Tenant(_) => (
            "tenant_quotas",
            "tenant_id",
            "UPDATE tenants SET revision = $2 WHERE id = $1",
        ),
    };
    let statement = match most {
        Some(_) => format!(
            "INSERT INTO {table} ({column}, quota, most) VALUES ($1, $2, $3) \
             ON CONFLICT ({column}, quota) DO UPDATE SET most = excluded.most"
        ),
        None => format!("DELETE FROM {table} WHERE {column} = $1 AND quota = $2"),
    };
    let mut query = sqlx::query(AssertSqlSafe(statement))
        .bind(owner.id())
        .bind(quota.as_str());
    if let Some(most) = most {
        query = query.bind(most);
    }
    query.execute(change.connection()).await?;
    sqlx::query(touch)
        .bind(owner.id())
        .bind(change.revision)
        .execute(change.connection())
        .await?;
    Ok(())
}

/// Sets for an account what is set for another.
///
/// # Errors
/// The database failed.
pub async fn copy(change: &mut Change, from: &str, to: &str) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO account_quotas (app_id, quota, most) \
         SELECT $1, quota, most FROM account_quotas WHERE app_id = $2",
    )
    .bind(to)
    .bind(from)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// What is in use of each quota that has been used, `day` being today.
///
/// # Errors
/// The database failed.
pub async fn in_use(
    db: &Database,
    owner: Owner<'_>,
    day: i64,
) -> Result<Vec<(String, i64)>, DbError> {
    let statement = match owner {
        Owner::Account(_) => {
            "SELECT quota, CAST(sum(amount) AS BIGINT) FROM quota_use \
             WHERE app_id = $1 AND day IN (0, $2) GROUP BY quota"
        }
        Owner::Tenant(_) => {
            "SELECT quota, CAST(sum(amount) AS BIGINT) FROM quota_use \
             WHERE app_id IN (SELECT app_id FROM accounts WHERE tenant_id = $1) \
             AND day IN (0, $2) GROUP BY quota"
        }
    };
    let query = sqlx::query_as(statement).bind(owner.id()).bind(day);
    Ok(query.fetch_all(&db.readers).await?)
}

/// The same for many accounts at once ([`ACCOUNTS_AT_ONCE`] at most): app id, quota, amount.
///
/// # Errors
/// The database failed.
pub async fn in_use_by_accounts(
    db: &Database,
    app_ids: &[&str],
    day: i64,
) -> Result<Vec<(String, String, i64)>, DbError> {
    if app_ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!(
        "SELECT app_id, quota, CAST(sum(amount) AS BIGINT) FROM quota_use \
         WHERE (app_id) IN (VALUES {}) AND day IN (0, {day}) GROUP BY app_id, quota",
        placeholders(db.dialect(), app_ids.len(), 1, "")
    );
    let mut query = sqlx::query_as(AssertSqlSafe(statement)).persistent(false);
    for app_id in app_ids {
        query = query.bind(*app_id);
    }
    Ok(query.fetch_all(&db.readers).await?)
}

/// Adds to what accounts have used of a quota that begins anew each day: app id and amount of each.
pub(super) async fn add_of_day(
    dialect: Dialect,
    db: &mut AnyConnection,
    (quota, day): (Quota, i64),
    amounts: &[(&str, i64)],
) -> Result<(), DbError> {
    let writer = match dialect {
        Dialect::Sqlite => "0",
        Dialect::Postgres => "pg_backend_pid()",
    };
    let statement = format!(
        "INSERT INTO quota_use (app_id, quota, day, writer, amount) \
         VALUES ($1, $2, $3, {writer}, $4) ON CONFLICT (app_id, quota, day, writer) \
         DO UPDATE SET amount = quota_use.amount + excluded.amount"
    );
    for (app_id, amount) in amounts {
        sqlx::query(AssertSqlSafe(statement.clone()))
            .bind(*app_id)
            .bind(quota.as_str())
            .bind(day)
            .bind(*amount)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Forgets the days before `today`, and makes one row of what connections that have ended left behind.
///
/// # Errors
/// The database failed.
pub async fn tidy(db: &Database, today: i64) -> Result<(), DbError> {
    let old_days = match db.dialect() {
        Dialect::Sqlite => {
            "DELETE FROM quota_use WHERE rowid IN \
             (SELECT rowid FROM quota_use WHERE day > 0 AND day < $1 LIMIT $2)"
        }
        Dialect::Postgres => {
            "DELETE FROM quota_use WHERE ctid = ANY(ARRAY( \
             SELECT ctid FROM quota_use WHERE day > 0 AND day < $1 LIMIT $2))"
        }
    };
    db.delete_in_blocks(old_days, today, DELETE_BLOCK).await?;
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    // A row that a transaction under way is writing is left for the next time.
    sqlx::query(
        "WITH left_behind AS (SELECT app_id, quota, day, writer FROM quota_use \
           WHERE writer <> 0 AND writer NOT IN (SELECT pid FROM pg_stat_activity) \
           FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM quota_use u USING left_behind l WHERE u.app_id = l.app_id \
           AND u.quota = l.quota AND u.day = l.day AND u.writer = l.writer \
           RETURNING u.app_id, u.quota, u.day, u.amount) \
         INSERT INTO quota_use (app_id, quota, day, writer, amount) \
         SELECT app_id, quota, day, 0, sum(amount) FROM gone GROUP BY app_id, quota, day \
         ON CONFLICT (app_id, quota, day, writer) \
         DO UPDATE SET amount = quota_use.amount + excluded.amount",
    )
    .execute(&db.writers)
    .await?;
    Ok(())
}
