//! Writing call records, many at a time.

use sqlx::AssertSqlSafe;

use super::values::placeholders;
use super::{Database, DbError, Dialect};

/// Rows of one statement. Thirteen values a row stay far below what either database takes.
pub const BATCH: usize = 128;
const COLUMNS: usize = 13;

/// The record of one call of a plugin.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// Unique.
    pub id: String,
    /// The account.
    pub app_id: String,
    /// The event.
    pub event_id: String,
    /// What kind of event, as in WIT.
    pub event_kind: &'static str,
    /// The plugin; empty if there was none.
    pub digest: String,
    /// Version of the deployment; 0 if there was none.
    pub version: i64,
    /// How it ended: a stable word.
    pub outcome: String,
    /// What went wrong, for the tenant.
    pub error: Option<String>,
    /// The plugin's log.
    pub log: Option<String>,
    /// From the first delivery to the answer, microseconds.
    pub duration_us: i64,
    /// Runs of the handler: more than one after conflicts.
    pub runs: i64,
    /// Trace id of the first delivery.
    pub trace_id: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// Writes records in one transaction; [`BATCH`] of them at most. Writing a record twice is no error.
///
/// # Errors
/// The database can't be reached: nothing is written.
pub async fn insert(db: &Database, records: &[CallRecord]) -> Result<(), DbError> {
    if records.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(AssertSqlSafe(insert_statement(db.dialect(), records.len())))
        .persistent(records.len() == BATCH);
    for record in records {
        query = query
            .bind(&record.id)
            .bind(&record.app_id)
            .bind(&record.event_id)
            .bind(record.event_kind)
            .bind(&record.digest)
            .bind(record.version)
            .bind(&record.outcome)
            .bind(&record.error)
            .bind(&record.log)
            .bind(record.duration_us)
            .bind(record.runs)
            .bind(&record.trace_id)
            .bind(record.created_at);
    }
    query.execute(&db.pool).await?;
    Ok(())
}

fn insert_statement(dialect: Dialect, rows: usize) -> String {
    let values = placeholders(dialect, rows, COLUMNS);
    format!(
        "INSERT INTO calls (id, app_id, event_id, event_kind, digest, version, outcome, error, \
         log, duration_us, runs, trace_id, created_at) VALUES {values} ON CONFLICT (id) DO NOTHING"
    )
}
