//! The audit: who did what, for the operator to look up. Entries are added and, by age, let go.

use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

use super::{Change, DELETE_BLOCK, Database, DbError, Dialect, values};

/// Rows of one statement.
pub const BATCH: usize = 128;
const COLUMNS: usize = 8;

/// A row of `audit`. Made by `crate::audit`, which sees to it that the texts can be stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Names the entry.
    pub id: String,
    /// `admin`, `host`, or the id of an API key.
    pub actor: String,
    /// What was done, a stable word such as `key.add`.
    pub action: String,
    /// The account that it was done to, if one.
    pub app_id: Option<String>,
    /// What else it was done to, such as a forwarded path; may be empty.
    pub object: String,
    /// `ok`, or what came of it.
    pub result: String,
    /// The request, as in the log.
    pub request_id: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// Which entries to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFilter<'a> {
    /// Of this account only.
    pub app_id: Option<&'a str>,
    /// Of this actor only.
    pub actor: Option<&'a str>,
    /// Older than this entry.
    pub before: Option<&'a str>,
    /// So many at most.
    pub limit: u32,
}

/// Adds an entry to a change: one does not happen without the other.
pub async fn note(change: &mut Change, entry: &AuditRow) -> Result<(), DbError> {
    // Numbered placeholders are known to both dialects.
    let values = values::placeholders(Dialect::Postgres, 1, COLUMNS, "");
    insertion(&values, std::slice::from_ref(entry))
        .execute(change.connection())
        .await?;
    Ok(())
}

/// Writes entries at once; [`BATCH`] of them at most. Writing an entry twice is no error.
///
/// # Errors
/// The database can't be reached: nothing is written.
pub async fn insert(db: &Database, entries: &[AuditRow]) -> Result<(), DbError> {
    if entries.is_empty() {
        return Ok(());
    }
    let values = values::placeholders(db.dialect(), entries.len(), COLUMNS, "");
    let mut transaction = db.begin().await?;
    insertion(&values, entries)
        .persistent(entries.len() == BATCH)
        .execute(transaction.connection())
        .await?;
    transaction.commit().await
}

fn insertion<'a>(values: &str, entries: &'a [AuditRow]) -> Query<'a, Any, AnyArguments> {
    let statement = format!(
        "INSERT INTO audit (id, actor, action, app_id, object, result, request_id, created_at) \
         VALUES {values} ON CONFLICT (app_id, created_at, id) DO NOTHING"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for entry in entries {
        query = query
            .bind(&entry.id)
            .bind(&entry.actor)
            .bind(&entry.action)
            .bind(entry.app_id.as_deref().unwrap_or_default())
            .bind(&entry.object)
            .bind(&entry.result)
            .bind(&entry.request_id)
            .bind(entry.created_at);
    }
    query
}

/// Entries, newest first.
pub async fn list(db: &Database, filter: &AuditFilter<'_>) -> Result<Vec<AuditRow>, DbError> {
    let (before_time, before_id) = match filter.before {
        None => (i64::MAX, ""),
        Some(id) => match created_at(db, id).await? {
            Some(time) => (time, id),
            // Let go by retention: everything older has gone with it.
            None => return Ok(Vec::new()),
        },
    };
    Ok(sqlx::query_as(
        "SELECT id, actor, action, NULLIF(app_id, '') AS app_id, object, result, request_id, \
         created_at FROM audit WHERE ($1 = '' OR app_id = $1) AND ($2 = '' OR actor = $2) \
         AND created_at <= $3 AND (created_at < $3 OR id < $4) \
         ORDER BY created_at DESC, id DESC LIMIT $5",
    )
    .bind(filter.app_id.unwrap_or_default())
    .bind(filter.actor.unwrap_or_default())
    .bind(before_time)
    .bind(before_id)
    .bind(i64::from(filter.limit))
    .fetch_all(&db.readers)
    .await?)
}

async fn created_at(db: &Database, id: &str) -> Result<Option<i64>, DbError> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT created_at FROM audit WHERE id = $1")
        .bind(id)
        .fetch_optional(&db.readers)
        .await?;
    Ok(row.map(|(time,)| time))
}

/// Deletes the entries made before `time_ms`, block by block; tells how many went.
pub async fn delete_older(db: &Database, time_ms: i64) -> Result<u64, DbError> {
    let statement = "DELETE FROM audit WHERE (app_id, created_at, id) IN \
         (SELECT app_id, created_at, id FROM audit WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    db.delete_in_blocks(statement, time_ms, DELETE_BLOCK).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    fn entry(id: &str, actor: &str, app_id: Option<&str>, created_at: i64) -> AuditRow {
        AuditRow {
            id: id.into(),
            actor: actor.into(),
            action: "forward".into(),
            app_id: app_id.map(Into::into),
            object: "GET /cgi-bin/menu/get".into(),
            result: "200".into(),
            request_id: "r".into(),
            created_at,
        }
    }

    async fn ids(db: &Database, filter: AuditFilter<'_>) -> Vec<String> {
        let rows = list(db, &AuditFilter { limit: 2, ..filter }).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    #[tokio::test]
    async fn entries_are_listed_newest_first_and_let_go_by_age() {
        for db in databases().await {
            let entries = [
                entry("a1", "admin", None, 1),
                entry("a2", "k1", Some("wx01"), 2),
                entry("a3", "k1", Some("wx01"), 3),
                entry("a4", "k2", Some("wx02"), 3),
            ];
            insert(&db, &entries).await.unwrap();
            insert(&db, &entries[..1]).await.unwrap();
            let all = AuditFilter::default();
            assert_eq!(ids(&db, all).await, ["a4", "a3"]);
            for (filter, expected) in [
                (
                    AuditFilter {
                        before: Some("a3"),
                        ..all
                    },
                    vec!["a2", "a1"],
                ),
                (
                    AuditFilter {
                        before: Some("gone"),
                        ..all
                    },
                    vec![],
                ),
                (
                    AuditFilter {
                        actor: Some("admin"),
                        ..all
                    },
                    vec!["a1"],
                ),
                (
                    AuditFilter {
                        app_id: Some("wx01"),
                        ..all
                    },
                    vec!["a3", "a2"],
                ),
            ] {
                assert_eq!(ids(&db, filter).await, expected, "{filter:?}");
            }
            assert_eq!(delete_older(&db, 3).await.unwrap(), 2);
            assert_eq!(ids(&db, all).await, ["a4", "a3"]);
        }
    }

    #[tokio::test]
    async fn an_entry_goes_back_with_its_change() {
        for db in databases().await {
            let mut change = db.change().await.unwrap();
            note(&mut change, &entry("a1", "admin", None, 1))
                .await
                .unwrap();
            drop(change);
            assert!(ids(&db, AuditFilter::default()).await.is_empty());
            let mut change = db.change().await.unwrap();
            note(&mut change, &entry("a1", "admin", None, 1))
                .await
                .unwrap();
            change.commit().await.unwrap();
            assert_eq!(ids(&db, AuditFilter::default()).await, ["a1"]);
        }
    }
}
