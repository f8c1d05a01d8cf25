//! Leases, order, ledger and effects on both databases.

use wxhost_wechat::id::{AppId, OpenId};

use super::*;
use crate::db::allowance::Person;
use crate::db::commit::{self, AnswerWay, Commit, Committed, ReadSet};
use crate::db::contacts;
use crate::db::inbox::no_answer;
use crate::db::personal::{Change, MAX_ATTRIBUTE_BYTES, PersonalEffects, Step};
use crate::db::sightings::{self, Sighting};
use crate::db::testing::databases;

const APP: &str = "wx01";
const NOW: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

fn scenes() -> Scenes {
    Scenes::new(5, 20)
}

fn at(now_ms: i64) -> Lease<'static> {
    by("me", now_ms)
}

fn by(owner: &str, now_ms: i64) -> Lease<'_> {
    Lease {
        owner,
        now_ms,
        until_ms: now_ms + MINUTE,
    }
}

fn send(kind: Kind, open_id: &str, payload: &str) -> Step {
    Step::Send(Outgoing {
        kind,
        open_id: open_id.to_owned(),
        path: "/send".to_owned(),
        payload: payload.to_owned(),
    })
}

fn change(open_id: &str, change: Change) -> Step {
    Step::Change {
        open_id: open_id.to_owned(),
        change,
    }
}

fn sighting(open_id: &str, at_ms: i64) -> Sighting {
    let open_id = OpenId::parse(open_id).unwrap();
    Sighting::new(AppId::parse(APP).unwrap(), open_id, at_ms)
}

fn wrote(open_id: &str, at_ms: i64) -> Sighting {
    let mut seen = sighting(open_id, at_ms);
    seen.last.message = Some(at_ms);
    seen
}

/// Commits an event of an account.
async fn event_of(
    db: &Database,
    app_id: &str,
    event_id: &str,
    steps: &[Step],
) -> Committed<String> {
    let request = Commit {
        app_id,
        event_id,
        reads: &ReadSet::default(),
        writes: &[],
        version: crate::random::version(),
        personal: PersonalEffects {
            sender: None,
            steps,
        },
        trace_id: "t",
        now_ms: NOW,
    };
    commit::commit(db, &no_answer(), &request).await.unwrap()
}

async fn event(db: &Database, event_id: &str, steps: &[Step]) {
    let done = event_of(db, APP, event_id, steps).await;
    assert_eq!(done, Committed::Done(AnswerWay::Passive));
}

async fn rows(db: &Database) -> Vec<OutboxRow> {
    let filter = OutboxFilter {
        app_id: APP,
        state: None,
        open_id: None,
        before: None,
        limit: 100,
    };
    let mut rows = list(db, filter).await.unwrap();
    rows.reverse();
    rows
}

/// Leases the only row that can be, and begins to send it.
async fn next(db: &Database, now_ms: i64) -> Begun {
    let leased = lease(db, APP, at(now_ms), 10).await.unwrap();
    assert_eq!(leased.len(), 1);
    let begun = begin(db, &leased[0], at(now_ms), &scenes()).await.unwrap();
    let end = match begun {
        Begun::Go => Final::Sent,
        _ => Final::Skipped,
    };
    let report = Report::default();
    assert!(
        settle(db, &leased[0], at(now_ms), end, &report)
            .await
            .unwrap()
    );
    begun
}

fn messages(count: usize) -> Vec<Step> {
    let message = |n| send(Kind::CustomerMessage, "oA", &format!("{n}"));
    (0..count).map(message).collect()
}

async fn see(db: &Database, seen: Sighting) {
    sightings::write(db, &[seen]).await.unwrap();
}

#[tokio::test]
async fn five_messages_go_after_one_of_the_person_and_the_next_one_restores_them() {
    for db in databases().await {
        see(&db, wrote("oA", NOW)).await;
        event(&db, "m:1", &messages(8)).await;
        for _ in 0..5 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        assert_eq!(next(&db, NOW + 1).await, Begun::Refused(Refusal::UsedUp));
        see(&db, wrote("oA", NOW + 1000)).await;
        assert_eq!(next(&db, NOW + 1001).await, Begun::Go);
        let late = NOW + 1000 + 48 * 60 * MINUTE;
        assert_eq!(next(&db, late).await, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn scenes_are_counted_apart_and_not_added_together() {
    for db in databases().await {
        let mut tapped = sighting("oA", NOW);
        tapped.menu_granted_at = Some(NOW);
        tapped.last.follow = Some(NOW);
        see(&db, tapped).await;
        event(&db, "m:1", &messages(6)).await;
        for _ in 0..3 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        assert_eq!(next(&db, NOW + 1).await, Begun::Refused(Refusal::UsedUp));
        let mut scanned = sighting("oA", NOW + 2);
        scanned.last.scan = Some(NOW + 2);
        see(&db, scanned).await;
        assert_eq!(next(&db, NOW + 3).await, Begun::Go);
        let later = NOW + 2 + MINUTE;
        assert_eq!(next(&db, later).await, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn nothing_goes_to_who_left_or_never_came() {
    for db in databases().await {
        event(&db, "m:1", &messages(2)).await;
        assert_eq!(next(&db, NOW).await, Begun::Refused(Refusal::Closed));
        see(&db, wrote("oA", NOW)).await;
        let mut left = sighting("oA", NOW + 1);
        left.unfollowed_at = Some(NOW + 1);
        see(&db, left).await;
        assert_eq!(next(&db, NOW + 2).await, Begun::Refused(Refusal::Closed));
    }
}

#[tokio::test]
async fn a_refusal_of_wechat_corrects_the_ledger_up_to_what_the_person_did_since() {
    for db in databases().await {
        let person = Person {
            app_id: APP,
            open_id: "oA",
        };
        see(&db, wrote("oA", NOW)).await;
        event(&db, "m:1", &messages(4)).await;
        assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        // That message was refused, but the person has written again meanwhile.
        see(&db, wrote("oA", NOW + 5)).await;
        allowance::exhaust(&db, person, NOW + 1).await.unwrap();
        assert_eq!(next(&db, NOW + 6).await, Begun::Go);
        allowance::exhaust(&db, person, NOW + 6).await.unwrap();
        assert_eq!(next(&db, NOW + 7).await, Begun::Refused(Refusal::UsedUp));
        see(&db, wrote("oA", NOW + 8)).await;
        assert_eq!(next(&db, NOW + 9).await, Begun::Go);
    }
}

#[tokio::test]
async fn a_message_that_was_not_taken_gives_its_room_back() {
    for db in databases().await {
        let person = Person {
            app_id: APP,
            open_id: "oA",
        };
        see(&db, wrote("oA", NOW)).await;
        event(&db, "m:1", &messages(7)).await;
        assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        allowance::release(&db, person, NOW + 1).await.unwrap();
        for _ in 0..5 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        assert_eq!(next(&db, NOW + 1).await, Begun::Refused(Refusal::UsedUp));
    }
}

#[tokio::test]
async fn of_a_persons_rows_only_the_first_is_leased_and_no_row_twice() {
    for db in databases().await {
        let steps = [
            send(Kind::Template, "oA", "1"),
            send(Kind::Template, "oA", "2"),
            send(Kind::Template, "oB", "3"),
        ];
        event(&db, "m:1", &steps).await;
        let hosts = ["h1", "h2", "h3", "h4"].map(|owner| {
            let db = Database::clone(&db);
            async move { lease(&db, APP, by(owner, NOW), 10).await.unwrap() }
        });
        let leased = futures::future::join_all(hosts).await.concat();
        let mut payloads: Vec<_> = leased.iter().map(|row| &*row.outgoing.payload).collect();
        payloads.sort_unstable();
        assert_eq!(payloads, ["1", "3"]);
    }
}

#[tokio::test]
async fn a_row_whose_host_died_is_taken_up_when_the_lease_has_run_out() {
    for db in databases().await {
        event(&db, "m:1", &[send(Kind::Template, "oA", "1")]).await;
        let dead = lease(&db, APP, by("dead", NOW), 10).await.unwrap();
        assert!(!dead[0].is_unsure);
        let begun = begin(&db, &dead[0], by("dead", NOW), &scenes())
            .await
            .unwrap();
        assert_eq!(begun, Begun::Go);
        let early = NOW + MINUTE - 1;
        assert!(due_accounts(&db, "", early, 9).await.unwrap().is_empty());
        assert!(lease(&db, APP, at(early), 10).await.unwrap().is_empty());
        let late = NOW + MINUTE;
        assert_eq!(due_accounts(&db, "", late, 9).await.unwrap(), [APP]);
        let again = lease(&db, APP, at(late), 10).await.unwrap();
        assert!(again[0].is_unsure);
        assert_eq!(again[0].attempts, 1);
        // Should it not have died, it has lost the row.
        let (end, report) = (Final::Sent, Report::default());
        let lost = settle(&db, &dead[0], by("dead", late), end, &report).await;
        assert!(!lost.unwrap());
        let lost = begin(&db, &dead[0], by("dead", late), &scenes())
            .await
            .unwrap();
        assert_eq!(lost, Begun::Lost);
        assert!(
            settle(&db, &again[0], at(late), end, &report)
                .await
                .unwrap()
        );
        assert_eq!(rows(&db).await[0].state, "sent");
    }
}

#[tokio::test]
async fn a_postponed_row_waits_and_holds_back_what_comes_after_it() {
    for db in databases().await {
        let steps = [
            send(Kind::Template, "oA", "1"),
            send(Kind::Template, "oA", "2"),
        ];
        event(&db, "m:1", &steps).await;
        let leased = lease(&db, APP, at(NOW), 10).await.unwrap();
        begin(&db, &leased[0], at(NOW), &scenes()).await.unwrap();
        let report = Report {
            reason: Some("busy"),
            errcode: Some(-1),
            ..Report::default()
        };
        let until = NOW + 2 * MINUTE;
        for counts in [false, true] {
            postpone(&db, &leased[0], at(NOW), until, &report, counts)
                .await
                .unwrap();
        }
        assert!(lease(&db, APP, at(until - 1), 10).await.unwrap().is_empty());
        let leased = lease(&db, APP, at(until), 10).await.unwrap();
        assert_eq!(leased.len(), 1);
        assert_eq!((&*leased[0].outgoing.payload, leased[0].attempts), ("1", 0));
        let row = &rows(&db).await[0];
        assert_eq!(
            (row.reason.as_deref(), row.errcode),
            (Some("busy"), Some(-1))
        );
    }
}

#[tokio::test]
async fn a_pause_holds_an_account_or_one_of_its_apis() {
    for db in databases().await {
        for app_id in ["wx01", "wx02", "wx03"] {
            event_of(&db, app_id, "m:1", &[send(Kind::Template, "oA", "1")]).await;
        }
        pause(&db, "wx01", "", NOW + MINUTE, "blocked")
            .await
            .unwrap();
        pause(&db, "wx02", "/send", NOW + MINUTE, "quota")
            .await
            .unwrap();
        // A shorter one does not end it.
        pause(&db, "wx02", "/send", NOW + 1, "busy").await.unwrap();
        pause(&db, "wx03", "/other", NOW + MINUTE, "quota")
            .await
            .unwrap();
        let due = due_accounts(&db, "", NOW + 2, 9).await.unwrap();
        assert_eq!(due, ["wx02", "wx03"]);
        assert!(lease(&db, "wx02", at(NOW + 2), 9).await.unwrap().is_empty());
        assert_eq!(lease(&db, "wx03", at(NOW + 2), 9).await.unwrap().len(), 1);
        let later = NOW + MINUTE;
        assert_eq!(due_accounts(&db, "wx01", later, 9).await.unwrap(), ["wx02"]);
        assert_eq!(due_accounts(&db, "", later, 1).await.unwrap(), ["wx01"]);
    }
}

#[tokio::test]
async fn effects_happen_once_whatever_is_repeated() {
    for db in databases().await {
        let steps = [
            send(Kind::Tags, "oA", "tag"),
            change(
                "oA",
                Change::Tags {
                    add: vec![7, 2],
                    remove: vec![],
                },
            ),
        ];
        event(&db, "m:1", &steps).await;
        let answer = String::new();
        let again = event_of(&db, APP, "m:1", &steps).await;
        assert_eq!(again, Committed::Before(answer));
        assert_eq!(rows(&db).await.len(), 1);
        let contact = contacts::find(&db, APP, "oA").await.unwrap().unwrap();
        assert_eq!(contact.tags, [2, 7]);
    }
}

#[tokio::test]
async fn who_opted_out_gets_no_messages_but_the_goodbye_and_late_answers() {
    for db in databases().await {
        see(&db, wrote("oA", NOW)).await;
        let steps = [
            send(Kind::CustomerMessage, "oA", "goodbye"),
            change("oA", Change::OptOut(true)),
            send(Kind::CustomerMessage, "oA", "wait!"),
            send(Kind::Template, "oA", "offer"),
            send(Kind::Remark, "oA", "left us"),
            send(Kind::LateAnswer, "oA", "what you asked"),
        ];
        event(&db, "m:1", &steps).await;
        let states: Vec<_> = rows(&db).await.into_iter().map(|row| row.state).collect();
        let expected = ["waiting", "skipped", "skipped", "waiting", "waiting"];
        assert_eq!(states, expected);
        for _ in 0..3 {
            assert_eq!(next(&db, NOW + 1).await, Begun::Go);
        }
        event(&db, "m:2", &[change("oA", Change::OptOut(false))]).await;
        event(&db, "m:3", &[send(Kind::Template, "oA", "hello again")]).await;
        assert_eq!(next(&db, NOW + 1).await, Begun::Go);
    }
}

#[tokio::test]
async fn who_opts_out_while_a_message_waits_does_not_get_it() {
    for db in databases().await {
        event(&db, "m:1", &[send(Kind::Template, "oA", "offer")]).await;
        sqlx::query("UPDATE outbox SET created_at = created_at - 1")
            .execute(&db.writers)
            .await
            .unwrap();
        event(&db, "m:2", &[change("oA", Change::OptOut(true))]).await;
        assert_eq!(next(&db, NOW + 1).await, Begun::OptedOut);
    }
}

#[tokio::test]
async fn attributes_are_merged_and_bounded() {
    for db in databases().await {
        let set = |text: &str| {
            let members = serde_json::from_str(text).unwrap();
            [change("oA", Change::Attributes(members))]
        };
        event(&db, "m:1", &set(r#"{"a":1,"b":{"c":2}}"#)).await;
        event(&db, "m:2", &set(r#"{"a":null,"d":"\u0000"}"#)).await;
        let large = format!(r#"{{"e":"{}"}}"#, "x".repeat(MAX_ATTRIBUTE_BYTES - 10));
        let unfit = event_of(&db, APP, "m:3", &set(&large)).await;
        assert!(matches!(unfit, Committed::Unfit { .. }), "{unfit:?}");
        let contact = contacts::find(&db, APP, "oA").await.unwrap().unwrap();
        assert_eq!(contact.attributes, r#"{"b":{"c":2},"d":"\u0000"}"#);
        // Nothing was committed: the event can be run again.
        event(&db, "m:3", &set(r#"{"e":1}"#)).await;
    }
}

#[tokio::test]
async fn what_goes_to_the_sender_is_granted_with_the_commit() {
    for db in databases().await {
        let seen = wrote("oA", NOW);
        let reads = ReadSet::default();
        let request = Commit {
            app_id: APP,
            event_id: "m:1",
            reads: &reads,
            writes: &[],
            version: 1,
            personal: PersonalEffects {
                sender: Some(&seen),
                steps: &messages(1),
            },
            trace_id: "t",
            now_ms: NOW,
        };
        commit::commit(&db, &no_answer(), &request).await.unwrap();
        assert_eq!(next(&db, NOW).await, Begun::Go);
    }
}

#[tokio::test]
async fn old_rows_go_and_open_ones_stay() {
    for db in databases().await {
        let steps = [
            send(Kind::Template, "oA", "1"),
            send(Kind::Template, "oA", "2"),
        ];
        event(&db, "m:1", &steps).await;
        assert_eq!(next(&db, NOW).await, Begun::Go);
        assert_eq!(forget(&db, NOW).await.unwrap(), 0);
        assert_eq!(forget(&db, NOW + 1).await.unwrap(), 1);
        assert_eq!(rows(&db).await.len(), 1);
    }
}
