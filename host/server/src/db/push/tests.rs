//! What a push keeps, and who may change it; on both databases.

use std::ops::Range;
use std::time::Duration;

use super::*;
use crate::db::Lease;
use crate::db::allowance::Scenes;
use crate::db::outbox::Receipt;
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
        reference: None,
        audience: None,
        taken_to: Vec::new(),
        starts_at: 10,
        expires_at: 1_000,
        recipients: 0,
        sent: 0,
        failed: 0,
        skipped: 0,
        unsure: 0,
        delivered: 0,
        undelivered: 0,
        created_at: 10,
        ended_at: None,
        is_urgent: None,
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
        lessons: Lessons::default(),
    };
    settle(db, &window).await.unwrap()
}

/// Those at these places, by template.
fn candidates(block: &Block, places: Range<usize>) -> Candidates<'_> {
    const SCENES: &Scenes = &Scenes::new(1, 1);
    Candidates {
        block,
        places,
        by_chat: Vec::new(),
        scenes: SCENES,
    }
}

/// Those at these places, by chat.
fn by_chat(block: &Block, places: Range<usize>) -> Candidates<'_> {
    Candidates {
        by_chat: places.clone().collect(),
        ..candidates(block, places)
    }
}

async fn next(db: &Database, push: &PushRow) -> Block {
    let blocks = next_blocks(db, push, (50, 1)).await.unwrap();
    blocks.expect("a block").remove(0)
}

fn sent() -> Outcome {
    Outcome::Sent {
        way: 0,
        msgid: None,
        arrival: Arrival::Untold,
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
        assert_eq!(next_blocks(&db, &push, (50, 1)).await.unwrap(), Err(None));
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
        let admitted = admit(&db, &stopped, &candidates(&block, 0..2), 30)
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
        let admitted = admit(&db, &stopped, &candidates(&block, 0..2), 210)
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
        let first = candidates(&block, 0..1);
        let admitted = || admit(&db, &lane, &first, 30);
        let ask = |asked| turn(&db, (APP, "1"), asked, 40);
        assert!(ask(Turn::Pause).await.unwrap());
        assert_eq!(admitted().await.unwrap(), None);
        assert_eq!(running(&db, (APP, 30), (9, false)).await.unwrap(), []);
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
            audience: Some("{}".into()),
            ..row("1", None)
        };
        assert_eq!(add(&db, &push, &[]).await.unwrap(), Added::New);
        let lane = taken(&db, "me", 20).await;
        let mut sizes = Vec::new();
        let audience = Audience::default();
        let mut more = true;
        while more {
            more = expand(&db, &lane, (&push, &audience)).await.unwrap();
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
        let admitted = admit(&db, &lane, &by_chat(&block, 0..3), 30).await.unwrap();
        let admitted = admitted.unwrap();
        assert_eq!(admitted[..2], [Admitted::OptedOut, Admitted::Wholly]);
        assert!(
            matches!(admitted[2], Admitted::NotByChat(_)),
            "{admitted:?}"
        );
        // Its one message is taken.
        let admitted = admit(&db, &lane, &by_chat(&block, 1..2), 30).await.unwrap();
        assert!(matches!(admitted.unwrap()[0], Admitted::NotByChat(_)));
    }
}

fn took(msgid: i64) -> Outcome {
    Outcome::Sent {
        way: 0,
        msgid: Some(msgid.to_string()),
        arrival: Arrival::Untold,
    }
}

fn receipt(msgid: i64, failure: Option<&str>) -> Receipt {
    Receipt {
        app_id: APP.into(),
        open_id: "o".into(),
        msgid: msgid.to_string(),
        failure: failure.map(Into::into),
    }
}

#[tokio::test]
async fn receipts_find_their_recipients_early_or_late() {
    for db in databases().await {
        let push = put(&db, "1", 5).await;
        let lane = taken(&db, "me", 20).await;
        let block = next(&db, &push).await;
        assert!(end(&db, &lane, &block, &[took(10), took(12)]).await);
        // The block as its sender has it in hand.
        let in_hand = next(&db, &push).await;
        // One is nobody's, one is faster than its outcome.
        let told = [
            receipt(12, None),
            receipt(11, None),
            receipt(10, Some("failed:user block")),
            receipt(20, None),
        ];
        take_receipts(&db, &told).await.unwrap();
        let mut after = in_hand.outcomes.clone();
        after[2..].clone_from_slice(&[took(20), took(21), sent()]);
        assert!(end(&db, &lane, &in_hand, &after).await);
        take_receipts(&db, &[receipt(21, None), receipt(10, None)])
            .await
            .unwrap();
        let block = recipients(&db, (APP, "1"), 0).await.unwrap().unwrap();
        let lines: Vec<String> = block.outcomes.iter().map(ToString::to_string).collect();
        let expected = ["u0 10 failed:user block", "d0 12", "d0 20", "d0 21", "s0"];
        assert_eq!(lines, expected);
        let found = find(&db, APP, "1").await.unwrap().unwrap();
        let counts = (found.sent, found.delivered, found.undelivered, found.open());
        assert_eq!(counts, (5, 3, 1, 0));
        let early: i64 = sqlx::query_scalar("SELECT count(*) FROM push_receipts")
            .fetch_one(&db.readers)
            .await
            .unwrap();
        assert_eq!(early, 1);
        forget_receipts(&db, i64::MAX).await.unwrap();
        // Without a push nothing waits.
        assert!(give_up(&db, &lane, 1).await.unwrap());
        take_receipts(&db, &[receipt(30, None)]).await.unwrap();
        let early: i64 = sqlx::query_scalar("SELECT count(*) FROM push_receipts")
            .fetch_one(&db.readers)
            .await
            .unwrap();
        assert_eq!(early, 0);
    }
}

#[tokio::test]
async fn what_was_composed_is_kept_until_nobody_waits() {
    for db in databases().await {
        let push = put(&db, "1", 2).await;
        let lane = taken(&db, "me", 20).await;
        let block = next(&db, &push).await;
        assert_eq!(compositions(&db, APP, &block).await.unwrap(), None);
        // A plugin that lacks something is asked again later; the push's other blocks go on.
        postpone(&db, &lane, &block, 60).await.unwrap();
        let waiting = next_blocks(&db, &push, (50, 1)).await.unwrap();
        assert_eq!(waiting, Err(Some(60)));
        postpone(&db, &lane, &block, 50).await.unwrap();
        let mut composed = block.clone();
        composed.outcomes[1] = Outcome::Skipped("by-plugin".into());
        let window = Window {
            lane: &lane,
            block: &composed,
            before: &block.outcomes,
            due_at: 0,
            lessons: Lessons::default(),
        };
        assert!(keep_compositions(&db, &window, "{}").await.unwrap());
        let kept = compositions(&db, APP, &block).await.unwrap();
        assert_eq!(kept.as_deref(), Some("{}"));
        let found = find(&db, APP, "1").await.unwrap().unwrap();
        assert_eq!((found.skipped, found.open()), (1, 1));
        let block = next(&db, &push).await;
        assert!(end(&db, &lane, &block, &[sent()]).await);
        assert_eq!(compositions(&db, APP, &block).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_push_has_its_turn_when_it_begins_and_small_ones_come_before_large_ones() {
    for db in databases().await {
        for (id, starts_at, recipients) in
            [("1", 10, 900), ("2", 10, 800), ("3", 40, 1), ("4", 10, 2)]
        {
            let row = PushRow {
                starts_at,
                recipients,
                ..row(id, None)
            };
            assert_eq!(add(&db, &row, &["oA"]).await.unwrap(), Added::New);
        }
        let ids = async |now_ms, limit| -> Vec<String> {
            let found = running(&db, (APP, now_ms), limit).await.unwrap();
            found.into_iter().map(|push| push.id).collect()
        };
        assert_eq!(ids(30, (1, false)).await, ["4", "1"]);
        assert_eq!(ids(30, (9, false)).await, ["4", "2", "1"]);
        assert_eq!(next_start(&db, APP, 30).await.unwrap(), Some(40));
        assert_eq!(ids(40, (1, false)).await, ["3", "1"]);
        assert_eq!(next_start(&db, APP, 40).await.unwrap(), None);
        // In quiet hours those only that are urgent, or over.
        let urgent = PushRow {
            is_urgent: Some(1),
            ..row("5", None)
        };
        let over = PushRow {
            expires_at: 40,
            ..row("6", None)
        };
        for row in [urgent, over] {
            assert_eq!(add(&db, &row, &["oA"]).await.unwrap(), Added::New);
        }
        assert_eq!(ids(40, (9, true)).await, ["5", "6"]);
    }
}

#[tokio::test]
async fn what_is_recalled_is_what_has_the_reference_and_has_not_ended() {
    for db in databases().await {
        for (id, reference) in [
            ("1", Some("order-42")),
            ("2", Some("order-43")),
            ("3", None),
        ] {
            let row = PushRow {
                reference: reference.map(Into::into),
                ..row(id, None)
            };
            assert_eq!(add(&db, &row, &["oA"]).await.unwrap(), Added::New);
        }
        let recalled = async || recall(&db, (APP, "order-42"), 30).await.unwrap();
        assert_eq!(recalled().await, ["1"]);
        assert_eq!(recalled().await, [""; 0]);
        let states = list(&db, APP, None, 9).await.unwrap();
        let states: Vec<&str> = states.iter().map(|push| &*push.state).collect();
        assert_eq!(states, ["running", "running", "cancelled"]);
    }
}

#[tokio::test]
async fn a_firing_makes_its_push_once_whoever_sees_it() {
    for db in databases().await {
        let schedule = schedules::ScheduleRow {
            app_id: APP.into(),
            id: "s".into(),
            kind: "text".into(),
            content: "[]".into(),
            open_ids: "oA".into(),
            audience: None,
            reference: None,
            cron: "* * * * *".into(),
            time_zone: "UTC".into(),
            missed: "skip".into(),
            state: "active".into(),
            next_at: Some(50),
            last_push_id: None,
            created_at: 10,
        };
        assert!(schedules::add(&db, &schedule, 1).await.unwrap());
        let another = schedules::ScheduleRow {
            id: "t".into(),
            ..schedule.clone()
        };
        assert!(!schedules::add(&db, &another, 1).await.unwrap());
        assert_eq!(schedules::due(&db, 49).await.unwrap(), None);
        let due = schedules::due(&db, 50).await.unwrap().unwrap();
        for (id, fired) in [("1", true), ("2", false)] {
            let push = row(id, None);
            let made = schedules::fire(&db, &due, Some(110), Some((&push, &["oA"]))).await;
            assert_eq!(made.unwrap(), fired);
        }
        let pushes = list(&db, APP, None, 9).await.unwrap();
        assert_eq!(pushes, [row("1", None)]);
        let moved = schedules::find(&db, APP, "s").await.unwrap().unwrap();
        assert_eq!(
            (moved.next_at, moved.last_push_id.as_deref()),
            (Some(110), Some("1"))
        );
        // One that is paused fires no more, not even for whoever saw it before.
        let due = schedules::due(&db, 110).await.unwrap().unwrap();
        assert!(schedules::pause(&db, APP, "s").await.unwrap());
        assert!(!schedules::pause(&db, APP, "t").await.unwrap());
        assert_eq!(schedules::due(&db, i64::MAX).await.unwrap(), None);
        let push = row("3", None);
        let made = schedules::fire(&db, &due, Some(170), Some((&push, &["oA"]))).await;
        assert!(!made.unwrap());
        for next_at in [230, 290] {
            let resumed = schedules::resume(&db, (APP, "s"), Some(next_at)).await;
            resumed.unwrap();
        }
        let due = schedules::due(&db, i64::MAX).await.unwrap().unwrap();
        assert_eq!(due.next_at, Some(230), "resumed once");
        // One that was missed moves on without a push.
        assert!(schedules::fire(&db, &due, None, None).await.unwrap());
        assert_eq!(schedules::due(&db, i64::MAX).await.unwrap(), None);
        assert!(schedules::remove(&db, APP, "s").await.unwrap());
        assert!(!schedules::remove(&db, APP, "s").await.unwrap());
    }
}

#[tokio::test]
async fn an_audience_is_foretold_as_it_is_taken_over() {
    for db in databases().await {
        crate::db::accounts::tests::add_account(&db, APP).await;
        let now_ms = db.now_ms();
        for (open_id, tags, attributes, message_at, opted_out_at) in [
            (
                "oA",
                "[2]",
                r#"{"level":"gold"}"#,
                Some(now_ms - 1_000),
                None,
            ),
            ("oB", "[2,3]", "{}", None, None),
            ("oC", "[]", r#"{"level":"gold"}"#, None, Some(now_ms)),
            ("oD", "[]", "{}", None, None),
        ] {
            sqlx::query(
                "INSERT INTO contacts (app_id, open_id, first_seen_at, tags, remark, attributes, \
                 message_used, menu_used, scan_used, follow_used, payment_used, to_fetch, following, \
                 following_at, last_message_at, opted_out_at) \
                 VALUES ($1, $2, 1, $3, '', $4, 0, 0, 0, 0, 0, 0, 1, 1, $5, $6)",
            )
            .bind(APP)
            .bind(open_id.as_bytes())
            .bind(tags)
            .bind(attributes)
            .bind(message_at)
            .bind(opted_out_at)
            .execute(&db.writers)
            .await
            .unwrap();
        }
        for (audience, expected) in [
            ("{}", [1, 2, 1]),
            (r#"{"tags":[2]}"#, [1, 1, 0]),
            (r#"{"attributes":{"level":"gold"}}"#, [1, 0, 1]),
            (r#"{"acted_within_hours":1}"#, [1, 0, 0]),
            (r#"{"tags":[3],"acted_within_hours":1}"#, [0, 0, 0]),
        ] {
            let audience: Audience = serde_json::from_str(audience).unwrap();
            let until = tokio::time::Instant::now() + Duration::from_secs(60);
            let rules = (&Scenes::new(5, 20), now_ms);
            let told = audience.reach(&db, (APP, until), rules).await.unwrap();
            let (reach, is_complete) = told;
            let found = [reach.by_chat, reach.by_template, reach.opted_out];
            assert!(is_complete);
            assert_eq!(found, expected, "{audience:?}");
            let taken = audience.page(&db, (APP, b""), 9).await.unwrap();
            assert_eq!(taken.open_ids.len() as u64, found.iter().sum::<u64>());
        }
    }
}
