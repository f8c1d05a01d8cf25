//! Call records, written behind the answer. What finds no room is counted
//! (`wxhost_call_records_dropped_total`).

use crate::behind::{self, Row};
use crate::db::call_log::{self, BATCH, CallRecord};
use crate::db::{Database, DbError};
use crate::telemetry::Metrics;

/// Where records are handed in.
pub type Records = behind::Queue<CallRecord>;

/// The loop that writes them.
pub type RecordWriter = behind::Writer<CallRecord>;

impl Row for CallRecord {
    const NAME: &'static str = "call records";
    const BATCH: usize = BATCH;

    async fn insert(db: &Database, rows: &[Self]) -> Result<(), DbError> {
        call_log::insert(db, rows).await
    }
}

/// A queue and its writer.
pub fn channel(db: Database, metrics: &Metrics) -> (Records, RecordWriter) {
    behind::channel(db, metrics.records_dropped.clone())
}
