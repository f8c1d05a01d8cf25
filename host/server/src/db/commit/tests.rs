//! What a commit writes, and what keeps it from it; on both databases.

use super::*;
use crate::db::inbox::CallbackRow;
use crate::db::personal::{Change, Step};
use crate::db::testing::databases;
use crate::db::{contacts, kv};

const APP: &str = "wx01";
const DONE: Committed<String> = Committed::Done(AnswerWay::Passive);

pub(super) fn put(key: &str, value: &str, expect: Expectation) -> Write {
    Write {
        key: key.to_owned(),
        value: Some(value.as_bytes().to_vec()),
        expect,
    }
}

pub(super) fn request<'a>(
    event_id: &'a str,
    reads: &'a ReadSet,
    writes: &'a [Write],
    version: i64,
) -> Commit<'a> {
    Commit {
        app_id: APP,
        event_id,
        reads,
        writes,
        version,
        money: &[],
        personal: PersonalEffects::default(),
        trace_id: "t",
        now_ms: 1,
    }
}

pub(super) fn row() -> CallbackRow {
    CallbackRow {
        answer: "the answer".into(),
        late: None,
    }
}

async fn commit(db: &Database, request: &Commit<'_>) -> Result<Committed<String>, DbError> {
    super::commit(db, &row(), request).await
}

async fn value(db: &Database, key: &str) -> Option<String> {
    let entry = kv::get(db, APP, key).await.expect("reads");
    entry.map(|entry| String::from_utf8(entry.value).expect("text"))
}

fn read(key: &str, version: Option<i64>) -> ReadSet {
    ReadSet {
        values: vec![(key.to_owned(), version)],
        ..ReadSet::default()
    }
}

#[track_caller]
fn conflicts_on(committed: &Committed<String>, key: &str) {
    let key = key.to_owned();
    assert_eq!(committed, &Committed::Conflict { key });
}

#[tokio::test]
async fn an_event_is_committed_once_and_remembers_its_answer() {
    for db in databases().await {
        let reads = ReadSet::default();
        let first = [put("k", "1", Expectation::Any)];
        let done = commit(&db, &request("m:1", &reads, &first, 11))
            .await
            .unwrap();
        assert_eq!(done, DONE);
        let second = [put("k", "2", Expectation::Any)];
        let again = commit(&db, &request("m:1", &reads, &second, 12))
            .await
            .unwrap();
        let answer = "the answer".to_owned();
        assert_eq!(again, Committed::Before(answer));
        assert_eq!(value(&db, "k").await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn nothing_is_written_when_something_read_was_changed() {
    for db in databases().await {
        let nothing = ReadSet::default();
        let writes = [put("seen", "1", Expectation::Any)];
        commit(&db, &request("m:1", &nothing, &writes, 11))
            .await
            .unwrap();
        let writes = [put("other", "x", Expectation::Any)];
        for (event_id, reads) in [
            ("m:2", read("seen", Some(10))),
            ("m:3", read("seen", None)),
            ("m:4", read("gone", Some(11))),
        ] {
            let key = reads.values[0].0.clone();
            let committed = commit(&db, &request(event_id, &reads, &writes, 12))
                .await
                .unwrap();
            conflicts_on(&committed, &key);
        }
        assert_eq!(value(&db, "other").await, None);
        let reads = read("seen", Some(11));
        let committed = commit(&db, &request("m:5", &reads, &writes, 12))
            .await
            .unwrap();
        assert_eq!(committed, DONE);
    }
}

#[tokio::test]
async fn a_key_that_appears_in_a_listing_that_was_read_is_a_conflict() {
    for db in databases().await {
        let nothing = ReadSet::default();
        let writes = [put("user:1", "a", Expectation::Any)];
        commit(&db, &request("m:1", &nothing, &writes, 11))
            .await
            .unwrap();
        let listed = |more| ReadSet {
            listings: vec![Listing {
                prefix: "user:".to_owned(),
                after: None,
                more,
                found: vec![("user:1".to_owned(), 11)],
            }],
            ..ReadSet::default()
        };
        let beyond = [put("user:2", "b", Expectation::Any)];
        commit(&db, &request("m:2", &nothing, &beyond, 12))
            .await
            .unwrap();
        // It matters to who has read to the end, and not to who has read the first page only.
        let writes = [put("sum", "1", Expectation::Any)];
        let committed = commit(&db, &request("m:3", &listed(false), &writes, 13))
            .await
            .unwrap();
        conflicts_on(&committed, "user:");
        let committed = commit(&db, &request("m:3", &listed(true), &writes, 13))
            .await
            .unwrap();
        assert_eq!(committed, DONE);
    }
}

/// More of each kind than one statement looks up, and the last of them changed.
#[tokio::test]
async fn of_all_that_a_call_has_read_no_change_is_overlooked() {
    const MANY: i64 = 150;
    for db in databases().await {
        let nothing = ReadSet::default();
        let key = |number: i64| format!("k{number:03}");
        let writes: Vec<_> = (0..MANY)
            .map(|number| put(&key(number), "v", Expectation::Any))
            .collect();
        commit(&db, &request("m:1", &nothing, &writes, 11))
            .await
            .unwrap();
        let page = |number: i64| Listing {
            prefix: "k".to_owned(),
            after: (number > 0).then(|| key(number - 1)),
            more: number + 1 < MANY,
            found: vec![(key(number), 11)],
        };
        let seen = ReadSet {
            values: (0..MANY).map(|number| (key(number), Some(11))).collect(),
            listings: (0..MANY).map(page).collect(),
            contacts: (0..MANY).map(|number| (key(number), 0)).collect(),
        };
        let nothing_new = [put("sum", "1", Expectation::Any)];
        let committed = commit(&db, &request("m:2", &seen, &nothing_new, 12)).await;
        assert_eq!(committed.unwrap(), DONE);

        let last = key(MANY - 1);
        let mut changed = [seen.clone(), seen.clone(), seen];
        changed[0].values[MANY as usize - 1].1 = None;
        changed[1].listings[MANY as usize - 1].found.clear();
        changed[2].contacts[MANY as usize - 1].1 = 7;
        for (reads, at) in changed.iter().zip([&last, "k", &last]) {
            let committed = commit(&db, &request("m:3", reads, &nothing_new, 13)).await;
            conflicts_on(&committed.unwrap(), at);
        }
    }
}

#[tokio::test]
async fn a_write_happens_only_as_it_expects() {
    for db in databases().await {
        let nothing = ReadSet::default();
        let new = [put("k", "1", Expectation::Absent)];
        commit(&db, &request("m:1", &nothing, &new, 11))
            .await
            .unwrap();
        let committed = commit(&db, &request("m:2", &nothing, &new, 12))
            .await
            .unwrap();
        conflicts_on(&committed, "k");
        let next = [put("k", "2", Expectation::Unchanged(11))];
        commit(&db, &request("m:3", &nothing, &next, 13))
            .await
            .unwrap();
        let committed = commit(&db, &request("m:4", &nothing, &next, 14))
            .await
            .unwrap();
        conflicts_on(&committed, "k");
        assert_eq!(value(&db, "k").await.as_deref(), Some("2"));
    }
}

#[tokio::test]
async fn of_two_that_read_the_same_value_one_wins() {
    for db in databases().await {
        let nothing = ReadSet::default();
        let writes = [put("n", "0", Expectation::Any)];
        commit(&db, &request("m:0", &nothing, &writes, 1))
            .await
            .unwrap();
        let racers = (2..12_i64).map(|version| {
            let db = db.clone();
            async move {
                let reads = read("n", Some(1));
                let event_id = format!("m:{version}");
                let writes = [put("n", &version.to_string(), Expectation::Any)];
                commit(&db, &request(&event_id, &reads, &writes, version))
                    .await
                    .unwrap()
            }
        });
        let ended = futures::future::join_all(racers).await;
        let done = ended
            .iter()
            .filter(|committed| matches!(committed, Committed::Done(_)));
        assert_eq!(done.count(), 1, "{ended:?}");
    }
}

#[tokio::test]
async fn a_contact_that_was_read_and_changed_since_is_a_conflict() {
    for db in databases().await {
        let nothing = ReadSet::default();
        let points = |points: u32| {
            [Step::Change {
                open_id: "oA".to_owned(),
                change: Change::Attributes(
                    [("points".to_owned(), points.into())].into_iter().collect(),
                ),
            }]
        };
        let five = points(5);
        let first = Commit {
            money: &[],
            personal: PersonalEffects {
                sender: None,
                steps: &five,
            },
            ..request("m:1", &nothing, &[], 11)
        };
        assert_eq!(commit(&db, &first).await.unwrap(), DONE);
        let contact = contacts::find(&db, APP, "oA").await.unwrap().unwrap();
        assert_eq!(contact.version, 11);

        // Both have read five points, and both are to write six.
        let reads = ReadSet {
            contacts: vec![("oA".to_owned(), 11)],
            ..ReadSet::default()
        };
        let six = points(6);
        let personal = PersonalEffects {
            sender: None,
            steps: &six,
        };
        let second = Commit {
            personal,
            ..request("m:2", &reads, &[], 12)
        };
        assert_eq!(commit(&db, &second).await.unwrap(), DONE);
        let third = Commit {
            personal,
            ..request("m:3", &reads, &[], 13)
        };
        conflicts_on(&commit(&db, &third).await.unwrap(), "oA");
    }
}

#[tokio::test]
async fn a_contact_that_was_looked_for_in_vain_is_read_too() {
    for db in databases().await {
        let reads = ReadSet {
            contacts: vec![("oA".to_owned(), 0)],
            ..ReadSet::default()
        };
        let steps = [Step::Change {
            open_id: "oA".to_owned(),
            change: Change::Remark("VIP".to_owned()),
        }];
        let personal = PersonalEffects {
            sender: None,
            steps: &steps,
        };
        for (event_id, version) in [("m:1", 11), ("m:2", 12)] {
            let request = Commit {
                personal,
                ..request(event_id, &reads, &[], version)
            };
            let committed = commit(&db, &request).await.unwrap();
            if event_id == "m:1" {
                assert_eq!(committed, DONE);
            } else {
                conflicts_on(&committed, "oA");
            }
        }
    }
}

/// Of many events of one account that have nothing in common none keeps another from being committed.
#[tokio::test]
async fn events_that_have_nothing_in_common_do_not_meet() {
    for db in databases().await {
        let events = (1..=200_i64).map(|number| {
            let db = db.clone();
            async move {
                let key = format!("k{number}");
                let reads = read(&key, None);
                let event_id = format!("m:{number}");
                let writes = [put(&key, "1", Expectation::Any)];
                let request = request(&event_id, &reads, &writes, number);
                super::commit(&db, &row(), &request).await.unwrap()
            }
        });
        let ended = futures::future::join_all(events).await;
        let done = ended.iter().filter(|committed| **committed == DONE).count();
        assert_eq!(done, 200, "{ended:?}");
    }
}

/// What is read and written alone, beside others of the same account: no commit is given up because
/// PostgreSQL took others' for a danger to it. (Where the event's row was looked for before it was
/// inserted, a third of them was.)
#[tokio::test]
async fn writers_that_have_nothing_in_common_never_use_up_their_tries() {
    const WRITERS: i64 = 8;
    const EVENTS: i64 = 40;
    for db in databases().await {
        let writers = (0..WRITERS).map(|writer| {
            let db = db.clone();
            async move {
                let mut done = 0;
                for number in 0..EVENTS {
                    let name = format!("w{writer}-{number}");
                    // More than are committed many at once.
                    let keys = (0..20).map(|key| (format!("{name}-{key}"), None));
                    let reads = ReadSet {
                        values: keys.collect(),
                        ..ReadSet::default()
                    };
                    let writes = [put(&format!("{name}-0"), "1", Expectation::Any)];
                    let version = writer * EVENTS + number + 1;
                    let request = request(&name, &reads, &writes, version);
                    let committed = super::commit(&db, &row(), &request).await.unwrap();
                    done += i64::from(committed == DONE);
                }
                done
            }
        });
        let done: i64 = futures::future::join_all(writers).await.into_iter().sum();
        assert_eq!(done, WRITERS * EVENTS, "{:?}", db.dialect());
    }
}
