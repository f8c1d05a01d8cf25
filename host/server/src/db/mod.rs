//! The durable state: accounts, plugins, what plugins remember, what is still to be done.
//!
//! All SQL of the host is in this room, one file per table or two. One dialect serves PostgreSQL and
//! SQLite (see `migrations/`); the few differences are in this file. What the rows mean is left to
//! the callers: nothing here opens a sealed box or knows WeChat.

pub mod accounts;
pub mod addresses;
pub mod allowance;
pub mod audit;
pub mod authorisation_codes;
pub mod authorisations;
pub mod callback_settings;
pub mod calls;
mod clock;
pub mod commit;
pub mod contact_updates;
pub mod contacts;
pub mod credential_settings;
pub mod deployments;
pub mod imports;
pub mod inbox;
pub mod invitations;
pub mod keys;
pub mod kv;
pub mod lane_settings;
mod lease;
pub mod ledger;
mod lock;
pub mod logins;
pub mod merchants;
pub mod outbox;
pub mod personal;
pub mod platform_events;
pub mod platform_imports;
pub mod platforms;
pub mod plugin_settings;
pub mod plugins;
pub mod push;
pub mod quotas;
pub mod sealed;
pub mod tenants;
pub mod user_grants;
mod values;

#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    Any, AnyConnection, AnyPool, Encode, Type, any::AnyPoolOptions, error::ErrorKind,
    migrate::Migrator,
};

pub use self::lease::Lease;

pub use self::clock::DatabaseClock;
use self::commit::Groups;
use self::lock::SqliteFile;

/// Connections of one host for events and for what people ask: enough for a busy commit lane, few
/// enough that several hosts share a PostgreSQL with its default of 100.
const MAX_CONNECTIONS: u32 = 12;

/// Connections for what a host does by itself ([`Database::background`]): senders, writers behind the
/// answer, retention. However slow those are, events find a connection.
const MAX_BACKGROUND_CONNECTIONS: u32 = 6;

/// How long a caller waits for a connection. A database that is away is noticed after this time.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Rows that a transaction deletes of a table with short ones.
pub(super) const DELETE_BLOCK: i64 = 5_000;

/// How long a writer waits for its turn on SQLite.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// For the one connection that writes. WAL lets readers go on beside it; FULL makes a commit survive a
/// power cut. Busy accounts write the same pages again and again: 64 MiB of them stay in the cache, and
/// as many (16,384 pages) gather in the WAL before it is copied into the file.
const SQLITE_WRITER: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -65536; \
     PRAGMA wal_autocheckpoint = 16384";

/// For those that read: a statement that is to write fails there, whatever it is.
const SQLITE_READER: &str = "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON";

/// A statement or a lock that takes longer is given up: a stuck one must not hold a connection.
const POSTGRES_SETTINGS: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '30s'";

/// For the connection that migrates: an index over a large table takes longer than any statement of a
/// running host may, so it has none of their limits.
const NO_SETTINGS: &str = "SELECT 1";

/// What a connection is asked before it is used. A server that became a standby still answers, but
/// takes no writes: connections to it are closed, and the next ones lead to the new primary.
const POSTGRES_READ_ONLY: &str = "SELECT CASE WHEN pg_is_in_recovery() \
     OR current_setting('default_transaction_read_only') = 'on' THEN 1 ELSE 0 END";

/// Tables of a newer version are no reason not to start: what it adds, this one does not use.
static MIGRATIONS: std::sync::LazyLock<Migrator> = std::sync::LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("../../migrations");
    migrations.set_ignore_missing(true);
    migrations
});

/// How long an event waits for one use of the database. A server that hangs would hold it for ever
/// otherwise; WeChat delivers it again.
const EVENT_PATIENCE: Duration = Duration::from_secs(3);

/// Does a piece of an event's work, or gives it up after [`EVENT_PATIENCE`]. Whether a transaction that
/// was given up happened is unknown then; committing the event again tells.
pub(crate) async fn patiently<T, E: From<DbError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(EVENT_PATIENCE, work)
        .await
        .unwrap_or_else(|elapsed| Err(DbError::Unavailable(elapsed.into()).into()))
}

/// Which database is behind the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this host alone.
    Sqlite,
    /// A server that hosts may share.
    Postgres,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `sqlite:` nor `postgres:`.
    #[error("the database URL must begin with sqlite:// or postgres://")]
    UnknownScheme,
    /// SQLite without a file.
    #[error(
        "an in-memory SQLite database is not supported: name a file, such as sqlite://wxhost.db"
    )]
    InMemory,
    /// Another host runs on the file.
    #[error(
        "another wxhost already runs on {file}: one host per SQLite file; for several hosts use PostgreSQL"
    )]
    InUse {
        /// The database file.
        file: String,
    },
    /// The file or its lock cannot be made.
    #[error("cannot open the database file {file}")]
    File {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server cannot be reached or refuses us.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The tables could not be brought up to date.
    #[error("cannot bring the database's tables up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The triggers that count what is in use could not be made.
    #[error("cannot make the triggers that count what is in use")]
    Triggers(#[source] DbError),
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database is away or overloaded: the same may work later.
    #[error("the database cannot be reached now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Two transactions met: the same may work at once.
    #[error("two transactions met on the same rows")]
    Conflict(#[source] sqlx::Error),
    /// A row of that key is there already.
    #[error("there is a row of that key already")]
    Duplicate(#[source] sqlx::Error),
    /// A row names another one that is not there.
    #[error("a row that this one refers to is not there")]
    MissingReference(#[source] sqlx::Error),
    /// A text holds what the database cannot keep: PostgreSQL takes no zero character.
    #[error("a text holds a character that the database does not take")]
    InvalidText(#[source] sqlx::Error),
    /// Anything else: a fault of ours or of the data.
    #[error("a statement failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        match error {
            Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => {
                Self::Unavailable(error.into())
            }
            Database(ref cause) => match cause.kind() {
                ErrorKind::UniqueViolation => Self::Duplicate(error),
                ErrorKind::ForeignKeyViolation => Self::MissingReference(error),
                _ => match cause.code().as_deref() {
                    Some("22021") => Self::InvalidText(error),
                    Some(code) if is_conflict(code) => Self::Conflict(error),
                    Some(code) if is_outage(code) => Self::Unavailable(error.into()),
                    _ => Self::Failed(error),
                },
            },
            _ => Self::Failed(error),
        }
    }
}

/// PostgreSQL: serialization failure, deadlock. SQLite: a snapshot that became too old.
fn is_conflict(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "517")
}

/// PostgreSQL: connection exceptions, lack of resources, operator intervention, system errors, lock
/// timeout, and a server that became a standby.
/// SQLite (primary codes, in the low byte): busy, locked, read-only, I/O error, full, cannot open.
fn is_outage(code: &str) -> bool {
    if code.len() == 5 {
        return ["08", "53", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class))
            || matches!(code, "55P03" | "25006");
    }
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
}

/// The host's database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    /// For statements that only read.
    readers: AnyPool,
    /// For all others. SQLite has one writer at a time, hence one connection: those who wait for it
    /// queue up fairly, and its page cache stays true because nobody else writes. PostgreSQL has one
    /// pool for both.
    writers: AnyPool,
    /// What `readers` and `writers` are of a handle that [`Database::background`] gives.
    background: Option<AnyPool>,
    dialect: Dialect,
    clock: DatabaseClock,
    /// Where events' commits meet.
    groups: Arc<Groups>,
    /// Held for as long as the database is open.
    _file: Option<Arc<SqliteFile>>,
}

impl Database {
    /// Opens the database of `url` (`sqlite://path` or `postgres://…`) and brings its tables up to
    /// date. An SQLite file is made when it is not there, and is locked against a second host.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(url)?;
        let (url, file) = match dialect {
            Dialect::Sqlite => {
                let file = SqliteFile::lock(url)?;
                (file.url(), Some(Arc::new(file)))
            }
            Dialect::Postgres => (url.to_owned(), None),
        };
        let asked = Instant::now();
        let database_ms = migrate(&url, dialect).await?;
        let clock = DatabaseClock::new(database_ms, asked);
        let (readers, writers, background) = match dialect {
            // A server may have gone away, so a connection is tried before it is used; a file has not,
            // and it would cost a thread hop.
            Dialect::Sqlite => {
                let writer = AnyPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(TURN_TIMEOUT)
                    .test_before_acquire(false);
                let writer = connect(writer, &url, SQLITE_WRITER).await?;
                let readers = pool_options(MAX_CONNECTIONS).test_before_acquire(false);
                (connect(readers, &url, SQLITE_READER).await?, writer, None)
            }
            Dialect::Postgres => {
                let pool = connect(postgres(MAX_CONNECTIONS), &url, POSTGRES_SETTINGS).await?;
                let background = postgres(MAX_BACKGROUND_CONNECTIONS);
                let background = connect(background, &url, POSTGRES_SETTINGS).await?;
                (pool.clone(), pool, Some(background))
            }
        };
        Ok(Self {
            readers,
            writers,
            background,
            dialect,
            clock,
            groups: Arc::default(),
            _file: file,
        })
    }

    /// The same database over connections of their own, for what a host does by itself. SQLite's
    /// writers queue up for one connection all the same.
    pub fn background(&self) -> Self {
        match &self.background {
            None => self.clone(),
            Some(pool) => Self {
                readers: pool.clone(),
                writers: pool.clone(),
                ..self.clone()
            },
        }
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Transaction, DbError> {
        let transaction = self.writers.begin_with(self.dialect.begin()).await?;
        Ok(Transaction { transaction })
    }

    /// Begins a change to tenants, accounts or deployments: the revision goes up with it, so that no
    /// host misses the change. Changes queue up behind each other, hence revisions are seen in order.
    pub async fn change(&self) -> Result<Change, DbError> {
        let mut transaction = self.begin().await?;
        let (revision,) = sqlx::query_as(
            "UPDATE meta SET revision = revision + 1 WHERE id = 1 RETURNING revision",
        )
        .fetch_one(transaction.connection())
        .await?;
        Ok(Change {
            transaction,
            revision,
        })
    }

    /// The revision of the newest change.
    pub async fn revision(&self) -> Result<i64, DbError> {
        let (revision,) = sqlx::query_as("SELECT revision FROM meta WHERE id = 1")
            .fetch_one(&self.readers)
            .await?;
        Ok(revision)
    }

    /// Deletes the rows that are older than `bound`, `block` of them in a transaction, so that no writer
    /// waits long. `statement` deletes a block: `$1` is the bound, `$2` the most rows. Tells how many
    /// went.
    pub(super) async fn delete_in_blocks<T>(
        &self,
        statement: &'static str,
        bound: T,
        block: i64,
    ) -> Result<u64, DbError>
    where
        T: for<'q> Encode<'q, Any> + Type<Any> + Clone + Send,
    {
        let mut deleted = 0;
        loop {
            let mut transaction = self.begin().await?;
            let gone = sqlx::query(statement)
                .bind(bound.clone())
                .bind(block)
                .execute(transaction.connection())
                .await?
                .rows_affected();
            transaction.commit().await?;
            deleted += gone;
            if gone < block.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }

    /// Tells whether the database answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.revision().await.map(drop)
    }

    /// Closes all connections, after the statements under way.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
        if let Some(background) = &self.background {
            background.close().await;
        }
    }
}

fn pool_options(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
}

fn postgres(connections: u32) -> AnyPoolOptions {
    pool_options(connections)
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move {
                let (read_only,): (i32,) = sqlx::query_as(POSTGRES_READ_ONLY)
                    .fetch_one(connection)
                    .await?;
                Ok(read_only == 0)
            })
        })
}

/// Brings the tables up to date, over a connection of its own; the database's time.
async fn migrate(url: &str, dialect: Dialect) -> Result<i64, OpenError> {
    let settings = match dialect {
        Dialect::Sqlite => SQLITE_WRITER,
        Dialect::Postgres => NO_SETTINGS,
    };
    let pool = connect(pool_options(1), url, settings).await?;
    let migrated = MIGRATIONS.run(&pool).await;
    let counted = match migrated {
        Ok(()) => make_triggers(&pool, dialect).await,
        Err(_) => Ok(()),
    };
    let statement = format!("SELECT {}", dialect.now());
    let now = sqlx::query_as(sqlx::AssertSqlSafe(statement)).fetch_one(&pool);
    let now: Result<(i64,), _> = now.await;
    pool.close().await;
    migrated?;
    counted?;
    Ok(now.map_err(OpenError::Connect)?.0)
}

async fn make_triggers(pool: &AnyPool, dialect: Dialect) -> Result<(), OpenError> {
    let made = async {
        let mut transaction = pool.begin_with(dialect.begin()).await?;
        quotas::make_triggers(dialect, &mut transaction).await?;
        Ok(transaction.commit().await?)
    };
    made.await.map_err(OpenError::Triggers)
}

/// A pool whose connections begin with `settings`.
async fn connect(
    options: AnyPoolOptions,
    url: &str,
    settings: &'static str,
) -> Result<AnyPool, OpenError> {
    options
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
        })
        .connect(url)
        .await
        .map_err(OpenError::Connect)
}

impl Dialect {
    fn of(url: &str) -> Result<Self, OpenError> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(OpenError::UnknownScheme),
        }
    }

    /// SQLite takes the write lock at once: a reader that becomes a writer later can fail.
    fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }
}

/// A transaction; dropped without [`commit`](Self::commit), it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    transaction: sqlx::Transaction<'static, Any>,
}

impl Transaction {
    /// Where its statements go.
    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Makes it durable.
    pub async fn commit(self) -> Result<(), DbError> {
        Ok(self.transaction.commit().await?)
    }
}

/// A change to tenants, accounts or deployments; see [`Database::change`].
#[derive(Debug)]
pub struct Change {
    transaction: Transaction,
    revision: i64,
}

impl Change {
    fn connection(&mut self) -> &mut AnyConnection {
        self.transaction.connection()
    }

    /// Makes the change durable.
    pub async fn commit(self) -> Result<(), DbError> {
        self.transaction.commit().await
    }
}

#[cfg(test)]
mod tests;

/// Places of a statement for a list of at least `count`, from `$first` on. A power of two: so the database
/// prepares a few statements, not one for each length, and what is bound last is bound over again.
fn places(first: usize, count: usize) -> Vec<String> {
    let places = (first..).take(count.next_power_of_two());
    places.map(|place| format!("${place}")).collect()
}
