//! Lines and sending lanes: how what may be sent next is found, however much waits.
//!
//! The open rows of one contact for one API stand in a line (`outbox_lines`) and go out in order: only
//! the first one can be leased. The lines of one account for one API are a sending lane, and a lane that rests
//! is passed over as a whole. Among the APIs whose messages a contact sees, a row waits for an earlier
//! one of another API only as long as that one is about to leave; see [`Order`].
//!
//! A line is made with its first row and goes with its last. Whoever changes a row of a contact locks
//! the contact's lines first, in one order, so that none is forgotten and nobody waits in a circle.

use sqlx::{AnyConnection, AssertSqlSafe, FromRow};

use super::kind::{Kind, Order};
use super::pauses::{Pause, pauses_in};
use super::{Leased, MAX_AGE_MS, Outgoing, RowId};
use crate::db::{Database, DbError, Dialect, Lease};

/// How soon an earlier message must be due for one of another API to wait for it. As long as a lease:
/// one that is being sent is waited for.
const HOLD_MS: i64 = 60_000;
/// When a line is looked at again that waits for an earlier message. It is looked at as soon as that one
/// has left; this is for when it does not.
const HELD_MS: i64 = 1_000;
/// Rows of a host of the version before that get their lines at once.
const ADOPTED_ROWS: i64 = 500;
/// Rows that are looked at at once because their time is over.
const EXPIRED_ROWS: i64 = 100;

/// An account's lines for one API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SendLane {
    /// The account.
    pub app_id: String,
    /// The API.
    pub path: String,
}

/// Lanes that follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendLanePage {
    /// Those that have something due and do not rest.
    pub due: Vec<SendLane>,
    /// The last one that was looked at; None if there are no more.
    pub next: Option<SendLane>,
}

#[derive(FromRow)]
struct LaneRow {
    app_id: String,
    path: String,
    due_at: Option<i64>,
    paused_until: Option<i64>,
}

/// Looks at the lanes after one, `limit` of them.
///
/// # Errors
/// The database can't be reached.
pub async fn send_lanes(
    db: &Database,
    after: &SendLane,
    now_ms: i64,
    limit: i64,
) -> Result<SendLanePage, DbError> {
    let rows: Vec<LaneRow> = sqlx::query_as(LANES)
        .bind(&after.app_id)
        .bind(&after.path)
        .bind(limit)
        .bind(now_ms)
        .fetch_all(&db.readers)
        .await?;
    let is_last = i64::try_from(rows.len()).is_ok_and(|found| found < limit);
    let lane = |row: &LaneRow| SendLane {
        app_id: row.app_id.clone(),
        path: row.path.clone(),
    };
    let is_due = |row: &&LaneRow| {
        row.due_at.is_some_and(|due_at| due_at <= now_ms) && row.paused_until.is_none()
    };
    Ok(SendLanePage {
        due: rows.iter().filter(is_due).map(lane).collect(),
        next: rows.last().filter(|_| !is_last).map(lane),
    })
}

/// From lane to lane by the index, however many lines each has: the next API of the account, or else the
/// first one of the next account. (Pairs are not compared as such: SQLite looks at every line then.)
pub(super) const LANES: &str = "\
    WITH RECURSIVE lane (app_id, path, place) AS ( \
      SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), 0 \
      UNION ALL \
      SELECT CASE WHEN EXISTS (SELECT 1 FROM outbox_lines l WHERE l.app_id = lane.app_id \
          AND l.path > lane.path) THEN lane.app_id \
        ELSE (SELECT l.app_id FROM outbox_lines l WHERE l.app_id > lane.app_id \
          ORDER BY l.app_id LIMIT 1) END, \
        COALESCE((SELECT l.path FROM outbox_lines l WHERE l.app_id = lane.app_id \
          AND l.path > lane.path ORDER BY l.path LIMIT 1), \
          (SELECT l.path FROM outbox_lines l WHERE l.app_id > lane.app_id \
          ORDER BY l.app_id, l.path LIMIT 1)), \
        lane.place + 1 \
      FROM lane WHERE lane.app_id IS NOT NULL AND lane.place < $3) \
    SELECT lane.app_id, lane.path, \
      (SELECT l.due_at FROM outbox_lines l WHERE l.app_id = lane.app_id AND l.path = lane.path \
        ORDER BY l.due_at LIMIT 1) AS due_at, \
      (SELECT MAX(p.until_at) FROM outbox_pauses p WHERE p.app_id = lane.app_id \
        AND p.path IN ('', lane.path) AND COALESCE(p.ends, 0) = 0 AND p.until_at > $4) \
        AS paused_until \
    FROM lane WHERE lane.app_id IS NOT NULL AND lane.place > 0";

/// The first of a line, and what stands before it in lines of its order.
#[derive(FromRow)]
struct Candidate {
    open_id: String,
    head: Option<String>,
    first_before: Option<i64>,
    second_before: Option<i64>,
}

/// Leases rows of a lane that are due, `limit` of them at most, the oldest first; of each contact one.
///
/// # Errors
/// The database can't be reached.
pub async fn lease(
    db: &Database,
    lane: &SendLane,
    lease: Lease<'_>,
    limit: i64,
) -> Result<Vec<Leased>, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let pauses = pauses_in(connection, &lane.app_id, lease.now_ms).await?;
    if pauses.iter().any(|pause| pause.holds(&lane.path)) {
        return Ok(Vec::new());
    }
    let others = others_of(&lane.path);
    let candidates: Vec<Candidate> = sqlx::query_as(AssertSqlSafe(candidates(db.dialect())))
        .bind(&lane.app_id)
        .bind(&lane.path)
        .bind(lease.now_ms)
        .bind(limit)
        .bind(others[0])
        .bind(others[1])
        .fetch_all(&mut *connection)
        .await?;
    let mut heads = Vec::new();
    for candidate in &candidates {
        let Some(head) = &candidate.head else {
            // Nothing of it is open any more.
            refresh_one(connection, lane, &candidate.open_id).await?;
            continue;
        };
        match held_until(candidate, others, &pauses, lease.now_ms) {
            Some(until_ms) => move_line(connection, lane, &candidate.open_id, until_ms).await?,
            None => heads.push((head.as_str(), candidate.open_id.as_str())),
        }
    }
    let mut leased = Vec::new();
    for (head, open_id) in heads {
        let row = RowId {
            app_id: &lane.app_id,
            id: head,
        };
        match take(connection, row, lease).await? {
            Some(row) => {
                move_line(connection, lane, open_id, lease.until_ms).await?;
                leased.extend(row.leased(&pauses));
            }
            // A host of the version before has it.
            None => refresh_one(connection, lane, open_id).await?,
        }
    }
    transaction.commit().await?;
    leased.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(leased)
}

/// The lines of a lane that are due, with the first row of each.
pub(super) fn candidates(dialect: Dialect) -> String {
    let lock = match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => "FOR UPDATE SKIP LOCKED",
    };
    let before = |path: &str| {
        format!(
            "(SELECT b.due_at FROM outbox b WHERE b.settled_at IS NULL AND b.app_id = $1 \
             AND b.open_id = c.open_id AND b.path = {path} AND b.id < c.head ORDER BY b.id LIMIT 1)"
        )
    };
    format!(
        "SELECT c.open_id, c.head, {} AS first_before, {} AS second_before FROM \
         (SELECT l.open_id, (SELECT h.id FROM outbox h WHERE h.settled_at IS NULL \
            AND h.app_id = l.app_id AND h.open_id = l.open_id AND h.path = l.path \
            ORDER BY h.id LIMIT 1) AS head \
          FROM outbox_lines l WHERE l.app_id = $1 AND l.path = $2 AND l.due_at <= $3 \
          ORDER BY l.due_at, l.open_id LIMIT $4 {lock}) AS c",
        before("$5"),
        before("$6"),
    )
}

/// The other APIs of the order that `path` is in; no API is empty.
fn others_of(path: &str) -> [&'static str; 2] {
    let mut others = Order::of_path(path)
        .paths()
        .iter()
        .copied()
        .filter(|other| *other != path);
    [others.next().unwrap_or(""), others.next().unwrap_or("")]
}

/// Until when a line waits for an earlier row of another API; None if it need not.
fn held_until(
    candidate: &Candidate,
    others: [&str; 2],
    pauses: &[Pause],
    now_ms: i64,
) -> Option<i64> {
    let before = [candidate.first_before, candidate.second_before];
    let held = others.into_iter().zip(before).filter_map(|(path, due_at)| {
        let due_at = due_at?;
        let pause = pauses.iter().find(|pause| pause.holds(path));
        let rests_until = pause.map_or(0, |pause| pause.until_at);
        match Order::of_path(path) {
            // Whatever it waits for: what it leaves behind depends on who comes last.
            Order::Tags => Some(due_at.max(rests_until)),
            Order::Seen | Order::Own => {
                (rests_until <= now_ms && due_at <= now_ms + HOLD_MS).then_some(due_at)
            }
        }
    });
    held.max().map(|until_ms| until_ms.max(now_ms + HELD_MS))
}

async fn move_line(
    db: &mut AnyConnection,
    lane: &SendLane,
    open_id: &str,
    due_at: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE outbox_lines SET due_at = $1 WHERE app_id = $2 AND open_id = $3 AND path = $4",
    )
    .bind(due_at)
    .bind(&lane.app_id)
    .bind(open_id)
    .bind(&lane.path)
    .execute(db)
    .await?;
    Ok(())
}

async fn take(
    db: &mut AnyConnection,
    row: RowId<'_>,
    lease: Lease<'_>,
) -> Result<Option<LeasedRow>, DbError> {
    Ok(sqlx::query_as(
        "UPDATE outbox SET lease_owner = $1, due_at = $2, fence = COALESCE(fence, 0) + 1 \
         WHERE app_id = $3 AND id = $4 AND settled_at IS NULL AND due_at <= $5 \
         RETURNING id, app_id, event_id, trace_id, kind, open_id, path, payload, state, attempts, \
         reserved, fence, created_at, expires_at, tried_at, unsure, unsure_at",
    )
    .bind(lease.owner)
    .bind(lease.until_ms)
    .bind(row.app_id)
    .bind(row.id)
    .bind(lease.now_ms)
    .fetch_optional(db)
    .await?)
}

/// Locks a contact's lines for the rest of a transaction.
pub(super) async fn lock(
    dialect: Dialect,
    db: &mut AnyConnection,
    app_id: &str,
    open_id: &str,
) -> Result<(), DbError> {
    // SQLite has one writer.
    if dialect == Dialect::Postgres {
        sqlx::query(
            "SELECT path FROM outbox_lines WHERE app_id = $1 AND open_id = $2 \
             ORDER BY path FOR UPDATE",
        )
        .bind(app_id)
        .bind(open_id)
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Brings a contact's lines, which are locked, up to date with the rows.
pub(super) async fn refresh(
    db: &mut AnyConnection,
    app_id: &str,
    open_id: &str,
) -> Result<(), DbError> {
    refresh_lines(db, app_id, open_id, "").await
}

/// The same for the one line that is locked.
async fn refresh_one(
    db: &mut AnyConnection,
    lane: &SendLane,
    open_id: &str,
) -> Result<(), DbError> {
    refresh_lines(db, &lane.app_id, open_id, &lane.path).await
}

async fn refresh_lines(
    db: &mut AnyConnection,
    app_id: &str,
    open_id: &str,
    path: &str,
) -> Result<(), DbError> {
    for statement in REFRESH {
        sqlx::query(statement)
            .bind(app_id)
            .bind(open_id)
            .bind(path)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Ends a contact's lines without rows, and makes the others due with their first row.
pub(super) const REFRESH: [&str; 2] = [
    "DELETE FROM outbox_lines WHERE app_id = $1 AND open_id = $2 AND ($3 = '' OR path = $3) \
       AND NOT EXISTS (SELECT 1 FROM outbox h WHERE h.settled_at IS NULL \
       AND h.app_id = outbox_lines.app_id \
       AND h.open_id = outbox_lines.open_id AND h.path = outbox_lines.path)",
    "UPDATE outbox_lines SET due_at = (SELECT h.due_at FROM outbox h \
       WHERE h.settled_at IS NULL AND h.app_id = outbox_lines.app_id \
       AND h.open_id = outbox_lines.open_id AND h.path = outbox_lines.path \
       ORDER BY h.id LIMIT 1) WHERE app_id = $1 AND open_id = $2 AND ($3 = '' OR path = $3)",
];

/// Makes sure that there is a line for each of these (account, contact, API); those that are there stay
/// as they are, locked.
pub(super) async fn ensure(
    db: &mut AnyConnection,
    lines: std::collections::BTreeSet<(&str, &str, &str)>,
    due_at: i64,
) -> Result<(), DbError> {
    for (app_id, open_id, path) in lines {
        sqlx::query(
            "INSERT INTO outbox_lines (app_id, open_id, path, due_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (app_id, open_id, path) DO UPDATE SET due_at = outbox_lines.due_at",
        )
        .bind(app_id)
        .bind(open_id)
        .bind(path)
        .bind(due_at)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

#[derive(FromRow)]
struct Unlined {
    id: String,
    app_id: String,
    open_id: String,
    path: String,
}

/// Gives lines to rows that a host of the version before put in. Returns how many.
///
/// # Errors
/// The database can't be reached.
pub async fn adopt(db: &Database) -> Result<usize, DbError> {
    let unlined = unlined(db.dialect());
    let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT id {unlined}")))
        .bind(1_i64)
        .fetch_optional(&db.readers)
        .await?;
    if found.is_none() {
        return Ok(0);
    }
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let lock = match db.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
    };
    let statement = format!("SELECT id, app_id, open_id, path {unlined}{lock}");
    let rows: Vec<Unlined> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(ADOPTED_ROWS)
        .fetch_all(&mut *connection)
        .await?;
    let lines = rows
        .iter()
        .map(|row| (&*row.app_id, &*row.open_id, &*row.path));
    ensure(connection, lines.collect(), 0).await?;
    for row in &rows {
        sqlx::query(
            "UPDATE outbox SET fence = 0, expires_at = created_at + $1 \
             WHERE app_id = $2 AND id = $3",
        )
        .bind(MAX_AGE_MS)
        .bind(&row.app_id)
        .bind(&row.id)
        .execute(&mut *connection)
        .await?;
    }
    transaction.commit().await?;
    Ok(rows.len())
}

/// Open rows without lines, the oldest first.
pub(super) fn unlined(dialect: Dialect) -> String {
    let index = by(dialect, "outbox_without_line");
    format!("FROM outbox {index} WHERE settled_at IS NULL AND fence IS NULL ORDER BY id LIMIT $1")
}

/// Leases rows whose time is over, wherever they stand, to be ended.
///
/// # Errors
/// The database can't be reached.
pub async fn lease_expired(db: &Database, lease: Lease<'_>) -> Result<Vec<Leased>, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let ids: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(expired(db.dialect())))
        .bind(lease.now_ms)
        .bind(EXPIRED_ROWS)
        .fetch_all(&mut *connection)
        .await?;
    let mut leased = Vec::new();
    for (app_id, id) in ids {
        let row: Option<LeasedRow> = sqlx::query_as(
            "UPDATE outbox SET lease_owner = $1, due_at = $2, fence = COALESCE(fence, 0) + 1 \
             WHERE app_id = $3 AND id = $4 AND settled_at IS NULL \
             AND (lease_owner IS NULL OR due_at <= $5) \
             RETURNING id, app_id, event_id, trace_id, kind, open_id, path, payload, state, \
             attempts, reserved, fence, created_at, expires_at, tried_at, unsure, unsure_at",
        )
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(&app_id)
        .bind(&id)
        .bind(lease.now_ms)
        .fetch_optional(&mut *connection)
        .await?;
        leased.extend(row.and_then(|row| row.leased(&[])));
    }
    transaction.commit().await?;
    Ok(leased)
}

/// Rows whose time is over and that nobody has leased.
pub(super) fn expired(dialect: Dialect) -> String {
    let index = by(dialect, "outbox_expiring");
    format!(
        "SELECT app_id, id FROM (SELECT app_id, id, lease_owner, due_at FROM outbox {index} \
           WHERE settled_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2) AS over \
         WHERE lease_owner IS NULL OR due_at <= $1"
    )
}

/// SQLite would look at all open rows by their `settled_at` and sort them.
fn by(dialect: Dialect, index: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("INDEXED BY {index}"),
        Dialect::Postgres => String::new(),
    }
}

#[derive(FromRow)]
struct LeasedRow {
    id: String,
    app_id: String,
    event_id: String,
    trace_id: String,
    kind: String,
    open_id: String,
    path: String,
    payload: String,
    state: String,
    attempts: i64,
    reserved: i64,
    fence: i64,
    created_at: i64,
    expires_at: Option<i64>,
    tried_at: Option<i64>,
    unsure: Option<i64>,
    unsure_at: Option<i64>,
}

impl LeasedRow {
    /// None for a kind that only a newer host knows: its lease runs out for that one.
    fn leased(self, pauses: &[Pause]) -> Option<Leased> {
        // A host went away in the middle of the last try.
        let was_left = self.state == "sending";
        let left_at = was_left.then(|| self.tried_at.unwrap_or(self.created_at));
        let no_right = pauses
            .iter()
            .find(|pause| pause.path == self.path && pause.ends == Some(1));
        Some(Leased {
            no_right: no_right.map(|pause| pause.errcode.unwrap_or_default()),
            outgoing: Outgoing {
                kind: Kind::of(&self.kind)?,
                open_id: self.open_id,
                path: self.path,
                payload: self.payload,
                expires_at: self.expires_at,
            },
            id: self.id,
            app_id: self.app_id,
            event_id: self.event_id,
            trace_id: self.trace_id,
            fence: self.fence,
            attempts: self.attempts,
            unsure: self.unsure.unwrap_or_default() + i64::from(was_left),
            unsure_at: self.unsure_at.or(left_at),
            is_reserved: self.reserved == 1,
            created_at: self.created_at,
        })
    }
}
