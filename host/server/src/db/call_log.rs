//! Writing call records, many at a time.

use std::borrow::Cow;

use sqlx::{AnyConnection, AssertSqlSafe};
use wxhost_runtime::Digest;
use wxhost_wechat::id::AppId;

use super::values::placeholders;
use super::{Database, DbError, Dialect};

/// Records of one transaction. Rows that fall on the same page of an index are written with it once,
/// and one flush to the disk serves all.
pub const BATCH: usize = 2048;
/// Rows of one statement: few sizes, so that each is prepared once. Thirteen values a row stay far
/// below what either database takes.
const ROWS: [usize; 3] = [128, 16, 1];
const COLUMNS: usize = 13;

/// The record of one call of a plugin.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// Unique.
    pub id: String,
    /// The account.
    pub app_id: AppId,
    /// The event.
    pub event_id: String,
    /// What kind of event, as in WIT.
    pub event_kind: &'static str,
    /// The plugin, if there was one.
    pub digest: Option<Digest>,
    /// Version of the deployment; 0 if there was none.
    pub version: i64,
    /// How it ended: a stable word.
    pub outcome: Cow<'static, str>,
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
    let mut transaction = db.begin().await?;
    let mut left = records;
    for rows in ROWS {
        while left.len() >= rows {
            let (block, rest) = left.split_at(rows);
            insert_block(transaction.connection(), db.dialect(), block).await?;
            left = rest;
        }
    }
    transaction.commit().await
}

async fn insert_block(
    db: &mut AnyConnection,
    dialect: Dialect,
    records: &[CallRecord],
) -> Result<(), DbError> {
    let mut query = sqlx::query(AssertSqlSafe(insert_statement(dialect, records.len())));
    for record in records {
        let digest = record.digest.map(|digest| digest.to_string());
        query = query
            .bind(&record.id)
            .bind(record.app_id.as_str())
            .bind(&record.event_id)
            .bind(record.event_kind)
            .bind(digest.unwrap_or_default())
            .bind(record.version)
            .bind(record.outcome.as_ref())
            .bind(&record.error)
            .bind(&record.log)
            .bind(record.duration_us)
            .bind(record.runs)
            .bind(&record.trace_id)
            .bind(record.created_at);
    }
    query.execute(db).await?;
    Ok(())
}

fn insert_statement(dialect: Dialect, rows: usize) -> String {
    let values = placeholders(dialect, rows, COLUMNS);
    format!(
        "INSERT INTO calls (id, app_id, event_id, event_kind, digest, version, outcome, error, \
         log, duration_us, runs, trace_id, created_at) VALUES {values} ON CONFLICT (id) DO NOTHING"
    )
}
