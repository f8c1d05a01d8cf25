//! Rows that are written behind the answer, in batches.
//!
//! A full queue drops rows and counts them rather than hold up WeChat's five seconds. A database that
//! is away keeps the writer trying; at shutdown the queue is emptied first.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
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
    /// Rows of one transaction.
    const BATCH: usize;

    /// Writes at most [`BATCH`](Self::BATCH) rows. Writing a row twice is no error: after a failure all
    /// are written again.
    fn insert(db: &Database, rows: &[Self]) -> impl Future<Output = Result<(), DbError>> + Send;
}

/// How many rows were dropped.
pub type Dropped = Counter<u64, AtomicU64>;

/// Where rows are handed in.
pub struct Queue<T> {
    waiting: Arc<Waiting<T>>,
    dropped: Dropped,
}

/// The loop that writes them.
pub struct Writer<T> {
    waiting: Arc<Waiting<T>>,
    db: Database,
    dropped: Dropped,
}

/// Rows between the two. The writer is woken twice for a batch, not for each row as a channel would.
struct Waiting<T> {
    rows: Mutex<Rows<T>>,
    /// The first row has come, or enough for a batch.
    wake: Notify,
}

struct Rows<T> {
    rows: Vec<T>,
    closed: bool,
}

/// A queue and its writer.
pub fn channel<T: Row>(db: Database, dropped: Dropped) -> (Queue<T>, Writer<T>) {
    let rows = Rows {
        rows: Vec::new(),
        closed: false,
    };
    let waiting = Arc::new(Waiting {
        rows: Mutex::new(rows),
        wake: Notify::new(),
    });
    let queue = Queue {
        waiting: Arc::clone(&waiting),
        dropped: dropped.clone(),
    };
    let writer = Writer {
        waiting,
        db,
        dropped,
    };
    (queue, writer)
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
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
        let waiting = {
            let mut rows = self.waiting.rows.lock();
            if rows.closed || rows.rows.len() >= QUEUE {
                self.dropped.inc();
                return;
            }
            rows.rows.push(row);
            rows.rows.len()
        };
        if waiting == 1 || waiting == T::BATCH {
            self.waiting.wake.notify_one();
        }
    }
}

impl<T> Waiting<T> {
    /// Takes the rows and leaves `empty` in their place.
    fn take(&self, empty: Vec<T>) -> Vec<T> {
        std::mem::replace(&mut self.rows.lock().rows, empty)
    }

    /// Takes the rows; none is taken in any more.
    fn close(&self) -> Vec<T> {
        let mut rows = self.rows.lock();
        rows.closed = true;
        std::mem::take(&mut rows.rows)
    }
}

impl<T: Row> Writer<T> {
    /// Writes until `stop` is called, then what is still queued.
    pub async fn run(self, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.waiting.wake.notified() => {}
            }
            self.fill(&stop).await;
            batch = self.waiting.take(batch);
            self.write_all(&mut batch, &stop).await;
        }
        self.write_all(&mut self.waiting.close(), &stop).await;
    }

    /// Waits a moment for more rows, so that a quiet host writes few transactions.
    async fn fill(&self, stop: &CancellationToken) {
        if self.waiting.rows.lock().rows.len() >= T::BATCH {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LINGER) => {}
            () = self.waiting.wake.notified() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn write_all(&self, rows: &mut Vec<T>, stop: &CancellationToken) {
        for batch in rows.chunks(T::BATCH) {
            self.write(batch, stop).await;
        }
        rows.clear();
    }

    async fn write(&self, batch: &[T], stop: &CancellationToken) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::sqlite;

    struct Number(usize);

    impl Row for Number {
        const NAME: &'static str = "numbers";
        const BATCH: usize = 1_000;

        async fn insert(db: &Database, rows: &[Self]) -> Result<(), DbError> {
            assert!(rows.len() <= Self::BATCH);
            // The revision counts the batches.
            db.change().await?.commit().await?;
            assert!(
                rows.iter().all(|row| row.0 < QUEUE),
                "a row that was dropped"
            );
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_queue_counts_what_it_drops_and_a_stopped_one_too() {
        let db = sqlite().await;
        let dropped = Dropped::default();
        let (queue, writer) = channel(db.clone(), dropped.clone());
        for number in 0..QUEUE + 3 {
            queue.add(Number(number));
        }
        assert_eq!(dropped.get(), 3);
        let before = db.revision().await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        let batches = i64::try_from(QUEUE.div_ceil(Number::BATCH)).unwrap();
        assert_eq!(db.revision().await.unwrap(), before + batches);
        queue.add(Number(0));
        assert_eq!(dropped.get(), 4);
    }

    #[tokio::test]
    async fn rows_that_come_together_are_written_together() {
        let db = sqlite().await;
        let (queue, writer) = channel(db.clone(), Dropped::default());
        let before = db.revision().await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(writer.run(stop.clone()));
        queue.add(Number(1));
        queue.add(Number(2));
        while db.revision().await.unwrap() == before {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        running.await.unwrap();
        assert_eq!(db.revision().await.unwrap(), before + 1);
    }
}
