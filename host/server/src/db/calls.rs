//! Records of calls: reading them, and letting the old ones go.

use super::{Database, DbError};

/// A record, without the plugin's log.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CallRow {
    /// Names the call.
    pub id: String,
    /// The account.
    pub app_id: String,
    /// The event that it was about.
    pub event_id: String,
    /// The kind of the event, such as `text`.
    pub event_kind: String,
    /// The component.
    pub digest: String,
    /// The deployment.
    pub version: i64,
    /// What came of it.
    pub outcome: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Microseconds from the event's arrival to its outcome.
    pub duration_us: i64,
    /// How often the handler ran.
    pub runs: i64,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// A record with the plugin's log.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct LoggedCallRow {
    /// The record.
    #[sqlx(flatten)]
    pub call: CallRow,
    /// What the plugin wrote, and the backtrace of a trap.
    pub log: Option<String>,
}

/// Which records to list.
#[derive(Clone, Debug)]
pub struct CallFilter<'a> {
    /// The account.
    pub app_id: &'a str,
    /// Of this outcome only.
    pub outcome: Option<&'a str>,
    /// Older than this record.
    pub before: Option<&'a str>,
    /// So many at most.
    pub limit: u32,
}

/// The records of an account, newest first.
pub async fn list(db: &Database, filter: &CallFilter<'_>) -> Result<Vec<CallRow>, DbError> {
    let (before_time, before_id) = match filter.before {
        None => (i64::MAX, ""),
        Some(id) => match created_at(db, filter.app_id, id).await? {
            Some(time) => (time, id),
            // Let go by retention: everything older has gone with it.
            None => return Ok(Vec::new()),
        },
    };
    Ok(sqlx::query_as(
        "SELECT id, app_id, event_id, event_kind, digest, version, outcome, error, duration_us, \
         runs, trace_id, created_at FROM calls \
         WHERE app_id = $1 AND created_at <= $2 AND ($3 = '' OR outcome = $3) \
         AND (created_at < $2 OR id < $4) ORDER BY created_at DESC, id DESC LIMIT $5",
    )
    .bind(filter.app_id)
    .bind(before_time)
    .bind(filter.outcome.unwrap_or_default())
    .bind(before_id)
    .bind(i64::from(filter.limit))
    .fetch_all(&db.pool)
    .await?)
}

async fn created_at(db: &Database, app_id: &str, id: &str) -> Result<Option<i64>, DbError> {
    let row: Option<(i64,)> =
        sqlx::query_as("SELECT created_at FROM calls WHERE id = $1 AND app_id = $2")
            .bind(id)
            .bind(app_id)
            .fetch_optional(&db.pool)
            .await?;
    Ok(row.map(|(time,)| time))
}

/// One record.
pub async fn find(db: &Database, id: &str) -> Result<Option<LoggedCallRow>, DbError> {
    Ok(sqlx::query_as("SELECT * FROM calls WHERE id = $1")
        .bind(id)
        .fetch_optional(&db.pool)
        .await?)
}

/// Deletes the records made before `time_ms`, block by block; tells how many went.
pub async fn delete_older(db: &Database, time_ms: i64) -> Result<u64, DbError> {
    let statement = "DELETE FROM calls WHERE id IN \
         (SELECT id FROM calls WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    db.delete_in_blocks(statement, time_ms).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    async fn add(db: &Database, id: &str, outcome: &str, created_at: i64) {
        sqlx::query(
            "INSERT INTO calls (id, app_id, event_id, event_kind, digest, version, outcome, error, \
             log, duration_us, runs, trace_id, created_at) \
             VALUES ($1, 'wx01', 'm:1', 'text', 'd', 1, $2, NULL, 'said', 10, 1, 't', $3)",
        )
        .bind(id)
        .bind(outcome)
        .bind(created_at)
        .execute(&db.pool)
        .await
        .unwrap();
    }

    async fn ids(db: &Database, outcome: Option<&str>, before: Option<&str>) -> Vec<String> {
        let filter = CallFilter {
            app_id: "wx01",
            outcome,
            before,
            limit: 2,
        };
        let rows = list(db, &filter).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    #[tokio::test]
    async fn records_are_listed_newest_first_and_let_go_by_age() {
        for db in databases().await {
            for (id, outcome, time) in [
                ("c1", "replied", 1),
                ("c2", "trap", 2),
                ("c3", "replied", 3),
                ("c4", "replied", 3),
            ] {
                add(&db, id, outcome, time).await;
            }
            assert_eq!(ids(&db, None, None).await, ["c4", "c3"]);
            assert_eq!(ids(&db, None, Some("c4")).await, ["c3", "c2"]);
            assert_eq!(ids(&db, None, Some("c3")).await, ["c2", "c1"]);
            assert_eq!(ids(&db, Some("trap"), None).await, ["c2"]);
            assert!(ids(&db, None, Some("gone")).await.is_empty());

            let call = find(&db, "c2").await.unwrap().unwrap();
            assert_eq!(call.log.as_deref(), Some("said"));
            assert_eq!(call.call.outcome, "trap");

            assert_eq!(delete_older(&db, 3).await.unwrap(), 2);
            assert_eq!(delete_older(&db, 3).await.unwrap(), 0);
            assert_eq!(ids(&db, None, None).await, ["c4", "c3"]);
        }
    }
}
