//! A leased row from the moment before its request leaves to the moment after its answer.

use sqlx::AnyConnection;

use super::{Final, Leased, Report, lines};
use crate::db::allowance::{self, Refusal, Reservation, Scenes};
use crate::db::{Database, DbError, Lease};

/// Whether a leased row may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Yes: it is `sending`.
    Go,
    /// No: the contact opted out since.
    OptedOut,
    /// No: WeChat would refuse it.
    Refused(Refusal),
    /// Another host has it.
    Lost,
}

/// Marks a leased row as being sent, if it may be: the contact has not opted out, and the ledger has
/// room, which is then taken.
///
/// # Errors
/// The database can't be reached: the row must not be sent.
pub async fn begin(
    db: &Database,
    row: &Leased,
    lease: Lease<'_>,
    scenes: &Scenes,
) -> Result<Begun, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if !mark_sending(connection, row, lease).await? {
        return Ok(Begun::Lost);
    }
    let facts = row.outgoing.kind.facts();
    let open_id = &row.outgoing.open_id;
    if facts.heeds_opt_out
        && opted_out_after(connection, &row.app_id, open_id, row.created_at).await?
    {
        return Ok(Begun::OptedOut);
    }
    if facts.is_counted {
        let contact = allowance::ContactKey {
            app_id: &row.app_id,
            open_id,
        };
        let allowed = if row.is_reserved {
            allowance::check_open(connection, contact, lease.now_ms).await?
        } else {
            allowance::reserve(connection, db.dialect(), contact, (scenes, lease.now_ms)).await?
        };
        match allowed {
            Reservation::Taken => {}
            Reservation::Untested => unreserve(connection, row).await?,
            Reservation::Refused(refusal) => return Ok(Begun::Refused(refusal)),
        }
    }
    transaction.commit().await?;
    Ok(Begun::Go)
}

async fn mark_sending(
    db: &mut AnyConnection,
    row: &Leased,
    lease: Lease<'_>,
) -> Result<bool, DbError> {
    let marked = sqlx::query(
        "UPDATE outbox SET state = 'sending', attempts = attempts + 1, due_at = $1, \
         reserved = $2, tried_at = $3, unsure = $4, unsure_at = $5 \
         WHERE app_id = $6 AND id = $7 AND lease_owner = $8 AND fence = $9 AND settled_at IS NULL",
    )
    .bind(lease.until_ms)
    .bind(i64::from(row.outgoing.kind.facts().is_counted))
    .bind(lease.now_ms)
    .bind(row.unsure)
    .bind(row.unsure_at)
    .bind(&row.app_id)
    .bind(&row.id)
    .bind(lease.owner)
    .bind(row.fence)
    .execute(db)
    .await?;
    Ok(marked.rows_affected() == 1)
}

/// The ledger knows nothing of the contact, so it has counted nothing.
async fn unreserve(db: &mut AnyConnection, row: &Leased) -> Result<(), DbError> {
    sqlx::query("UPDATE outbox SET reserved = 0 WHERE app_id = $1 AND id = $2")
        .bind(&row.app_id)
        .bind(&row.id)
        .execute(db)
        .await?;
    Ok(())
}

/// Whether the contact opted out after the row was put in. What was put in together with the opt-out,
/// such as a goodbye, still goes.
async fn opted_out_after(
    db: &mut AnyConnection,
    app_id: &str,
    open_id: &str,
    created_at: i64,
) -> Result<bool, DbError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM contacts WHERE app_id = $1 AND open_id = $2 AND opted_out_at > $3",
    )
    .bind(app_id)
    .bind(open_id.as_bytes())
    .bind(created_at)
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// Ends a row. False if another host has it now.
///
/// # Errors
/// The database can't be reached: the row is looked at again when its lease has run out.
pub async fn settle(
    db: &Database,
    row: &Leased,
    lease: Lease<'_>,
    end: Final,
    report: &Report,
) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let (app_id, open_id) = (&row.app_id, &row.outgoing.open_id);
    lines::lock(db.dialect(), connection, app_id, open_id).await?;
    let verdict_due_at = (end == Final::Held).then_some(lease.now_ms + super::FIRST_VERDICT_MS);
    let settled = sqlx::query(
        "UPDATE outbox SET state = $1, reason = $2, errcode = $3, errmsg = $4, msgid = $5, \
         settled_at = $6, lease_owner = NULL, unsure = $7, unsure_at = $8, verdict_due_at = $9 \
         WHERE app_id = $10 AND id = $11 AND lease_owner = $12 AND fence = $13 \
         AND settled_at IS NULL",
    )
    .bind(end.as_str())
    .bind(report.reason)
    .bind(report.errcode)
    .bind(&report.errmsg)
    .bind(&report.msgid)
    .bind(lease.now_ms)
    .bind(row.unsure)
    .bind(row.unsure_at)
    .bind(verdict_due_at)
    .bind(app_id)
    .bind(&row.id)
    .bind(lease.owner)
    .bind(row.fence)
    .execute(&mut *connection)
    .await?;
    if settled.rows_affected() != 1 {
        return Ok(false);
    }
    lines::refresh(connection, app_id, open_id).await?;
    transaction.commit().await?;
    Ok(true)
}

/// How long a row waits, and what the try before said.
#[derive(Debug, Clone, Copy)]
pub struct Postponement<'a> {
    /// Unix milliseconds.
    pub due_at: i64,
    /// What the try came to.
    pub report: &'a Report,
    /// Tries that said nothing of this row: they are not counted.
    pub uncounted: i64,
}

/// Lets a row wait. False if another host has it now.
///
/// # Errors
/// The database can't be reached: the row waits until its lease has run out.
pub async fn postpone(
    db: &Database,
    row: &Leased,
    lease: Lease<'_>,
    wait: Postponement<'_>,
) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let (app_id, open_id) = (&row.app_id, &row.outgoing.open_id);
    lines::lock(db.dialect(), connection, app_id, open_id).await?;
    let postponed = sqlx::query(
        "UPDATE outbox SET state = 'waiting', reason = $1, errcode = $2, errmsg = $3, due_at = $4, \
         attempts = attempts - $5, lease_owner = NULL, unsure = $6, unsure_at = $7 \
         WHERE app_id = $8 AND id = $9 AND lease_owner = $10 AND fence = $11 \
         AND settled_at IS NULL",
    )
    .bind(wait.report.reason)
    .bind(wait.report.errcode)
    .bind(&wait.report.errmsg)
    .bind(wait.due_at)
    .bind(wait.uncounted)
    .bind(row.unsure)
    .bind(row.unsure_at)
    .bind(&row.app_id)
    .bind(&row.id)
    .bind(lease.owner)
    .bind(row.fence)
    .execute(&mut *connection)
    .await?;
    if postponed.rows_affected() != 1 {
        return Ok(false);
    }
    lines::refresh(connection, app_id, open_id).await?;
    transaction.commit().await?;
    Ok(true)
}
