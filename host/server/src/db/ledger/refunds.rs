//! Money that goes back.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::super::authorisations::skip_locked;
use super::super::{Database, DbError, Lease};
use super::books::{self, Moved};
use super::history::{self, Turned};
use super::orders::OrderRow;
use super::payments::Payment;
use super::{Applied, Number, events, orders};
use crate::clock::millis;
use crate::ledger::{Movement, OrderState, RefundFact, RefundState, Turn, order_book, refund_book};

/// Refunds of one order at most (WeChat Pay's limit).
const MOST: i64 = 50;
/// Between two of them (WeChat Pay's limit).
const GAP: Duration = Duration::from_secs(60);

/// A row of `refunds`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RefundRow {
    /// The account.
    pub app_id: String,
    /// The merchant.
    pub mch_id: String,
    /// Its number.
    pub out_refund_no: String,
    /// The order's number.
    pub out_trade_no: String,
    /// The payment that it is of.
    pub transaction_id: String,
    /// A word of [`RefundState`].
    pub state: String,
    /// Fen.
    pub amount: i64,
    /// What the order came to, fen.
    pub total: i64,
    /// What the payer is told.
    pub reason: Option<String>,
    /// WeChat's number.
    pub refund_id: Option<String>,
    /// Why it failed, or waits.
    pub error: Option<String>,
    /// Who asked for it.
    pub asked_by: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// When it was settled, Unix milliseconds.
    pub ended_at: Option<i64>,
    /// How often it was looked at.
    pub looks: i64,
}

impl RefundRow {
    /// Where it stands.
    pub fn state(&self) -> RefundState {
        // A word that only a newer host knows is nothing that is sent from here.
        RefundState::of(&self.state).unwrap_or(RefundState::Held)
    }

    /// What names it.
    pub fn number(&self) -> Number<'_> {
        Number {
            app_id: &self.app_id,
            mch_id: &self.mch_id,
            number: &self.out_refund_no,
        }
    }

    fn order(&self) -> Number<'_> {
        Number {
            number: &self.out_trade_no,
            ..self.number()
        }
    }
}

const COLUMNS: &str = "app_id, mch_id, out_refund_no, out_trade_no, transaction_id, state, amount, \
     total, reason, refund_id, error, asked_by, created_at, ended_at, looks";

/// A refund that somebody asks for.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The order.
    pub order: Number<'a>,
    /// The refund's number.
    pub out_refund_no: &'a str,
    /// Fen; all that is left if absent.
    pub amount: Option<i64>,
    /// What the payer is told.
    pub reason: Option<&'a str>,
    /// Who asks.
    pub asked_by: &'a str,
    /// Above so many fen somebody has to approve it.
    pub approve_above: Option<i64>,
}

/// What became of what somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is written, and on its way unless it is held.
    New(Box<RefundRow>),
    /// It was written before.
    Before(Box<RefundRow>),
    /// One of this number is of another order or amount.
    Differs,
    /// There is no such order.
    UnknownOrder,
    /// The order is not paid.
    NotPaid,
    /// So many fen are left, which are fewer.
    TooMuch(i64),
    /// The order has had as many refunds as WeChat Pay takes.
    TooMany,
}

impl Asked {
    /// Why it was not written, for whoever asked.
    pub fn refusal(&self) -> Option<(&'static str, String)> {
        let (code, said) = match self {
            Self::New(_) | Self::Before(_) => return None,
            Self::Differs => (
                "refund-differs",
                "a refund of this number is of another order or amount".to_owned(),
            ),
            Self::UnknownOrder => ("unknown-order", "there is no such order".to_owned()),
            Self::NotPaid => ("order-not-paid", "the order is not paid".to_owned()),
            Self::TooMuch(left) => (
                "refund-too-much",
                format!("{left} fen of the order are left to be refunded"),
            ),
            Self::TooMany => (
                "refund-too-many",
                format!("the order has had {MOST} refunds, which is the most"),
            ),
        };
        Some((code, said))
    }
}

/// Writes a refund that somebody asks for, in a transaction of its own.
///
/// # Errors
/// The database failed; whether it was written is unknown then, and asking again tells.
pub async fn ask(db: &Database, ask: &Ask<'_>) -> Result<Asked, DbError> {
    let mut transaction = db.begin().await?;
    let asked = ask_in(transaction.connection(), ask, db.now_ms()).await?;
    if matches!(asked, Asked::New(_)) {
        transaction.commit().await?;
    }
    Ok(asked)
}

/// Writes a refund that somebody asks for: what it takes is nobody else's from then on. Where it is refused
/// nothing is written.
pub(in crate::db) async fn ask_in(
    db: &mut AnyConnection,
    ask: &Ask<'_>,
    now_ms: i64,
) -> Result<Asked, DbError> {
    let Some(order) = orders::lock(db, ask.order).await? else {
        return Ok(Asked::UnknownOrder);
    };
    let number = Number {
        number: ask.out_refund_no,
        ..ask.order
    };
    if let Some(before) = find_in(db, number).await? {
        let is_same = before.out_trade_no == ask.order.number
            && ask.amount.is_none_or(|amount| amount == before.amount);
        return Ok(match is_same {
            true => Asked::Before(Box::new(before)),
            false => Asked::Differs,
        });
    }
    let (OrderState::Paid, Some(transaction_id)) = (order.state(), &order.transaction_id) else {
        return Ok(Asked::NotPaid);
    };
    let books = (ask.order.app_id, ask.order.mch_id);
    let left = books::balance(db, books, &order_book(ask.order.number)).await?;
    let amount = ask.amount.unwrap_or(left);
    if amount < 1 || amount > left {
        return Ok(Asked::TooMuch(left));
    }
    let (count, last): (i64, Option<i64>) = sqlx::query_as(
        "SELECT COUNT(*), MAX(send_at) FROM refunds \
         WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
    )
    .bind(ask.order.app_id)
    .bind(ask.order.mch_id)
    .bind(ask.order.number)
    .fetch_one(&mut *db)
    .await?;
    if count >= MOST {
        return Ok(Asked::TooMany);
    }
    let is_held = ask.approve_above.is_some_and(|most| amount > most);
    let row = RefundRow {
        app_id: order.app_id.clone(),
        mch_id: order.mch_id.clone(),
        out_refund_no: ask.out_refund_no.to_owned(),
        out_trade_no: order.out_trade_no.clone(),
        transaction_id: transaction_id.clone(),
        state: match is_held {
            true => RefundState::Held,
            false => RefundState::Asked,
        }
        .as_str()
        .to_owned(),
        amount,
        total: order.total,
        reason: ask.reason.map(str::to_owned),
        refund_id: None,
        error: None,
        asked_by: ask.asked_by.to_owned(),
        created_at: now_ms,
        ended_at: None,
        looks: 0,
    };
    let send_at = last.map_or(now_ms, |last| now_ms.max(last + millis(GAP)));
    insert(db, &row, send_at).await?;
    Ok(Asked::New(Box::new(row)))
}

/// Gives a payment back that came for an order which was paid already.
pub(super) async fn give_back(
    db: &mut AnyConnection,
    order: &OrderRow,
    payment: Payment<'_>,
    now_ms: i64,
) -> Result<(), DbError> {
    let row = RefundRow {
        app_id: order.app_id.clone(),
        mch_id: order.mch_id.clone(),
        out_refund_no: format!("again-{}", payment.transaction_id),
        out_trade_no: order.out_trade_no.clone(),
        transaction_id: payment.transaction_id.to_owned(),
        state: RefundState::Asked.as_str().to_owned(),
        amount: payment.total,
        total: payment.total,
        reason: Some("重复支付".to_owned()),
        refund_id: None,
        error: None,
        asked_by: "host".to_owned(),
        created_at: now_ms,
        ended_at: None,
        looks: 0,
    };
    insert(db, &row, now_ms).await
}

/// Adds a refund: its money moves to a book of its own.
async fn insert(db: &mut AnyConnection, row: &RefundRow, send_at: i64) -> Result<(), DbError> {
    let due_at = (row.state() == RefundState::Asked).then_some(send_at);
    sqlx::query(
        "INSERT INTO refunds (app_id, mch_id, out_refund_no, out_trade_no, transaction_id, state, \
         amount, total, reason, asked_by, created_at, send_at, due_at, looks) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0)",
    )
    .bind(&row.app_id)
    .bind(&row.mch_id)
    .bind(&row.out_refund_no)
    .bind(&row.out_trade_no)
    .bind(&row.transaction_id)
    .bind(&row.state)
    .bind(row.amount)
    .bind(row.total)
    .bind(&row.reason)
    .bind(&row.asked_by)
    .bind(row.created_at)
    .bind(send_at)
    .bind(due_at)
    .execute(&mut *db)
    .await?;
    let books = (&*row.app_id, &*row.mch_id);
    let movement = Movement::refund_asked(&row.out_trade_no, &row.out_refund_no, row.amount);
    if books::make(db, books, &movement, row.created_at).await? != Moved::Made {
        // The order is locked and its balance was looked at: this can't be.
        return Err(DbError::Failed(sqlx::Error::RowNotFound));
    }
    let subject = refund_book(&row.out_refund_no);
    let turned = Turned {
        subject: &subject,
        from: "",
        to: &row.state,
        cause: &row.asked_by,
    };
    history::add(db, books, turned, row.created_at).await
}

/// What was learnt of a refund.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// Which refund.
    pub number: Number<'a>,
    /// What.
    pub fact: RefundFact,
    /// WeChat's number, where it is told.
    pub refund_id: Option<&'a str>,
    /// How much, fen, where it is told.
    pub amount: Option<i64>,
    /// Why, where something went wrong.
    pub error: Option<&'a str>,
    /// What it was learnt by.
    pub cause: &'a str,
}

/// Writes what was learnt of a refund, in a transaction of its own.
///
/// # Errors
/// The database failed: nothing is written.
pub async fn learn(db: &Database, news: News<'_>) -> Result<Applied, DbError> {
    let now_ms = db.now_ms();
    let mut transaction = db.begin().await?;
    let applied = apply(transaction.connection(), news, now_ms).await?;
    if applied == Applied::Turned {
        transaction.commit().await?;
    }
    Ok(applied)
}

/// Writes what was learnt of a refund: it turns, its money moves, the plugin's event is there.
pub(super) async fn apply(
    db: &mut AnyConnection,
    news: News<'_>,
    now_ms: i64,
) -> Result<Applied, DbError> {
    let unknown = || {
        let said = format!("there is no refund {}", news.number.number);
        Applied::Flagged("unknown-refund", said)
    };
    // Read once to learn whose order is to be locked, and again under the lock.
    let Some(found) = find_in(db, news.number).await? else {
        return Ok(unknown());
    };
    orders::lock(db, found.order()).await?;
    let Some(refund) = find_in(db, news.number).await? else {
        return Ok(unknown());
    };
    if let Some(theirs) = news.amount.filter(|amount| *amount != refund.amount) {
        let said = format!(
            "the refund is of {} fen, WeChat's of {theirs}",
            refund.amount
        );
        return Ok(Applied::Flagged("wrong-amount", said));
    }
    let from = refund.state();
    let to = match from.on(news.fact) {
        Turn::To(to) => to,
        Turn::Stays => return Ok(Applied::Before),
        Turn::Contradicts => {
            let said = format!(
                "it is {} here, and {:?} by WeChat",
                from.as_str(),
                news.fact
            );
            return Ok(Applied::Flagged("contradiction", said));
        }
    };
    turn(db, &refund, (to, news), now_ms).await?;
    Ok(Applied::Turned)
}

async fn turn(
    db: &mut AnyConnection,
    refund: &RefundRow,
    (to, news): (RefundState, News<'_>),
    now_ms: i64,
) -> Result<(), DbError> {
    let (no, amount) = (&*refund.out_refund_no, refund.amount);
    let (movement, event) = match to {
        RefundState::Succeeded => (Some(Movement::refunded(no, amount)), Some("refunded")),
        RefundState::Failed => (
            Some(Movement::refund_failed(&refund.out_trade_no, no, amount)),
            Some("refund-failed"),
        ),
        RefundState::Abnormal => (None, Some("refund-failed")),
        RefundState::Held | RefundState::Asked | RefundState::Processing => (None, None),
    };
    let books = (&*refund.app_id, &*refund.mch_id);
    if let Some(movement) = movement {
        books::make(db, books, &movement, now_ms).await?;
    }
    let due_at = match to {
        RefundState::Asked => Some(now_ms),
        RefundState::Processing | RefundState::Abnormal => Some(next_look(now_ms, 0)),
        RefundState::Held | RefundState::Succeeded | RefundState::Failed => None,
    };
    sqlx::query(
        "UPDATE refunds SET state = $4, refund_id = COALESCE($5, refund_id), error = $6, \
         ended_at = $7, looks = 0, lease_owner = NULL, \
         due_at = CASE WHEN $8 < send_at THEN send_at ELSE $8 END, \
         send_at = CASE WHEN $9 THEN 0 ELSE send_at END \
         WHERE app_id = $1 AND mch_id = $2 AND out_refund_no = $3",
    )
    .bind(&refund.app_id)
    .bind(&refund.mch_id)
    .bind(no)
    .bind(to.as_str())
    .bind(news.refund_id)
    .bind(news.error)
    .bind((!to.is_open()).then_some(now_ms))
    .bind(due_at)
    // It was never sent: the order's next refund need not keep a distance from it.
    .bind(news.fact == RefundFact::Rejected)
    .execute(&mut *db)
    .await?;
    let subject = refund_book(no);
    let turned = Turned {
        subject: &subject,
        from: &refund.state,
        to: to.as_str(),
        cause: news.cause,
    };
    history::add(db, books, turned, now_ms).await?;
    if let Some(kind) = event {
        let event = events::NewEvent {
            number: refund.order(),
            id: &format!("{kind}/{}/{no}/{}", refund.mch_id, to.as_str()),
            kind,
            out_refund_no: Some(no),
        };
        events::add(db, event, now_ms).await?;
    }
    Ok(())
}

/// When a refund that WeChat is at is looked at again, after `looks` times: from a minute on, then less and less
/// often, as long as it takes. Unix milliseconds.
pub fn next_look(now_ms: i64, looks: i64) -> i64 {
    let minutes = match looks {
        ..2 => 1,
        2..6 => 5,
        6..20 => 30,
        _ => 360,
    };
    now_ms + minutes * 60_000
}

async fn find_in(db: &mut AnyConnection, number: Number<'_>) -> Result<Option<RefundRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM refunds WHERE app_id = $1 AND mch_id = $2 AND out_refund_no = $3"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(number.app_id)
        .bind(number.mch_id)
        .bind(number.number)
        .fetch_optional(db)
        .await?)
}

/// The refund of that number, if there is one.
///
/// # Errors
/// The database failed.
pub async fn find(db: &Database, number: Number<'_>) -> Result<Option<RefundRow>, DbError> {
    let found = of_number(db, number.app_id, number.number).await?;
    Ok(found
        .into_iter()
        .find(|refund| refund.mch_id == number.mch_id))
}

/// The refunds of an account of this number: one for each merchant that has it.
///
/// # Errors
/// The database failed.
pub async fn of_number(
    db: &Database,
    app_id: &str,
    out_refund_no: &str,
) -> Result<Vec<RefundRow>, DbError> {
    let statement =
        format!("SELECT {COLUMNS} FROM refunds WHERE app_id = $1 AND out_refund_no = $2 LIMIT 16");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(out_refund_no)
        .fetch_all(&db.readers)
        .await?)
}

/// The refunds of an order, oldest first.
///
/// # Errors
/// The database failed.
pub async fn of_order(db: &Database, order: Number<'_>) -> Result<Vec<RefundRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM refunds WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3 \
         ORDER BY created_at, out_refund_no"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(order.app_id)
        .bind(order.mch_id)
        .bind(order.number)
        .fetch_all(&db.readers)
        .await?)
}

/// The newest refunds of an account in a state, or in all, made before a time.
///
/// # Errors
/// The database failed.
pub async fn list(
    db: &Database,
    (app_id, state): (&str, Option<&str>),
    (before_ms, limit): (i64, u32),
) -> Result<Vec<RefundRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM refunds WHERE app_id = $1 AND ($2 = '' OR state = $2) \
         AND created_at < $3 ORDER BY created_at DESC, out_refund_no LIMIT $4"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(state.unwrap_or_default())
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}

/// Leases refunds that are to be sent or asked about, `most` at most.
///
/// # Errors
/// The database failed.
pub async fn lease(db: &Database, lease: Lease<'_>, most: u32) -> Result<Vec<RefundRow>, DbError> {
    let statement = format!(
        "UPDATE refunds SET lease_owner = $1, due_at = $2, looks = looks + 1 \
         WHERE (app_id, mch_id, out_refund_no) IN (SELECT app_id, mch_id, out_refund_no \
         FROM refunds WHERE due_at <= $3 ORDER BY due_at LIMIT $4 {}) RETURNING {COLUMNS}",
        skip_locked(db.dialect())
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(lease.now_ms)
        .bind(i64::from(most))
        .fetch_all(&db.writers)
        .await?)
}

/// Gives a refund back that was leased, to be looked at again at `due_at`; why it waits.
///
/// # Errors
/// The database failed.
pub async fn release(
    db: &Database,
    number: Number<'_>,
    (owner, due_at, error): (&str, i64, Option<&str>),
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE refunds SET due_at = $5, error = $6, lease_owner = NULL WHERE app_id = $1 \
         AND mch_id = $2 AND out_refund_no = $3 AND lease_owner = $4",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .bind(owner)
    .bind(due_at)
    .bind(error)
    .execute(&db.writers)
    .await?;
    Ok(())
}
