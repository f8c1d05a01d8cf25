//! The transaction that makes an event's effects happen, all or none, once.
//!
//! What the call has read is checked first: if any of it was changed since, nothing is written and
//! the handler has to run again. PostgreSQL runs the transaction serialisable, SQLite lets one writer
//! in at a time; either way two commits can't both pass the check on what the other writes.

use sqlx::AnyConnection;

use super::outbox::{Origin, Outgoing};
use super::personal::{self, PersonalEffects};
use super::{Database, DbError, Dialect, kv};

/// Tries of a transaction that PostgreSQL ended because of another one, before it counts as a conflict.
const MAX_TRIES: u32 = 4;

/// What a call has read of the tenant's values, with the versions that it saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ReadSet {
    /// Single values: key and version, None for a key that was not there.
    pub values: Vec<(String, Option<i64>)>,
    /// Listings.
    pub listings: Vec<Listing>,
}

/// A page of a listing as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What the keys begin with.
    pub prefix: String,
    /// The key after which the page began.
    pub after: Option<String>,
    /// Whether more keys come after the last one found.
    pub more: bool,
    /// Keys and versions that it held.
    pub found: Vec<(String, i64)>,
}

/// What must be true of a key for it to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    Any,
    /// The key is not there.
    Absent,
    /// The value is of this version.
    Unchanged(i64),
}

/// A write to the tenant's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The value; None deletes.
    pub value: Option<Vec<u8>>,
    /// What must be true of the key.
    pub expect: Expectation,
}

/// What is to be committed for an event.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The event.
    pub event_id: &'a str,
    /// What the call has read.
    pub reads: &'a ReadSet,
    /// What it writes.
    pub writes: &'a [Write],
    /// The version that everything written here gets; fresh for each commit.
    pub version: i64,
    /// The passive answer; empty for none.
    pub answer: &'a str,
    /// The answer as it goes to the outbox if the event was acknowledged already.
    pub late: Option<&'a Outgoing>,
    /// What the event does to people.
    pub personal: PersonalEffects<'a>,
    /// The trace of the event.
    pub trace_id: &'a str,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Done. `late`: the event had been acknowledged, so the answer is in the outbox.
    Done {
        /// Whether the answer went to the outbox.
        late: bool,
    },
    /// The event was committed before, with this answer; nothing was written.
    Before {
        /// The answer of then.
        answer: String,
    },
    /// What was read or expected of this key (or prefix) is not so any more; nothing was written.
    Conflict {
        /// The key or prefix.
        key: String,
    },
    /// An effect can't be done; nothing was written.
    Unfit {
        /// Why not.
        reason: String,
    },
}

/// Commits the effects of an event.
///
/// # Errors
/// The database can't be reached; whether the commit happened is then unknown, and committing the
/// same event again tells.
pub async fn commit(db: &Database, commit: &Commit<'_>) -> Result<Committed, DbError> {
    for _ in 0..MAX_TRIES {
        match try_commit(db, commit).await {
            Err(DbError::Conflict(_)) => {}
            ended => return ended,
        }
    }
    let key = String::from("(another transaction)");
    Ok(Committed::Conflict { key })
}

async fn try_commit(db: &Database, commit: &Commit<'_>) -> Result<Committed, DbError> {
    let mut transaction = db.begin().await?;
    if db.dialect() == Dialect::Postgres {
        sqlx::query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .execute(transaction.connection())
            .await?;
    }
    let committed = write_all(db.dialect(), transaction.connection(), commit).await?;
    if matches!(committed, Committed::Done { .. }) {
        transaction.commit().await?;
    }
    Ok(committed)
}

async fn write_all(
    dialect: Dialect,
    db: &mut AnyConnection,
    commit: &Commit<'_>,
) -> Result<Committed, DbError> {
    let seen: Option<(String, Option<String>)> =
        sqlx::query_as("SELECT state, answer FROM inbox WHERE app_id = $1 AND event_id = $2")
            .bind(commit.app_id)
            .bind(commit.event_id)
            .fetch_optional(&mut *db)
            .await?;
    let late = match seen {
        None => false,
        Some((state, _)) if state == "pending" => true,
        Some((_, answer)) => {
            let answer = answer.unwrap_or_default();
            return Ok(Committed::Before { answer });
        }
    };
    if let Some(key) = first_change(db, commit.app_id, commit.reads).await? {
        return Ok(Committed::Conflict { key });
    }
    for write in commit.writes {
        if !apply(db, commit, write).await? {
            let key = write.key.clone();
            return Ok(Committed::Conflict { key });
        }
    }
    mark_done(db, commit).await?;
    let origin = Origin {
        app_id: commit.app_id,
        event_id: commit.event_id,
        trace_id: commit.trace_id,
        version: commit.version,
        now_ms: commit.now_ms,
    };
    let answer = commit.late.filter(|_| late);
    match personal::apply(dialect, db, origin, answer, commit.personal).await? {
        Ok(()) => Ok(Committed::Done { late }),
        Err(unfit) => Ok(Committed::Unfit {
            reason: unfit.reason,
        }),
    }
}

/// The first key or prefix whose state is not what the call saw.
async fn first_change(
    db: &mut AnyConnection,
    app_id: &str,
    reads: &ReadSet,
) -> Result<Option<String>, DbError> {
    for (key, version) in &reads.values {
        if version_of(db, app_id, key).await? != *version {
            return Ok(Some(key.clone()));
        }
    }
    for listing in &reads.listings {
        if listed_now(db, app_id, listing).await? != listing.found {
            return Ok(Some(listing.prefix.clone()));
        }
    }
    Ok(None)
}

/// What the page of a listing holds now: the keys after its beginning, up to its last one, or to the
/// end if it was the last page.
async fn listed_now(
    db: &mut AnyConnection,
    app_id: &str,
    listing: &Listing,
) -> Result<Vec<(String, i64)>, DbError> {
    let after = listing.after.as_deref();
    let last = listing.found.last().filter(|_| listing.more);
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT key, version FROM kv WHERE app_id = $1 AND key >= $2 AND key < $3 \
         AND ($4 = 0 OR key > $2) AND ($5 = 0 OR key <= $6) ORDER BY key",
    )
    .bind(app_id)
    .bind(after.unwrap_or(&listing.prefix).as_bytes())
    .bind(kv::end_of(&listing.prefix))
    .bind(i64::from(after.is_some()))
    .bind(i64::from(last.is_some()))
    .bind(last.map(|(key, _)| key.as_bytes()).unwrap_or_default())
    .fetch_all(db)
    .await?;
    let listed = rows
        .into_iter()
        .map(|(key, version)| (String::from_utf8_lossy(&key).into_owned(), version));
    Ok(listed.collect())
}

async fn version_of(
    db: &mut AnyConnection,
    app_id: &str,
    key: &str,
) -> Result<Option<i64>, DbError> {
    let version = sqlx::query_scalar("SELECT version FROM kv WHERE app_id = $1 AND key = $2")
        .bind(app_id)
        .bind(key.as_bytes())
        .fetch_optional(db)
        .await?;
    Ok(version)
}

/// Applies a write; false if what it expects is not so.
async fn apply(
    db: &mut AnyConnection,
    commit: &Commit<'_>,
    write: &Write,
) -> Result<bool, DbError> {
    if write.expect != Expectation::Any {
        let expected = match write.expect {
            Expectation::Unchanged(version) => Some(version),
            Expectation::Any | Expectation::Absent => None,
        };
        if version_of(db, commit.app_id, &write.key).await? != expected {
            return Ok(false);
        }
    }
    let query = match &write.value {
        Some(value) => sqlx::query(
            "INSERT INTO kv (app_id, key, value, version, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (app_id, key) DO UPDATE SET value = excluded.value, \
             version = excluded.version, updated_at = excluded.updated_at",
        )
        .bind(commit.app_id)
        .bind(write.key.as_bytes())
        .bind(value)
        .bind(commit.version)
        .bind(commit.now_ms),
        None => sqlx::query("DELETE FROM kv WHERE app_id = $1 AND key = $2")
            .bind(commit.app_id)
            .bind(write.key.as_bytes()),
    };
    query.execute(db).await?;
    Ok(true)
}

async fn mark_done(db: &mut AnyConnection, commit: &Commit<'_>) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO inbox (app_id, event_id, state, answer, lease_until, attempts, created_at) \
         VALUES ($1, $2, 'done', $3, 0, 0, $4) \
         ON CONFLICT (app_id, event_id) DO UPDATE SET state = 'done', event = NULL, \
         answer = excluded.answer",
    )
    .bind(commit.app_id)
    .bind(commit.event_id)
    .bind(commit.answer)
    .bind(commit.now_ms)
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::inbox::{self, Acknowledged, PendingEvent};
    use crate::db::outbox::Kind;
    use crate::db::testing::databases;

    const APP: &str = "wx01";

    fn put(key: &str, value: &str, expect: Expectation) -> Write {
        Write {
            key: key.to_owned(),
            value: Some(value.as_bytes().to_vec()),
            expect,
        }
    }

    fn request<'a>(
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
            answer: "the answer",
            late: None,
            personal: PersonalEffects::default(),
            trace_id: "t",
            now_ms: 1,
        }
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
    fn conflicts_on(committed: &Committed, key: &str) {
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
            assert_eq!(done, Committed::Done { late: false });
            let second = [put("k", "2", Expectation::Any)];
            let again = commit(&db, &request("m:1", &reads, &second, 12))
                .await
                .unwrap();
            let answer = "the answer".to_owned();
            assert_eq!(again, Committed::Before { answer });
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
            assert_eq!(committed, Committed::Done { late: false });
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
            assert_eq!(committed, Committed::Done { late: false });
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
                .filter(|committed| matches!(committed, Committed::Done { .. }));
            assert_eq!(done.count(), 1, "{ended:?}");
        }
    }

    #[tokio::test]
    async fn an_acknowledged_event_sends_its_answer_to_the_outbox_once() {
        for db in databases().await {
            let pending = PendingEvent {
                app_id: APP.to_owned(),
                event_id: "m:1".to_owned(),
                event: "sealed".to_owned(),
                attempts: 0,
                created_at: 1,
            };
            let kept = inbox::acknowledge(&db, &pending, 100).await.unwrap();
            assert_eq!(kept, Acknowledged::Kept);
            assert!(
                inbox::lease_pending(&db, 10, 300, 99)
                    .await
                    .unwrap()
                    .is_empty()
            );
            assert_eq!(
                inbox::lease_pending(&db, 10, 300, 101).await.unwrap().len(),
                1
            );
            assert!(
                inbox::lease_pending(&db, 10, 300, 101)
                    .await
                    .unwrap()
                    .is_empty()
            );
            let late = Outgoing {
                kind: Kind::LateAnswer,
                open_id: "oUser".to_owned(),
                path: "/send".to_owned(),
                payload: "{}".to_owned(),
            };
            let reads = ReadSet::default();
            let late_request = Commit {
                late: Some(&late),
                ..request("m:1", &reads, &[], 11)
            };
            let done = commit(&db, &late_request).await.unwrap();
            assert_eq!(done, Committed::Done { late: true });
            commit(&db, &late_request).await.unwrap();
            let (rows,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM outbox")
                .fetch_one(&db.readers)
                .await
                .unwrap();
            assert_eq!(rows, 1);
            let again = inbox::acknowledge(&db, &pending, 100).await.unwrap();
            let answer = "the answer".to_owned();
            assert_eq!(again, Acknowledged::Done { answer });
        }
    }
}
