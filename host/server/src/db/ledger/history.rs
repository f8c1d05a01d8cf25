//! Every turn of an order or a refund, in the order in which they came. Rows are only added.

use sqlx::AnyConnection;

use super::super::{Database, DbError};

/// A turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turned<'a> {
    /// Such as `order/…`.
    pub(super) subject: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// What turned it.
    pub(super) cause: &'a str,
}

/// Adds a turn. Whoever adds it has the order locked.
pub(super) async fn add(
    db: &mut AnyConnection,
    (app_id, mch_id): (&str, &str),
    turned: Turned<'_>,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO ledger_history (app_id, mch_id, subject, number, from_state, to_state, cause, \
         turned_at) VALUES ($1, $2, $3, (SELECT COUNT(*) + 1 FROM ledger_history \
         WHERE app_id = $1 AND mch_id = $2 AND subject = $3), $4, $5, $6, $7)",
    )
    .bind(app_id)
    .bind(mch_id)
    .bind(turned.subject)
    .bind(turned.from)
    .bind(turned.to)
    .bind(turned.cause)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// A turn, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Line {
    /// Such as `order/…`.
    pub subject: String,
    /// Counted from 1 for each subject.
    pub number: i64,
    /// Where it stood; empty before it was.
    pub from_state: String,
    /// Where it stands since.
    pub to_state: String,
    /// What turned it.
    pub cause: String,
    /// Unix milliseconds.
    pub turned_at: i64,
}

/// The turns of a subject, oldest first.
///
/// # Errors
/// The database failed.
pub async fn history(
    db: &Database,
    (app_id, mch_id): (&str, &str),
    subject: &str,
) -> Result<Vec<Line>, DbError> {
    Ok(sqlx::query_as(
        "SELECT subject, number, from_state, to_state, cause, turned_at FROM ledger_history \
         WHERE app_id = $1 AND mch_id = $2 AND subject = $3 ORDER BY number",
    )
    .bind(app_id)
    .bind(mch_id)
    .bind(subject)
    .fetch_all(&db.readers)
    .await?)
}
