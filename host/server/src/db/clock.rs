//! The database's clock: leases, ages, retention and the lives of tokens are measured by it on all hosts.
//!
//! Hosts read it with each look for changes, and count on from there by their own monotonic time. So a
//! host whose wall clock is wrong neither takes leases of others nor deletes what is young.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Database, DbError, Dialect};
use crate::clock::{Clock, millis};

/// How far a host's own clock may be from the database's. WeChat's timestamps are checked by the
/// host's, and accounts allow 300 s by default.
const MAX_SKEW: Duration = Duration::from_secs(30);

/// The database's time as last read. Looking at it takes no lock.
#[derive(Debug, Clone)]
pub struct DatabaseClock(Arc<ArcSwap<Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    database_ms: i64,
    at: Instant,
    /// What the host's own clock said then.
    own_ms: i64,
}

impl Reading {
    /// The database answered between `asked` and now: most likely in the middle.
    fn new(database_ms: i64, asked: Instant) -> Self {
        Self {
            database_ms,
            at: asked + asked.elapsed() / 2,
            own_ms: Clock.now_ms() - millis(asked.elapsed() / 2),
        }
    }

    fn skew_ms(self) -> i64 {
        self.own_ms - self.database_ms
    }

    fn is_off(self) -> bool {
        self.skew_ms().unsigned_abs() > MAX_SKEW.as_millis() as u64
    }
}

impl DatabaseClock {
    pub(super) fn new(database_ms: i64, asked: Instant) -> Self {
        let reading = Reading::new(database_ms, asked);
        Self(Arc::new(ArcSwap::from_pointee(reading)))
    }

    /// Unix milliseconds, counted on from when it was last read.
    pub fn now_ms(&self) -> i64 {
        let reading = self.0.load();
        reading.database_ms + millis(reading.at.elapsed())
    }

    /// One that says what the host's own clock says.
    #[cfg(test)]
    pub(crate) fn own() -> Self {
        Self::new(Clock.now_ms(), Instant::now())
    }

    /// One that is so far ahead of the host's own clock.
    #[cfg(test)]
    pub(crate) fn ahead(by_ms: i64) -> Self {
        Self::new(Clock.now_ms() + by_ms, Instant::now())
    }

    fn set(&self, reading: Reading) -> Reading {
        *self.0.swap(Arc::new(reading))
    }

    fn reading(&self) -> Reading {
        **self.0.load()
    }
}

impl Dialect {
    /// An expression: Unix milliseconds by the database's clock.
    pub(super) fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

impl Database {
    /// Unix milliseconds by the database's clock, counted on from when it was last read.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The database's clock, for those who need nothing else of it.
    pub fn clock(&self) -> DatabaseClock {
        self.clock.clone()
    }

    /// Whether this host's own clock is so far from the database's that its loops had better rest:
    /// what it believes of windows and timestamps is wrong.
    pub fn is_own_clock_off(&self) -> bool {
        self.clock.reading().is_off()
    }

    /// Reads the database's clock; says so when the host's own is off, and when it is right again.
    ///
    /// # Errors
    /// The database can't be reached.
    pub async fn read_clock(&self) -> Result<(), DbError> {
        let asked = Instant::now();
        let statement = format!("SELECT {}", self.dialect.now());
        let (database_ms,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .fetch_one(&self.readers)
            .await?;
        let reading = Reading::new(database_ms, asked);
        let before = self.clock.set(reading);
        if reading.is_off() && !before.is_off() {
            tracing::error!(
                skew_ms = reading.skew_ms(),
                "this host's clock is not the database's: its loops rest until it is set right"
            );
        } else if before.is_off() && !reading.is_off() {
            tracing::info!("this host's clock is right again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn time_is_the_databases() {
        for db in databases().await {
            db.read_clock().await.unwrap();
            assert!((db.now_ms() - Clock.now_ms()).abs() < 5_000);
            assert!(!db.is_own_clock_off());
        }
    }

    #[tokio::test]
    async fn a_host_whose_own_clock_is_wrong_notices_and_leases_by_the_databases_clock() {
        for db in databases().await {
            let wrong = Reading {
                own_ms: Clock.now_ms() + 3_600_000,
                ..db.clock.reading()
            };
            db.clock.set(wrong);
            assert!(db.is_own_clock_off());
            assert!((db.now_ms() - Clock.now_ms()).abs() < 5_000);
            db.read_clock().await.unwrap();
            assert!(!db.is_own_clock_off());
        }
    }

    #[test]
    fn half_a_minute_is_allowed_either_way() {
        for (own_ms, off) in [(0, false), (30_000, false), (30_001, true), (-30_001, true)] {
            let reading = Reading {
                database_ms: 0,
                at: Instant::now(),
                own_ms,
            };
            assert_eq!(reading.is_off(), off, "{own_ms}");
        }
    }
}
