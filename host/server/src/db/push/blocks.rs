//! Recipients in blocks.

use std::ops::Range;

use sqlx::{AnyConnection, FromRow};

use super::lanes::is_ours;
use super::{Audience, BLOCK_RECIPIENTS, LeasedLane, Outcome, PushRow, audience};
use crate::db::{Database, DbError};

/// Pages of followers that are looked at for one block.
const MAX_PAGES: usize = 20;

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
        let mut outcomes = Outcome::parse_all(&row.results);
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
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .bind(number)
    .bind(open_ids.join("\n"))
    .bind(results)
    .bind(count)
    .bind(push.starts_at)
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the next of a push's audience over into a block, in the order of their open ids. False when there
/// is none left; the push then has no audience any more.
///
/// # Errors
/// The database can't be reached.
pub async fn expand(
    db: &Database,
    lane: &LeasedLane,
    (push, audience): (&PushRow, &Audience),
) -> Result<bool, DbError> {
    let mut taken = audience::Page {
        looked_to: Some(push.taken_to.clone()),
        ..audience::Page::default()
    };
    // Where few belong to it, a block is gathered from several pages.
    for _ in 0..MAX_PAGES {
        let after = taken.looked_to.clone().unwrap_or_default();
        let place = (&*push.app_id, &*after);
        let page = audience.page(db, place, BLOCK_RECIPIENTS).await?;
        taken.looked_to = page.looked_to;
        taken.open_ids.extend(page.open_ids);
        if taken.looked_to.is_none() || taken.open_ids.len() >= BLOCK_RECIPIENTS {
            break;
        }
    }
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    // Who has the lane has the push's cursor.
    if !is_ours(db.dialect(), &mut *connection, lane).await? {
        return Ok(true);
    }
    let number: i64 = sqlx::query_scalar(
        "SELECT COALESCE(max(number) + 1, 0) FROM push_blocks WHERE app_id = $1 AND push_id = $2",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .fetch_one(&mut *connection)
    .await?;
    let open_ids: Vec<&str> = taken.open_ids.iter().map(String::as_str).collect();
    for (number, block) in (number..).zip(open_ids.chunks(BLOCK_RECIPIENTS)) {
        insert(&mut *connection, push, number, block).await?;
    }
    sqlx::query(
        "UPDATE pushes SET taken_to = $1, recipients = recipients + $2, \
         audience = CASE WHEN $3 = 1 THEN NULL ELSE audience END WHERE app_id = $4 AND id = $5",
    )
    .bind(taken.looked_to.as_ref().unwrap_or(&push.taken_to))
    .bind(i64::try_from(open_ids.len()).unwrap_or(i64::MAX))
    .bind(i64::from(taken.looked_to.is_none()))
    .bind(&push.app_id)
    .bind(&push.id)
    .execute(&mut *connection)
    .await?;
    transaction.commit().await?;
    Ok(taken.looked_to.is_some())
}

/// The first blocks of a push in which recipients wait; and when the first one is due, if none is yet.
///
/// # Errors
/// The database can't be reached.
pub async fn next_blocks(
    db: &Database,
    push: &PushRow,
    (now_ms, limit): (i64, i64),
) -> Result<Result<Vec<Block>, Option<i64>>, DbError> {
    let rows: Vec<BlockRow> = sqlx::query_as(
        "SELECT push_id, number, open_ids, results, noted_from, noted_to, noted_at \
         FROM push_blocks WHERE app_id = $1 AND push_id = $2 AND open > 0 AND due_at <= $3 \
         ORDER BY number LIMIT $4",
    )
    .bind(&push.app_id)
    .bind(&push.id)
    .bind(now_ms)
    .bind(limit)
    .fetch_all(&db.readers)
    .await?;
    if !rows.is_empty() {
        return Ok(Ok(rows.into_iter().map(Block::from).collect()));
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
