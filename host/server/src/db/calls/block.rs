//! Writing records: gathered into blocks, many blocks at a time.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Callee, Record};
use crate::clock::beijing_day;
use crate::db::quotas::{self, Quota};
use crate::db::values::{pieces, placeholders};
use crate::db::{Database, DbError, Dialect};
use crate::random::process_mark;

/// Records of one transaction. The more, the fewer blocks each account gets, and one flush to the disk
/// serves all.
pub const BATCH: usize = 4096;
/// Most records of a block: what a page of a list decodes.
const BLOCK_RECORDS: usize = 128;
/// A block that has so many bytes is full: records with long logs.
const BLOCK_BYTES: usize = 128 << 10;
const COLUMNS: usize = 6;
/// Columns of a row that tells of an outcome.
const OUTCOME_COLUMNS: usize = 3;

/// Records of one account and one deployment.
struct Block<'a>(&'a [&'a Record]);

impl Block<'_> {
    /// The same for the same records, so that writing them twice is no error.
    fn id(&self) -> String {
        const LOW_40: u64 = (1 << 40) - 1;
        let newest_at = self.0.iter().map(|record| record.created_at).max();
        format!(
            "{}{:010x}{:010x}",
            time_prefix(newest_at.unwrap_or_default()),
            process_mark() & LOW_40,
            self.0[0].serial & LOW_40
        )
    }

    fn callee(&self) -> &Callee {
        &self.0[0].callee
    }

    /// Each outcome once.
    fn outcomes(&self) -> Vec<&str> {
        let mut outcomes: Vec<&str> = Vec::new();
        for record in self.0 {
            if !outcomes.contains(&record.outcome.as_ref()) {
                outcomes.push(&record.outcome);
            }
        }
        outcomes
    }

    /// A JSON list.
    fn records(&self) -> String {
        let bytes: usize = self.0.iter().map(|record| record.text.len() + 2).sum();
        let mut list = String::with_capacity(bytes + 1);
        for record in self.0 {
            list.push_str(if list.is_empty() { "[" } else { ",\n" });
            list.push_str(&record.text);
        }
        list.push(']');
        list
    }
}

/// How the ids of blocks begin whose newest record is of this time, Unix milliseconds: 12 digits.
pub(super) fn time_prefix(time_ms: i64) -> String {
    format!("{:012x}", time_ms.max(0))
}

/// The blocks of records that are sorted by what was called.
fn blocks<'a>(sorted: &'a [&'a Record]) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    for mut same in sorted.chunk_by(|a, b| a.callee == b.callee) {
        while !same.is_empty() {
            let mut bytes = 0;
            let fitting = same.iter().take(BLOCK_RECORDS).take_while(|record| {
                let fits = bytes < BLOCK_BYTES;
                bytes += record.text.len();
                fits
            });
            let (block, rest) = same.split_at(fitting.count());
            blocks.push(Block(block));
            same = rest;
        }
    }
    blocks
}

/// Writes records in one transaction; [`BATCH`] of them at most. Writing the same ones twice is no
/// error.
///
/// # Errors
/// The database can't be reached: nothing is written.
pub async fn write(db: &Database, records: &[Record]) -> Result<(), DbError> {
    let mut sorted: Vec<&Record> = records.iter().collect();
    // Stable: within a block, records stay in the order in which they came.
    sorted.sort_by(|a, b| a.callee.order().cmp(&b.callee.order()));
    let blocks = blocks(&sorted);
    let mut transaction = db.begin().await?;
    for piece in pieces(&blocks) {
        insert(transaction.connection(), db.dialect(), piece).await?;
    }
    let logs = log_bytes(&sorted);
    let of_today = (Quota::LogBytesADay, beijing_day(db.now_ms()));
    quotas::add_of_day(db.dialect(), transaction.connection(), of_today, &logs).await?;
    let outcomes: Vec<_> = blocks
        .iter()
        .flat_map(|block| block.outcomes().into_iter().map(move |word| (block, word)))
        .collect();
    for piece in pieces(&outcomes) {
        insert_outcomes(transaction.connection(), db.dialect(), piece).await?;
    }
    transaction.commit().await
}

/// Bytes of logs by account, of records that are sorted by it.
fn log_bytes<'a>(sorted: &[&'a Record]) -> Vec<(&'a str, i64)> {
    let accounts = sorted.chunk_by(|a, b| a.callee.app_id == b.callee.app_id);
    let sums = accounts.map(|records| {
        let bytes: usize = records.iter().map(|record| record.log_bytes).sum();
        let app_id = records[0].callee.app_id.as_str();
        (app_id, i64::try_from(bytes).unwrap_or(i64::MAX))
    });
    sums.filter(|(_, bytes)| *bytes > 0).collect()
}

async fn insert_outcomes(
    db: &mut AnyConnection,
    dialect: Dialect,
    outcomes: &[(&Block<'_>, &str)],
) -> Result<(), DbError> {
    let values = placeholders(dialect, outcomes.len(), OUTCOME_COLUMNS, "");
    let statement = format!(
        "INSERT INTO call_outcomes (app_id, outcome, block_id) VALUES {values} \
         ON CONFLICT (app_id, outcome, block_id) DO NOTHING"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (block, outcome) in outcomes {
        let app_id = block.callee().app_id.as_str();
        query = query.bind(app_id).bind(*outcome).bind(block.id());
    }
    query.execute(db).await?;
    Ok(())
}

async fn insert(
    db: &mut AnyConnection,
    dialect: Dialect,
    blocks: &[Block<'_>],
) -> Result<(), DbError> {
    let values = placeholders(dialect, blocks.len(), COLUMNS, ", 1");
    let statement = format!(
        "INSERT INTO call_blocks (id, app_id, digest, version, outcomes, records, listed) VALUES {values} \
         ON CONFLICT (app_id, id) DO NOTHING"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for block in blocks {
        let callee = block.callee();
        let digest = callee.digest.map(|digest| digest.to_string());
        query = query
            .bind(block.id())
            .bind(callee.app_id.as_str())
            .bind(digest.unwrap_or_default())
            .bind(callee.version)
            .bind(format!(" {} ", block.outcomes().join(" ")))
            .bind(block.records());
    }
    query.execute(db).await?;
    Ok(())
}
