//! Acknowledged events, for people: those that wait, and those that are dead letters.

use crate::db::{Database, DbError};

/// What a listed event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// It was acknowledged and waits for its run.
    Pending,
    /// It can't be run: somebody has to look.
    Dead,
}

impl LetterState {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dead => "dead",
        }
    }
}

/// An acknowledged event, without its body.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Letter {
    /// The event.
    pub event_id: String,
    /// `pending` or `dead`.
    pub state: String,
    /// Why it is dead: a stable word.
    pub reason: Option<String>,
    /// Runs that were begun and never ended.
    pub attempts: i64,
    /// When it is tried next, Unix milliseconds; of a dead one, when it was tried last.
    pub due_at: i64,
    /// When its first delivery came, Unix milliseconds.
    pub created_at: i64,
}

/// The events of an account in one state, in the order of their ids, after one of them.
///
/// # Errors
/// The database can't be reached.
pub async fn letters(
    db: &Database,
    app_id: &str,
    state: LetterState,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Letter>, DbError> {
    // The state stands in the text: an index that holds only such rows is then of use.
    let statement = format!(
        "SELECT event_id, state, reason, attempts, lease_until AS due_at, created_at FROM inbox \
         WHERE app_id = $1 AND event_id > $2 AND state = '{}' ORDER BY event_id LIMIT $3",
        state.as_str()
    );
    let letters = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(app_id)
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?;
    Ok(letters)
}

/// Has a dead letter run again, with all its attempts before it. False if there is none.
///
/// # Errors
/// The database can't be reached.
pub async fn resume(db: &Database, app_id: &str, event_id: &str) -> Result<bool, DbError> {
    let resumed = sqlx::query(
        "UPDATE inbox SET state = 'pending', reason = NULL, attempts = 0, lease_until = 0 \
         WHERE app_id = $1 AND event_id = $2 AND state = 'dead'",
    )
    .bind(app_id)
    .bind(event_id)
    .execute(&db.writers)
    .await?;
    Ok(resumed.rows_affected() == 1)
}

/// Drops a dead letter and its body; the event stays known, so that it is not run after all. False if
/// there is none.
///
/// # Errors
/// The database can't be reached.
pub async fn drop_letter(db: &Database, app_id: &str, event_id: &str) -> Result<bool, DbError> {
    let dropped = sqlx::query(
        "UPDATE inbox SET state = 'done', event = NULL, answer = '' \
         WHERE app_id = $1 AND event_id = $2 AND state = 'dead'",
    )
    .bind(app_id)
    .bind(event_id)
    .execute(&db.writers)
    .await?;
    Ok(dropped.rows_affected() == 1)
}
