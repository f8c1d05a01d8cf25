//! Leases, order, ledger and effects on both databases.

mod ledger;
mod order;

use wxhost_wechat::id::{AppId, OpenId};

use super::*;
use crate::db::allowance::{self, ContactKey, Refusal, Scenes};
use crate::db::commit::{self, AnswerWay, Commit, Committed, ReadSet};
use crate::db::contact_updates::{self, ContactUpdate};
use crate::db::contacts;
use crate::db::inbox::no_answer;
use crate::db::personal::{Change, MAX_ATTRIBUTE_BYTES, PersonalEffects, Step};
use crate::db::testing::databases;
use crate::db::{Database, Lease};

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

const CHAT: &str = "/cgi-bin/message/custom/send";
const TEMPLATE: &str = "/cgi-bin/message/template/send";

fn send(kind: Kind, open_id: &str, payload: &str) -> Step {
    let path = match kind {
        Kind::LateAnswer | Kind::CustomerMessage => CHAT,
        Kind::Template => TEMPLATE,
        Kind::Subscription => "/cgi-bin/message/subscribe/bizsend",
        Kind::Tags => "/cgi-bin/tags/members/batchtagging",
        Kind::Remark => "/cgi-bin/user/info/updateremark",
    };
    over(kind, path, open_id, payload)
}

fn over(kind: Kind, path: &str, open_id: &str, payload: &str) -> Step {
    Step::Send(Outgoing {
        kind,
        open_id: open_id.to_owned(),
        path: path.to_owned(),
        payload: payload.to_owned(),
        expires_at: None,
    })
}

fn lane(app_id: &str, path: &str) -> SendLane {
    SendLane {
        app_id: app_id.to_owned(),
        path: path.to_owned(),
    }
}

/// The lanes of an account that have something due.
async fn due(db: &Database, app_id: &str, now_ms: i64) -> Vec<SendLane> {
    let page = send_lanes(db, &SendLane::default(), now_ms, 99)
        .await
        .unwrap();
    let due = page.due.into_iter();
    due.filter(|lane| lane.app_id == app_id).collect()
}

/// Leases whatever an account has due.
async fn lease_of(db: &Database, app_id: &str, lease: Lease<'_>) -> Vec<Leased> {
    let mut leased = Vec::new();
    for lane in due(db, app_id, lease.now_ms).await {
        leased.extend(super::lease(db, &lane, lease, 10).await.unwrap());
    }
    leased
}

fn payloads(leased: &[Leased]) -> Vec<&str> {
    let mut payloads: Vec<_> = leased.iter().map(|row| &*row.outgoing.payload).collect();
    payloads.sort_unstable();
    payloads
}

async fn settle_as(db: &Database, row: &Leased, now_ms: i64, end: Final) {
    let settled = settle(db, row, at(now_ms), end, &Report::default()).await;
    assert!(settled.unwrap());
}

async fn rest(db: &Database, app_id: &str, path: &str, until_ms: i64) {
    let new = NewPause {
        app_id,
        path,
        until_ms,
        reason: "quota",
        errcode: Some(45009),
        ends: false,
    };
    pause(db, new).await.unwrap();
}

fn change(open_id: &str, change: Change) -> Step {
    Step::Change {
        open_id: open_id.to_owned(),
        change,
    }
}

fn update(open_id: &str, at_ms: i64) -> ContactUpdate {
    let open_id = OpenId::parse(open_id).unwrap();
    ContactUpdate::new(AppId::parse(APP).unwrap(), open_id, at_ms)
}

fn wrote(open_id: &str, at_ms: i64) -> ContactUpdate {
    let mut seen = update(open_id, at_ms);
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
        money: &[],
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
    let leased = lease_of(db, APP, at(now_ms)).await;
    assert_eq!(leased.len(), 1, "{leased:?}");
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

async fn see(db: &Database, seen: ContactUpdate) {
    contact_updates::write(db, &[seen]).await.unwrap();
}

#[tokio::test]
async fn of_a_contacts_rows_only_the_first_is_leased_and_no_row_twice() {
    for db in databases().await {
        let steps = [
            send(Kind::Template, "oA", "1"),
            send(Kind::Template, "oA", "2"),
            send(Kind::Template, "oB", "3"),
        ];
        event(&db, "m:1", &steps).await;
        let hosts = ["h1", "h2", "h3", "h4"].map(|owner| {
            let db = Database::clone(&db);
            async move { lease_of(&db, APP, by(owner, NOW)).await }
        });
        let leased = futures::future::join_all(hosts).await.concat();
        assert_eq!(payloads(&leased), ["1", "3"]);
    }
}

#[tokio::test]
async fn a_row_whose_host_died_is_taken_up_when_the_lease_has_run_out() {
    for db in databases().await {
        event(&db, "m:1", &[send(Kind::Template, "oA", "1")]).await;
        let dead = lease_of(&db, APP, by("dead", NOW)).await;
        assert_eq!(dead[0].unsure, 0);
        let begun = begin(&db, &dead[0], by("dead", NOW), &scenes())
            .await
            .unwrap();
        assert_eq!(begun, Begun::Go);
        let early = NOW + MINUTE - 1;
        assert!(due(&db, APP, early).await.is_empty());
        let late = NOW + MINUTE;
        let again = lease_of(&db, APP, at(late)).await;
        assert_eq!((again[0].unsure, again[0].unsure_at), (1, Some(NOW)));
        assert_eq!(again[0].attempts, 1);
        // Should it not have died, it has lost the row.
        let (end, report) = (Final::Sent, Report::default());
        let lost = settle(&db, &dead[0], by("dead", late), end, &report).await;
        assert!(!lost.unwrap());
        let lost = begin(&db, &dead[0], by("dead", late), &scenes())
            .await
            .unwrap();
        assert_eq!(lost, Begun::Lost);
        settle_as(&db, &again[0], late, end).await;
        let row = &rows(&db).await[0];
        assert_eq!((&*row.state, row.unsure_at), ("sent", Some(NOW)));
    }
}

#[tokio::test]
async fn a_host_whose_lease_ran_out_does_not_go_on_with_the_row_that_it_leased_again() {
    for db in databases().await {
        event(&db, "m:1", &[send(Kind::Template, "oA", "1")]).await;
        let slow = lease_of(&db, APP, at(NOW)).await;
        let late = NOW + MINUTE;
        let again = lease_of(&db, APP, at(late)).await;
        assert!(again[0].fence > slow[0].fence);
        let begun = begin(&db, &slow[0], at(late), &scenes()).await.unwrap();
        assert_eq!(begun, Begun::Lost);
        let begun = begin(&db, &again[0], at(late), &scenes()).await.unwrap();
        assert_eq!(begun, Begun::Go);
        let report = Report::default();
        let lost = settle(&db, &slow[0], at(late), Final::Failed, &report).await;
        assert!(!lost.unwrap());
        settle_as(&db, &again[0], late, Final::Sent).await;
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
        let leased = lease_of(&db, APP, at(NOW)).await;
        begin(&db, &leased[0], at(NOW), &scenes()).await.unwrap();
        let report = Report {
            reason: Some("busy"),
            errcode: Some(-1),
            ..Report::default()
        };
        let until = NOW + 2 * MINUTE;
        let wait = Postponement {
            due_at: until,
            report: &report,
            uncounted: 1,
        };
        assert!(postpone(&db, &leased[0], at(NOW), wait).await.unwrap());
        assert!(lease_of(&db, APP, at(until - 1)).await.is_empty());
        let leased = lease_of(&db, APP, at(until)).await;
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
        rest(&db, "wx01", "", NOW + MINUTE).await;
        rest(&db, "wx02", TEMPLATE, NOW + MINUTE).await;
        // A shorter one does not end it.
        rest(&db, "wx02", TEMPLATE, NOW + 1).await;
        rest(&db, "wx03", "/other", NOW + MINUTE).await;
        // Whoever has seen a lane before does not lease of it either.
        for app_id in ["wx01", "wx02"] {
            let lane = lane(app_id, TEMPLATE);
            let leased = super::lease(&db, &lane, at(NOW + 2), 9).await.unwrap();
            assert_eq!(leased, []);
        }
        let start = SendLane::default();
        let page = send_lanes(&db, &start, NOW + 2, 9).await.unwrap();
        assert_eq!(page.due, [lane("wx03", TEMPLATE)]);
        let later = NOW + MINUTE;
        let page = send_lanes(&db, &lane("wx01", TEMPLATE), later, 9)
            .await
            .unwrap();
        assert_eq!(page.due, [lane("wx02", TEMPLATE), lane("wx03", TEMPLATE)]);
        assert_eq!(page.next, None);
        let page = send_lanes(&db, &start, later, 1).await.unwrap();
        assert_eq!(page.due, [lane("wx01", TEMPLATE)]);
        assert_eq!(page.next, Some(lane("wx01", TEMPLATE)));
    }
}

#[tokio::test]
async fn pauses_are_listed_and_lifted() {
    for db in databases().await {
        event(&db, "m:1", &[send(Kind::Template, "oA", "1")]).await;
        rest(&db, APP, TEMPLATE, NOW + MINUTE).await;
        let listed = pauses(&db, APP, NOW).await.unwrap();
        let [listed] = &listed[..] else {
            panic!("{listed:?}");
        };
        assert_eq!((&*listed.path, listed.errcode), (TEMPLATE, Some(45009)));
        assert!(due(&db, APP, NOW).await.is_empty());
        let mut change = db.change().await.unwrap();
        assert!(lift(&db, &mut change, APP, TEMPLATE).await.unwrap());
        assert!(!lift(&db, &mut change, APP, TEMPLATE).await.unwrap());
        change.commit().await.unwrap();
        assert!(pauses(&db, APP, NOW).await.unwrap().is_empty());
        assert_eq!(due(&db, APP, NOW).await, [lane(APP, TEMPLATE)]);
    }
}

#[tokio::test]
async fn what_an_account_has_no_right_to_is_leased_to_be_ended() {
    for db in databases().await {
        event(&db, "m:1", &[send(Kind::Template, "oA", "1")]).await;
        let new = NewPause {
            app_id: APP,
            path: TEMPLATE,
            until_ms: NOW + MINUTE,
            reason: "no-right",
            errcode: Some(48001),
            ends: true,
        };
        pause(&db, new).await.unwrap();
        let leased = lease_of(&db, APP, at(NOW)).await;
        assert_eq!(leased[0].no_right, Some(48001));
    }
}

#[tokio::test]
async fn rows_of_a_host_of_the_version_before_get_their_lines() {
    for db in databases().await {
        sqlx::query(
            "INSERT INTO outbox (id, app_id, event_id, ordinal, kind, open_id, path, payload, state, \
             due_at, trace_id, created_at, attempts, reserved) \
             VALUES ('1', 'wx01', 'm:1', 1, 'template', 'oA', $1, 'old', 'waiting', $2, 't', $2, 0, 0)",
        )
        .bind(TEMPLATE)
        .bind(NOW)
        .execute(&db.writers)
        .await
        .unwrap();
        assert!(lease_of(&db, APP, at(NOW)).await.is_empty());
        assert_eq!(adopt(&db).await.unwrap(), 1);
        assert_eq!(adopt(&db).await.unwrap(), 0);
        let leased = lease_of(&db, APP, at(NOW)).await;
        assert_eq!(payloads(&leased), ["old"]);
        assert_eq!(leased[0].outgoing.expires_at, Some(NOW + MAX_AGE_MS));
        // It may end a row without knowing of lines.
        sqlx::query("UPDATE outbox SET settled_at = 1")
            .execute(&db.writers)
            .await
            .unwrap();
        assert!(lease_of(&db, APP, at(NOW + MINUTE)).await.is_empty());
        let lines: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM outbox_lines")
            .fetch_one(&db.readers)
            .await
            .unwrap();
        assert_eq!(lines, 0);
    }
}

#[tokio::test]
async fn what_is_over_is_leased_to_be_ended_wherever_it_stands() {
    for db in databases().await {
        let expiring = |payload: &str, at_ms| match send(Kind::Template, "oA", payload) {
            Step::Send(outgoing) => Step::Send(Outgoing {
                expires_at: Some(at_ms),
                ..outgoing
            }),
            change @ Step::Change { .. } => change,
        };
        let steps = [
            send(Kind::Template, "oA", "first"),
            expiring("soon", NOW + MINUTE),
            expiring("much later", NOW + 2 * MAX_AGE_MS),
        ];
        event(&db, "m:1", &steps).await;
        rest(&db, APP, TEMPLATE, NOW + 2 * MAX_AGE_MS).await;
        let expired = |now_ms| {
            let db = Database::clone(&db);
            async move { lease_expired(&db, at(now_ms)).await.unwrap() }
        };
        assert!(expired(NOW + MINUTE - 1).await.is_empty());
        let over = expired(NOW + MINUTE).await;
        assert_eq!(payloads(&over), ["soon"]);
        // It is leased.
        assert!(expired(NOW + MINUTE).await.is_empty());
        settle_as(&db, &over[0], NOW + MINUTE, Final::Skipped).await;
        let over = expired(NOW + MAX_AGE_MS).await;
        assert_eq!(payloads(&over), ["first", "much later"]);
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
        for expected in [&["goodbye", "left us"][..], &["what you asked"]] {
            let leased = lease_of(&db, APP, at(NOW + 1)).await;
            assert_eq!(payloads(&leased), expected);
            for row in &leased {
                let begun = begin(&db, row, at(NOW + 1), &scenes()).await.unwrap();
                assert_eq!(begun, Begun::Go);
                settle_as(&db, row, NOW + 1, Final::Sent).await;
            }
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
            money: &[],
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
