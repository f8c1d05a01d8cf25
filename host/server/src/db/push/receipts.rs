//! Receipts: WeChat tells of a template message, by its msgid, whether it was delivered.
//!
//! No recipient has a row, so none is looked up by its msgid: a block knows the least and the greatest msgid
//! in it, and WeChat gives them out in about the order in which it is asked, so few blocks come into question.
//! A receipt that is faster than the outcome of its message waits for that.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::Outcome;
use super::outcome::Arrival;
use super::settle::{self, BlockKey};
use crate::db::outbox::Receipt;
use crate::db::{Database, DbError, Dialect, places};

/// Blocks that are looked into for a receipt.
const MAX_CANDIDATES: i64 = 16;
/// Receipts that are deleted in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 1_000;
/// Bytes of WeChat's words that are kept for a recipient.
const MAX_WORDS_BYTES: usize = 64;

/// Takes receipts to the recipients of pushes that they are about. Those of other messages are nobody's.
///
/// # Errors
/// The database can't be reached: some may have been taken, and taking them again changes nothing.
pub async fn take_receipts(db: &Database, receipts: &[Receipt]) -> Result<(), DbError> {
    let mut by_account: BTreeMap<&str, Arrivals> = BTreeMap::new();
    for receipt in receipts {
        let Ok(msgid) = receipt.msgid.parse() else {
            continue;
        };
        let arrivals = by_account.entry(&receipt.app_id).or_default();
        arrivals.insert(msgid, arrival(receipt.failure.as_deref()));
    }
    for (app_id, mut arrivals) in by_account {
        let mut transaction = db.begin().await?;
        let connection = transaction.connection();
        let pushes = is_pushing(&mut *connection, db.dialect(), app_id).await?;
        while let Some(msgid) = arrivals.keys().next().copied() {
            let is_found = take(
                &mut *connection,
                db.dialect(),
                (app_id, msgid),
                &mut arrivals,
            );
            let is_found = is_found.await?;
            let Some(arrival) = arrivals.remove(&msgid) else {
                continue;
            };
            if !is_found && pushes {
                keep_early(&mut *connection, (app_id, msgid), (&arrival, db.now_ms())).await?;
            }
        }
        transaction.commit().await?;
    }
    Ok(())
}

type Arrivals = BTreeMap<i64, Arrival>;

fn arrival(failure: Option<&str>) -> Arrival {
    match failure {
        None => Arrival::Delivered,
        Some(words) => {
            let words = words.replace('\n', " ");
            let end = words.floor_char_boundary(MAX_WORDS_BYTES);
            Arrival::Undelivered(words[..end].to_owned())
        }
    }
}

/// Whether the account has something to push now. Nothing of it is settled until the transaction ends.
async fn is_pushing(
    db: &mut AnyConnection,
    dialect: Dialect,
    app_id: &str,
) -> Result<bool, DbError> {
    let statement = match dialect {
        Dialect::Sqlite => "SELECT 1 FROM push_lanes WHERE app_id = $1",
        Dialect::Postgres => "SELECT 1 FROM push_lanes WHERE app_id = $1 FOR UPDATE",
    };
    let found: Option<i64> = sqlx::query_scalar(statement)
        .bind(app_id)
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}

/// Looks for the block of a msgid, and takes to it all that is about it.
async fn take(
    db: &mut AnyConnection,
    dialect: Dialect,
    (app_id, msgid): (&str, i64),
    arrivals: &mut Arrivals,
) -> Result<bool, DbError> {
    let blocks: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT push_id, number, greatest_msgid FROM push_blocks \
         WHERE app_id = $1 AND greatest_msgid >= $2 AND least_msgid <= $2 \
         ORDER BY greatest_msgid LIMIT $3",
    )
    .bind(app_id)
    .bind(msgid)
    .bind(MAX_CANDIDATES)
    .fetch_all(&mut *db)
    .await?;
    for (push_id, number, greatest) in blocks {
        let key = BlockKey {
            app_id,
            push_id: &push_id,
            number,
        };
        let before = settle::outcomes(&mut *db, dialect, key).await?;
        let mut after = before.clone();
        let about_it = arrivals.range(msgid..=greatest);
        let taken = apply(
            &mut after,
            &about_it.map(|(id, told)| (*id, told.clone())).collect(),
        );
        if after != before {
            settle::keep(&mut *db, key, (&before, &after)).await?;
        }
        arrivals.retain(|id, _| *id == msgid || !taken.contains(id));
        if taken.contains(&msgid) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes what arrived; the msgids that were found. What was told once is not told otherwise.
fn apply(outcomes: &mut [Outcome], arrivals: &Arrivals) -> Vec<i64> {
    let mut found = Vec::new();
    for outcome in outcomes {
        let told = outcome.msgid().and_then(|id| arrivals.get_key_value(&id));
        if let (Some((id, told)), Outcome::Sent { arrival, .. }) = (told, outcome) {
            found.push(*id);
            if *arrival == Arrival::Untold {
                arrival.clone_from(told);
            }
        }
    }
    found
}

async fn keep_early(
    db: &mut AnyConnection,
    (app_id, msgid): (&str, i64),
    (arrival, now_ms): (&Arrival, i64),
) -> Result<(), DbError> {
    let failure = match arrival {
        Arrival::Undelivered(words) => Some(words),
        Arrival::Delivered | Arrival::Untold => None,
    };
    sqlx::query(
        "INSERT INTO push_receipts (app_id, msgid, failure, came_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(app_id)
    .bind(msgid)
    .bind(failure)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Notes what receipts told that came before the outcomes of their messages.
pub(super) async fn apply_early(
    db: &mut AnyConnection,
    app_id: &str,
    outcomes: &mut [Outcome],
) -> Result<(), DbError> {
    let untold = outcomes.iter().filter(
        |outcome| matches!(outcome, Outcome::Sent { arrival, .. } if *arrival == Arrival::Untold),
    );
    let msgids: Vec<i64> = untold.filter_map(Outcome::msgid).collect();
    if msgids.is_empty() {
        return Ok(());
    }
    let places = places(2, msgids.len());
    let statement = format!(
        "DELETE FROM push_receipts WHERE app_id = $1 AND msgid IN ({}) RETURNING msgid, failure",
        places.join(", ")
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(app_id);
    let repeated = msgids.iter().copied().cycle().take(places.len());
    let query = repeated.fold(query, |query, msgid| query.bind(msgid));
    let early: Vec<(i64, Option<String>)> = query.fetch_all(db).await?;
    let arrivals = early
        .into_iter()
        .map(|(msgid, failure)| (msgid, arrival(failure.as_deref())));
    apply(outcomes, &arrivals.collect());
    Ok(())
}

/// Deletes receipts that have waited since before a time for messages that nobody sent.
///
/// # Errors
/// The database can't be reached.
pub async fn forget_receipts(db: &Database, before_ms: i64) -> Result<(), DbError> {
    let statement = "DELETE FROM push_receipts WHERE (app_id, msgid) IN \
         (SELECT app_id, msgid FROM push_receipts WHERE came_at < $1 ORDER BY came_at LIMIT $2)";
    db.delete_in_blocks(statement, before_ms, FORGOTTEN_AT_ONCE)
        .await?;
    Ok(())
}
