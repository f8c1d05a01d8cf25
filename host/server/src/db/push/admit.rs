//! Who of a block is sent to next: noted before anything leaves.

use std::ops::Range;

use sqlx::AnyConnection;

use super::lanes::is_ours;
use super::{Block, LeasedLane};
use crate::db::allowance::{self, Refusal, Reservation, Scenes};
use crate::db::contacts::{self, Contacts};
use crate::db::{Database, DbError};

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

/// Who of a block is to be sent to, and how.
#[derive(Debug)]
pub struct Candidates<'a> {
    /// The block.
    pub block: &'a Block,
    /// Where in it.
    pub places: Range<usize>,
    /// The places whose recipients are to get a customer-service message, if WeChat takes one.
    pub by_chat: Vec<usize>,
    /// How many of those WeChat takes.
    pub scenes: &'a Scenes,
}

/// Admits candidates, and notes that they are about to be sent to. Room for customer-service messages is
/// taken in the ledger. None if nobody may be sent to: the push does not run any more, or another host has
/// the lane.
///
/// # Errors
/// The database can't be reached: nobody must be sent to.
pub async fn admit(
    db: &Database,
    lane: &LeasedLane,
    candidates: &Candidates<'_>,
    now_ms: i64,
) -> Result<Option<Vec<Admitted>>, DbError> {
    let Candidates { block, places, .. } = candidates;
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !is_ours(db.dialect(), &mut *connection, lane).await?
        || !note(&mut *connection, lane, (block, places, now_ms)).await?
    {
        return Ok(None);
    }
    let open_ids = |places: &[usize]| -> Vec<&str> {
        places
            .iter()
            .map(|place| &*block.open_ids[*place])
            .collect()
    };
    let all: Vec<usize> = places.clone().collect();
    let all = Contacts {
        app_id: &lane.app_id,
        open_ids: &open_ids(&all),
    };
    let opted_out = contacts::opted_out(&mut *connection, all).await?;
    let has_opted_out = |place: usize| opted_out.contains(block.open_ids[place].as_bytes());
    let by_chat = candidates.by_chat.iter().copied();
    let by_chat: Vec<usize> = by_chat.filter(|place| !has_opted_out(*place)).collect();
    let chats = Contacts {
        app_id: &lane.app_id,
        open_ids: &open_ids(&by_chat),
    };
    let rules = (candidates.scenes, now_ms);
    let reserved = allowance::reserve_all(&mut *connection, db.dialect(), chats, rules).await?;
    transaction.commit().await?;
    let mut admitted: Vec<Admitted> = places
        .clone()
        .map(|place| match has_opted_out(place) {
            true => Admitted::OptedOut,
            false => Admitted::Wholly,
        })
        .collect();
    for (place, reservation) in by_chat.into_iter().zip(reserved) {
        if let Reservation::Refused(refusal) = reservation {
            admitted[place - places.start] = Admitted::NotByChat(refusal);
        }
    }
    Ok(Some(admitted))
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
