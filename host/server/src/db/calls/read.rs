//! Reading records, and letting the old ones go.

use sqlx::{AnyConnection, AssertSqlSafe, FromRow};

use super::Entry;
use super::block::time_prefix;
use crate::db::values::{pieces, placeholders};
use crate::db::{Database, DbError, Dialect};

/// Hex digits of a block's id; those that follow it in a record's id are the record's place.
const BLOCK_DIGITS: usize = 32;
/// Blocks that are read at once.
const BLOCKS_READ: usize = 4;
/// Blocks of one transaction of a deletion: a block may have many pages.
const BLOCKS_DELETED: i64 = 200;

/// A record, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Names the call.
    pub id: String,
    /// The account.
    pub app_id: String,
    /// The component; empty if there was none.
    pub digest: String,
    /// The deployment; 0 if there was none.
    pub version: i64,
    /// What came of it.
    pub entry: Entry<'static>,
}

/// Which records to list.
#[derive(Clone, Debug)]
pub struct CallFilter<'a> {
    /// The account.
    pub app_id: &'a str,
    /// Of this outcome only.
    pub outcome: Option<&'a str>,
    /// Older than this record.
    pub before: Option<&'a str>,
    /// So many at most.
    pub limit: u32,
}

#[derive(FromRow)]
struct BlockRow {
    id: String,
    app_id: String,
    digest: String,
    version: i64,
    records: String,
}

/// Where a record is.
struct Place<'a> {
    block: &'a str,
    index: usize,
}

impl<'a> Place<'a> {
    /// None for what is no record's id.
    fn of(id: &'a str) -> Option<Self> {
        let (block, index) = id.split_at_checked(BLOCK_DIGITS)?;
        let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if !block.bytes().all(is_hex) {
            return None;
        }
        let index = usize::from_str_radix(index, 16).ok()?;
        Some(Self { block, index })
    }
}

impl BlockRow {
    fn entries(&self) -> Result<Vec<Entry<'_>>, DbError> {
        serde_json::from_str(&self.records)
            .map_err(|error| DbError::Failed(sqlx::Error::Decode(error.into())))
    }

    fn call(&self, index: usize, entry: Entry<'_>) -> Call {
        Call {
            id: format!("{}{index:04x}", self.id),
            app_id: self.app_id.clone(),
            digest: self.digest.clone(),
            version: self.version,
            entry: entry.into_owned(),
        }
    }
}

/// The records of an account, newest first. Records of one moment on several hosts, or of a call that
/// took long, may be some places from where their times would put them.
///
/// # Errors
/// The database can't be reached.
pub async fn list(db: &Database, filter: &CallFilter<'_>) -> Result<Vec<Call>, DbError> {
    // Outcomes are words like `host-limit:handles`; anything else would be a pattern, or nonsense.
    let is_word = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-:".contains(&b))
    };
    let outcome = filter.outcome.unwrap_or_default();
    if !is_word(outcome) {
        return Ok(Vec::new());
    }
    let place = match filter.before {
        None => None,
        Some(id) => match Place::of(id) {
            Some(place) => Some(place),
            None => return Ok(Vec::new()),
        },
    };
    // Above every digit: the place's block is among those below.
    let mut bound = format!("{}g", place.as_ref().map_or("", |place| place.block));
    let mut calls = Vec::new();
    loop {
        let blocks = blocks_below(db, filter.app_id, outcome, &bound).await?;
        for block in &blocks {
            let entries = block.entries()?;
            let count = match &place {
                Some(place) if place.block == block.id => place.index,
                _ => entries.len(),
            };
            for (index, entry) in entries.into_iter().enumerate().take(count).rev() {
                if calls.len() == filter.limit as usize {
                    return Ok(calls);
                }
                if outcome.is_empty() || entry.outcome == outcome {
                    calls.push(block.call(index, entry));
                }
            }
        }
        match blocks.into_iter().nth(BLOCKS_READ - 1) {
            Some(oldest) => bound = oldest.id,
            None => return Ok(calls),
        }
    }
}

/// The newest blocks of an account below a bound.
const BLOCKS: &str = "SELECT id, app_id, digest, version, records FROM call_blocks \
     WHERE app_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

/// Of them those that hold a record of an outcome.
pub(super) const BLOCKS_OF_OUTCOME: &str = "SELECT id, app_id, digest, version, records FROM call_blocks \
     WHERE app_id = $1 AND id IN (SELECT block_id FROM call_outcomes WHERE app_id = $1 AND outcome = $4 \
         AND block_id < $2 ORDER BY block_id DESC LIMIT $3) \
     ORDER BY id DESC";

/// The same among those that a host of a version before has written.
pub(super) const UNLISTED_BLOCKS: &str = "SELECT id, app_id, digest, version, records FROM call_blocks \
     WHERE app_id = $1 AND id < $2 AND listed IS NULL AND outcomes LIKE '% ' || $4 || ' %' \
     ORDER BY id DESC LIMIT $3";

/// The newest blocks whose ids are below `bound` and that hold a record of the outcome (any if empty).
async fn blocks_below(
    db: &Database,
    app_id: &str,
    outcome: &str,
    bound: &str,
) -> Result<Vec<BlockRow>, DbError> {
    let ask = |statement: &'static str| {
        let limit = BLOCKS_READ as i64;
        sqlx::query_as(statement)
            .bind(app_id)
            .bind(bound)
            .bind(limit)
    };
    if outcome.is_empty() {
        return Ok(ask(BLOCKS).fetch_all(&db.readers).await?);
    }
    let listed = ask(BLOCKS_OF_OUTCOME).bind(outcome);
    let mut blocks: Vec<BlockRow> = listed.fetch_all(&db.readers).await?;
    let unlisted = ask(UNLISTED_BLOCKS).bind(outcome);
    let unlisted: Vec<BlockRow> = unlisted.fetch_all(&db.readers).await?;
    if !unlisted.is_empty() {
        blocks.extend(unlisted);
        blocks.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        blocks.truncate(BLOCKS_READ);
    }
    Ok(blocks)
}

/// One record.
///
/// # Errors
/// The database can't be reached.
pub async fn find(db: &Database, id: &str) -> Result<Option<Call>, DbError> {
    let Some(place) = Place::of(id) else {
        return Ok(None);
    };
    let block: Option<BlockRow> = sqlx::query_as(
        "SELECT id, app_id, digest, version, records FROM call_blocks WHERE id = $1",
    )
    .bind(place.block)
    .fetch_optional(&db.readers)
    .await?;
    let Some(block) = block else {
        return Ok(None);
    };
    let entry = block.entries()?.into_iter().nth(place.index);
    Ok(entry.map(|entry| block.call(place.index, entry)))
}

/// Deletes the blocks whose records were all made before `time_ms`; tells how many went.
///
/// # Errors
/// The database can't be reached.
pub async fn delete_older(db: &Database, time_ms: i64) -> Result<u64, DbError> {
    let bound = time_prefix(time_ms);
    let mut deleted = 0;
    loop {
        let mut transaction = db.begin().await?;
        let old: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT id, app_id, outcomes FROM call_blocks WHERE id < $1 ORDER BY id LIMIT $2",
        )
        .bind(&bound)
        .bind(BLOCKS_DELETED)
        .fetch_all(transaction.connection())
        .await?;
        delete(transaction.connection(), db.dialect(), &old).await?;
        transaction.commit().await?;
        deleted += old.len() as u64;
        if old.len() < BLOCKS_DELETED as usize {
            return Ok(deleted);
        }
    }
}

/// Deletes blocks, given with their accounts and outcomes, and what tells of their outcomes.
async fn delete(
    db: &mut AnyConnection,
    dialect: Dialect,
    blocks: &[(String, String, String)],
) -> Result<(), DbError> {
    let outcomes: Vec<_> = blocks
        .iter()
        .flat_map(|block| block.2.split_whitespace().map(move |word| (block, word)))
        .collect();
    for piece in pieces(&outcomes) {
        let rows = placeholders(dialect, piece.len(), 3, "");
        let statement = format!(
            "DELETE FROM call_outcomes WHERE (app_id, outcome, block_id) IN (VALUES {rows})"
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for ((id, app_id, _), outcome) in piece {
            query = query.bind(app_id).bind(*outcome).bind(id);
        }
        query.execute(&mut *db).await?;
    }
    for piece in pieces(blocks) {
        let ids = placeholders(dialect, piece.len(), 2, "");
        let statement = format!("DELETE FROM call_blocks WHERE (app_id, id) IN (VALUES {ids})");
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for (id, app_id, _) in piece {
            query = query.bind(app_id).bind(id);
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}
