//! Call records, written behind the answer. What finds no room is counted
//! (`wxhost_call_records_dropped_total`); before that, records lose their logs, which is counted too
//! (`wxhost_call_logs_dropped_total`).

use crate::db::calls::{self, BATCH, Record};
use crate::db::{Database, DbError};
use crate::telemetry::Metrics;
use crate::write_behind::{self, Row};

/// Where records are handed in.
pub type Records = write_behind::Queue<Record>;

/// The loop that writes them.
pub type RecordWriter = write_behind::Writer<Record>;

impl Row for Record {
    const NAME: &'static str = "call records";
    const BATCH: usize = BATCH;

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn lighten(&mut self) -> bool {
        self.drop_log()
    }

    async fn insert(db: &Database, rows: &[Self]) -> Result<(), DbError> {
        calls::write(db, rows).await
    }
}

/// A queue and its writer.
pub fn channel(db: Database, metrics: &Metrics) -> (Records, RecordWriter) {
    write_behind::channel(db, metrics.records.clone())
}
