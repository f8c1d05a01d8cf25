//! The ledger of customer-service messages: how many WeChat still takes for a contact, by what the
//! contact did last ("Customer-service messages", 客服消息).
//!
//! Each scene has its own time and its own count, and they are not added together: a message counts
//! in every scene that is open, and goes as long as one of them has room. Unfollowing closes them all.
//!
//! What a contact did before this host met them is not known here. Such a contact's message is tried, and
//! WeChat's answer is remembered (`refused_at`).

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Database, DbError};
use crate::clock::millis;

/// How long a scene stays open after a message or a payment.
const LONG: Duration = Duration::from_secs(48 * 3600);
/// How long a scene stays open after a tap, a scan or a follow.
const SHORT: Duration = Duration::from_secs(60);
/// Messages after a tap, a scan or a follow.
const AFTER_ACT: u32 = 3;
/// A count beyond every limit: WeChat has said that there is no room.
const NO_ROOM: i64 = 1 << 20;

/// A scene: the column of its last time, of its count, and whether it stays open long.
const SCENES: [(&str, &str, bool); 5] = [
    ("last_message_at", "message_used", true),
    ("menu_granted_at", "menu_used", false),
    ("last_scan_at", "scan_used", false),
    ("last_follow_at", "follow_used", false),
    ("last_payment_at", "payment_used", true),
];

/// How many messages WeChat takes, by scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenes {
    /// After a message of the contact.
    pub message: u32,
    /// After a tap of the menu.
    pub menu: u32,
    /// After a scan.
    pub scan: u32,
    /// After a follow.
    pub follow: u32,
    /// After a payment.
    pub payment: u32,
}

impl Scenes {
    /// With the counts that WeChat has changed over the years.
    pub fn new(message: u32, payment: u32) -> Self {
        Self {
            message,
            menu: AFTER_ACT,
            scan: AFTER_ACT,
            follow: AFTER_ACT,
            payment,
        }
    }

    fn counts(&self) -> [u32; 5] {
        [
            self.message,
            self.menu,
            self.scan,
            self.follow,
            self.payment,
        ]
    }
}

/// Why WeChat would refuse a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The contact did nothing for too long, or left (45015).
    Closed,
    /// So many were sent since (45047).
    UsedUp,
}

impl Refusal {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "window-closed",
            Self::UsedUp => "allowance-used-up",
        }
    }
}

/// Whether a message may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    /// Its room is taken.
    Taken,
    /// Nobody knows: what the contact did before the host met them may allow it.
    Untested,
    /// No.
    Refused(Refusal),
}

/// Whose ledger.
#[derive(Debug, Clone, Copy)]
pub struct ContactKey<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The contact.
    pub open_id: &'a str,
}

/// Takes room for one message in every scene that is open, if one of them has room.
pub(super) async fn reserve(
    db: &mut AnyConnection,
    contact: ContactKey<'_>,
    scenes: &Scenes,
    now_ms: i64,
) -> Result<Reservation, DbError> {
    let taken = SCENES.map(|(at, used, long)| {
        let open = open(at, long);
        format!("{used} = {used} + CASE WHEN {open} THEN 1 ELSE 0 END")
    });
    let mut room = Vec::new();
    for ((at, used, long), count) in SCENES.into_iter().zip(scenes.counts()) {
        room.push(format!("({} AND {used} < {count})", open(at, long)));
    }
    let statement = format!(
        "UPDATE contacts SET {} WHERE app_id = $1 AND open_id = $2 AND ({})",
        taken.join(", "),
        room.join(" OR ")
    );
    let reserved = execute(db, statement, contact, now_ms).await?;
    if reserved {
        return Ok(Reservation::Taken);
    }
    Ok(match check_open(db, contact, now_ms).await? {
        Reservation::Taken if has_unknown_past(db, contact, now_ms).await? => Reservation::Untested,
        Reservation::Taken => Reservation::Refused(Refusal::UsedUp),
        other => other,
    })
}

/// Whether a scene is open, whatever was sent in it: for a message that has its room already.
pub(super) async fn check_open(
    db: &mut AnyConnection,
    contact: ContactKey<'_>,
    now_ms: i64,
) -> Result<Reservation, DbError> {
    let any = SCENES.map(|(at, _, long)| format!("({})", open(at, long)));
    let statement = format!(
        "SELECT 1 FROM contacts WHERE app_id = $1 AND open_id = $2 AND ({})",
        any.join(" OR ")
    );
    let found: Option<i64> = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(contact.app_id)
        .bind(contact.open_id.as_bytes())
        .bind(now_ms - millis(LONG))
        .bind(now_ms - millis(SHORT))
        .fetch_optional(&mut *db)
        .await?;
    Ok(if found.is_some() {
        Reservation::Taken
    } else if has_unknown_past(db, contact, now_ms).await? {
        Reservation::Untested
    } else {
        Reservation::Refused(Refusal::Closed)
    })
}

/// Whether the contact may have done something, not long ago, of which the host never heard: it met them
/// within the last 48 hours, and not by a follow. A message told since then opens the widest scene, a
/// refusal of WeChat's tells that none is open, and leaving closes all that were.
async fn has_unknown_past(
    db: &mut AnyConnection,
    contact: ContactKey<'_>,
    now_ms: i64,
) -> Result<bool, DbError> {
    let known: Option<i64> = sqlx::query_scalar(
        "SELECT CASE WHEN refused_at IS NOT NULL OR last_message_at IS NOT NULL \
           OR unfollowed_at IS NOT NULL OR following = 0 OR first_seen_at <= $3 \
           OR COALESCE(last_follow_at, 0) = first_seen_at \
         THEN 1 ELSE 0 END FROM contacts WHERE app_id = $1 AND open_id = $2",
    )
    .bind(contact.app_id)
    .bind(contact.open_id.as_bytes())
    .bind(now_ms - millis(LONG))
    .fetch_optional(db)
    .await?;
    Ok(known != Some(1))
}

/// WeChat said that there is no room (45047, 45015): nothing more goes until the contact does something.
/// What the contact did after `begun_ms`, when that message left, still counts.
///
/// # Errors
/// The database can't be reached.
pub async fn exhaust(db: &Database, contact: ContactKey<'_>, begun_ms: i64) -> Result<(), DbError> {
    let changes = SCENES.map(|(at, used, _)| {
        let is_older = format!("contacts.{at} <= excluded.refused_at");
        format!("{used} = CASE WHEN {is_older} THEN {NO_ROOM} ELSE contacts.{used} END")
    });
    // Who was never met is kept as well: the next message is not tried in vain.
    let statement = format!(
        "INSERT INTO contacts (app_id, open_id, refused_at, first_seen_at, tags, remark, \
         attributes, message_used, menu_used, scan_used, follow_used, payment_used, to_fetch) \
         VALUES ($1, $2, $3, $3, '[]', '', '{{}}', 0, 0, 0, 0, 0, 0) \
         ON CONFLICT (app_id, open_id) DO UPDATE SET refused_at = excluded.refused_at, {}",
        changes.join(", ")
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(contact.app_id)
        .bind(contact.open_id.as_bytes())
        .bind(begun_ms)
        .execute(&db.writers)
        .await?;
    Ok(())
}

/// A message that had room was not taken by WeChat, for a reason of its own.
///
/// # Errors
/// The database can't be reached.
pub async fn release(db: &Database, contact: ContactKey<'_>, begun_ms: i64) -> Result<(), DbError> {
    let changes = SCENES.map(|(at, used, _)| {
        format!("{used} = CASE WHEN {at} <= $3 AND {used} > 0 THEN {used} - 1 ELSE {used} END")
    });
    correct(db, contact, begun_ms, &changes.join(", ")).await
}

/// WeChat said that the contact does not follow (any more).
///
/// # Errors
/// The database can't be reached.
pub async fn note_unfollowed(
    db: &Database,
    contact: ContactKey<'_>,
    begun_ms: i64,
) -> Result<(), DbError> {
    let newer = "COALESCE(following_at, 0) > $3";
    let changes = format!(
        "following = CASE WHEN {newer} THEN following ELSE 0 END, \
         following_at = CASE WHEN {newer} THEN following_at ELSE $3 END"
    );
    correct(db, contact, begun_ms, &changes).await
}

async fn correct(
    db: &Database,
    contact: ContactKey<'_>,
    begun_ms: i64,
    changes: &str,
) -> Result<(), DbError> {
    let statement = format!("UPDATE contacts SET {changes} WHERE app_id = $1 AND open_id = $2");
    sqlx::query(AssertSqlSafe(statement))
        .bind(contact.app_id)
        .bind(contact.open_id.as_bytes())
        .bind(begun_ms)
        .execute(&db.writers)
        .await?;
    Ok(())
}

/// The condition that a scene is open. `$3` and `$4` are the times before which a long and a short
/// scene have closed.
fn open(at: &str, long: bool) -> String {
    let closed = if long { "$3" } else { "$4" };
    format!("{at} > {closed} AND {at} >= COALESCE(unfollowed_at, 0)")
}

async fn execute(
    db: &mut AnyConnection,
    statement: String,
    contact: ContactKey<'_>,
    now_ms: i64,
) -> Result<bool, DbError> {
    let done = sqlx::query(AssertSqlSafe(statement))
        .bind(contact.app_id)
        .bind(contact.open_id.as_bytes())
        .bind(now_ms - millis(LONG))
        .bind(now_ms - millis(SHORT))
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}
