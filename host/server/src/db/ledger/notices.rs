//! What WeChat Pay has told: each fact once, for good, in the transaction that applies it.

use sqlx::AnyConnection;

use super::super::{Database, DbError};
use super::payments::{self, Payment};
use super::refunds::{self, News};
use super::{Applied, Number};

/// The verdict on a notice that was applied, or told what was known.
const APPLIED: &str = "applied";
/// The verdict on a notice that contradicts the ledger.
const FLAGGED: &str = "flagged";

/// A notice, verified.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Names the fact, such as `1900000001/transaction/4200…`.
    pub fact: &'a str,
    /// WeChat's id of the notice.
    pub id: &'a str,
    /// What it says, sealed: kept where it is flagged.
    pub body_sealed: &'a str,
}

/// What a notice says.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// Somebody has paid.
    Paid(Payment<'a>),
    /// Something became of a refund.
    Refund(News<'a>),
    /// Something that cannot be believed of this order or refund: a stable word, and what is wrong.
    Unbelievable(Number<'a>, &'static str, &'a str),
}

impl<'a> Said<'a> {
    fn number(&self) -> Number<'a> {
        match self {
            Self::Paid(payment) => payment.number,
            Self::Refund(news) => news.number,
            Self::Unbelievable(number, _, _) => *number,
        }
    }
}

/// Keeps a notice and applies what it says, in one transaction. It may be acknowledged then. One that was
/// applied before has no effect; one that was flagged is looked at anew.
///
/// # Errors
/// The database failed: nothing is kept, and WeChat is to tell it again.
pub async fn keep(db: &Database, notice: Notice<'_>, said: Said<'_>) -> Result<Applied, DbError> {
    let now_ms = db.now_ms();
    let number = said.number();
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    if is_applied(connection, number, notice.fact).await? {
        return Ok(Applied::Before);
    }
    let applied = match said {
        Said::Paid(payment) => payments::apply(connection, payment, "notice", now_ms).await?,
        Said::Refund(news) => refunds::apply(connection, news, now_ms).await?,
        Said::Unbelievable(_, code, why) => Applied::Flagged(code, why.to_owned()),
    };
    let (verdict, reason, body) = match &applied {
        Applied::Turned | Applied::Before => (APPLIED, None, None),
        Applied::Flagged(code, why) => {
            let reason = format!("{code}: {why}");
            (FLAGGED, Some(reason), Some(notice.body_sealed))
        }
    };
    sqlx::query(
        "INSERT INTO pay_notices (app_id, mch_id, fact, notice_id, verdict, reason, body_sealed, \
         received_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (app_id, fact) DO UPDATE SET verdict = excluded.verdict, \
         reason = excluded.reason, notice_id = excluded.notice_id, \
         body_sealed = excluded.body_sealed",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(notice.fact)
    .bind(notice.id)
    .bind(verdict)
    .bind(reason)
    .bind(body)
    .bind(now_ms)
    .execute(&mut *connection)
    .await?;
    transaction.commit().await?;
    Ok(applied)
}

async fn is_applied(
    db: &mut AnyConnection,
    number: Number<'_>,
    fact: &str,
) -> Result<bool, DbError> {
    let found: Option<(String,)> =
        sqlx::query_as("SELECT verdict FROM pay_notices WHERE app_id = $1 AND fact = $2")
            .bind(number.app_id)
            .bind(fact)
            .fetch_optional(db)
            .await?;
    Ok(found.is_some_and(|(verdict,)| verdict == APPLIED))
}

/// A notice, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct NoticeRow {
    /// The merchant.
    pub mch_id: String,
    /// Names the fact.
    pub fact: String,
    /// WeChat's id of the notice.
    pub notice_id: String,
    /// `applied` or `flagged`.
    pub verdict: String,
    /// What is wrong with it.
    pub reason: Option<String>,
    /// Unix milliseconds.
    pub received_at: i64,
}

/// The newest notices of an account that contradict the ledger, received before a time.
///
/// # Errors
/// The database failed.
pub async fn flagged(
    db: &Database,
    app_id: &str,
    (before_ms, limit): (i64, u32),
) -> Result<Vec<NoticeRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT mch_id, fact, notice_id, verdict, reason, received_at FROM pay_notices \
         WHERE app_id = $1 AND verdict = 'flagged' AND received_at < $2 \
         ORDER BY received_at DESC, fact LIMIT $3",
    )
    .bind(app_id)
    .bind(before_ms)
    .bind(i64::from(limit))
    .fetch_all(&db.readers)
    .await?)
}
