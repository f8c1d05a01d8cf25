//! Events that were acknowledged before their run ended: they must not be lost with the host.
//!
//! A row is `pending` from the acknowledgement until the run's commit (`db::commit`) makes it `done`.
//! While its lease holds, the host that acknowledged it is taken to be at work; after that, any host
//! may lease it and run the event again.

use super::{Database, DbError};

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
    /// How often it was taken up again, this time included.
    pub attempts: i64,
    /// Unix milliseconds of the acknowledgement.
    pub created_at: i64,
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
        "INSERT INTO inbox (app_id, event_id, state, event, lease_until, attempts, created_at) \
         VALUES ($1, $2, 'pending', $3, $4, $5, $6) ON CONFLICT (app_id, event_id) DO NOTHING",
    )
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(&event.event)
    .bind(lease_until)
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
    if state == "pending" {
        return Ok(Acknowledged::Kept);
    }
    let answer = answer.unwrap_or_default();
    Ok(Acknowledged::Done { answer })
}

/// Takes an acknowledgement back: the answer was found after all and goes out passively.
///
/// # Errors
/// The database can't be reached.
pub async fn unacknowledge(db: &Database, app_id: &str, event_id: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM inbox WHERE app_id = $1 AND event_id = $2 AND state = 'pending'")
        .bind(app_id)
        .bind(event_id)
        .execute(&db.writers)
        .await?;
    Ok(())
}

/// Leases up to `limit` pending events whose lease has run out.
///
/// # Errors
/// The database can't be reached.
pub async fn lease_pending(
    db: &Database,
    limit: i64,
    lease_until: i64,
    now_ms: i64,
) -> Result<Vec<PendingEvent>, DbError> {
    let rows: Vec<(String, String, Option<String>, i64, i64, i64)> = sqlx::query_as(
        "SELECT app_id, event_id, event, attempts, created_at, lease_until FROM inbox \
         WHERE state = 'pending' AND lease_until < $1 ORDER BY lease_until LIMIT $2",
    )
    .bind(now_ms)
    .bind(limit)
    .fetch_all(&db.readers)
    .await?;
    let mut leased = Vec::new();
    for (app_id, event_id, event, attempts, created_at, lease) in rows {
        let pending = PendingEvent {
            app_id,
            event_id,
            event: event.unwrap_or_default(),
            attempts: attempts + 1,
            created_at,
        };
        if take_lease(db, &pending, lease, lease_until).await? {
            leased.push(pending);
        }
    }
    Ok(leased)
}

/// Forgets committed events that are older than any delivery of WeChat.
///
/// # Errors
/// The database can't be reached.
pub async fn forget_done(db: &Database, before_ms: i64) -> Result<u64, DbError> {
    let done = sqlx::query("DELETE FROM inbox WHERE state = 'done' AND created_at < $1")
        .bind(before_ms)
        .execute(&db.writers)
        .await?;
    Ok(done.rows_affected())
}

/// Moves a lease. The rows are the other hosts' too: whoever moves it first has it.
async fn take_lease(
    db: &Database,
    event: &PendingEvent,
    lease: i64,
    lease_until: i64,
) -> Result<bool, DbError> {
    let taken = sqlx::query(
        "UPDATE inbox SET lease_until = $1, attempts = $2 \
         WHERE app_id = $3 AND event_id = $4 AND state = 'pending' AND lease_until = $5",
    )
    .bind(lease_until)
    .bind(event.attempts)
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(lease)
    .execute(&db.writers)
    .await?;
    Ok(taken.rows_affected() == 1)
}
