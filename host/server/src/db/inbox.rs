//! The callback lane's own rows: events whose effects are committed, and events that were acknowledged
//! before their run ended, which must not be lost with the host.
//!
//! A row is `pending` from the acknowledgement until the run's commit ([`CallbackRow`]) makes it `done`.
//! While its lease holds, the host that has it is taken to be at work; after that, any host may lease it
//! and run the event again. An event that can't be run is a dead letter (`dead`): it keeps its body, and
//! can be resumed or dropped (`letters`). Leases are measured by the database's
//! clock.

mod letters;

use std::sync::Arc;

use sqlx::AnyConnection;

pub use self::letters::{Letter, LetterState, drop_letter, letters, resume};
use super::commit::{Commit, LaneRow, Taken};
use super::outbox::Outgoing;
use super::{DELETE_BLOCK, Database, DbError, Lease};

/// What was found when an event was to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is kept; the answer will go out late.
    Kept,
    /// It had been committed meanwhile, with this answer.
    Done {
        /// The passive answer; empty for none.
        answer: String,
    },
}

/// An event that was acknowledged while it ran.
#[derive(Debug, Clone)]
pub struct PendingEvent {
    /// The account.
    pub app_id: String,
    /// The event.
    pub event_id: String,
    /// The sealed body.
    pub event: String,
    /// Who has leased it: new for each lease.
    pub lease_owner: String,
    /// Runs that were begun and not known to have ended, this one included.
    pub attempts: i64,
    /// Unix milliseconds of the acknowledgement.
    pub created_at: i64,
}

/// The row of a callback, as its commit is to leave it.
#[derive(Debug)]
pub struct CallbackRow {
    /// The passive answer; empty for none.
    pub answer: Arc<str>,
    /// The answer as it goes to the outbox if the event was acknowledged already.
    pub late: Option<Outgoing>,
}

impl LaneRow for CallbackRow {
    /// The answer of then; empty for none.
    type Before = String;

    fn plain_answer(&self) -> Option<&Arc<str>> {
        Some(&self.answer)
    }

    async fn take(
        &self,
        db: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<Taken<'_, String>, DbError> {
        let inserted = sqlx::query(
            "INSERT INTO inbox (app_id, event_id, state, answer, lease_until, attempts, created_at) \
             VALUES ($1, $2, 'done', $3, 0, 0, $4) ON CONFLICT (app_id, event_id) DO NOTHING",
        )
        .bind(commit.app_id)
        .bind(commit.event_id)
        .bind(&*self.answer)
        .bind(commit.now_ms)
        .execute(&mut *db)
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(Taken::Fresh);
        }
        // A delivery that comes yet is not to be given what the outbox sends.
        let answer = match self.late {
            Some(_) => "",
            None => &self.answer,
        };
        let taken = sqlx::query(
            "UPDATE inbox SET state = 'done', event = NULL, reason = NULL, answer = $3 \
             WHERE app_id = $1 AND event_id = $2 AND state <> 'done'",
        )
        .bind(commit.app_id)
        .bind(commit.event_id)
        .bind(answer)
        .execute(&mut *db)
        .await?;
        if taken.rows_affected() == 1 {
            return Ok(Taken::Acknowledged(self.late.as_ref()));
        }
        let before: Option<(Option<String>,)> =
            sqlx::query_as("SELECT answer FROM inbox WHERE app_id = $1 AND event_id = $2")
                .bind(commit.app_id)
                .bind(commit.event_id)
                .fetch_optional(db)
                .await?;
        Ok(Taken::Before(
            before.and_then(|(answer,)| answer).unwrap_or_default(),
        ))
    }
}

/// Keeps an event that is acknowledged while it still runs.
///
/// # Errors
/// The database can't be reached: the event must not be acknowledged.
pub async fn acknowledge(
    db: &Database,
    event: &PendingEvent,
    lease_until: i64,
) -> Result<Acknowledged, DbError> {
    sqlx::query(
        "INSERT INTO inbox (app_id, event_id, state, event, lease_until, lease_owner, attempts, \
         created_at) VALUES ($1, $2, 'pending', $3, $4, $5, $6, $7) \
         ON CONFLICT (app_id, event_id) DO NOTHING",
    )
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(&event.event)
    .bind(lease_until)
    .bind(&event.lease_owner)
    .bind(event.attempts)
    .bind(event.created_at)
    .execute(&db.writers)
    .await?;
    let (state, answer): (String, Option<String>) =
        sqlx::query_as("SELECT state, answer FROM inbox WHERE app_id = $1 AND event_id = $2")
            .bind(&event.app_id)
            .bind(&event.event_id)
            .fetch_one(&db.readers)
            .await?;
    if state == "done" {
        let answer = answer.unwrap_or_default();
        return Ok(Acknowledged::Done { answer });
    }
    Ok(Acknowledged::Kept)
}

/// What is kept of an event; None if nothing is.
///
/// # Errors
/// The database can't be reached.
pub async fn look(
    db: &Database,
    app_id: &str,
    event_id: &str,
) -> Result<Option<Acknowledged>, DbError> {
    let row: Option<(String, Option<String>)> =
        sqlx::query_as("SELECT state, answer FROM inbox WHERE app_id = $1 AND event_id = $2")
            .bind(app_id)
            .bind(event_id)
            .fetch_optional(&db.readers)
            .await?;
    Ok(row.map(|(state, answer)| match state.as_str() {
        "done" => Acknowledged::Done {
            answer: answer.unwrap_or_default(),
        },
        _ => Acknowledged::Kept,
    }))
}

/// Whether there are events since `since_ms` whose id is a message's MsgId alone, as earlier versions
/// gave them.
///
/// # Errors
/// The database can't be reached.
pub async fn has_earlier_ids(db: &Database, since_ms: i64) -> Result<bool, DbError> {
    let found: Option<(i64,)> = sqlx::query_as(
        "SELECT created_at FROM inbox WHERE created_at >= $1 \
         AND event_id LIKE 'm:%' AND event_id NOT LIKE 'm:%:%' LIMIT 1",
    )
    .bind(since_ms)
    .fetch_optional(&db.readers)
    .await?;
    Ok(found.is_some())
}

/// Notes that an event which was to be acknowledged is answered passively after all. False: it is to go
/// out late, because it was committed so, or is under way so.
///
/// # Errors
/// The database can't be reached.
pub async fn answer_passively(
    db: &Database,
    event: &PendingEvent,
    answer: &str,
) -> Result<bool, DbError> {
    let noted = sqlx::query(
        "UPDATE inbox SET state = 'done', event = NULL, answer = $3 \
         WHERE app_id = $1 AND event_id = $2 AND state = 'pending' AND lease_owner = $4",
    )
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(answer)
    .bind(&event.lease_owner)
    .execute(&db.writers)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Leases up to `limit` pending events whose lease has run out. Each counts as an attempt, until
/// [`postpone`] takes it back.
///
/// # Errors
/// The database can't be reached; what was leased until then is left to run out.
pub async fn lease_pending(
    db: &Database,
    limit: i64,
    lease: Lease<'_>,
) -> Result<Vec<PendingEvent>, DbError> {
    let rows: Vec<(String, String, Option<String>, i64, i64, i64)> = sqlx::query_as(LEASABLE)
        .bind(lease.now_ms)
        .bind(limit)
        .fetch_all(&db.readers)
        .await?;
    let mut leased = Vec::new();
    for (app_id, event_id, event, attempts, created_at, before) in rows {
        let pending = PendingEvent {
            app_id,
            event_id,
            event: event.unwrap_or_default(),
            lease_owner: lease.owner.to_owned(),
            attempts: attempts + 1,
            created_at,
        };
        if take_lease(db, &pending, before, lease.until_ms).await? {
            leased.push(pending);
        }
    }
    Ok(leased)
}

const LEASABLE: &str = "SELECT app_id, event_id, event, attempts, created_at, lease_until FROM inbox \
     WHERE state = 'pending' AND lease_until < $1 ORDER BY lease_until LIMIT $2";

/// Gives a leased event back: the host could not do its part, which is no attempt. It is due again at
/// `due_at`.
///
/// # Errors
/// The database can't be reached: the row is due when its lease has run out, and the attempt counts
/// until this is told again.
pub async fn postpone(db: &Database, event: &PendingEvent, due_at: i64) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE inbox SET attempts = attempts - 1, \
         lease_until = CASE WHEN lease_owner = $3 THEN $4 ELSE lease_until END \
         WHERE app_id = $1 AND event_id = $2 AND state <> 'done' AND attempts > 0",
    )
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(&event.lease_owner)
    .bind(due_at)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Ends a leased event that can't be run; its body stays. False if another host has it by now.
///
/// # Errors
/// The database can't be reached.
pub async fn bury(db: &Database, event: &PendingEvent, reason: &str) -> Result<bool, DbError> {
    let buried = sqlx::query(
        "UPDATE inbox SET state = 'dead', reason = $3 \
         WHERE app_id = $1 AND event_id = $2 AND state = 'pending' AND lease_owner = $4",
    )
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(reason)
    .bind(&event.lease_owner)
    .execute(&db.writers)
    .await?;
    Ok(buried.rows_affected() == 1)
}

/// Forgets committed events that are older than any delivery of WeChat.
///
/// # Errors
/// The database can't be reached.
pub async fn forget_done(db: &Database, before_ms: i64) -> Result<u64, DbError> {
    db.delete_in_blocks(FORGET_DONE, before_ms, DELETE_BLOCK)
        .await
}

const FORGET_DONE: &str = "DELETE FROM inbox WHERE (app_id, event_id) IN \
     (SELECT app_id, event_id FROM inbox WHERE state = 'done' AND created_at < $1 \
     ORDER BY created_at LIMIT $2)";

/// Moves a lease. The rows are the other hosts' too: whoever moves it first has it.
async fn take_lease(
    db: &Database,
    event: &PendingEvent,
    lease: i64,
    lease_until: i64,
) -> Result<bool, DbError> {
    let taken = sqlx::query(
        "UPDATE inbox SET lease_until = $1, lease_owner = $2, attempts = $3 \
         WHERE app_id = $4 AND event_id = $5 AND state = 'pending' AND lease_until = $6",
    )
    .bind(lease_until)
    .bind(&event.lease_owner)
    .bind(event.attempts)
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(lease)
    .execute(&db.writers)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// The row of an event that has no answer.
#[cfg(test)]
pub(crate) fn no_answer() -> CallbackRow {
    CallbackRow {
        answer: "".into(),
        late: None,
    }
}

#[cfg(test)]
mod tests;
