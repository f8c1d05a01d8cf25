//! The transaction that makes an event's effects happen, all or none, once.
//!
//! Whatever lane an event came by, the lane's own row ([`LaneRow`]) is written first: the row's primary
//! key decides that effects happen once. What the call has read is checked next: if any of it was
//! changed since, nothing is written and the handler has to run again. SQLite lets one writer in at a
//! time, and those who wait share a flush (`group`); PostgreSQL runs a transaction that has reads to check serialisable; either way two commits
//! can't both pass the check on what the other writes. Under PostgreSQL the insertion of the lane's row
//! must come before any look for it: a row that is looked for in vain would meet every other event's.

mod batch;
mod group;
mod reads;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;

pub(super) use self::group::Groups;

use super::ledger::MoneyWrite;
use super::outbox::{Origin, Outgoing};
use super::personal::{self, PersonalEffects};
use super::{Database, DbError, Dialect};
use crate::random;

/// Tries of a transaction that PostgreSQL ended because of another one, before it counts as a conflict.
const MAX_TRIES: u32 = 8;
/// The longest pause before the second try; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// What a call has read of the tenant's values and of contacts, with the versions that it saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ReadSet {
    /// Single values: key and version, None for a key that was not there.
    pub values: Vec<(String, Option<i64>)>,
    /// Listings.
    pub listings: Vec<Listing>,
    /// Contacts: open id and version of what effects change; 0 for a contact that was not there, or
    /// that no effect has changed yet.
    pub contacts: Vec<(String, i64)>,
}

impl ReadSet {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.listings.is_empty() && self.contacts.is_empty()
    }
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
    /// What the event does to people.
    pub personal: PersonalEffects<'a>,
    /// What it does with money.
    pub money: &'a [MoneyWrite],
    /// The trace of the event.
    pub trace_id: &'a str,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// The row that a lane keeps of an event: it is taken by one commit, once.
pub trait LaneRow: Sync {
    /// What the row holds when the event was committed before.
    type Before: Send;

    /// The row's answer, if the row is one of the callback lane's: such rows are inserted many at once.
    fn plain_answer(&self) -> Option<&Arc<str>> {
        None
    }

    /// Takes the row for this commit.
    fn take(
        &self,
        db: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> impl Future<Output = Result<Taken<'_, Self::Before>, DbError>> + Send;
}

/// Of a lane whose runs commit nothing.
impl LaneRow for Infallible {
    type Before = Self;

    async fn take(
        &self,
        _db: &mut AnyConnection,
        _commit: &Commit<'_>,
    ) -> Result<Taken<'_, Self>, DbError> {
        match *self {}
    }
}

/// What became of a lane's row.
#[derive(Debug)]
pub enum Taken<'a, B> {
    /// It is this commit's.
    Fresh,
    /// It is this commit's, but whoever brought the event has been told that it will be done: its
    /// answer, if there is one, goes to the outbox.
    Acknowledged(Option<&'a Outgoing>),
    /// Another commit had it.
    Before(B),
}

/// How the answer of a committed event goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerWay {
    /// To whoever brought the event and still waits.
    Passive,
    /// By the outbox: the event had been acknowledged.
    Outbox,
    /// Not at all: the event had been acknowledged, and there is no answer, or none that can go late.
    Nowhere,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed<B> {
    /// Done.
    Done(AnswerWay),
    /// The event was committed before; nothing was written.
    Before(B),
    /// What was read or expected of this key (or prefix, or contact) is not so any more; nothing was
    /// written.
    Conflict {
        /// The key, prefix or open id.
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
pub async fn commit<R: LaneRow>(
    db: &Database,
    row: &R,
    commit: &Commit<'_>,
) -> Result<Committed<R::Before>, DbError> {
    let mut ended = {
        let _beside = db.groups.beside_others(commit.app_id).await;
        try_commit(db, row, commit).await
    };
    for tried in 1..MAX_TRIES {
        if !matches!(ended, Err(DbError::Conflict(_))) {
            return ended;
        }
        // It may have met another host's: both must not come again at once.
        tokio::time::sleep(random::up_to(FIRST_PAUSE * 2_u32.pow(tried - 1))).await;
        // Those who try for the first time would go on meeting it.
        let _alone = db.groups.alone(commit.app_id).await;
        ended = try_commit(db, row, commit).await;
    }
    match ended {
        Err(DbError::Conflict(_)) => Ok(Committed::Conflict {
            key: String::from("(another transaction)"),
        }),
        ended => ended,
    }
}

async fn try_commit<R: LaneRow>(
    db: &Database,
    row: &R,
    commit: &Commit<'_>,
) -> Result<Committed<R::Before>, DbError> {
    if let Some(answer) = row.plain_answer() {
        let committed = db.groups.commit_plainly(db, answer, commit).await?;
        if let Some(committed) = committed {
            return Ok(committed);
        }
    }
    if db.dialect() == Dialect::Sqlite {
        return db.groups.commit(db, row, commit).await;
    }
    let mut transaction = db.begin().await?;
    // What only writes meets others on rows that it locks, which every level sees to.
    if !commit.reads.is_empty() || commit.personal.changes_contacts() {
        sqlx::query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .execute(transaction.connection())
            .await?;
    }
    let committed = write_all(Dialect::Postgres, transaction.connection(), row, commit).await?;
    if matches!(committed, Committed::Done(_)) {
        transaction.commit().await?;
    }
    Ok(committed)
}

async fn write_all<R: LaneRow>(
    dialect: Dialect,
    db: &mut AnyConnection,
    row: &R,
    commit: &Commit<'_>,
) -> Result<Committed<R::Before>, DbError> {
    let (way, late) = match row.take(db, commit).await? {
        Taken::Fresh => (AnswerWay::Passive, None),
        Taken::Acknowledged(None) => (AnswerWay::Nowhere, None),
        Taken::Acknowledged(late) => (AnswerWay::Outbox, late),
        Taken::Before(before) => return Ok(Committed::Before(before)),
    };
    if let Some(key) = reads::first_change(dialect, db, commit.app_id, commit.reads).await? {
        return Ok(Committed::Conflict { key });
    }
    for write in commit.writes {
        if !apply(db, commit, write).await? {
            let key = write.key.clone();
            return Ok(Committed::Conflict { key });
        }
    }
    let origin = Origin {
        app_id: commit.app_id,
        event_id: commit.event_id,
        trace_id: commit.trace_id,
        version: commit.version,
        now_ms: commit.now_ms,
    };
    for write in commit.money {
        if let Err(reason) = write.apply(db, commit.app_id, commit.now_ms).await? {
            return Ok(Committed::Unfit { reason });
        }
    }
    match personal::apply(dialect, db, origin, late, commit.personal).await? {
        Ok(()) => Ok(Committed::Done(way)),
        Err(unfit) => Ok(Committed::Unfit {
            reason: unfit.reason,
        }),
    }
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
    let statement = match (&write.value, write.expect) {
        (Some(_), Expectation::Any) => {
            "INSERT INTO kv (app_id, key, value, version, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (app_id, key) DO UPDATE SET value = excluded.value, \
             version = excluded.version, updated_at = excluded.updated_at"
        }
        (Some(_), Expectation::Absent) => {
            "INSERT INTO kv (app_id, key, value, version, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (app_id, key) DO NOTHING"
        }
        (Some(_), Expectation::Unchanged(_)) => {
            "UPDATE kv SET value = $3, version = $4, updated_at = $5 \
             WHERE app_id = $1 AND key = $2 AND version = $6"
        }
        (None, Expectation::Any) => "DELETE FROM kv WHERE app_id = $1 AND key = $2",
        (None, Expectation::Unchanged(_)) => {
            "DELETE FROM kv WHERE app_id = $1 AND key = $2 AND version = $3"
        }
        // To delete what is not there: nothing to do but to look.
        (None, Expectation::Absent) => {
            return Ok(version_of(db, commit.app_id, &write.key).await?.is_none());
        }
    };
    let mut query = sqlx::query(statement)
        .bind(commit.app_id)
        .bind(write.key.as_bytes());
    if let Some(value) = &write.value {
        query = query.bind(value).bind(commit.version).bind(commit.now_ms);
    }
    if let Expectation::Unchanged(version) = write.expect {
        query = query.bind(version);
    }
    let written = query.execute(db).await?.rows_affected();
    Ok(written == 1 || write.expect == Expectation::Any)
}

#[cfg(test)]
mod tests;
