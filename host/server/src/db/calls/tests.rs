//! Records written and read back, on both databases.

use std::borrow::Cow;

use wxhost_runtime::Digest;
use wxhost_wechat::id::AppId;

use super::*;
use crate::db::Database;
use crate::db::calls::read::{BLOCKS_OF_OUTCOME, UNLISTED_BLOCKS};
use crate::db::testing::{databases, plan};

fn entry(event_id: &str, outcome: &'static str, created_at: i64) -> Entry<'static> {
    Entry {
        event_id: Cow::Owned(event_id.to_owned()),
        event_kind: "text".into(),
        outcome: outcome.into(),
        error: None,
        log: None,
        duration_us: 10,
        runs: 1,
        trace_id: "t".into(),
        created_at,
    }
}

fn record_of(app_id: &str, version: i64, entry: &Entry<'static>) -> Record {
    let callee = Callee {
        app_id: AppId::parse(app_id).unwrap(),
        version,
        digest: (version > 0).then(|| Digest::of(b"a component")),
    };
    Record::new(callee, entry.outcome.clone(), entry)
}

fn record(event_id: &str, outcome: &'static str, created_at: i64) -> Record {
    record_of("wx01", 1, &entry(event_id, outcome, created_at))
}

fn filter<'a>(outcome: Option<&'a str>, before: Option<&'a str>, limit: u32) -> CallFilter<'a> {
    CallFilter {
        app_id: "wx01",
        outcome,
        before,
        limit,
    }
}

async fn events(db: &Database, outcome: Option<&str>, limit: u32) -> Vec<String> {
    let calls = list(db, &filter(outcome, None, limit)).await.unwrap();
    calls
        .into_iter()
        .map(|call| call.entry.event_id.into_owned())
        .collect()
}

/// An account with 200,000 blocks, one of which holds the outcome that is looked for; and blocks of a host
/// of the version before, which have nothing in `call_outcomes`.
#[tokio::test]
async fn records_of_an_outcome_are_found_without_a_look_at_the_others() {
    for db in databases().await {
        for statement in [
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
             INSERT INTO call_blocks (id, app_id, digest, version, outcomes, records, listed) \
             SELECT '000' || CAST(1000000000 + i AS TEXT), 'wx01', '', 0, \
             ' replied ', '[]', 1 FROM n",
            "INSERT INTO call_outcomes (app_id, outcome, block_id) \
             SELECT app_id, 'replied', id FROM call_blocks",
        ] {
            let statement = statement.replace("10000000000000000000000000000", "1000000000");
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .execute(&db.writers)
                .await
                .unwrap();
        }
        write(&db, &[record("m:old", "trap", 1)]).await.unwrap();
        sqlx::query("UPDATE call_blocks SET listed = NULL WHERE outcomes = ' trap '")
            .execute(&db.writers)
            .await
            .unwrap();
        sqlx::query("DELETE FROM call_outcomes WHERE outcome = 'trap'")
            .execute(&db.writers)
            .await
            .unwrap();
        write(&db, &[record("m:new", "trap", 2)]).await.unwrap();
        sqlx::query("ANALYZE").execute(&db.writers).await.unwrap();
        assert_eq!(events(&db, Some("trap"), 9).await, ["m:new", "m:old"]);
        assert_eq!(events(&db, Some("timeout"), 9).await, Vec::<String>::new());
        for statement in [BLOCKS_OF_OUTCOME, UNLISTED_BLOCKS] {
            let statement = statement
                .replace("$1", "'wx01'")
                .replace("$2", "'g'")
                .replace("$3", "4")
                .replace("$4", "'trap'");
            let plan = plan(&db, &statement).await;
            let index = match statement.contains("listed IS NULL") {
                true => "call_blocks_unlisted",
                false => "call_outcomes",
            };
            assert!(
                plan.contains(index) && !plan.contains("SCAN call"),
                "{plan}"
            );
        }
        // With a block goes what tells of its outcomes.
        assert_eq!(delete_older(&db, 10).await.unwrap(), 2);
        let told: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM call_outcomes")
            .fetch_one(&db.readers)
            .await
            .unwrap();
        assert_eq!(told, 200_000);
    }
}

#[tokio::test]
async fn records_of_one_batch_are_listed_newest_first_each_with_its_own_account() {
    for db in databases().await {
        let batch = [
            record("m:1", "replied", 1),
            record_of("wx02", 1, &entry("m:other", "replied", 2)),
            record("m:2", "trap", 2),
            record_of("wx01", 2, &entry("m:3", "replied", 3)),
            record_of("wx01", 0, &entry("m:4", "no-plugin", 4)),
        ];
        write(&db, &batch).await.unwrap();
        // As after a commit whose outcome got lost.
        write(&db, &batch).await.unwrap();

        assert_eq!(events(&db, None, 9).await, ["m:4", "m:3", "m:2", "m:1"]);
        assert_eq!(events(&db, Some("replied"), 9).await, ["m:3", "m:1"]);
        assert_eq!(events(&db, Some("rep"), 9).await, Vec::<String>::new());
        assert_eq!(events(&db, Some("%"), 9).await, Vec::<String>::new());
        let calls = list(&db, &filter(None, None, 9)).await.unwrap();
        let versions: Vec<_> = calls.iter().map(|call| call.version).collect();
        assert_eq!(versions, [0, 2, 1, 1]);
        assert_eq!(calls[0].digest, "");
        assert_eq!(calls[1].digest, Digest::of(b"a component").to_string());
    }
}

#[tokio::test]
async fn a_record_is_found_by_its_id_with_all_that_was_told() {
    for db in databases().await {
        let told = Entry {
            error: Some("\"it\" broke".into()),
            log: Some("one\ntwo \u{0} 三".into()),
            ..entry("m:2", "trap", 2)
        };
        let batch = [record("m:1", "replied", 1), record_of("wx01", 1, &told)];
        write(&db, &batch).await.unwrap();
        let listed = list(&db, &filter(Some("trap"), None, 1)).await.unwrap();
        let found = find(&db, &listed[0].id).await.unwrap().unwrap();
        assert_eq!(found.entry, told);
        assert_eq!(found.app_id, "wx01");

        let block = &listed[0].id[..32];
        for nothing in [
            "",
            "none",
            "\0",
            block,
            &format!("{block}0002"),
            &format!("{block}zz"),
            &format!("{block}\0"),
            &"0".repeat(36),
        ] {
            assert_eq!(find(&db, nothing).await.unwrap(), None, "{nothing:?}");
        }
    }
}

#[tokio::test]
async fn pages_hold_every_record_once_over_many_blocks() {
    for db in databases().await {
        let ids: Vec<String> = (0..1_000).map(|n| format!("m:{n:04}")).collect();
        for (time, batch) in ids.chunks(301).enumerate() {
            let time = i64::try_from(time).unwrap();
            let batch: Vec<Record> = batch.iter().map(|id| record(id, "replied", time)).collect();
            write(&db, &batch).await.unwrap();
        }
        for outcome in [None, Some("replied")] {
            let mut found = Vec::new();
            let mut before: Option<String> = None;
            loop {
                let page = list(&db, &filter(outcome, before.as_deref(), 70))
                    .await
                    .unwrap();
                let Some(last) = page.last() else { break };
                before = Some(last.id.clone());
                found.extend(page.into_iter().map(|call| call.entry.event_id));
            }
            found.sort();
            assert_eq!(found, ids);
        }
        let gone = "0".repeat(36);
        assert_eq!(list(&db, &filter(None, Some(&gone), 9)).await.unwrap(), []);
        assert_eq!(list(&db, &filter(None, Some("x"), 9)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_block_goes_when_its_newest_record_is_too_old() {
    for db in databases().await {
        write(
            &db,
            &[record("m:1", "replied", 1), record("m:2", "replied", 5)],
        )
        .await
        .unwrap();
        write(&db, &[record("m:3", "replied", 9)]).await.unwrap();
        assert_eq!(delete_older(&db, 5).await.unwrap(), 0);
        assert_eq!(delete_older(&db, 6).await.unwrap(), 1);
        assert_eq!(events(&db, None, 9).await, ["m:3"]);
    }
}
