//! Databases for unit tests: SQLite always, PostgreSQL too where `WXHOST_TEST_POSTGRES_URL` names a
//! server on which databases may be made. `cargo xtask test` names one of its own, and so for Redis in
//! `WXHOST_TEST_REDIS_URL`.

use std::{
    ops::Deref,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::Row;

use super::{Database, Dialect};

/// A database of one test; an SQLite file goes away with it.
pub(crate) struct TestDatabase {
    database: Database,
    _directory: Option<tempfile::TempDir>,
}

impl Deref for TestDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// The address of a database that nobody has opened yet; an SQLite file goes away with it.
pub(crate) struct TestUrl {
    pub(crate) url: String,
    directory: Option<tempfile::TempDir>,
}

impl TestUrl {
    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite://{}/wxhost.db", directory.path().display()),
            directory: Some(directory),
        }
    }

    async fn open(self) -> TestDatabase {
        TestDatabase {
            database: Database::open(&self.url).await.unwrap(),
            _directory: self.directory,
        }
    }
}

/// A fresh SQLite database.
pub(crate) async fn sqlite() -> TestDatabase {
    TestUrl::sqlite().open().await
}

/// One fresh database of each kind that is at hand.
pub(crate) async fn databases() -> Vec<TestDatabase> {
    let mut databases = Vec::new();
    for url in urls().await {
        databases.push(url.open().await);
    }
    databases
}

/// The address of one new database of each kind that is at hand, without tables.
pub(crate) async fn urls() -> Vec<TestUrl> {
    let mut urls = vec![TestUrl::sqlite()];
    if let Ok(server) = std::env::var("WXHOST_TEST_POSTGRES_URL") {
        urls.push(postgres(&server).await);
    }
    urls
}

async fn postgres(server: &str) -> TestUrl {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "unit_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(server).await.unwrap();
    for sql in [
        format!("DROP DATABASE IF EXISTS {name}"),
        format!("CREATE DATABASE {name}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    let base = server.rsplit_once('/').unwrap().0;
    TestUrl {
        url: format!("{base}/{name}"),
        directory: None,
    }
}

/// How the database goes about a statement whose parameters are numbers. PostgreSQL is told that even
/// the smallest table is not to be read from end to end.
pub(crate) async fn plan(db: &Database, statement: &str) -> String {
    let mut transaction = db.begin().await.unwrap();
    let (explain, column) = match db.dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
        Dialect::Postgres => {
            sqlx::raw_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
                .execute(transaction.connection())
                .await
                .unwrap();
            ("EXPLAIN", 0)
        }
    };
    let mut statement = statement.to_owned();
    for number in (1..=9).rev() {
        statement = statement.replace(&format!("${number}"), "1");
    }
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{explain} {statement}")))
        .fetch_all(transaction.connection())
        .await
        .unwrap();
    let lines = rows.iter().map(|row| row.get::<String, _>(column));
    lines.collect::<Vec<_>>().join("\n")
}
