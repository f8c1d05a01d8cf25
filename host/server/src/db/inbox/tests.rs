//! Acknowledged events from their keeping to their end, on both databases.

use super::*;
use crate::db::commit::{self, AnswerWay, Committed, ReadSet};
use crate::db::outbox::Kind;
use crate::db::personal::PersonalEffects;
use crate::db::testing::databases;

const APP: &str = "wx01";
const LONG: i64 = 600_000;

fn event(event_id: &str, owner: &str) -> PendingEvent {
    PendingEvent {
        app_id: APP.to_owned(),
        event_id: event_id.to_owned(),
        event: "sealed".to_owned(),
        lease_owner: owner.to_owned(),
        attempts: 0,
        created_at: 1,
    }
}

/// Keeps an event whose host is gone.
async fn left(db: &Database, event_id: &str) {
    let kept = acknowledge(db, &event(event_id, "first"), 0).await.unwrap();
    assert_eq!(kept, Acknowledged::Kept);
}

fn until<'a>(db: &Database, owner: &'a str, until_ms: i64) -> Lease<'a> {
    Lease {
        owner,
        now_ms: db.now_ms(),
        until_ms,
    }
}

async fn lease(db: &Database, owner: &str) -> Vec<PendingEvent> {
    let lease = until(db, owner, db.now_ms() + LONG);
    lease_pending(db, 10, lease).await.unwrap()
}

async fn commit_late(db: &Database, event_id: &str) -> Committed<String> {
    let row = CallbackRow {
        answer: "the answer".into(),
        late: Some(Outgoing {
            kind: Kind::LateAnswer,
            open_id: "oUser".to_owned(),
            path: "/send".to_owned(),
            payload: "{}".to_owned(),
            expires_at: None,
        }),
    };
    let commit = Commit {
        app_id: APP,
        event_id,
        reads: &ReadSet::default(),
        writes: &[],
        version: 11,
        money: &[],
        personal: PersonalEffects::default(),
        trace_id: "t",
        now_ms: 1,
    };
    commit::commit(db, &row, &commit).await.unwrap()
}

async fn letter(db: &Database, state: LetterState) -> Option<Letter> {
    letters(db, APP, state, None, 10).await.unwrap().pop()
}

#[tokio::test]
async fn an_acknowledged_event_sends_its_answer_to_the_outbox_and_to_nobody_else() {
    for db in databases().await {
        let pending = event("m:1", "first");
        let until = db.now_ms() + LONG;
        let kept = acknowledge(&db, &pending, until).await.unwrap();
        assert_eq!(kept, Acknowledged::Kept);
        assert!(lease(&db, "second").await.is_empty(), "it is at work");
        let done = commit_late(&db, "m:1").await;
        assert_eq!(done, Committed::Done(AnswerWay::Outbox));
        let (rows,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM outbox")
            .fetch_one(&db.readers)
            .await
            .unwrap();
        assert_eq!(rows, 1);
        // Neither another run nor a delivery that comes yet has anything to say.
        let again = commit_late(&db, "m:1").await;
        assert_eq!(again, Committed::Before(String::new()));
        let again = acknowledge(&db, &pending, until).await.unwrap();
        let answer = String::new();
        assert_eq!(again, Acknowledged::Done { answer });
        assert!(!answer_passively(&db, &pending, "x").await.unwrap());
    }
}

#[tokio::test]
async fn an_answer_that_came_just_in_time_goes_out_passively_and_not_late() {
    for db in databases().await {
        let pending = event("m:1", "first");
        acknowledge(&db, &pending, 0).await.unwrap();
        assert!(answer_passively(&db, &pending, "hi").await.unwrap());
        let late = commit_late(&db, "m:1").await;
        assert_eq!(late, Committed::Before("hi".to_owned()));
        assert!(lease(&db, "second").await.is_empty());
    }
}

#[tokio::test]
async fn an_answer_is_not_given_passively_once_another_host_has_the_event() {
    for db in databases().await {
        left(&db, "m:1").await;
        assert_eq!(lease(&db, "second").await.len(), 1);
        let first = event("m:1", "first");
        assert!(!answer_passively(&db, &first, "hi").await.unwrap());
    }
}

#[tokio::test]
async fn a_left_event_is_leased_once_at_a_time() {
    for db in databases().await {
        left(&db, "m:1").await;
        assert_eq!(lease(&db, "second").await.len(), 1);
        assert!(lease(&db, "third").await.is_empty());
    }
}

#[tokio::test]
async fn only_runs_that_never_ended_count_as_attempts() {
    for db in databases().await {
        left(&db, "m:1").await;
        for _ in 0..20 {
            let leased = lease(&db, "held up").await.pop().expect("is due");
            assert_eq!(leased.attempts, 1);
            postpone(&db, &leased, 0).await.unwrap();
        }
        for attempts in 1..=3 {
            let crashed = lease_pending(&db, 10, until(&db, "crashes", 0))
                .await
                .unwrap();
            assert_eq!(crashed[0].attempts, attempts);
        }
    }
}

#[tokio::test]
async fn a_lease_that_was_lost_is_not_moved_but_its_attempt_is_taken_back() {
    for db in databases().await {
        left(&db, "m:1").await;
        let lost = lease_pending(&db, 10, until(&db, "slow", 0)).await.unwrap();
        let taken = lease(&db, "next").await;
        assert_eq!(taken[0].attempts, 2);
        postpone(&db, &lost[0], 0).await.unwrap();
        assert!(lease(&db, "third").await.is_empty(), "the lease holds");
        let waiting = letter(&db, LetterState::Pending).await.expect("waits");
        assert_eq!(waiting.attempts, 1);
    }
}

#[tokio::test]
async fn a_dead_letter_keeps_its_body_and_can_be_resumed_or_dropped() {
    for db in databases().await {
        left(&db, "m:1").await;
        let leased = lease(&db, "second").await.pop().unwrap();
        assert!(!bury(&db, &event("m:1", "first"), "too-old").await.unwrap());
        assert!(bury(&db, &leased, "never-ended").await.unwrap());
        assert!(lease(&db, "third").await.is_empty());
        let dead = letter(&db, LetterState::Dead).await.expect("is dead");
        assert_eq!(dead.reason.as_deref(), Some("never-ended"));

        assert!(resume(&db, APP, "m:1").await.unwrap());
        let resumed = lease(&db, "third").await.pop().unwrap();
        assert_eq!((&*resumed.event, resumed.attempts), ("sealed", 1));
        assert!(
            !drop_letter(&db, APP, "m:1").await.unwrap(),
            "it is not dead"
        );

        assert!(bury(&db, &resumed, "never-ended").await.unwrap());
        assert!(drop_letter(&db, APP, "m:1").await.unwrap());
        assert!(!resume(&db, APP, "m:1").await.unwrap());
        assert_eq!(letter(&db, LetterState::Dead).await, None);
        let late = commit_late(&db, "m:1").await;
        assert_eq!(late, Committed::Before(String::new()));
    }
}

#[tokio::test]
async fn committed_events_are_forgotten_by_age_and_nothing_else_is() {
    for db in databases().await {
        left(&db, "m:waits").await;
        let leased = lease(&db, "second").await.pop().unwrap();
        bury(&db, &leased, "never-ended").await.unwrap();
        left(&db, "m:waits-too").await;
        commit_late(&db, "m:done").await;
        assert_eq!(forget_done(&db, 1).await.unwrap(), 0);
        assert_eq!(forget_done(&db, 2).await.unwrap(), 1);
        assert!(letter(&db, LetterState::Dead).await.is_some());
        assert!(letter(&db, LetterState::Pending).await.is_some());
    }
}

/// What is asked often finds its rows by an index, in their order, however many others there are.
#[tokio::test]
async fn hot_statements_read_only_the_rows_that_they_are_about() {
    for db in databases().await {
        for (statement, index) in [(LEASABLE, "inbox_pending"), (FORGET_DONE, "inbox_by_age")] {
            let plan = crate::db::testing::plan(&db, statement).await;
            assert!(plan.contains(index), "{statement}: {plan}");
            assert!(
                !plan.contains("Sort") && !plan.contains("TEMP B-TREE"),
                "{plan}"
            );
        }
    }
}
