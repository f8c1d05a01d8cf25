//! The ledger of customer-service messages: how many WeChat still takes for a contact, by what the
//! contact did last ("Customer-service messages", 客服消息).
//!
//! Each scene has its own time and its own count, and they are not added together: a message counts
//! in every scene that is open, and goes as long as one of them has room. Unfollowing closes them all.
//!
//! What a contact did before this host met them is not known here. Such a contact's message is tried, and
//! WeChat's answer is remembered (`refused_at`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::contacts::Contacts;
use super::{Database, DbError, Dialect};
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

/// The condition that nothing is unknown of what a contact did lately; see [`Standing`]. `$2` is the time before
/// which a long scene has closed.
const HAS_KNOWN_PAST: &str = "refused_at IS NOT NULL OR last_message_at IS NOT NULL \
     OR unfollowed_at IS NOT NULL OR following = 0 OR first_seen_at <= $2 \
     OR COALESCE(last_follow_at, 0) = first_seen_at";

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
    pub const fn new(message: u32, payment: u32) -> Self {
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

/// By what contacts can be reached: each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// WeChat takes a customer-service message.
    pub by_chat: u64,
    /// It may: what they did before the host met them is not known, or they were never met.
    pub untested: u64,
    /// It takes none; but they follow, so that a template reaches them.
    pub by_template: u64,
    /// Neither.
    pub by_nothing: u64,
    /// They want no messages.
    pub opted_out: u64,
}

impl std::ops::AddAssign for Reach {
    fn add_assign(&mut self, more: Self) {
        self.by_chat += more.by_chat;
        self.untested += more.untested;
        self.by_template += more.by_template;
        self.by_nothing += more.by_nothing;
        self.opted_out += more.opted_out;
    }
}

impl Reach {
    /// Counts so many more of a class of [`class_of`].
    pub(super) fn count(&mut self, class: i64, more: u64) {
        let counted = match class {
            0 => &mut self.by_chat,
            1 => &mut self.untested,
            2 => &mut self.by_template,
            3 => &mut self.by_nothing,
            _ => &mut self.opted_out,
        };
        *counted += more;
    }
}

/// Which of a [`Reach`] a contact is counted in. `$2` and `$3` are the times before which a long and a short scene
/// have closed: [`closed_before`].
pub(super) fn class_of(scenes: &Scenes) -> String {
    let room = SCENES.into_iter().zip(scenes.counts());
    let room =
        room.map(|((at, used, long), count)| format!("({} AND {used} < {count})", open(at, long)));
    let room: Vec<String> = room.collect();
    format!(
        "CASE WHEN opted_out_at IS NOT NULL THEN 4 WHEN {} THEN 0 \
         WHEN {HAS_KNOWN_PAST} THEN CASE WHEN following = 1 THEN 2 ELSE 3 END ELSE 1 END",
        room.join(" OR ")
    )
}

/// Before when a long and a short scene have closed.
pub(super) fn closed_before(now_ms: i64) -> (i64, i64) {
    (now_ms - millis(LONG), now_ms - millis(SHORT))
}

/// By what contacts can be reached now.
///
/// # Errors
/// The database can't be reached.
pub async fn reach(
    db: &Database,
    contacts: Contacts<'_>,
    (scenes, now_ms): (&Scenes, i64),
) -> Result<Reach, DbError> {
    let mut reach = Reach::default();
    if contacts.open_ids.is_empty() {
        return Ok(reach);
    }
    let statement = format!(
        "SELECT class, COUNT(*) FROM (SELECT {} AS class FROM contacts \
         WHERE app_id = $1 AND open_id IN ({})) AS classes GROUP BY class",
        class_of(scenes),
        contacts.places(4)
    );
    let (long, short) = closed_before(now_ms);
    let query = sqlx::query_as(AssertSqlSafe(statement))
        .bind(contacts.app_id)
        .bind(long)
        .bind(short);
    let rows: Vec<(i64, i64)> = contacts.bound_to(query).fetch_all(&db.readers).await?;
    let mut known = 0;
    for (class, count) in rows {
        known += count.unsigned_abs();
        reach.count(class, count.unsigned_abs());
    }
    // Who was never met.
    reach.untested += (contacts.open_ids.len() as u64).saturating_sub(known);
    Ok(reach)
}

/// Whose ledger.
#[derive(Debug, Clone, Copy)]
pub struct ContactKey<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The contact.
    pub open_id: &'a str,
}

impl ContactKey<'_> {
    fn alone(&self) -> Contacts<'_> {
        Contacts {
            app_id: self.app_id,
            open_ids: std::slice::from_ref(&self.open_id),
        }
    }
}

/// Takes room for one message in every scene that is open, if one of them has room.
pub(super) async fn reserve(
    db: &mut AnyConnection,
    dialect: Dialect,
    contact: ContactKey<'_>,
    (scenes, now_ms): (&Scenes, i64),
) -> Result<Reservation, DbError> {
    let mut reserved = reserve_all(db, dialect, contact.alone(), (scenes, now_ms)).await?;
    Ok(reserved.pop().unwrap_or(Reservation::Untested))
}

/// The same for each of several contacts, in a few statements.
pub(super) async fn reserve_all(
    db: &mut AnyConnection,
    dialect: Dialect,
    contacts: Contacts<'_>,
    (scenes, now_ms): (&Scenes, i64),
) -> Result<Vec<Reservation>, DbError> {
    if contacts.open_ids.is_empty() {
        return Ok(Vec::new());
    }
    let taken = SCENES.map(|(at, used, long)| {
        let open = open(at, long);
        format!("{used} = {used} + CASE WHEN {open} THEN 1 ELSE 0 END")
    });
    let mut room = Vec::new();
    for ((at, used, long), count) in SCENES.into_iter().zip(scenes.counts()) {
        room.push(format!("({} AND {used} < {count})", open(at, long)));
    }
    let statement = format!(
        "UPDATE contacts SET {} WHERE app_id = $1 AND open_id IN ({}) AND ({}) RETURNING open_id",
        taken.join(", "),
        contacts.locked(dialect, 4),
        room.join(" OR ")
    );
    let query = sqlx::query_as(AssertSqlSafe(statement))
        .bind(contacts.app_id)
        .bind(now_ms - millis(LONG))
        .bind(now_ms - millis(SHORT));
    let reserved: Vec<(Vec<u8>,)> = contacts.bound_to(query).fetch_all(&mut *db).await?;
    let reserved: HashSet<Vec<u8>> = reserved.into_iter().map(|(open_id,)| open_id).collect();
    let is_reserved = |open_id: &&str| reserved.contains(open_id.as_bytes());
    let others = contacts.open_ids.iter().copied();
    let others: Vec<&str> = others.filter(|open_id| !is_reserved(open_id)).collect();
    let others = Contacts {
        open_ids: &others,
        ..contacts
    };
    let standings = standings(db, others, now_ms).await?;
    let reservations = contacts.open_ids.iter().map(|open_id| {
        if is_reserved(open_id) {
            return Reservation::Taken;
        }
        match standings.get(open_id.as_bytes()) {
            Some(standing) if !standing.has_unknown_past => {
                Reservation::Refused(match standing.is_open {
                    true => Refusal::UsedUp,
                    false => Refusal::Closed,
                })
            }
            _ => Reservation::Untested,
        }
    });
    Ok(reservations.collect())
}

/// Whether a scene is open, whatever was sent in it: for a message that has its room already.
pub(super) async fn check_open(
    db: &mut AnyConnection,
    contact: ContactKey<'_>,
    now_ms: i64,
) -> Result<Reservation, DbError> {
    let standings = standings(db, contact.alone(), now_ms).await?;
    Ok(match standings.into_values().next() {
        Some(standing) if standing.is_open => Reservation::Taken,
        Some(standing) if !standing.has_unknown_past => Reservation::Refused(Refusal::Closed),
        _ => Reservation::Untested,
    })
}

/// How a contact stands with the account.
struct Standing {
    /// A scene is open, whatever was sent in it.
    is_open: bool,
    /// The contact may have done something, not long ago, of which the host never heard: it met them
    /// within the last 48 hours, and not by a follow. A message told since then opens the widest scene, a
    /// refusal of WeChat's tells that none is open, and leaving closes all that were.
    has_unknown_past: bool,
}

/// How contacts stand; those whom the host never met are not among them.
async fn standings(
    db: &mut AnyConnection,
    contacts: Contacts<'_>,
    now_ms: i64,
) -> Result<HashMap<Vec<u8>, Standing>, DbError> {
    if contacts.open_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let any = SCENES.map(|(at, _, long)| format!("({})", open(at, long)));
    let statement = format!(
        "SELECT open_id, CASE WHEN {} THEN 1 ELSE 0 END, \
         CASE WHEN {HAS_KNOWN_PAST} THEN 1 ELSE 0 END \
         FROM contacts WHERE app_id = $1 AND open_id IN ({})",
        any.join(" OR "),
        contacts.places(4)
    );
    let query = sqlx::query_as(AssertSqlSafe(statement))
        .bind(contacts.app_id)
        .bind(now_ms - millis(LONG))
        .bind(now_ms - millis(SHORT));
    let rows: Vec<(Vec<u8>, i64, i64)> = contacts.bound_to(query).fetch_all(db).await?;
    let standings = rows.into_iter().map(|(open_id, is_open, is_known)| {
        let standing = Standing {
            is_open: is_open == 1,
            has_unknown_past: is_known == 0,
        };
        (open_id, standing)
    });
    Ok(standings.collect())
}

/// WeChat said that there is no room (45047, 45015): nothing more goes until the contact does something.
/// What the contact did after `begun_ms`, when that message left, still counts.
///
/// # Errors
/// The database can't be reached.
pub async fn exhaust(db: &Database, contact: ContactKey<'_>, begun_ms: i64) -> Result<(), DbError> {
    let mut connection = db.writers.acquire().await?;
    exhaust_all(&mut connection, contact.alone(), begun_ms).await
}

/// A message that had room was not taken by WeChat, for a reason of its own.
///
/// # Errors
/// The database can't be reached.
pub async fn release(db: &Database, contact: ContactKey<'_>, begun_ms: i64) -> Result<(), DbError> {
    let mut connection = db.writers.acquire().await?;
    release_all(&mut connection, db.dialect(), contact.alone(), begun_ms).await
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
    let mut connection = db.writers.acquire().await?;
    note_all_unfollowed(&mut connection, db.dialect(), contact.alone(), begun_ms).await
}

/// [`exhaust`] for several contacts, in one statement.
pub(super) async fn exhaust_all(
    db: &mut AnyConnection,
    contacts: Contacts<'_>,
    begun_ms: i64,
) -> Result<(), DbError> {
    if contacts.open_ids.is_empty() {
        return Ok(());
    }
    let changes = SCENES.map(|(at, used, _)| {
        let is_older = format!("contacts.{at} <= excluded.refused_at");
        format!("{used} = CASE WHEN {is_older} THEN {NO_ROOM} ELSE contacts.{used} END")
    });
    // Who was never met is kept as well: the next message is not tried in vain.
    let rows = (0..contacts.open_ids.len()).map(|at| {
        format!(
            "($1, ${}, $2, $2, '[]', '', '{{}}', 0, 0, 0, 0, 0, 0)",
            at + 3
        )
    });
    let rows: Vec<String> = rows.collect();
    let statement = format!(
        "INSERT INTO contacts (app_id, open_id, refused_at, first_seen_at, tags, remark, \
         attributes, message_used, menu_used, scan_used, follow_used, payment_used, to_fetch) \
         VALUES {} ON CONFLICT (app_id, open_id) DO UPDATE SET refused_at = excluded.refused_at, {}",
        rows.join(", "),
        changes.join(", ")
    );
    let mut in_order = contacts.open_ids.to_vec();
    in_order.sort_unstable();
    let query = sqlx::query(AssertSqlSafe(statement))
        .bind(contacts.app_id)
        .bind(begun_ms);
    let query = in_order
        .iter()
        .fold(query, |query, id| query.bind(id.as_bytes()));
    query.execute(db).await?;
    Ok(())
}

/// [`release`] for several contacts, in one statement.
pub(super) async fn release_all(
    db: &mut AnyConnection,
    dialect: Dialect,
    contacts: Contacts<'_>,
    begun_ms: i64,
) -> Result<(), DbError> {
    let changes = SCENES.map(|(at, used, _)| {
        format!("{used} = CASE WHEN {at} <= $2 AND {used} > 0 THEN {used} - 1 ELSE {used} END")
    });
    correct(db, dialect, contacts, (begun_ms, &changes.join(", "))).await
}

/// [`note_unfollowed`] for several contacts, in one statement.
pub(super) async fn note_all_unfollowed(
    db: &mut AnyConnection,
    dialect: Dialect,
    contacts: Contacts<'_>,
    begun_ms: i64,
) -> Result<(), DbError> {
    let newer = "COALESCE(following_at, 0) > $2";
    let changes = format!(
        "following = CASE WHEN {newer} THEN following ELSE 0 END, \
         following_at = CASE WHEN {newer} THEN following_at ELSE $2 END"
    );
    correct(db, dialect, contacts, (begun_ms, &changes)).await
}

async fn correct(
    db: &mut AnyConnection,
    dialect: Dialect,
    contacts: Contacts<'_>,
    (begun_ms, changes): (i64, &str),
) -> Result<(), DbError> {
    if contacts.open_ids.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "UPDATE contacts SET {changes} WHERE app_id = $1 AND open_id IN ({}) RETURNING open_id",
        contacts.locked(dialect, 3)
    );
    let query = sqlx::query_as(AssertSqlSafe(statement))
        .bind(contacts.app_id)
        .bind(begun_ms);
    let _changed: Vec<(Vec<u8>,)> = contacts.bound_to(query).fetch_all(db).await?;
    Ok(())
}

/// The condition that a scene is open. `$2` and `$3` are the times before which a long and a short
/// scene have closed.
fn open(at: &str, long: bool) -> String {
    let closed = if long { "$2" } else { "$3" };
    format!("{at} > {closed} AND {at} >= COALESCE(unfollowed_at, 0)")
}
