//! Rows that are written behind the answer, in batches.
//!
//! A full queue drops rows and counts them rather than hold up WeChat's five seconds; before that, rows
//! lose what makes them heavy ([`Row::lighten`]). A database that is away keeps the writer trying; a
//! batch that the database refuses is halved until the row that is to blame stands alone. At shutdown
//! the queue is emptied first.

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
/// Bytes that they may take. From half of it on, rows are lightened.
const QUEUE_BYTES: usize = 64 << 20;
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

    /// Bytes that the row takes while it waits.
    fn bytes(&self) -> usize;

    /// Drops what the row can do without, where there is little room. Tells whether there was anything.
    fn lighten(&mut self) -> bool {
        false
    }

    /// Writes at most [`BATCH`](Self::BATCH) rows. Writing a row twice is no error: after a failure all
    /// are written again.
    fn insert(db: &Database, rows: &[Self]) -> impl Future<Output = Result<(), DbError>> + Send;
}

/// How many there were of something.
pub type Count = Counter<u64, AtomicU64>;

/// What was lost of rows of one kind.
#[derive(Debug, Clone, Default)]
pub struct Losses {
    /// Rows that were dropped.
    pub dropped: Count,
    /// Rows that were lightened.
    pub lightened: Count,
}

/// Where rows are handed in.
pub struct Queue<T> {
    waiting: Arc<Waiting<T>>,
    losses: Losses,
}

/// The loop that writes them.
pub struct Writer<T> {
    waiting: Arc<Waiting<T>>,
    db: Database,
    losses: Losses,
}

/// Rows between the two. The writer is woken twice for a batch, not for each row as a channel would.
struct Waiting<T> {
    rows: Mutex<Rows<T>>,
    /// The first row has come, or enough for a batch.
    wake: Notify,
}

struct Rows<T> {
    rows: Vec<T>,
    bytes: usize,
    closed: bool,
}

/// A queue and its writer.
pub fn channel<T: Row>(db: Database, losses: Losses) -> (Queue<T>, Writer<T>) {
    let rows = Rows {
        rows: Vec::new(),
        bytes: 0,
        closed: false,
    };
    let waiting = Arc::new(Waiting {
        rows: Mutex::new(rows),
        wake: Notify::new(),
    });
    let queue = Queue {
        waiting: Arc::clone(&waiting),
        losses: losses.clone(),
    };
    let writer = Writer {
        waiting,
        db,
        losses,
    };
    (queue, writer)
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
            losses: self.losses.clone(),
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
    pub fn add(&self, mut row: T) {
        let waiting = {
            let mut rows = self.waiting.rows.lock();
            if rows.bytes + row.bytes() > QUEUE_BYTES / 2 && row.lighten() {
                self.losses.lightened.inc();
            }
            let bytes = rows.bytes + row.bytes();
            if rows.closed || rows.rows.len() >= QUEUE || bytes > QUEUE_BYTES {
                self.losses.dropped.inc();
                return;
            }
            rows.bytes = bytes;
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
        let mut rows = self.rows.lock();
        rows.bytes = 0;
        std::mem::replace(&mut rows.rows, empty)
    }

    /// Takes the rows; none is taken in any more.
    fn close(&self) -> Vec<T> {
        let mut rows = self.rows.lock();
        rows.closed = true;
        rows.bytes = 0;
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

    /// Writes a batch, but for the rows that the database refuses.
    async fn write(&self, batch: &[T], stop: &CancellationToken) {
        let mut pieces = vec![batch];
        while let Some(piece) = pieces.pop() {
            let Err(error) = self.insert(piece, stop).await else {
                continue;
            };
            if piece.len() > 1 && is_refusal(&error) {
                let (first, second) = piece.split_at(piece.len() / 2);
                pieces.extend([second, first]);
                continue;
            }
            tracing::error!(rows = piece.len(), error = %error, "{} are lost", T::NAME);
            self.losses.dropped.inc_by(piece.len() as u64);
        }
    }

    /// Writes rows; waits for a database that is away, at shutdown not for long.
    ///
    /// # Errors
    /// The rows are refused, or the database did not come back in time.
    async fn insert(&self, rows: &[T], stop: &CancellationToken) -> Result<(), DbError> {
        let mut last_tries = 0;
        while let Err(error) = T::insert(&self.db, rows).await {
            if stop.is_cancelled() {
                last_tries += 1;
            }
            if is_refusal(&error) || last_tries >= LAST_TRIES {
                return Err(error);
            }
            tracing::warn!(rows = rows.len(), error = %error, "{} wait for the database", T::NAME);
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stop.cancelled(), if last_tries == 0 => {}
            }
        }
        Ok(())
    }
}

/// Whether rows are refused for what they are, so that to wait would help nobody.
fn is_refusal(error: &DbError) -> bool {
    !matches!(error, DbError::Unavailable(_) | DbError::Conflict(_))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::db::tenants::{self, TenantRow};
    use crate::db::testing::sqlite;

    /// A row; how many were written is counted.
    #[derive(Default)]
    struct Number {
        number: usize,
        log: Vec<u8>,
        written: Arc<AtomicUsize>,
    }

    /// The database takes all numbers but this one.
    const REFUSED: usize = 13;

    impl Row for Number {
        const NAME: &'static str = "numbers";
        const BATCH: usize = 1_000;

        fn bytes(&self) -> usize {
            self.log.len()
        }

        fn lighten(&mut self) -> bool {
            !std::mem::take(&mut self.log).is_empty()
        }

        async fn insert(db: &Database, rows: &[Self]) -> Result<(), DbError> {
            assert!(rows.len() <= Self::BATCH);
            assert!(
                rows.iter().all(|row| row.number < QUEUE),
                "a row that was dropped"
            );
            // The revision counts the batches.
            let mut change = db.change().await?;
            if rows.iter().any(|row| row.number == REFUSED) {
                tenants::insert(&mut change, &tenant()).await?;
            }
            change.commit().await?;
            for row in rows {
                row.written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }

    /// There is one of that id already.
    fn tenant() -> TenantRow {
        TenantRow {
            id: "acme".to_owned(),
            name: String::new(),
            max_concurrent_calls: 1,
            like_app_id: None,
            created_at: 1,
        }
    }

    fn number(number: usize) -> Number {
        Number {
            number,
            ..Number::default()
        }
    }

    #[tokio::test]
    async fn a_row_that_is_refused_takes_no_other_with_it() {
        let db = sqlite().await;
        let mut change = db.change().await.unwrap();
        tenants::insert(&mut change, &tenant()).await.unwrap();
        change.commit().await.unwrap();
        let losses = Losses::default();
        let written = Arc::new(AtomicUsize::new(0));
        let (queue, writer) = channel(db.clone(), losses.clone());
        for value in 0..40 {
            queue.add(Number {
                written: Arc::clone(&written),
                ..number(value)
            });
        }
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        assert_eq!(written.load(Ordering::Relaxed), 39);
        assert_eq!(losses.dropped.get(), 1);
    }

    #[tokio::test]
    async fn heavy_rows_lose_what_makes_them_heavy_first() {
        let db = sqlite().await;
        let losses = Losses::default();
        let (queue, _writer) = channel(db.clone(), losses.clone());
        let heavy = || Number {
            log: vec![0; QUEUE_BYTES / 4],
            ..Number::default()
        };
        for (lightened, dropped) in [(0, 0), (0, 0), (1, 0), (2, 0)] {
            queue.add(heavy());
            assert_eq!(losses.lightened.get(), lightened);
            assert_eq!(losses.dropped.get(), dropped);
        }
    }

    #[tokio::test]
    async fn rows_that_stay_heavy_find_no_room() {
        struct Lead;
        impl Row for Lead {
            const NAME: &'static str = "lead";
            const BATCH: usize = 1_000;

            fn bytes(&self) -> usize {
                QUEUE_BYTES / 2
            }

            async fn insert(_: &Database, _: &[Self]) -> Result<(), DbError> {
                Ok(())
            }
        }
        let db = sqlite().await;
        let losses = Losses::default();
        let (queue, _writer) = channel(db.clone(), losses.clone());
        for dropped in [0, 0, 1] {
            queue.add(Lead);
            assert_eq!(losses.dropped.get(), dropped);
        }
    }

    #[tokio::test]
    async fn a_full_queue_counts_what_it_drops_and_a_stopped_one_too() {
        let db = sqlite().await;
        let losses = Losses::default();
        let (queue, writer) = channel(db.clone(), losses.clone());
        // None of them is refused.
        for value in (0..QUEUE + 3).map(|value| value.max(REFUSED + 1)) {
            queue.add(number(value));
        }
        assert_eq!(losses.dropped.get(), 3);
        let before = db.revision().await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        let batches = i64::try_from(QUEUE.div_ceil(Number::BATCH)).unwrap();
        assert_eq!(db.revision().await.unwrap(), before + batches);
        queue.add(number(0));
        assert_eq!(losses.dropped.get(), 4);
    }

    #[tokio::test]
    async fn rows_that_come_together_are_written_together() {
        let db = sqlite().await;
        let (queue, writer) = channel(db.clone(), Losses::default());
        let before = db.revision().await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(writer.run(stop.clone()));
        queue.add(number(1));
        queue.add(number(2));
        while db.revision().await.unwrap() == before {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        running.await.unwrap();
        assert_eq!(db.revision().await.unwrap(), before + 1);
    }
}
