//! A look past the API into a site's tables, for what no API shows yet, and a hand on its file's lock.

use anyhow::{Result, ensure};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, PgConnection};
use wxhost_simulator::{Environment, SystemEnvironment};

use crate::account::Account;
use crate::secrets;
use crate::site::{Pair, Site};

/// A message that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OutboxRow {
    /// The event that it answers.
    pub event_id: String,
    /// What sort of message.
    pub kind: String,
    /// To whom.
    pub open_id: String,
    /// Whether it is sent.
    pub state: String,
    /// What is posted: JSON.
    pub payload: String,
}

/// The only writer of an SQLite file, until it is released.
#[derive(Debug)]
pub struct FileLock(AnyConnection);

impl Site {
    /// The messages of an account that wait to be sent.
    pub async fn outbox(&self, account: &Account) -> Result<Vec<OutboxRow>> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query_as(
            "SELECT event_id, kind, open_id, state, payload FROM outbox WHERE app_id = $1 ORDER BY created_at",
        )
        .bind(account.app_id())
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        Ok(rows)
    }

    /// Leaves an event as a host that has committed it would, under any id and with any answer.
    pub async fn leave_committed(
        &self,
        account: &Account,
        event_id: &str,
        answer: &str,
    ) -> Result<()> {
        let mut connection = self.connect().await?;
        sqlx::query(
            "INSERT INTO inbox (app_id, event_id, state, answer, lease_until, attempts, created_at) \
             VALUES ($1, $2, 'done', $3, 0, 0, $4)",
        )
        .bind(account.app_id())
        .bind(event_id)
        .bind(answer)
        .bind(i64::try_from(SystemEnvironment.now().as_millis())?)
        .execute(&mut connection)
        .await?;
        Ok(connection.close().await?)
    }

    /// Keeps every host from writing to the file; reading goes on.
    pub async fn lock_file(&self) -> Result<FileLock> {
        ensure!(self.pair() == Pair::Embedded, "only a file has a lock");
        let mut connection = self.connect().await?;
        connection.execute("PRAGMA busy_timeout = 10000").await?;
        connection.execute("BEGIN IMMEDIATE").await?;
        Ok(FileLock(connection))
    }

    /// Fails if anything in the database shows a secret.
    pub async fn expect_sealed_at_rest(&self) -> Result<()> {
        let place = self.database_url();
        match place.strip_prefix("sqlite://") {
            Some(file) => {
                for part in [file.to_owned(), format!("{file}-wal")] {
                    let bytes = std::fs::read(&part).unwrap_or_default();
                    secrets::expect_none(&part, &String::from_utf8_lossy(&bytes))?;
                }
            }
            None => {
                let mut connection = PgConnection::connect(&place).await?;
                connection.execute("SET bytea_output = 'escape'").await?;
                let tables: Vec<String> = sqlx::query_scalar(
                    "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'",
                )
                .fetch_all(&mut connection)
                .await?;
                ensure!(tables.len() > 5, "only {tables:?}");
                for table in tables {
                    let query = AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
                    let rows: Vec<String> =
                        sqlx::query_scalar(query).fetch_all(&mut connection).await?;
                    secrets::expect_none(&format!("the table {table}"), &rows.join("\n"))?;
                }
                connection.close().await?;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<AnyConnection> {
        sqlx::any::install_default_drivers();
        Ok(AnyConnection::connect(&self.database_url()).await?)
    }
}

impl FileLock {
    /// Lets others write.
    pub async fn release(mut self) -> Result<()> {
        self.0.execute("ROLLBACK").await?;
        Ok(self.0.close().await?)
    }
}
