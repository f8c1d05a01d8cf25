//! What a push keeps, and who may change it; on both databases.

use super::*;
use crate::db::Lease;
use crate::db::allowance::Scenes;
use crate::db::testing::databases;

const APP: &str = "wx01";

fn row(id: &str, key: Option<&str>) -> PushRow {
    PushRow {
        app_id: APP.into(),
        id: id.into(),
        kind: "text".into(),
        content: "[]".into(),
        state: "running".into(),
        idempotency_key: key.map(Into::into),
        request_digest: "d".into(),
        audience: None,
        taken_to: Vec::new(),
        expires_at: 1_000,
        recipients: 0,
        sent: 0,
        failed: 0,
        skipped: 0,
        unsure: 0,
        created_at: 10,
        ended_at: None,
    }
}

fn open_ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("o{number:04}")).collect()
}

/// Puts a push in for so many people.
async fn put(db: &Database, id: &str, count: usize) -> PushRow {
    let open_ids = open_ids(count);
    let open_ids: Vec<&str> = open_ids.iter().map(String::as_str).collect();
    let row = PushRow {
        recipients: i64::try_from(count).unwrap(),
        ..row(id, None)
    };
    assert_eq!(add(db, &row, &open_ids).await.unwrap(), Added::New);
    row
}

fn at(owner: &str, now_ms: i64) -> Lease<'_> {
    Lease {
        owner,
        now_ms,
        until_ms: now_ms + 100,
    }
}

async fn taken(db: &Database, owner: &str, now_ms: i64) -> LeasedLane {
    lease(db, at(owner, now_ms)).await.unwrap().expect("a lane")
}

/// Settles a block with an outcome for its first recipients.
async fn end(db: &Database, lane: &LeasedLane, block: &Block, outcomes: &[Outcome]) -> bool {
    let mut after = block.clone();
    after.outcomes[..outcomes.len()].clone_from_slice(outcomes);
    let window = Window {
        lane,
        block: &after,
        before: &block.outcomes,
        due_at: 0,
    };
    settle(db, &window).await.unwrap()
}

async fn next(db: &Database, push: &PushRow) -> Block {
    next_block(db, push, 50).await.unwrap().expect("a block")
}

fn sent() -> Outcome {
    Outcome::Sent {
        way: 0,
        msgid: None,
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_is_the_push_that_it_was() {
    for db in databases().await {
        let first = row("1", Some("key"));
        assert_eq!(add(&db, &first, &["oA"]).await.unwrap(), Added::New);
        let again = row("2", Some("key"));
        let before = Added::Before(Box::new(first.clone()));
        assert_eq!(add(&db, &again, &["oB"]).await.unwrap(), before);
        assert_eq!(find(&db, APP, "2").await.unwrap(), None);
        let of_another = PushRow {
            app_id: "wx02".into(),
            ..row("1", Some("key"))
        };
        assert_eq!(add(&db, &of_another, &["oA"]).await.unwrap(), Added::New);
        let without = [row("3", None), row("4", None)];
        for row in &without {
            assert_eq!(add(&db, row, &["oA"]).await.unwrap(), Added::New);
        }
        let listed = list(&db, APP, Some("4"), 10).await.unwrap();
        assert_eq!(listed, [without[0].clone(), first]);
    }
}

#[tokio::test]
async fn recipients_stand_in_blocks_and_are_counted_as_they_end() {
    for db in databases().await {
        let push = put(&db, "1", 501).await;
        let lane = taken(&db, "me", 20).await;
        let block = next(&db, &push).await;
        assert_eq!((block.number, block.open_ids.len()), (0, 500));
        assert_eq!(block.open_ids[499], "o0499");
        let outcomes = [
            sent(),
            Outcome::Failed("40003".into()),
            Outcome::Skipped("opted-out".into()),
            Outcome::Unsure,
            Outcome::Open {
                tries: 2,
                unsure_at: Some(40),
            },
        ];
        assert!(end(&db, &lane, &block, &outcomes).await);
        let found = find(&db, APP, "1").await.unwrap().unwrap();
        let counts = (found.sent, found.failed, found.skipped, found.unsure);
        assert_eq!((counts, found.open()), ((1, 1, 1, 1), 497));
        let block = next(&db, &push).await;
        assert_eq!(block.outcomes[..5], outcomes);
        assert!(!finish(&db, &push, 60).await.unwrap());
        assert!(end(&db, &lane, &block, &vec![sent(); 500]).await);
        let block = next(&db, &push).await;
        assert_eq!((block.number, block.open_ids.len()), (1, 1));
        assert!(end(&db, &lane, &block, &[sent()]).await);
        assert_eq!(next_block(&db, &push, 50).await.unwrap(), Err(None));
        assert!(finish(&db, &push, 60).await.unwrap());
        let found = find(&db, APP, "1").await.unwrap().unwrap();
        assert_eq!((&*found.state, found.ended_at), ("done", Some(60)));
    }
}

#[tokio::test]
async fn who_has_lost_the_lane_changes_nothing() {
    for db in databases().await {
        let push = put(&db, "1", 3).await;
        let stopped = taken(&db, "stopped", 20).await;
        assert_eq!(lease(&db, at("heir", 50)).await.unwrap(), None);
        let block = next(&db, &push).await;
        let admitted = admit(&db, &stopped, (&block, 0..2), (None, 30))
            .await
            .unwrap();
        assert_eq!(admitted, Some(vec![Admitted::Wholly; 2]));
        // Its lease runs out.
        let heir = taken(&db, "heir", 200).await;
        assert!(!end(&db, &stopped, &block, &[sent()]).await);
        assert_eq!(renew(&db, &stopped, 400).await.unwrap(), None);
        let noted = next(&db, &push).await;
        assert_eq!(noted.noted, Some((0..2, 30)));
        assert_eq!(noted.outcomes[0], Outcome::FRESH);
        let admitted = admit(&db, &stopped, (&block, 0..2), (None, 210))
            .await
            .unwrap();
        assert_eq!(admitted, None);
        assert!(end(&db, &heir, &noted, &[sent()]).await);
        assert_eq!(next(&db, &push).await.noted, None);
    }
}

#[tokio::test]
async fn nobody_is_sent_to_while_a_push_is_paused_or_after_it_is_cancelled() {
    for db in databases().await {
        let push = put(&db, "1", 2).await;
        let lane = taken(&db, "me", 20).await;
        let block = next(&db, &push).await;
        let admitted = || admit(&db, &lane, (&block, 0..1), (None, 30));
        let ask = |asked| turn(&db, (APP, "1"), asked, 40);
        assert!(ask(Turn::Pause).await.unwrap());
        assert_eq!(admitted().await.unwrap(), None);
        assert_eq!(running(&db, APP, 9).await.unwrap(), []);
        assert!(ask(Turn::Resume).await.unwrap());
        assert!(admitted().await.unwrap().is_some());
        assert!(ask(Turn::Cancel).await.unwrap());
        assert_eq!(admitted().await.unwrap(), None);
        assert!(!ask(Turn::Resume).await.unwrap());
        forget(&db, 40).await.unwrap();
        assert!(find(&db, APP, "1").await.unwrap().is_some());
        forget(&db, 41).await.unwrap();
        assert_eq!(find(&db, APP, "1").await.unwrap(), None);
        assert_eq!(recipients(&db, (APP, "1"), 0).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_lane_goes_when_nothing_is_left_and_nothing_has_come_meanwhile() {
    for db in databases().await {
        put(&db, "1", 1).await;
        let lane = taken(&db, "me", 20).await;
        let asked = renew(&db, &lane, 300).await.unwrap().unwrap();
        put(&db, "2", 1).await;
        assert!(!give_up(&db, &lane, asked).await.unwrap());
        let asked = renew(&db, &lane, 300).await.unwrap().unwrap();
        assert!(give_up(&db, &lane, asked).await.unwrap());
        assert_eq!(lease(&db, at("me", 900)).await.unwrap(), None);
        // One that waits for a time is looked at as soon as there is something new.
        put(&db, "3", 1).await;
        let lane = taken(&db, "me", 20).await;
        release(&db, &lane, 5_000).await.unwrap();
        assert_eq!(lease(&db, at("me", 30)).await.unwrap(), None);
        put(&db, "4", 1).await;
        assert!(lease(&db, at("me", 30)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn an_audience_is_taken_over_block_by_block() {
    for db in databases().await {
        for number in 0..502 {
            let following = i64::from(number != 7);
            sqlx::query(
                "INSERT INTO contacts (app_id, open_id, following, first_seen_at, tags, remark, \
                 attributes, message_used, menu_used, scan_used, follow_used, payment_used, to_fetch) \
                 VALUES ('wx01', $1, $2, 1, '[]', '', '{}', 0, 0, 0, 0, 0, 0)",
            )
            .bind(format!("o{number:04}").into_bytes())
            .bind(following)
            .execute(&db.writers)
            .await
            .unwrap();
        }
        let mut push = PushRow {
            audience: Some("followers".into()),
            ..row("1", None)
        };
        assert_eq!(add(&db, &push, &[]).await.unwrap(), Added::New);
        let lane = taken(&db, "me", 20).await;
        let mut sizes = Vec::new();
        while expand(&db, &lane, &push).await.unwrap() {
            push = find(&db, APP, "1").await.unwrap().unwrap();
            let number = i64::try_from(sizes.len()).unwrap();
            let block = recipients(&db, (APP, "1"), number).await.unwrap().unwrap();
            sizes.push(block.open_ids.len());
        }
        assert_eq!(sizes, [500, 1]);
        let found = find(&db, APP, "1").await.unwrap().unwrap();
        assert_eq!((found.recipients, found.audience), (501, None));
    }
}

#[tokio::test]
async fn who_opted_out_or_takes_no_chat_is_told_apart() {
    for db in databases().await {
        for (open_id, opted_out, last_message) in [
            ("o0000", Some(5), Some(1)),
            ("o0001", None, Some(1)),
            ("o0002", None, None),
        ] {
            sqlx::query(
                "INSERT INTO contacts (app_id, open_id, opted_out_at, last_message_at, refused_at, \
                 first_seen_at, tags, remark, attributes, message_used, menu_used, scan_used, \
                 follow_used, payment_used, to_fetch) \
                 VALUES ('wx01', $1, $2, $3, 1, 1, '[]', '', '{}', 0, 0, 0, 0, 0, 0)",
            )
            .bind(open_id.as_bytes())
            .bind(opted_out)
            .bind(last_message)
            .execute(&db.writers)
            .await
            .unwrap();
        }
        let push = put(&db, "1", 3).await;
        let lane = taken(&db, "me", 20).await;
        let block = next(&db, &push).await;
        let scenes = Scenes::new(1, 1);
        let admitted = admit(&db, &lane, (&block, 0..3), (Some(&scenes), 30))
            .await
            .unwrap();
        let admitted = admitted.unwrap();
        assert_eq!(admitted[..2], [Admitted::OptedOut, Admitted::Wholly]);
        assert!(
            matches!(admitted[2], Admitted::NotByChat(_)),
            "{admitted:?}"
        );
        // Its one message is taken.
        let admitted = admit(&db, &lane, (&block, 1..2), (Some(&scenes), 30))
            .await
            .unwrap();
        assert!(matches!(admitted.unwrap()[0], Admitted::NotByChat(_)));
    }
}
