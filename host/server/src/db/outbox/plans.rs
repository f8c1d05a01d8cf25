//! The plans of the outbox's hot queries at size: by an index, without a look at every row and without
//! sorting what waits, on both databases.

use sqlx::{AssertSqlSafe, Row};

use super::OutboxFilter;
use super::held::HELD_OF;
use super::history::{self, FORGET};
use super::lines::{LANES, REFRESH, candidates, expired, unlined};
use crate::db::testing::{TestDatabase, databases};
use crate::db::{Database, Dialect};

/// Accounts with some rows each, beside those that are meant.
const ACCOUNTS: i64 = 2_000;
/// Rows of the account, of the contact, and of the API that rests.
const MANY: i64 = 20_000;
const NOW: i64 = 1_700_000_000_000;

/// What is bound.
#[derive(Clone, Copy)]
enum Value {
    Text(&'static str),
    Number(i64),
}

use Value::{Number, Text};

const CONTACT: &[Value] = &[Text("wxcontact"), Text("o"), Text("")];

/// Rows `from` to `to`: account, contact and API are expressions over their number `i`.
async fn fill(db: &Database, range: (i64, i64), [app_id, open_id, path]: [&str; 3]) {
    let numbers = "WITH RECURSIVE n (i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)";
    for statement in [
        format!(
            "{numbers} INSERT INTO outbox (id, app_id, event_id, ordinal, kind, open_id, path, \
             payload, state, due_at, trace_id, created_at, expires_at, attempts, reserved, fence) \
             SELECT CAST(1000000 + i AS TEXT), {app_id}, CAST(i AS TEXT), 1, 'template', {open_id}, \
             {path}, '{{}}', 'waiting', {NOW}, 't', {NOW}, {NOW} + 1000 + i, 0, 0, 0 FROM n"
        ),
        format!(
            "{numbers} INSERT INTO outbox_lines (app_id, open_id, path, due_at) \
             SELECT {app_id}, {open_id}, {path}, {NOW} FROM n WHERE 1 = 1 ON CONFLICT DO NOTHING"
        ),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .bind(range.0)
            .bind(range.1)
            .execute(&db.writers)
            .await
            .unwrap();
    }
}

/// Many accounts, an account with much, a contact with much, and APIs that rest.
async fn filled() -> Vec<TestDatabase> {
    let databases = databases().await;
    for db in &databases {
        let many = ACCOUNTS * 10;
        let each = ["'wx' || i % 2000", "'o' || i / 2000", "'/a'"];
        fill(db, (0, many - 1), each).await;
        fill(db, (many, many + MANY), ["'wxmuch'", "'o' || i", "'/a'"]).await;
        let contact = (many + MANY + 1, many + 2 * MANY);
        fill(db, contact, ["'wxcontact'", "'o'", "'/a'"]).await;
        sqlx::query(
            "INSERT INTO outbox_pauses (app_id, path, until_at, reason) \
             SELECT DISTINCT app_id, path, 9999999999999, 'quota' FROM outbox_lines",
        )
        .execute(&db.writers)
        .await
        .unwrap();
        sqlx::query("ANALYZE").execute(&db.writers).await.unwrap();
    }
    databases
}

async fn plan(db: &Database, statement: &str, values: &[Value]) -> String {
    let (explain, column) = match db.dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
        Dialect::Postgres => ("EXPLAIN (COSTS OFF)", "QUERY PLAN"),
    };
    let mut query = sqlx::query(AssertSqlSafe(format!("{explain} {statement}")));
    for value in values {
        query = match value {
            Text(text) => query.bind(*text),
            Number(number) => query.bind(*number),
        };
    }
    let lines = query.fetch_all(&db.writers).await.unwrap();
    let lines = lines.iter().map(|line| line.get::<String, _>(column));
    lines.collect::<Vec<_>>().join("\n")
}

/// That a plan looks at no table as a whole and sorts nothing.
#[track_caller]
fn check(dialect: Dialect, name: &str, plan: &str) {
    for line in plan.lines() {
        let line = line.trim_start_matches([' ', '-', '>']);
        let bad = match dialect {
            Dialect::Sqlite => {
                // What a subquery has already found may be looked at as a whole.
                let whole = line.strip_prefix("SCAN ");
                let derived = |what: &str| {
                    ["lane", "c", "over", "CONSTANT"]
                        .contains(&what.split(' ').next().unwrap_or_default())
                        // This index holds nothing but what is looked for.
                        || what.ends_with(" outbox_without_line")
                };
                whole.is_some_and(|what| !derived(what)) || line.contains("TEMP B-TREE")
            }
            Dialect::Postgres => line.starts_with("Seq Scan") || line.starts_with("Sort"),
        };
        assert!(!bad, "{dialect:?} {name}: {line}\n{plan}");
    }
}

/// Lists of an account with 200,000 rows, of which one is what is looked for.
#[tokio::test]
async fn lists_by_state_and_by_person_go_to_what_they_show() {
    const ROWS: i64 = 200_000;
    for db in databases().await {
        // In pieces: a statement may not take for ever.
        for from in (0..ROWS).step_by(20_000) {
            fill(&db, (from, from + 19_999), ["'wxmuch'", "'o'", "'/a'"]).await;
        }
        sqlx::query("UPDATE outbox SET state = 'failed', open_id = 'rare' WHERE id = '1000007'")
            .execute(&db.writers)
            .await
            .unwrap();
        sqlx::query("ANALYZE").execute(&db.writers).await.unwrap();
        let all = OutboxFilter {
            app_id: "wxmuch",
            state: None,
            open_id: None,
            before: Some("2"),
            limit: 50,
        };
        for (index, filter) in [
            (
                "outbox_by_account_state",
                OutboxFilter {
                    state: Some("failed"),
                    ..all
                },
            ),
            (
                "outbox_by_account_person",
                OutboxFilter {
                    open_id: Some("rare"),
                    ..all
                },
            ),
        ] {
            let (statement, values) = history::statement(&filter);
            let statement = values
                .iter()
                .enumerate()
                .fold(statement, |text, (n, value)| {
                    text.replace(&format!("${}", n + 1), &format!("'{value}'"))
                });
            let statement = statement.replace(&format!("${}", values.len() + 1), "50");
            let plan = plan(&db, &statement, &[]).await;
            check(db.dialect(), index, &plan);
            assert!(plan.contains(index), "{plan}");
            let listed = history::list(&db, filter).await.unwrap();
            assert_eq!(listed.len(), 1);
        }
    }
}

#[tokio::test]
async fn hot_queries_go_by_an_index_and_sort_nothing() {
    for db in filled().await {
        let dialect = db.dialect();
        let (candidates, expired) = (candidates(dialect), expired(dialect));
        let unlined = format!("SELECT id {}", unlined(dialect));
        for (name, statement, values) in [
            (
                "lanes",
                LANES,
                &[Text("wx1"), Text("/a"), Number(128), Number(NOW)][..],
            ),
            (
                "candidates",
                &candidates,
                &[
                    Text("wxmuch"),
                    Text("/a"),
                    Number(NOW),
                    Number(8),
                    Text("/b"),
                    Text("/c"),
                ],
            ),
            ("expired", &expired, &[Number(NOW + 5_000), Number(100)]),
            ("without lines", &unlined, &[Number(500)]),
            ("held", HELD_OF, &[Text("wxcontact"), Text("o")]),
            ("old", FORGET, &[Number(NOW), Number(100)]),
            ("ended line", REFRESH[0], CONTACT),
            ("next of a line", REFRESH[1], CONTACT),
        ] {
            check(dialect, name, &plan(&db, statement, values).await);
        }
    }
}
