//! What is in use is counted whatever way it comes and goes; on both databases.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wxhost_wechat::id::{AppId, OpenId};

use super::*;
use crate::db::commit::{Commit, Expectation, ReadSet, Write, commit};
use crate::db::contact_updates::{self, ContactUpdate};
use crate::db::inbox::CallbackRow;
use crate::db::outbox::{Kind, Outgoing};
use crate::db::personal::{Change as ContactChange, PersonalEffects, Step};
use crate::db::testing::databases;

const APP: &str = "wx01";

fn put(key: &str, bytes: usize) -> Write {
    Write {
        key: key.to_owned(),
        value: Some(vec![b'x'; bytes]),
        expect: Expectation::Any,
    }
}

fn delete(key: &str) -> Write {
    Write {
        key: key.to_owned(),
        value: None,
        expect: Expectation::Any,
    }
}

fn attributes(open_id: &str, members: Value) -> Step {
    let Value::Object(members) = members else {
        panic!("an object");
    };
    Step::Change {
        open_id: open_id.to_owned(),
        change: ContactChange::Attributes(members),
    }
}

/// Commits effects, and checks that what they were said to add is what they added.
async fn apply(db: &Database, event_id: &str, writes: &[Write], steps: &[Step]) {
    let before = used(db).await;
    let growth = growth(db, APP, writes, steps).await.unwrap();
    let at_most = Growth::at_most(writes, steps);
    let request = Commit {
        app_id: APP,
        event_id,
        reads: &ReadSet::default(),
        writes,
        version: 1,
        money: &[],
        personal: PersonalEffects {
            sender: None,
            steps,
        },
        trace_id: "t",
        now_ms: 1,
    };
    let row = CallbackRow {
        answer: "".into(),
        late: None,
    };
    commit(db, &row, &request).await.unwrap();
    let after = used(db).await;
    for (name, added, most) in [
        ("value-bytes", growth.value_bytes, at_most.value_bytes),
        ("values", growth.values, at_most.values),
        ("contacts-made", growth.contacts_made, at_most.contacts_made),
        (
            "attribute-bytes",
            growth.attribute_bytes,
            at_most.attribute_bytes,
        ),
        (
            "waiting-messages",
            growth.waiting_messages,
            at_most.waiting_messages,
        ),
    ] {
        let amount = |used: &BTreeMap<String, i64>| used.get(name).copied().unwrap_or_default();
        assert_eq!(
            amount(&after) - amount(&before),
            added,
            "{name} of {event_id}"
        );
        assert!(added <= most, "{name} of {event_id}: {added} of {most}");
    }
}

async fn used(db: &Database) -> BTreeMap<String, i64> {
    let rows = in_use(db, Owner::Account(APP), 0).await.unwrap();
    rows.into_iter()
        .filter(|(_, amount)| *amount != 0)
        .collect()
}

fn amounts(expected: &[(&str, i64)]) -> BTreeMap<String, i64> {
    let amounts = expected.iter();
    amounts
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

#[tokio::test]
async fn values_are_counted_as_they_come_change_and_go() {
    for db in databases().await {
        apply(&db, "1", &[put("a", 10), put("bb", 20)], &[]).await;
        assert_eq!(
            used(&db).await,
            amounts(&[("value-bytes", 33), ("values", 2)])
        );
        // The last write of a key is the one that stays.
        apply(&db, "2", &[put("a", 1), put("a", 3), put("c", 0)], &[]).await;
        assert_eq!(
            used(&db).await,
            amounts(&[("value-bytes", 27), ("values", 3)])
        );
        apply(&db, "3", &[put("bb", 20)], &[]).await;
        apply(
            &db,
            "4",
            &[delete("a"), delete("none"), put("c", 5), delete("c")],
            &[],
        )
        .await;
        assert_eq!(
            used(&db).await,
            amounts(&[("value-bytes", 22), ("values", 1)])
        );
        apply(&db, "5", &[delete("bb")], &[]).await;
        assert_eq!(used(&db).await, amounts(&[]));
    }
}

#[tokio::test]
async fn an_event_that_is_not_committed_uses_nothing() {
    for db in databases().await {
        apply(&db, "1", &[put("a", 10)], &[]).await;
        let conflict = Write {
            expect: Expectation::Absent,
            ..put("a", 5)
        };
        let request = Commit {
            app_id: APP,
            event_id: "2",
            reads: &ReadSet::default(),
            writes: &[put("b", 100), conflict],
            version: 2,
            money: &[],
            personal: PersonalEffects::default(),
            trace_id: "t",
            now_ms: 1,
        };
        let row = CallbackRow {
            answer: "".into(),
            late: None,
        };
        commit(&db, &row, &request).await.unwrap();
        assert_eq!(
            used(&db).await,
            amounts(&[("value-bytes", 11), ("values", 1)])
        );
    }
}

#[tokio::test]
async fn contacts_that_effects_make_count_until_they_are_met() {
    for db in databases().await {
        let steps = [
            attributes("oA", json!({"points": 5})),
            attributes("oB", json!({"points": 5, "gone": null})),
        ];
        apply(&db, "1", &[], &steps).await;
        let points = r#""points":5"#.len() as i64;
        assert_eq!(
            used(&db).await,
            amounts(&[("attribute-bytes", 2 * points), ("contacts-made", 2)])
        );
        apply(
            &db,
            "2",
            &[],
            &[attributes("oA", json!({"points": 500, "é": "ü"}))],
        )
        .await;
        apply(
            &db,
            "3",
            &[],
            &[attributes("oA", json!({"points": null, "é": null}))],
        )
        .await;
        assert_eq!(
            used(&db).await,
            amounts(&[("attribute-bytes", points), ("contacts-made", 2)])
        );
        let (app_id, open_id) = (AppId::parse(APP).unwrap(), OpenId::parse("oA").unwrap());
        let seen = ContactUpdate::new(app_id, open_id, 1);
        contact_updates::write(&db, &[seen]).await.unwrap();
        assert_eq!(
            used(&db).await,
            amounts(&[("attribute-bytes", points), ("contacts-made", 1)])
        );
    }
}

#[tokio::test]
async fn messages_count_while_they_wait() {
    for db in databases().await {
        let message = Step::Send(Outgoing {
            kind: Kind::CustomerMessage,
            open_id: "oA".to_owned(),
            path: "/cgi-bin/message/custom/send".to_owned(),
            payload: "{}".to_owned(),
            expires_at: None,
        });
        apply(&db, "1", &[], &[message.clone(), message]).await;
        assert_eq!(used(&db).await.get("waiting-messages"), Some(&2));
        sqlx::query("UPDATE outbox SET settled_at = 5 WHERE ordinal = 1")
            .execute(&db.writers)
            .await
            .unwrap();
        assert_eq!(used(&db).await.get("waiting-messages"), Some(&1));
    }
}

#[tokio::test]
async fn recipients_of_pushes_count_while_they_wait() {
    for db in databases().await {
        sqlx::query(
            "INSERT INTO pushes (app_id, id, kind, content, state, request_digest, taken_to, \
             expires_at, recipients, sent, failed, skipped, unsure, created_at) \
             VALUES ('wx01', '1', 'text', '[]', 'running', 'd', $1, 9, 10, 0, 0, 0, 0, 1)",
        )
        .bind(&b""[..])
        .execute(&db.writers)
        .await
        .unwrap();
        assert_eq!(used(&db).await, amounts(&[("waiting-messages", 10)]));
        for (change, waiting) in [
            ("sent = 3, failed = 2, skipped = 1, unsure = 1", 3),
            ("recipients = 15", 8),
            ("state = 'cancelled', ended_at = 5", 0),
        ] {
            let change = format!("UPDATE pushes SET {change}");
            sqlx::query(AssertSqlSafe(change))
                .execute(&db.writers)
                .await
                .unwrap();
            let used = used(&db).await;
            let in_use = used.get("waiting-messages").copied().unwrap_or_default();
            assert_eq!(in_use, waiting, "{waiting}");
        }
    }
}

#[tokio::test]
async fn what_was_there_before_the_triggers_is_counted_once() {
    for db in databases().await {
        apply(&db, "1", &[put("a", 10)], &[]).await;
        let triggers = |when: &str| format!("count_1_kv_values_{when}");
        for name in ["insert", "update", "delete"].map(triggers) {
            let end = match db.dialect() {
                Dialect::Sqlite => "",
                Dialect::Postgres => " ON kv",
            };
            let mut script = format!("DROP TRIGGER {name}{end};");
            if db.dialect() == Dialect::Postgres {
                script.push_str(&format!("DROP FUNCTION {name};"));
            }
            sqlx::raw_sql(AssertSqlSafe(script))
                .execute(&db.writers)
                .await
                .unwrap();
        }
        sqlx::query("DELETE FROM quota_use WHERE quota = 'values'")
            .execute(&db.writers)
            .await
            .unwrap();
        for _ in 0..2 {
            let mut transaction = db.begin().await.unwrap();
            make_triggers(db.dialect(), transaction.connection())
                .await
                .unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(
                used(&db).await,
                amounts(&[("value-bytes", 11), ("values", 1)])
            );
        }
        apply(&db, "2", &[put("b", 10)], &[]).await;
        assert_eq!(used(&db).await.get("values"), Some(&2));
    }
}

#[tokio::test]
async fn hosts_that_start_together_make_them_once() {
    for db in databases().await {
        apply(&db, "1", &[put("a", 10)], &[]).await;
        let names: Vec<(String,)> = match db.dialect() {
            // One host per file.
            Dialect::Sqlite => continue,
            Dialect::Postgres => sqlx::query_as(
                "SELECT CAST(tgname AS TEXT) FROM pg_trigger WHERE tgname LIKE 'count_1_kv_%'",
            )
            .fetch_all(&db.readers)
            .await
            .unwrap(),
        };
        assert_eq!(names.len(), 6);
        for (name,) in names {
            let script = format!("DROP TRIGGER {name} ON kv; DROP FUNCTION {name};");
            sqlx::raw_sql(AssertSqlSafe(script))
                .execute(&db.writers)
                .await
                .unwrap();
        }
        sqlx::query("DELETE FROM quota_use")
            .execute(&db.writers)
            .await
            .unwrap();
        let start = async || {
            let mut transaction = db.begin().await.unwrap();
            make_triggers(db.dialect(), transaction.connection())
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        };
        tokio::join!(start(), start(), start());
        let expected = amounts(&[("value-bytes", 11), ("values", 1)]);
        assert_eq!(used(&db).await, expected);
    }
}

#[tokio::test]
async fn rows_of_connections_that_ended_become_one_and_old_days_go() {
    for db in databases().await {
        for (day, writer, amount) in [(0, 1, 10), (0, 2, 20), (0, 0, 5), (3, 1, 7), (4, 1, 9)] {
            sqlx::query(
                "INSERT INTO quota_use (app_id, quota, day, writer, amount) \
                 VALUES ('wx01', 'values', $1, $2, $3)",
            )
            .bind(day)
            .bind(writer)
            .bind(amount)
            .execute(&db.writers)
            .await
            .unwrap();
        }
        tidy(&db, 4).await.unwrap();
        let sum = |day| in_use(&db, Owner::Account(APP), day);
        assert_eq!(sum(0).await.unwrap(), [("values".to_owned(), 35)]);
        assert_eq!(sum(3).await.unwrap(), [("values".to_owned(), 35)]);
        assert_eq!(sum(4).await.unwrap(), [("values".to_owned(), 44)]);
        if db.dialect() == Dialect::Postgres {
            let (rows,): (i64,) =
                sqlx::query_as("SELECT count(*) FROM quota_use WHERE writer <> 0")
                    .fetch_one(&db.readers)
                    .await
                    .unwrap();
            assert_eq!(rows, 0);
        }
    }
}

#[tokio::test]
async fn the_use_of_many_accounts_is_read_at_once() {
    for db in databases().await {
        apply(&db, "1", &[put("a", 10)], &[]).await;
        let mut rows = in_use_by_accounts(&db, &[APP, "wx02"], 0).await.unwrap();
        rows.sort();
        let row = |quota: &str, amount| (APP.to_owned(), quota.to_owned(), amount);
        assert_eq!(rows, [row("value-bytes", 11), row("values", 1)]);
    }
}
