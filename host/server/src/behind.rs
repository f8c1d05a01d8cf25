//! Rows that are written behind the answer, in batches.
//!
//! A full queue drops rows and counts them rather than hold up WeChat's five seconds. A database that
//! is away keeps the writer trying; at shutdown the queue is emptied first.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::db::{Database, DbError};

/// Rows that may wait to be written: some seconds of a busy host.
const QUEUE: usize = 1 << 16;
/// How long the writer waits for a batch to fill.
const LINGER: Duration = Duration::from_millis(250);
/// How long the writer waits before it tries a failed batch again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries of a batch after shutdown began, before its rows are given up.
const LAST_TRIES: u32 = 3;

/// What is written behind the answer.
pub trait Row: Send + Sync + Sized + 'static {
    /// What rows of this kind are called in the log.
    const NAME: &'static str;
    /// Rows of one statement.
    const BATCH: usize;

    /// Writes at most [`BATCH`](Self::BATCH) rows, all or none. Writing a row twice is no error.
    fn insert(db: &Database, rows: &[Self]) -> impl Future<Output = Result<(), DbError>> + Send;
}

/// How many rows were dropped.
pub type Dropped = Counter<u64, AtomicU64>;

/// Where rows are handed in.
pub struct Queue<T> {
    queue: mpsc::Sender<T>,
    dropped: Dropped,
}

/// The loop that writes them.
pub struct Writer<T> {
    queue: mpsc::Receiver<T>,
    db: Database,
    dropped: Dropped,
}

/// A queue and its writer.
pub fn channel<T: Row>(db: Database, dropped: Dropped) -> (Queue<T>, Writer<T>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let queue = Queue {
        queue: sender,
        dropped: dropped.clone(),
    };
    let writer = Writer {
        queue: receiver,
        db,
        dropped,
    };
    (queue, writer)
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            dropped: self.dropped.clone(),
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T: Row> Queue<T> {
    /// Hands a row in.
    pub fn add(&self, row: T) {
        if self.queue.try_send(row).is_err() {
            self.dropped.inc();
        }
    }
}

impl<T: Row> Writer<T> {
    /// Writes until every [`Queue`] is gone or `stop` is called, then what is still queued.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(T::BATCH);
        loop {
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut batch, T::BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
                () = stop.cancelled() => break,
            }
            if batch.len() < T::BATCH {
                self.fill(&mut batch, &stop).await;
            }
            self.write(&mut batch, &stop).await;
        }
        self.queue.close();
        while self.queue.recv_many(&mut batch, T::BATCH).await > 0 {
            self.write(&mut batch, &stop).await;
        }
    }

    /// Waits a moment for more rows, so that a quiet host writes few transactions.
    async fn fill(&mut self, batch: &mut Vec<T>, stop: &CancellationToken) {
        let more = async {
            while batch.len() < T::BATCH {
                let room = T::BATCH - batch.len();
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

    async fn write(&self, batch: &mut Vec<T>, stop: &CancellationToken) {
        let mut last_tries = 0;
        while let Err(error) = T::insert(&self.db, batch).await {
            if stop.is_cancelled() {
                last_tries += 1;
            }
            // One row that can't be stored must not hold up all that come after it.
            let hopeless = !matches!(error, DbError::Unavailable(_) | DbError::Conflict(_));
            if hopeless || last_tries >= LAST_TRIES {
                tracing::error!(rows = batch.len(), error = %error, "{} are lost", T::NAME);
                self.dropped.inc_by(batch.len() as u64);
                break;
            }
            tracing::warn!(rows = batch.len(), error = %error, "{} wait for the database", T::NAME);
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stop.cancelled(), if last_tries == 0 => {}
            }
        }
        batch.clear();
    }
}
