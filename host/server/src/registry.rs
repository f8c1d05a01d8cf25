//! What every host has in memory of rows that follow `meta.revision`: read when it starts, brought up to
//! date by what was changed since, kept as it was last seen while the database is away.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Mutex;

use crate::db::{Database, DbError};

/// A look that takes longer is given up and tried again: its connection may be dead.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// The revision before all others.
const NOTHING_SEEN: i64 = -1;

/// Rows in memory, as `T`. Readers take no lock.
pub(crate) struct Registry<T> {
    db: Database,
    known: ArcSwap<Known<T>>,
    /// One refresh at a time: an older answer must not overwrite a newer one.
    refreshing: Mutex<()>,
}

/// What was last seen in the database.
#[derive(Default)]
pub(crate) struct Known<T> {
    revision: i64,
    value: T,
}

impl<T> Deref for Known<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What is to be read: the rows whose revision is greater than `since`, on top of `known`.
pub(crate) struct Reading<T> {
    /// What was seen before, even if it is of another database.
    pub(crate) known: Arc<Known<T>>,
    /// Rows of this revision and before were seen; [`Reading::is_anew`] if none was.
    pub(crate) since: i64,
}

impl<T> Reading<T> {
    /// Whether all rows are to be read, and what is not among them is no more.
    pub(crate) fn is_anew(&self) -> bool {
        self.since == NOTHING_SEEN
    }

    /// Reads all rows instead.
    pub(crate) fn begin_anew(&mut self) {
        self.since = NOTHING_SEEN;
    }
}

impl<T: Default> Registry<T> {
    /// One that has seen nothing yet.
    pub(crate) fn new(db: Database) -> Self {
        Self {
            db,
            known: ArcSwap::from_pointee(Known {
                revision: NOTHING_SEEN,
                value: T::default(),
            }),
            refreshing: Mutex::new(()),
        }
    }

    /// The database that it follows.
    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    /// What is known now. For a moment: what holds on to it slows down all others.
    pub(crate) fn known(&self) -> Guard<Arc<Known<T>>> {
        self.known.load()
    }

    /// Brings it up to date, if anything was changed: by what `read` makes of the changed rows, and what it
    /// has to tell beside it. One cheap query when nothing was.
    ///
    /// # Errors
    /// The database failed, or takes too long; what is known stays.
    pub(crate) async fn refresh<F, R, O>(&self, read: F) -> Result<Option<O>, DbError>
    where
        F: FnOnce(Reading<T>) -> R,
        R: Future<Output = Result<(T, O), DbError>>,
    {
        tokio::time::timeout(REFRESH_TIMEOUT, self.load(read))
            .await
            .unwrap_or_else(|elapsed| Err(DbError::Unavailable(elapsed.into())))
    }

    /// The same for as long as it takes, at the start of a host.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn load<F, R, O>(&self, read: F) -> Result<Option<O>, DbError>
    where
        F: FnOnce(Reading<T>) -> R,
        R: Future<Output = Result<(T, O), DbError>>,
    {
        let _turn = self.refreshing.lock().await;
        let known = self.known.load_full();
        let revision = self.db.revision().await?;
        if revision == known.revision {
            return Ok(None);
        }
        // A revision that went back is another database, such as a restored one.
        let went_back = revision < known.revision;
        let since = if went_back {
            NOTHING_SEEN
        } else {
            known.revision
        };
        let (value, told) = read(Reading { known, since }).await?;
        self.known.store(Arc::new(Known { revision, value }));
        Ok(Some(told))
    }
}
