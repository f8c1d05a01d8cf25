//! What became of recipients: kept in their block, and counted in the push.

use sqlx::AnyConnection;

use super::lanes::is_ours;
use super::outcome::Arrival;
use super::{Block, LeasedLane, Outcome, receipts};
use crate::db::allowance;
use crate::db::contacts::Contacts;
use crate::db::{Database, DbError, Dialect};

/// What a host has done with some of a block's recipients.
#[derive(Debug)]
pub struct Window<'a> {
    /// The lane that it has.
    pub lane: &'a LeasedLane,
    /// The block, with the outcomes as they are now.
    pub block: &'a Block,
    /// The outcomes of before.
    pub before: &'a [Outcome],
    /// When the block is looked at next, if recipients still wait.
    pub due_at: i64,
    /// What WeChat's answers taught of contacts.
    pub lessons: Lessons<'a>,
}

/// What WeChat's answers to a window taught of its recipients, for the ledger.
#[derive(Debug, Default)]
pub struct Lessons<'a> {
    /// They take no more customer-service messages.
    pub exhausted: Vec<&'a str>,
    /// Their room was not used, or is taken anew when they are tried again.
    pub unused: Vec<&'a str>,
    /// They do not follow.
    pub unfollowed: Vec<&'a str>,
    /// When the window began. What a contact did after that still counts.
    pub begun_ms: i64,
}

/// Keeps what became of a window's recipients, counts them, and learns. False if another host has the
/// lane.
///
/// # Errors
/// The database can't be reached: those who were sent to stay noted.
pub async fn settle(db: &Database, window: &Window<'_>) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !is_ours(db.dialect(), &mut *connection, window.lane).await? {
        return Ok(false);
    }
    keep_outcomes(&mut *connection, db.dialect(), window).await?;
    let Lessons { begun_ms, .. } = window.lessons;
    let of = |open_ids| Contacts {
        app_id: &window.lane.app_id,
        open_ids,
    };
    let Lessons {
        exhausted,
        unused,
        unfollowed,
        ..
    } = &window.lessons;
    let dialect = db.dialect();
    allowance::exhaust_all(&mut *connection, of(exhausted), begun_ms).await?;
    allowance::release_all(&mut *connection, dialect, of(unused), begun_ms).await?;
    allowance::note_all_unfollowed(&mut *connection, dialect, of(unfollowed), begun_ms).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Has a block looked at next at a time: the push's others go on meanwhile.
///
/// # Errors
/// The database can't be reached.
pub async fn postpone(
    db: &Database,
    lane: &LeasedLane,
    block: &Block,
    due_at: i64,
) -> Result<(), DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !is_ours(db.dialect(), &mut *connection, lane).await? {
        return Ok(());
    }
    sqlx::query(
        "UPDATE push_blocks SET due_at = $1 WHERE app_id = $2 AND push_id = $3 AND number = $4",
    )
    .bind(due_at)
    .bind(&lane.app_id)
    .bind(&block.push_id)
    .bind(block.number)
    .execute(&mut *connection)
    .await?;
    transaction.commit().await
}

/// Keeps what a plugin composed for a block's recipients, and what became of those for whom it composed
/// nothing. False if another host has the lane.
///
/// # Errors
/// The database can't be reached: nothing is kept.
pub async fn keep_compositions(
    db: &Database,
    window: &Window<'_>,
    compositions: &str,
) -> Result<bool, DbError> {
    let Window { lane, block, .. } = window;
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !is_ours(db.dialect(), &mut *connection, lane).await? {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO push_compositions (app_id, push_id, number, compositions) \
         VALUES ($1, $2, $3, $4)",
    )
    .bind(&lane.app_id)
    .bind(&block.push_id)
    .bind(block.number)
    .bind(compositions)
    .execute(&mut *connection)
    .await?;
    keep_outcomes(&mut *connection, db.dialect(), window).await?;
    transaction.commit().await?;
    Ok(true)
}

/// What was composed for a block's recipients, if that was done.
///
/// # Errors
/// The database can't be reached.
pub async fn compositions(
    db: &Database,
    app_id: &str,
    block: &Block,
) -> Result<Option<String>, DbError> {
    let query = sqlx::query_scalar(
        "SELECT compositions FROM push_compositions \
         WHERE app_id = $1 AND push_id = $2 AND number = $3",
    );
    let query = query.bind(app_id).bind(&block.push_id).bind(block.number);
    Ok(query.fetch_optional(&db.readers).await?)
}

/// Keeps the outcomes that the window changed. Others of the block may have been changed meanwhile, by
/// receipts.
async fn keep_outcomes(
    db: &mut AnyConnection,
    dialect: Dialect,
    window: &Window<'_>,
) -> Result<(), DbError> {
    let Window { lane, block, .. } = window;
    let key = BlockKey {
        app_id: &lane.app_id,
        push_id: &block.push_id,
        number: block.number,
    };
    let before = outcomes(&mut *db, dialect, key).await?;
    let mut after = before.clone();
    after.resize(block.outcomes.len(), Outcome::FRESH);
    let changed = block.outcomes.iter().zip(window.before);
    for (kept, (now, then)) in after.iter_mut().zip(changed) {
        if now != then {
            kept.clone_from(now);
        }
    }
    receipts::apply_early(&mut *db, key.app_id, &mut after).await?;
    let open = keep(&mut *db, key, (&before, &after)).await?;
    sqlx::query(
        "UPDATE push_blocks SET due_at = $1, noted_from = NULL, noted_to = NULL, noted_at = NULL \
         WHERE app_id = $2 AND push_id = $3 AND number = $4",
    )
    .bind(window.due_at)
    .bind(key.app_id)
    .bind(key.push_id)
    .bind(key.number)
    .execute(&mut *db)
    .await?;
    if open == 0 {
        // What was written to people is not kept longer than it is needed.
        sqlx::query(
            "DELETE FROM push_compositions WHERE app_id = $1 AND push_id = $2 AND number = $3",
        )
        .bind(key.app_id)
        .bind(key.push_id)
        .bind(key.number)
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Names a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockKey<'a> {
    pub(super) app_id: &'a str,
    pub(super) push_id: &'a str,
    pub(super) number: i64,
}

/// A block's outcomes as they are now; they stay so until the transaction ends.
pub(super) async fn outcomes(
    db: &mut AnyConnection,
    dialect: Dialect,
    key: BlockKey<'_>,
) -> Result<Vec<Outcome>, DbError> {
    let statement = match dialect {
        Dialect::Sqlite => {
            "SELECT results FROM push_blocks WHERE app_id = $1 AND push_id = $2 AND number = $3"
        }
        Dialect::Postgres => {
            "SELECT results FROM push_blocks WHERE app_id = $1 AND push_id = $2 AND number = $3 \
             FOR UPDATE"
        }
    };
    let query = sqlx::query_scalar(statement)
        .bind(key.app_id)
        .bind(key.push_id)
        .bind(key.number);
    let results: Option<String> = query.fetch_optional(db).await?;
    Ok(Outcome::parse_all(&results.unwrap_or_default()))
}

/// Keeps a block's outcomes, and counts in the push what has changed. How many recipients still wait.
pub(super) async fn keep(
    db: &mut AnyConnection,
    key: BlockKey<'_>,
    (before, after): (&[Outcome], &[Outcome]),
) -> Result<i64, DbError> {
    let lines: Vec<String> = after.iter().map(ToString::to_string).collect();
    let msgids = || after.iter().filter_map(Outcome::msgid);
    let counts = Counts::of(after);
    sqlx::query(
        "UPDATE push_blocks SET results = $1, open = $2, least_msgid = $3, greatest_msgid = $4 \
         WHERE app_id = $5 AND push_id = $6 AND number = $7",
    )
    .bind(lines.join("\n"))
    .bind(counts.open)
    .bind(msgids().min())
    .bind(msgids().max())
    .bind(key.app_id)
    .bind(key.push_id)
    .bind(key.number)
    .execute(&mut *db)
    .await?;
    // Recipients without a line yet are counted by the push alone.
    let mut padded = before.to_vec();
    padded.resize(after.len(), Outcome::FRESH);
    let before = Counts::of(&padded);
    sqlx::query(
        "UPDATE pushes SET sent = sent + $1, failed = failed + $2, skipped = skipped + $3, \
         unsure = unsure + $4, delivered = delivered + $5, undelivered = undelivered + $6 \
         WHERE app_id = $7 AND id = $8",
    )
    .bind(counts.sent - before.sent)
    .bind(counts.failed - before.failed)
    .bind(counts.skipped - before.skipped)
    .bind(counts.unsure - before.unsure)
    .bind(counts.delivered - before.delivered)
    .bind(counts.undelivered - before.undelivered)
    .bind(key.app_id)
    .bind(key.push_id)
    .execute(db)
    .await?;
    Ok(counts.open)
}

/// How many of each outcome there are.
#[derive(Debug, Default)]
struct Counts {
    /// WeChat took it, or holds it.
    sent: i64,
    /// Of these, those that it tells were delivered.
    delivered: i64,
    /// Of these, those that it tells were not.
    undelivered: i64,
    failed: i64,
    skipped: i64,
    unsure: i64,
    open: i64,
}

impl Counts {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            let count = match outcome {
                Outcome::Sent { arrival, .. } => {
                    match arrival {
                        Arrival::Untold => {}
                        Arrival::Delivered => counts.delivered += 1,
                        Arrival::Undelivered(_) => counts.undelivered += 1,
                    }
                    &mut counts.sent
                }
                Outcome::Held { .. } => &mut counts.sent,
                Outcome::Failed(_) => &mut counts.failed,
                Outcome::Skipped(_) => &mut counts.skipped,
                Outcome::Unsure => &mut counts.unsure,
                Outcome::Open { .. } => &mut counts.open,
            };
            *count += 1;
        }
        counts
    }
}
