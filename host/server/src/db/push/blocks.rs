//! Recipients in blocks: taken over from an audience, noted before they are sent to, settled after.

use std::ops::Range;

use sqlx::{AnyConnection, FromRow};

use super::{BLOCK_RECIPIENTS, LeasedLane, Outcome, PushRow};
use crate::db::allowance::{self, ContactKey, Refusal, Reservation, Scenes};
use crate::db::{Database, DbError, Dialect};

/// A block of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The push.
    pub push_id: String,
    /// Its number in it.
    pub number: i64,
    /// Who.
    pub open_ids: Vec<String>,
    /// What became of each.
    pub outcomes: Vec<Outcome>,
    /// The places that were noted before they were sent to, and when: those without a result may have been
    /// sent to by somebody who did not live to tell.
    pub noted: Option<(Range<usize>, i64)>,
}

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
}

#[derive(FromRow)]
struct BlockRow {
    push_id: String,
    number: i64,
    open_ids: String,
    results: String,
    noted_from: Option<i64>,
    noted_to: Option<i64>,
    noted_at: Option<i64>,
}

impl From<BlockRow> for Block {
    fn from(row: BlockRow) -> Self {
        let place = |at: i64| usize::try_from(at).unwrap_or_default();
        let noted = match (row.noted_from, row.noted_to, row.noted_at) {
            (Some(from), Some(to), Some(at)) => Some((place(from)..place(to), at)),
            _ => None,
        };
        let open_ids: Vec<String> = row.open_ids.split('\n').map(ToOwned::to_owned).collect();
        let mut outcomes: Vec<Outcome> = row.results.split('\n').map(Outcome::parse).collect();
        outcomes.resize(open_ids.len(), Outcome::FRESH);
        Self {
            push_id: row.push_id,
            number: row.number,
            open_ids,
            outcomes,
            noted,
        }
    }
}

impl Block {
    fn results(&self) -> String {
        let lines: Vec<String> = self.outcomes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

/// How many of each outcome there are: sent (or held), failed, skipped, unsure, and open.
fn counts(outcomes: &[Outcome]) -> [i64; 5] {
    let mut counts = [0; 5];
    for outcome in outcomes {
        let at = match outcome {
            Outcome::Sent { .. } | Outcome::Held { .. } => 0,
            Outcome::Failed(_) => 1,
            Outcome::Skipped(_) => 2,
            Outcome::Unsure => 3,
            Outcome::Open { .. } => 4,
        };
        counts[at] += 1;
    }
    counts
}

/// Puts a block in.
pub(super) async fn insert(
    db: &mut AnyConnection,
    push: &PushRow,
    number: i64,
    open_ids: &[&str],
) -> Result<(), DbError> {
    let count = i64::try_from(open_ids.len()).unwrap_or(i64::MAX);
    let results = "\n".repeat(open_ids.len().saturating_sub(1));
    sqlx::query(
        "INSERT INTO push_blocks (app_id, push_id, number, open_ids, results, open, due_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 0)",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .bind(number)
    .bind(open_ids.join("\n"))
    .bind(results)
    .bind(count)
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the next of a push's audience over into a block: followers of the account, in the order of their
/// open ids. False when there is none left; the push then has no audience any more.
///
/// # Errors
/// The database can't be reached.
pub async fn expand(db: &Database, lane: &LeasedLane, push: &PushRow) -> Result<bool, DbError> {
    let followers: Vec<(Vec<u8>,)> = sqlx::query_as(
        "SELECT open_id FROM contacts WHERE app_id = $1 AND open_id > $2 AND following = 1 \
         ORDER BY open_id LIMIT $3",
    )
    .bind(&push.app_id)
    .bind(&push.taken_to)
    .bind(i64::try_from(BLOCK_RECIPIENTS).unwrap_or(i64::MAX))
    .fetch_all(&db.readers)
    .await?;
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    // Who has the lane has the push's cursor.
    if !is_ours(db.dialect(), &mut *connection, lane).await? {
        return Ok(true);
    }
    let Some((last,)) = followers.last() else {
        sqlx::query("UPDATE pushes SET audience = NULL WHERE app_id = $1 AND id = $2")
            .bind(&push.app_id)
            .bind(&push.id)
            .execute(&mut *connection)
            .await?;
        transaction.commit().await?;
        return Ok(false);
    };
    let number: i64 = sqlx::query_scalar(
        "SELECT COALESCE(max(number) + 1, 0) FROM push_blocks WHERE app_id = $1 AND push_id = $2",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .fetch_one(&mut *connection)
    .await?;
    // Open ids are ASCII.
    let open_ids: Vec<String> = followers
        .iter()
        .map(|(open_id,)| String::from_utf8_lossy(open_id).into_owned())
        .collect();
    let open_ids: Vec<&str> = open_ids.iter().map(String::as_str).collect();
    insert(&mut *connection, push, number, &open_ids).await?;
    sqlx::query(
        "UPDATE pushes SET taken_to = $1, recipients = recipients + $2 \
         WHERE app_id = $3 AND id = $4",
    )
    .bind(last)
    .bind(i64::try_from(open_ids.len()).unwrap_or(i64::MAX))
    .bind(&push.app_id)
    .bind(&push.id)
    .execute(&mut *connection)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// The first block of a push in which recipients wait; and when the first one is due, if none is yet.
///
/// # Errors
/// The database can't be reached.
pub async fn next_block(
    db: &Database,
    push: &PushRow,
    now_ms: i64,
) -> Result<Result<Block, Option<i64>>, DbError> {
    let row: Option<BlockRow> = sqlx::query_as(
        "SELECT push_id, number, open_ids, results, noted_from, noted_to, noted_at \
         FROM push_blocks WHERE app_id = $1 AND push_id = $2 AND open > 0 AND due_at <= $3 \
         ORDER BY number LIMIT 1",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .bind(now_ms)
    .fetch_optional(&db.readers)
    .await?;
    if let Some(row) = row {
        return Ok(Ok(row.into()));
    }
    let due_at: Option<i64> = sqlx::query_scalar(
        "SELECT min(due_at) FROM push_blocks WHERE app_id = $1 AND push_id = $2 AND open > 0",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .fetch_one(&db.readers)
    .await?;
    Ok(Err(due_at))
}

/// Whether a recipient may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// By every way.
    Wholly,
    /// WeChat would refuse a customer-service message.
    NotByChat(Refusal),
    /// The person opted out.
    OptedOut,
}

/// Admits the recipients at `places` of a block, and notes that they are about to be sent to. Where the
/// push has a customer-service message (`chat`), room for it is taken in the ledger. None if nobody may be
/// sent to: the push does not run any more, or another host has the lane.
///
/// # Errors
/// The database can't be reached: nobody must be sent to.
pub async fn admit(
    db: &Database,
    lane: &LeasedLane,
    (block, places): (&Block, Range<usize>),
    (chat, now_ms): (Option<&Scenes>, i64),
) -> Result<Option<Vec<Admitted>>, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !is_ours(db.dialect(), &mut *connection, lane).await?
        || !note(&mut *connection, lane, (block, &places, now_ms)).await?
    {
        return Ok(None);
    }
    let mut admitted = vec![Admitted::Wholly; places.len()];
    // In the order in which others lock people too.
    let mut in_order: Vec<usize> = places.clone().collect();
    in_order.sort_unstable_by_key(|place| &block.open_ids[*place]);
    for place in in_order {
        let person = ContactKey {
            app_id: &lane.app_id,
            open_id: &block.open_ids[place],
        };
        admitted[place - places.start] = if !block.outcomes[place].is_open() {
            Admitted::Wholly
        } else if opted_out(&mut *connection, person).await? {
            Admitted::OptedOut
        } else {
            match chat {
                None => Admitted::Wholly,
                Some(scenes) => {
                    match allowance::reserve(&mut *connection, person, scenes, now_ms).await? {
                        Reservation::Taken | Reservation::Untested => Admitted::Wholly,
                        Reservation::Refused(refusal) => Admitted::NotByChat(refusal),
                    }
                }
            }
        };
    }
    transaction.commit().await?;
    Ok(Some(admitted))
}

async fn opted_out(db: &mut AnyConnection, person: ContactKey<'_>) -> Result<bool, DbError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM contacts WHERE app_id = $1 AND open_id = $2 AND opted_out_at IS NOT NULL",
    )
    .bind(person.app_id)
    .bind(person.open_id.as_bytes())
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

async fn note(
    db: &mut AnyConnection,
    lane: &LeasedLane,
    (block, places, now_ms): (&Block, &Range<usize>, i64),
) -> Result<bool, DbError> {
    let place = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
    let noted = sqlx::query(
        "UPDATE push_blocks SET noted_from = $1, noted_to = $2, noted_at = $3 \
         WHERE app_id = $4 AND push_id = $5 AND number = $6 AND EXISTS (SELECT 1 FROM pushes p \
         WHERE p.app_id = $4 AND p.id = $5 AND p.state = 'running')",
    )
    .bind(place(places.start))
    .bind(place(places.end))
    .bind(now_ms)
    .bind(&lane.app_id)
    .bind(&block.push_id)
    .bind(block.number)
    .execute(db)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Keeps what became of a window's recipients, and counts them. False if another host has the lane.
///
/// # Errors
/// The database can't be reached: those who were sent to stay noted.
pub async fn settle(db: &Database, window: &Window<'_>) -> Result<bool, DbError> {
    let Window { lane, block, .. } = window;
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !is_ours(db.dialect(), &mut *connection, lane).await? {
        return Ok(false);
    }
    let (before, after) = (counts(window.before), counts(&block.outcomes));
    sqlx::query(
        "UPDATE push_blocks SET results = $1, open = $2, due_at = $3, noted_from = NULL, \
         noted_to = NULL, noted_at = NULL WHERE app_id = $4 AND push_id = $5 AND number = $6",
    )
    .bind(block.results())
    .bind(after[4])
    .bind(window.due_at)
    .bind(&lane.app_id)
    .bind(&block.push_id)
    .bind(block.number)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE pushes SET sent = sent + $1, failed = failed + $2, skipped = skipped + $3, \
         unsure = unsure + $4 WHERE app_id = $5 AND id = $6",
    )
    .bind(after[0] - before[0])
    .bind(after[1] - before[1])
    .bind(after[2] - before[2])
    .bind(after[3] - before[3])
    .bind(&lane.app_id)
    .bind(&block.push_id)
    .execute(&mut *connection)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Whether this host still has the lane; it has it until the transaction ends.
async fn is_ours(
    dialect: Dialect,
    db: &mut AnyConnection,
    lane: &LeasedLane,
) -> Result<bool, DbError> {
    let statement = match dialect {
        Dialect::Sqlite => "SELECT 1 FROM push_lanes WHERE app_id = $1 AND fence = $2",
        Dialect::Postgres => "SELECT 1 FROM push_lanes WHERE app_id = $1 AND fence = $2 FOR UPDATE",
    };
    let found: Option<i64> = sqlx::query_scalar(statement)
        .bind(&lane.app_id)
        .bind(lane.fence)
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}

/// Recipients of a push from block `number` on, in a page of one block.
///
/// # Errors
/// The database can't be reached.
pub async fn recipients(
    db: &Database,
    (app_id, push_id): (&str, &str),
    number: i64,
) -> Result<Option<Block>, DbError> {
    let row: Option<BlockRow> = sqlx::query_as(
        "SELECT push_id, number, open_ids, results, noted_from, noted_to, noted_at \
         FROM push_blocks WHERE app_id = $1 AND push_id = $2 AND number = $3",
    )
    .bind(app_id)
    .bind(push_id)
    .bind(number)
    .fetch_optional(&db.readers)
    .await?;
    Ok(row.map(Block::from))
}
