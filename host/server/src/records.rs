//! Call records, written behind the answer in batches.
//!
//! A full queue drops records and counts them (`wxhost_call_records_dropped_total`) rather than hold
//! up WeChat's five seconds. A database that is away keeps the writer trying; at shutdown the queue is
//! emptied first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::db::Database;
use crate::db::call_log::{self, BATCH, CallRecord};
use crate::telemetry::Metrics;

/// Records that may wait to be written: some seconds of a busy host.
const QUEUE: usize = 1 << 16;
/// How long the writer waits for a batch to fill.
const LINGER: Duration = Duration::from_millis(250);
/// How long the writer waits before it tries a failed batch again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries of a batch after shutdown began, before its records are given up.
const LAST_TRIES: u32 = 3;

/// Where records are handed in.
#[derive(Debug, Clone)]
pub struct Records {
    queue: mpsc::Sender<CallRecord>,
    metrics: Arc<Metrics>,
}

/// The loop that writes them.
#[derive(Debug)]
pub struct RecordWriter {
    queue: mpsc::Receiver<CallRecord>,
    db: Database,
    metrics: Arc<Metrics>,
}

/// A queue and its writer.
pub fn channel(db: Database, metrics: Arc<Metrics>) -> (Records, RecordWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let records = Records {
        queue: sender,
        metrics: Arc::clone(&metrics),
    };
    let writer = RecordWriter {
        queue: receiver,
        db,
        metrics,
    };
    (records, writer)
}

impl Records {
    /// Hands a record in.
    pub fn add(&self, record: CallRecord) {
        if self.queue.try_send(record).is_err() {
            self.metrics.records_dropped.inc();
        }
    }
}

impl RecordWriter {
    /// Writes until every [`Records`] is gone or `stop` is called, then what is still queued.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
                () = stop.cancelled() => break,
            }
            if batch.len() < BATCH {
                self.fill(&mut batch, &stop).await;
            }
            self.write(&mut batch, &stop).await;
        }
        self.queue.close();
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&mut batch, &stop).await;
        }
    }

    /// Waits a moment for more records, so that a quiet host writes few transactions.
    async fn fill(&mut self, batch: &mut Vec<CallRecord>, stop: &CancellationToken) {
        let more = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                if self.queue.recv_many(batch, room).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(LINGER, more) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn write(&self, batch: &mut Vec<CallRecord>, stop: &CancellationToken) {
        let mut last_tries = 0;
        while let Err(error) = call_log::insert(&self.db, batch).await {
            if stop.is_cancelled() {
                last_tries += 1;
            }
            if last_tries >= LAST_TRIES {
                tracing::error!(records = batch.len(), error = %error, "call records are lost");
                self.metrics.records_dropped.inc_by(batch.len() as u64);
                break;
            }
            tracing::warn!(records = batch.len(), error = %error, "call records wait for the database");
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stop.cancelled(), if last_tries == 0 => {}
            }
        }
        batch.clear();
    }
}
