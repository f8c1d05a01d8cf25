//! Triggers that count what is in use, in the very transaction that uses it or gives it back: a write
//! that forgets to count is not possible, whichever way it takes and whichever version makes it.
//!
//! The dialects write triggers differently, so they are made here and not by a migration.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::Quota;
use crate::db::{DbError, Dialect};

/// Part of the triggers' names; another number for other triggers.
const VERSION: u32 = 1;

/// What a table's rows use of a quota.
struct Counted {
    quota: Quota,
    table: &'static str,
    /// How much a row uses; `@` stands for the row.
    amount: &'static str,
}

const COUNTED: [Counted; 6] = [
    Counted {
        quota: Quota::ValueBytes,
        table: "kv",
        amount: "length(@.key) + length(@.value)",
    },
    Counted {
        quota: Quota::Values,
        table: "kv",
        amount: "1",
    },
    Counted {
        quota: Quota::ContactsMade,
        table: "contacts",
        amount: "coalesce(@.made_by_effect, 0)",
    },
    Counted {
        quota: Quota::AttributeBytes,
        table: "contacts",
        // `{}` is none.
        amount: "octet_length(@.attributes) - 2",
    },
    Counted {
        quota: Quota::WaitingMessages,
        table: "outbox",
        amount: "CASE WHEN @.settled_at IS NULL THEN 1 ELSE 0 END",
    },
    Counted {
        quota: Quota::WaitingMessages,
        table: "pushes",
        amount: "CASE WHEN @.ended_at IS NULL \
                 THEN @.recipients - @.sent - @.failed - @.skipped - @.unsure ELSE 0 END",
    },
];

/// When a trigger is asked.
#[derive(Clone, Copy)]
enum When {
    Inserted,
    Updated,
    Deleted,
}

impl When {
    const ALL: [Self; 3] = [Self::Inserted, Self::Updated, Self::Deleted];

    fn word(self) -> &'static str {
        match self {
            Self::Inserted => "INSERT",
            Self::Updated => "UPDATE",
            Self::Deleted => "DELETE",
        }
    }

    /// The row that names the account.
    fn row(self) -> &'static str {
        match self {
            Self::Inserted | Self::Updated => "NEW",
            Self::Deleted => "OLD",
        }
    }
}

impl Counted {
    fn name(&self, when: When) -> String {
        let quota = self.quota.as_str().replace('-', "_");
        let (table, when) = (self.table, when.word().to_ascii_lowercase());
        format!("count_{VERSION}_{table}_{quota}_{when}")
    }

    /// How much more is in use.
    fn growth(&self, when: When) -> String {
        let of = |row| format!("({})", self.amount.replace('@', row));
        match when {
            When::Inserted => of("NEW"),
            When::Updated => format!("{} - {}", of("NEW"), of("OLD")),
            When::Deleted => format!("0 - {}", of("OLD")),
        }
    }

    fn insertion(&self, when: When, writer: &str) -> String {
        format!(
            "INSERT INTO quota_use (app_id, quota, day, writer, amount) \
             VALUES ({}.app_id, '{}', 0, {writer}, {}) \
             ON CONFLICT (app_id, quota, day, writer) \
             DO UPDATE SET amount = quota_use.amount + excluded.amount",
            when.row(),
            self.quota.as_str(),
            self.growth(when)
        )
    }

    /// The insertion of the sum of what rows of `source` use, by account.
    fn insertion_of_sums(&self, source: &str, writer: &str) -> String {
        let amount = self.amount.replace("@.", "");
        format!(
            "INSERT INTO quota_use (app_id, quota, day, writer, amount) \
             SELECT app_id, '{}', 0, {writer}, CAST(sum({amount}) AS BIGINT) FROM {source} \
             GROUP BY app_id HAVING sum({amount}) <> 0 \
             ON CONFLICT (app_id, quota, day, writer) \
             DO UPDATE SET amount = quota_use.amount + excluded.amount",
            self.quota.as_str()
        )
    }

    /// The statements that make a trigger.
    fn statements(&self, dialect: Dialect, when: When) -> String {
        let (name, table, word) = (self.name(when), self.table, when.word());
        let growth = self.growth(when);
        let function = |body: String| {
            format!(
                "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $count$ \
                 BEGIN {body}; RETURN NULL; END $count$;"
            )
        };
        match (dialect, when) {
            // Many rows come at once, and all of them count.
            (Dialect::Postgres, When::Inserted) => format!(
                "{} CREATE TRIGGER {name} AFTER INSERT ON {table} REFERENCING NEW TABLE AS added \
                 FOR EACH STATEMENT EXECUTE FUNCTION {name}();",
                function(self.insertion_of_sums("added", "pg_backend_pid()"))
            ),
            (Dialect::Sqlite, _) => format!(
                "CREATE TRIGGER {name} AFTER {word} ON {table} WHEN {growth} <> 0 \
                 BEGIN {}; END;",
                self.insertion(when, "0")
            ),
            // Most rows that change use as much as before: the function is not even called for them.
            (Dialect::Postgres, _) => format!(
                "{} CREATE TRIGGER {name} AFTER {word} ON {table} FOR EACH ROW \
                 WHEN ({growth} <> 0) EXECUTE FUNCTION {name}();",
                function(self.insertion(when, "pg_backend_pid()"))
            ),
        }
    }
}

/// Makes the triggers that are not there yet, for the tables that are, and counts what those hold already.
/// It is one transaction's work: what is written meanwhile waits, and is counted once.
pub(in crate::db) async fn make(dialect: Dialect, db: &mut AnyConnection) -> Result<(), DbError> {
    let looked_up = match dialect {
        Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type IN ('table', 'trigger')",
        Dialect::Postgres => {
            // Of hosts that start together one makes them. What it has made is seen by statements that
            // begin afterwards only, hence this one by itself.
            sqlx::query("SELECT pg_advisory_xact_lock(7793117001)")
                .execute(&mut *db)
                .await?;
            "SELECT CAST(tgname AS TEXT) FROM pg_trigger WHERE NOT tgisinternal \
             UNION ALL SELECT CAST(tablename AS TEXT) FROM pg_tables \
             WHERE schemaname = current_schema()"
        }
    };
    let there: Vec<(String,)> = sqlx::query_as(looked_up).fetch_all(&mut *db).await?;
    let is_there = |wanted: &str| there.iter().any(|(name,)| name == wanted);
    for counted in &COUNTED {
        if is_there(&counted.name(When::Inserted)) || !is_there(counted.table) {
            continue;
        }
        let mut script: String = When::ALL
            .into_iter()
            .map(|when| counted.statements(dialect, when))
            .collect();
        script.push_str(&counted.insertion_of_sums(counted.table, "0"));
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}
