//! Pushes: requests, their recipients in blocks, and the lanes that accounts' pushes leave by.
//!
//! An account's lane is leased to one host at a time, by the database's clock; every write of that host
//! rests on the lease's fence. Recipients have no row each: five hundred of them share one, with a line
//! each for what became of them.

mod admit;
mod audience;
mod blocks;
mod lanes;
mod outcome;
mod receipts;
pub mod schedules;
mod settle;
#[cfg(test)]
mod tests;

use sqlx::{AnyConnection, AssertSqlSafe, FromRow};

pub use self::admit::{Admitted, Candidates, admit};
pub use self::audience::Audience;
pub use self::blocks::{Block, expand, next_blocks, recipients};
pub use self::lanes::{LeasedLane, give_up, lease, release, renew};
pub use self::outcome::{Arrival, Outcome};
pub use self::receipts::{forget_receipts, take_receipts};
pub use self::settle::{Lessons, Window, compositions, keep_compositions, postpone, settle};
use super::{Database, DbError};
use crate::random;

/// Recipients of a block.
pub const BLOCK_RECIPIENTS: usize = 500;

/// A push as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PushRow {
    /// The account.
    pub app_id: String,
    /// Names it; sorts by time.
    pub id: String,
    /// What kind it is.
    pub kind: String,
    /// JSON: what is sent, in the order in which it is tried.
    pub content: String,
    /// `running`, `paused`, `cancelled` or `done`.
    pub state: String,
    /// What the request's repetitions have in common.
    pub idempotency_key: Option<String>,
    /// Tells a repetition from another request under the same key.
    pub request_digest: String,
    /// What the tenant's system calls the matter, such as an order's number.
    pub reference: Option<String>,
    /// JSON of an [`Audience`]: whom it goes to beside those named, until all of them stand in blocks.
    pub audience: Option<String>,
    /// The open id up to which the audience stands in blocks.
    pub taken_to: Vec<u8>,
    /// When it begins; Unix milliseconds.
    pub starts_at: i64,
    /// When those who still wait are not sent to any more; Unix milliseconds.
    pub expires_at: i64,
    /// Recipients so far.
    pub recipients: i64,
    /// Those that WeChat took it for.
    pub sent: i64,
    /// Of these, those that it tells it was delivered to.
    pub delivered: i64,
    /// Of these, those that it tells it was not delivered to.
    pub undelivered: i64,
    /// Those that it refused it for.
    pub failed: i64,
    /// Those that were not tried.
    pub skipped: i64,
    /// Those of whom nobody knows.
    pub unsure: i64,
    /// When it came.
    pub created_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// 1 where it does not wait for the account's quiet hours to end.
    pub is_urgent: Option<i64>,
}

impl PushRow {
    /// Recipients without an outcome, of those who are known.
    pub fn open(&self) -> i64 {
        self.recipients - self.sent - self.failed - self.skipped - self.unsure
    }
}

/// A fresh name for a push or a schedule that comes now.
pub fn new_id(now_ms: i64) -> String {
    format!("{:012x}{:016x}", now_ms.max(0), random::version())
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is a push now.
    New,
    /// It was one before.
    Before(Box<PushRow>),
}

/// Puts a push in, with the recipients that it names. A request under a key that was used before puts
/// nothing in.
///
/// # Errors
/// The database can't be reached: nothing is put in.
pub async fn add(db: &Database, push: &PushRow, open_ids: &[&str]) -> Result<Added, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !insert(&mut *connection, push, open_ids).await? {
        let before = sqlx::query_as(BY_KEY)
            .bind(&push.app_id)
            .bind(&push.idempotency_key)
            .fetch_one(&mut *connection)
            .await?;
        return Ok(Added::Before(Box::new(before)));
    }
    transaction.commit().await?;
    Ok(Added::New)
}

/// Puts a push in, within a transaction. False if there is one under its key.
async fn insert(
    db: &mut AnyConnection,
    push: &PushRow,
    open_ids: &[&str],
) -> Result<bool, DbError> {
    let inserted = sqlx::query(
        "INSERT INTO pushes (app_id, id, kind, content, state, idempotency_key, request_digest, \
         reference, audience, taken_to, starts_at, expires_at, recipients, sent, failed, skipped, unsure, \
         delivered, undelivered, created_at, is_urgent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0, 0, 0, 0, 0, $14, $15) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .bind(&push.kind)
    .bind(&push.content)
    .bind(&push.state)
    .bind(&push.idempotency_key)
    .bind(&push.request_digest)
    .bind(&push.reference)
    .bind(&push.audience)
    .bind(&push.taken_to)
    .bind(push.starts_at)
    .bind(push.expires_at)
    .bind(push.recipients)
    .bind(push.created_at)
    .bind(push.is_urgent)
    .execute(&mut *db)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    for (number, block) in (0..).zip(open_ids.chunks(BLOCK_RECIPIENTS)) {
        blocks::insert(&mut *db, push, number, block).await?;
    }
    lanes::ask(db, &push.app_id, push.created_at).await?;
    Ok(true)
}

const BY_KEY: &str = "SELECT * FROM pushes WHERE app_id = $1 AND idempotency_key = $2";

/// The push that was put in under an idempotency key.
///
/// # Errors
/// The database can't be reached.
pub async fn find_by_key(
    db: &Database,
    app_id: &str,
    key: &str,
) -> Result<Option<PushRow>, DbError> {
    let query = sqlx::query_as(BY_KEY).bind(app_id).bind(key);
    Ok(query.fetch_optional(&db.readers).await?)
}

/// One push.
///
/// # Errors
/// The database can't be reached.
pub async fn find(db: &Database, app_id: &str, id: &str) -> Result<Option<PushRow>, DbError> {
    let query = sqlx::query_as("SELECT * FROM pushes WHERE app_id = $1 AND id = $2");
    let query = query.bind(app_id).bind(id);
    Ok(query.fetch_optional(&db.readers).await?)
}

/// An account's pushes that are older than `before`, the newest first.
///
/// # Errors
/// The database can't be reached.
pub async fn list(
    db: &Database,
    app_id: &str,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<PushRow>, DbError> {
    let query = sqlx::query_as(
        "SELECT * FROM pushes WHERE app_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    );
    let query = query
        .bind(app_id)
        // Ids are hex digits.
        .bind(before.unwrap_or("~"))
        .bind(i64::from(limit));
    Ok(query.fetch_all(&db.readers).await?)
}

/// How fast an account's last pushes to `fewest` recipients or more went: to how many, in how many
/// milliseconds. None where there were none.
///
/// # Errors
/// The database can't be reached.
pub async fn pace(db: &Database, app_id: &str, fewest: i64) -> Result<Option<(u64, u64)>, DbError> {
    let query = sqlx::query_as(
        "SELECT recipients, ended_at - CASE WHEN starts_at > created_at THEN starts_at ELSE created_at END \
         FROM pushes WHERE app_id = $1 AND state = 'done' AND ended_at IS NOT NULL AND recipients >= $2 \
         ORDER BY id DESC LIMIT 3",
    );
    let query = query.bind(app_id).bind(fewest);
    let rows: Vec<(i64, i64)> = query.fetch_all(&db.readers).await?;
    let (sent, took_ms) = rows.iter().fold((0, 0), |(sent, took), row| {
        (sent + row.0, took + row.1.max(1))
    });
    Ok((sent > 0).then(|| (sent.unsigned_abs(), took_ms.unsigned_abs())))
}

/// An account's pushes that take turns now: those to the fewest, and the oldest, so that neither a single
/// message waits behind many large pushes nor a large push behind ever new messages. In its quiet hours only
/// those that are urgent, or over.
///
/// # Errors
/// The database can't be reached.
pub async fn running(
    db: &Database,
    (app_id, now_ms): (&str, i64),
    (limit, is_quiet): (i64, bool),
) -> Result<Vec<PushRow>, DbError> {
    let quiet = match is_quiet {
        false => "",
        true => "AND (is_urgent = 1 OR expires_at <= $2)",
    };
    let taken = format!(
        "SELECT * FROM pushes WHERE app_id = $1 AND state = 'running' AND starts_at <= $2 {quiet}"
    );
    let fewest = format!(
        "{taken} ORDER BY CASE WHEN audience IS NULL THEN 0 ELSE 1 END, recipients, id LIMIT $3"
    );
    let oldest = format!("{taken} ORDER BY id LIMIT $3");
    let mut pushes: Vec<PushRow> = Vec::new();
    for (statement, limit) in [(fewest, limit), (oldest, 1)] {
        let query = sqlx::query_as(AssertSqlSafe(statement));
        let query = query.bind(app_id).bind(now_ms);
        let found: Vec<PushRow> = query.bind(limit).fetch_all(&db.readers).await?;
        for push in found {
            if pushes.iter().all(|known| known.id != push.id) {
                pushes.push(push);
            }
        }
    }
    Ok(pushes)
}

/// Whether one of an account's pushes waits for its quiet hours to end.
///
/// # Errors
/// The database can't be reached.
pub async fn is_one_waiting(db: &Database, (app_id, now_ms): (&str, i64)) -> Result<bool, DbError> {
    let query = sqlx::query_scalar(
        "SELECT 1 FROM pushes WHERE app_id = $1 AND state = 'running' AND starts_at <= $2 \
         AND (is_urgent IS NULL OR is_urgent = 0) LIMIT 1",
    );
    let found: Option<i32> = query
        .bind(app_id)
        .bind(now_ms)
        .fetch_optional(&db.readers)
        .await?;
    Ok(found.is_some())
}

/// When the next of an account's pushes begins that has not begun yet.
///
/// # Errors
/// The database can't be reached.
pub async fn next_start(db: &Database, app_id: &str, now_ms: i64) -> Result<Option<i64>, DbError> {
    let query = sqlx::query_scalar(
        "SELECT min(starts_at) FROM pushes WHERE app_id = $1 AND state = 'running' \
         AND starts_at > $2",
    );
    let query = query.bind(app_id).bind(now_ms);
    Ok(query.fetch_one(&db.readers).await?)
}

/// What is asked of a push that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing more leaves for now.
    Pause,
    /// It goes on.
    Resume,
    /// Nothing more leaves.
    Cancel,
}

/// The state of a push that was cancelled.
pub const CANCELLED: &str = "cancelled";

impl Turn {
    /// The state after it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "running",
            Self::Cancel => CANCELLED,
        }
    }
}

/// Pauses, resumes or cancels a push that has not ended. False if it has.
///
/// # Errors
/// The database can't be reached.
pub async fn turn(
    db: &Database,
    (app_id, id): (&str, &str),
    turn: Turn,
    now_ms: i64,
) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let ended_at = (turn == Turn::Cancel).then_some(now_ms);
    let turned = sqlx::query(
        "UPDATE pushes SET state = $1, ended_at = $2 \
         WHERE app_id = $3 AND id = $4 AND state IN ('running', 'paused')",
    )
    .bind(turn.state())
    .bind(ended_at)
    .bind(app_id)
    .bind(id)
    .execute(&mut *connection)
    .await?;
    if turned.rows_affected() == 0 {
        return Ok(false);
    }
    if turn == Turn::Resume {
        lanes::ask(&mut *connection, app_id, now_ms).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Cancels all of an account's pushes under a reference that have not ended; their ids.
///
/// # Errors
/// The database can't be reached.
pub async fn recall(
    db: &Database,
    (app_id, reference): (&str, &str),
    now_ms: i64,
) -> Result<Vec<String>, DbError> {
    let query = sqlx::query_scalar(
        "UPDATE pushes SET state = 'cancelled', ended_at = $1 WHERE app_id = $2 AND reference = $3 \
         AND ended_at IS NULL AND state IN ('running', 'paused') RETURNING id",
    );
    let query = query.bind(now_ms).bind(app_id).bind(reference);
    Ok(query.fetch_all(&db.writers).await?)
}

/// Ends a push that has nothing left to send. False if it has, or is not running.
///
/// # Errors
/// The database can't be reached.
pub async fn finish(db: &Database, push: &PushRow, now_ms: i64) -> Result<bool, DbError> {
    let finished = sqlx::query(
        "UPDATE pushes SET state = 'done', ended_at = $1 WHERE app_id = $2 AND id = $3 \
         AND state = 'running' AND audience IS NULL AND NOT EXISTS (SELECT 1 FROM push_blocks b \
         WHERE b.app_id = $2 AND b.push_id = $3 AND b.open > 0)",
    )
    .bind(now_ms)
    .bind(&push.app_id)
    .bind(&push.id)
    .execute(&db.writers)
    .await?;
    Ok(finished.rows_affected() == 1)
}

/// Deletes pushes that ended before a time, with their blocks.
///
/// # Errors
/// The database can't be reached.
pub async fn forget(db: &Database, before_ms: i64) -> Result<(), DbError> {
    let ended = "SELECT app_id, id FROM pushes WHERE ended_at < $1 ORDER BY ended_at LIMIT $2";
    loop {
        let old: Vec<(String, String)> = sqlx::query_as(ended)
            .bind(before_ms)
            .bind(FORGOTTEN_AT_ONCE)
            .fetch_all(&db.readers)
            .await?;
        for (app_id, id) in &old {
            let mut transaction = db.begin().await?;
            for statement in [
                "DELETE FROM push_compositions WHERE app_id = $1 AND push_id = $2",
                "DELETE FROM push_blocks WHERE app_id = $1 AND push_id = $2",
                "DELETE FROM pushes WHERE app_id = $1 AND id = $2",
            ] {
                sqlx::query(statement)
                    .bind(app_id)
                    .bind(id)
                    .execute(transaction.connection())
                    .await?;
            }
            transaction.commit().await?;
        }
        if old.len() < FORGOTTEN_AT_ONCE.unsigned_abs() as usize {
            return Ok(());
        }
    }
}

/// Pushes that are looked up for deletion at once; each goes in a transaction of its own.
const FORGOTTEN_AT_ONCE: i64 = 100;
