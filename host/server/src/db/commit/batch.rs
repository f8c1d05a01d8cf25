//! Commits that read and write values only, many at once: their rows are looked up and written together,
//! and what one reads of another's writes is checked in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::{AnyConnection, AssertSqlSafe};
use tokio::sync::oneshot;

use super::{Commit, Expectation, Write};
use crate::db::values::placeholders;
use crate::db::{DbError, Dialect};

/// Commits of one batch at most.
pub(super) const MOST: usize = 256;
/// Reads and writes of a commit that may be part of a batch, of each so many at most.
const MOST_KEYS: usize = 16;
/// Bytes of the values that it may write.
const MOST_BYTES: usize = 64 << 10;

/// A commit that waits to be part of a batch.
#[derive(Debug)]
pub(super) struct Member {
    app_id: String,
    event_id: String,
    answer: Arc<str>,
    reads: Vec<(String, Option<i64>)>,
    writes: Vec<Write>,
    version: i64,
    now_ms: i64,
    done: oneshot::Sender<Outcome>,
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its part is in the transaction.
    Done,
    /// This key is not any more what it read or expected; it has no part.
    Conflict(String),
    /// Its event is known already, or the batch failed for another one: it has no part, and is to be
    /// committed alone.
    Alone,
}

/// An account's key.
type Key = (String, String);

impl Member {
    /// The member of a commit that does nothing but read and write a few values, and where its outcome
    /// will be told.
    pub(super) fn of(
        answer: &Arc<str>,
        commit: &Commit<'_>,
    ) -> Option<(Self, oneshot::Receiver<Outcome>)> {
        let reads = commit.reads;
        let bytes = |write: &Write| write.value.as_ref().map_or(0, Vec::len);
        let is_plain = reads.listings.is_empty()
            && reads.contacts.is_empty()
            && commit.personal.steps.is_empty()
            && commit.money.is_empty()
            && reads.values.len() <= MOST_KEYS
            && commit.writes.len() <= MOST_KEYS
            && commit.writes.iter().map(bytes).sum::<usize>() <= MOST_BYTES;
        is_plain.then(|| {
            let (done, outcome) = oneshot::channel();
            let member = Self {
                app_id: commit.app_id.to_owned(),
                event_id: commit.event_id.to_owned(),
                answer: Arc::clone(answer),
                reads: reads.values.clone(),
                writes: commit.writes.to_vec(),
                version: commit.version,
                now_ms: commit.now_ms,
                done,
            };
            (member, outcome)
        })
    }

    /// Tells what became of it; who does not wait any more does not mind.
    pub(super) fn tell(self, outcome: Outcome) {
        let _ = self.done.send(outcome);
    }

    fn key(&self, key: &str) -> Key {
        (self.app_id.clone(), key.to_owned())
    }

    /// The keys whose versions it rests on.
    fn rests_on(&self) -> impl Iterator<Item = Key> {
        let expected = self.writes.iter();
        let expected = expected.filter(|write| write.expect != Expectation::Any);
        let read = self.reads.iter().map(|(key, _)| key);
        read.chain(expected.map(|write| &write.key))
            .map(|key| self.key(key))
    }

    /// The first key that is not what it read or expects.
    fn first_change(&self, versions: &HashMap<Key, Option<i64>>) -> Option<String> {
        let now = |key: &str| versions.get(&self.key(key)).copied().flatten();
        let read = self.reads.iter();
        let read = read.filter(|(key, version)| now(key) != *version);
        let expected = self.writes.iter().filter(|write| match write.expect {
            Expectation::Any => false,
            Expectation::Absent => now(&write.key).is_some(),
            Expectation::Unchanged(version) => now(&write.key) != Some(version),
        });
        let mut changed = read
            .map(|(key, _)| key)
            .chain(expected.map(|write| &write.key));
        changed.next().cloned()
    }
}

/// Puts all members' parts into the transaction; tells what becomes of each, in their order.
pub(super) async fn write(
    dialect: Dialect,
    db: &mut AnyConnection,
    members: &[Member],
) -> Result<Vec<Outcome>, DbError> {
    let known = known_events(dialect, db, members).await?;
    let mut versions = versions(dialect, db, members).await?;
    let mut written: BTreeMap<Key, (Option<&[u8]>, &Member)> = BTreeMap::new();
    let mut rows = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(members.len());
    for member in members {
        let event = (member.app_id.as_str(), member.event_id.as_str());
        let is_known = known
            .iter()
            .any(|(app_id, event_id)| (app_id.as_str(), event_id.as_str()) == event);
        if is_known || rows.contains_key(&event) {
            outcomes.push(Outcome::Alone);
            continue;
        }
        if let Some(key) = member.first_change(&versions) {
            outcomes.push(Outcome::Conflict(key));
            continue;
        }
        for write in &member.writes {
            let key = member.key(&write.key);
            let version = write.value.as_ref().map(|_| member.version);
            versions.insert(key.clone(), version);
            written.insert(key, (write.value.as_deref(), member));
        }
        rows.insert(event, member);
        outcomes.push(Outcome::Done);
    }
    let rows: Vec<&Member> = rows.into_values().collect();
    insert_rows(dialect, db, &rows).await?;
    put_values(dialect, db, &written).await?;
    delete_values(dialect, db, &written).await?;
    Ok(outcomes)
}

/// Those of the members' events that have a row already.
async fn known_events(
    dialect: Dialect,
    db: &mut AnyConnection,
    members: &[Member],
) -> Result<Vec<(String, String)>, DbError> {
    let statement = format!(
        "SELECT app_id, event_id FROM inbox WHERE (app_id, event_id) IN (VALUES {})",
        placeholders(dialect, members.len(), 2, "")
    );
    let mut query = sqlx::query_as(AssertSqlSafe(statement)).persistent(false);
    for member in members {
        query = query.bind(&member.app_id).bind(&member.event_id);
    }
    Ok(query.fetch_all(db).await?)
}

/// The versions of all values that members rest on; those that are not there are left out.
async fn versions(
    dialect: Dialect,
    db: &mut AnyConnection,
    members: &[Member],
) -> Result<HashMap<Key, Option<i64>>, DbError> {
    let mut keys: Vec<Key> = members.iter().flat_map(Member::rests_on).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = format!(
        "SELECT app_id, key, version FROM kv WHERE (app_id, key) IN (VALUES {})",
        placeholders(dialect, keys.len(), 2, "")
    );
    let mut query = sqlx::query_as(AssertSqlSafe(statement)).persistent(false);
    for (app_id, key) in &keys {
        query = query.bind(app_id).bind(key.as_bytes());
    }
    let rows: Vec<(String, Vec<u8>, i64)> = query.fetch_all(db).await?;
    let versions = rows.into_iter().map(|(app_id, key, version)| {
        let key = String::from_utf8_lossy(&key).into_owned();
        ((app_id, key), Some(version))
    });
    Ok(versions.collect())
}

async fn insert_rows(
    dialect: Dialect,
    db: &mut AnyConnection,
    rows: &[&Member],
) -> Result<(), DbError> {
    if rows.is_empty() {
        return Ok(());
    }
    let values = placeholders(dialect, rows.len(), 4, ", 'done', 0, 0");
    let statement = format!(
        "INSERT INTO inbox (app_id, event_id, answer, created_at, state, lease_until, attempts) \
         VALUES {values}"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    for row in rows {
        query = query
            .bind(&row.app_id)
            .bind(&row.event_id)
            .bind(&*row.answer)
            .bind(row.now_ms);
    }
    query.execute(db).await?;
    Ok(())
}

async fn put_values(
    dialect: Dialect,
    db: &mut AnyConnection,
    written: &BTreeMap<Key, (Option<&[u8]>, &Member)>,
) -> Result<(), DbError> {
    let values = written.iter().filter(|(_, (value, _))| value.is_some());
    let count = values.clone().count();
    if count == 0 {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO kv (app_id, key, value, version, updated_at) VALUES {} \
         ON CONFLICT (app_id, key) DO UPDATE SET value = excluded.value, \
         version = excluded.version, updated_at = excluded.updated_at",
        placeholders(dialect, count, 5, "")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    for ((app_id, key), (value, member)) in values {
        query = query
            .bind(app_id)
            .bind(key.as_bytes())
            .bind(*value)
            .bind(member.version)
            .bind(member.now_ms);
    }
    query.execute(db).await?;
    Ok(())
}

async fn delete_values(
    dialect: Dialect,
    db: &mut AnyConnection,
    written: &BTreeMap<Key, (Option<&[u8]>, &Member)>,
) -> Result<(), DbError> {
    let deleted = written.iter().filter(|(_, (value, _))| value.is_none());
    let count = deleted.clone().count();
    if count == 0 {
        return Ok(());
    }
    let statement = format!(
        "DELETE FROM kv WHERE (app_id, key) IN (VALUES {})",
        placeholders(dialect, count, 2, "")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    for ((app_id, key), _) in deleted {
        query = query.bind(app_id).bind(key.as_bytes());
    }
    query.execute(db).await?;
    Ok(())
}
