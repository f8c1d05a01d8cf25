//! What is to be paid for.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::super::authorisations::skip_locked;
use super::super::{Database, DbError, Lease};
use super::history::{self, Turned};
use super::{Number, events};
use crate::ledger::{OrderFact, OrderState, Turn, order_book};

/// A row of `orders`, and what was refunded of it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct OrderRow {
    /// The account.
    pub app_id: String,
    /// The merchant.
    pub mch_id: String,
    /// Its number.
    pub out_trade_no: String,
    /// A word of [`OrderState`].
    pub state: String,
    /// JSON: where it is paid.
    pub scene: String,
    /// Who is to pay, or has.
    pub open_id: Option<String>,
    /// What the payer sees.
    pub description: String,
    /// Fen.
    pub total: i64,
    /// Comes back with it.
    pub attach: Option<String>,
    /// Tells a repetition from another order.
    pub request_digest: String,
    /// What WeChat gave for it: an id or an address.
    pub prepay: Option<String>,
    /// When it gave that, Unix milliseconds.
    pub prepaid_at: Option<i64>,
    /// WeChat's number of the payment.
    pub transaction_id: Option<String>,
    /// What the payer has paid after discounts, fen.
    pub payer_total: Option<i64>,
    /// Unix milliseconds, by WeChat.
    pub paid_at: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// 1 where it is to be closed.
    pub is_closing: Option<i64>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// How often WeChat was asked about it.
    pub looks: i64,
    /// Given back or on its way back, fen.
    pub refunded: i64,
}

impl OrderRow {
    /// Where it stands.
    pub fn state(&self) -> OrderState {
        // A word that only a newer host knows is nothing that can be paid here.
        OrderState::of(&self.state).unwrap_or(OrderState::Failed)
    }

    /// What names it.
    pub fn number(&self) -> Number<'_> {
        Number {
            app_id: &self.app_id,
            mch_id: &self.mch_id,
            number: &self.out_trade_no,
        }
    }
}

const COLUMNS: &str = "app_id, mch_id, out_trade_no, state, scene, open_id, description, total, \
     attach, request_digest, prepay, prepaid_at, transaction_id, payer_total, paid_at, error, \
     is_closing, created_at, expires_at, looks, \
     CAST(COALESCE((SELECT SUM(amount) FROM refunds WHERE refunds.app_id = orders.app_id \
     AND refunds.mch_id = orders.mch_id AND refunds.out_trade_no = orders.out_trade_no \
     AND refunds.state <> 'failed'), 0) AS BIGINT) AS refunded";

/// What people may spend at an account, fen; nothing limits what is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// In orders of one person since `day_began_at`.
    pub person_day: Option<i64>,
    /// In all orders since then.
    pub day: Option<i64>,
    /// Unix milliseconds.
    pub day_began_at: i64,
}

/// What became of a new order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is written.
    New,
    /// There was one of this number.
    Before(Box<OrderRow>),
    /// It is over the limit of this name, and of this value.
    Over(&'static str, i64),
}

/// Writes an order, unless there is one of its number.
///
/// # Errors
/// The database failed; whether it was written is unknown then.
pub async fn keep(db: &Database, row: &OrderRow, limits: Limits) -> Result<Kept, DbError> {
    let mut transaction = db.begin().await?;
    let kept = sqlx::query(
        "INSERT INTO orders (app_id, mch_id, out_trade_no, state, scene, open_id, description, \
         total, attach, request_digest, created_at, expires_at, due_at, looks) \
         VALUES ($1, $2, $3, 'new', $4, $5, $6, $7, $8, $9, $10, $11, $12, 0) \
         ON CONFLICT (app_id, mch_id, out_trade_no) DO NOTHING",
    )
    .bind(&row.app_id)
    .bind(&row.mch_id)
    .bind(&row.out_trade_no)
    .bind(&row.scene)
    .bind(&row.open_id)
    .bind(&row.description)
    .bind(row.total)
    .bind(&row.attach)
    .bind(&row.request_digest)
    .bind(row.created_at)
    .bind(row.expires_at)
    .bind(super::payments::due_at(row.created_at, row.expires_at, 0))
    .execute(transaction.connection())
    .await?;
    if kept.rows_affected() == 0 {
        let before = find_in(transaction.connection(), row.number()).await?;
        let before = before.ok_or_else(|| DbError::Failed(sqlx::Error::RowNotFound))?;
        return Ok(Kept::Before(Box::new(before)));
    }
    if let Some((name, most)) = over(transaction.connection(), row, limits).await? {
        return Ok(Kept::Over(name, most));
    }
    let subject = order_book(&row.out_trade_no);
    let turned = Turned {
        subject: &subject,
        from: "",
        to: OrderState::New.as_str(),
        cause: "made",
    };
    let books = (&*row.app_id, &*row.mch_id);
    history::add(transaction.connection(), books, turned, row.created_at).await?;
    transaction.commit().await?;
    Ok(Kept::New)
}

/// Which limit the order is over, which is written already.
async fn over(
    db: &mut AnyConnection,
    row: &OrderRow,
    limits: Limits,
) -> Result<Option<(&'static str, i64)>, DbError> {
    const SUM: &str = "SELECT CAST(COALESCE(SUM(total), 0) AS BIGINT) FROM orders \
         WHERE app_id = $1 AND created_at >= $2 AND state IN ('new', 'unpaid', 'paid')";
    if let Some(most) = limits.day {
        let (sum,): (i64,) = sqlx::query_as(SUM)
            .bind(&row.app_id)
            .bind(limits.day_began_at)
            .fetch_one(&mut *db)
            .await?;
        if sum > most {
            return Ok(Some(("day_fen", most)));
        }
    }
    if let (Some(most), Some(open_id)) = (limits.person_day, &row.open_id) {
        let statement = format!("{SUM} AND open_id = $3");
        let (sum,): (i64,) = sqlx::query_as(AssertSqlSafe(statement))
            .bind(&row.app_id)
            .bind(limits.day_began_at)
            .bind(open_id)
            .fetch_one(&mut *db)
            .await?;
        if sum > most {
            return Ok(Some(("person_day_fen", most)));
        }
    }
    Ok(None)
}

/// Locks an order until the transaction ends, and reads it.
pub(in crate::db) async fn lock(
    db: &mut AnyConnection,
    number: Number<'_>,
) -> Result<Option<OrderRow>, DbError> {
    let locked = sqlx::query(
        "UPDATE orders SET looks = looks WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .execute(&mut *db)
    .await?;
    match locked.rows_affected() {
        0 => Ok(None),
        _ => find_in(db, number).await,
    }
}

async fn find_in(db: &mut AnyConnection, number: Number<'_>) -> Result<Option<OrderRow>, DbError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM orders WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(number.app_id)
        .bind(number.mch_id)
        .bind(number.number)
        .fetch_optional(db)
        .await?)
}

/// The orders of an account of this number: one for each merchant that has it.
///
/// # Errors
/// The database failed.
pub async fn of_number(
    db: &Database,
    app_id: &str,
    out_trade_no: &str,
) -> Result<Vec<OrderRow>, DbError> {
    let statement =
        format!("SELECT {COLUMNS} FROM orders WHERE app_id = $1 AND out_trade_no = $2 LIMIT 16");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(out_trade_no)
        .fetch_all(&db.readers)
        .await?)
}

/// Which account an order of a merchant is of.
///
/// # Errors
/// The database failed.
pub async fn account_of(
    db: &Database,
    (mch_id, out_trade_no): (&str, &str),
) -> Result<Option<String>, DbError> {
    let found: Option<(String,)> = sqlx::query_as(
        "SELECT orders.app_id FROM account_merchants JOIN orders USING (app_id, mch_id) \
         WHERE mch_id = $1 AND out_trade_no = $2",
    )
    .bind(mch_id)
    .bind(out_trade_no)
    .fetch_optional(&db.readers)
    .await?;
    Ok(found.map(|(app_id,)| app_id))
}

/// The newest orders of an account, of one person's or in one state if that is given, made before a time.
///
/// # Errors
/// The database failed.
pub async fn list(
    db: &Database,
    (app_id, open_id, state): (&str, Option<&str>, Option<&str>),
    (before_ms, limit): (i64, u32),
) -> Result<Vec<OrderRow>, DbError> {
    let person = match open_id {
        Some(_) => "open_id = $2",
        None => "$2 = ''",
    };
    let statement = format!(
        "SELECT {COLUMNS} FROM orders WHERE app_id = $1 AND {person} AND ($3 = '' OR state = $3) \
         AND created_at < $4 ORDER BY created_at DESC, out_trade_no LIMIT $5"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(open_id.unwrap_or_default())
        .bind(state.unwrap_or_default())
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}

/// What was learnt of an order otherwise than by a payment.
#[derive(Clone, Copy, Debug)]
pub enum Learnt<'a> {
    /// WeChat took it and gave this for it.
    Taken(&'a str),
    /// WeChat refused it: why.
    Refused(&'a str),
    /// It is closed.
    Closed,
}

/// Writes what was learnt of an order; the order as it is then, if there is one.
///
/// # Errors
/// The database failed.
pub async fn learn(
    db: &Database,
    number: Number<'_>,
    (learnt, cause): (Learnt<'_>, &str),
) -> Result<Option<OrderRow>, DbError> {
    let now_ms = db.now_ms();
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let Some(order) = lock(connection, number).await? else {
        return Ok(None);
    };
    let fact = match learnt {
        Learnt::Taken(_) => OrderFact::Taken,
        Learnt::Refused(_) => OrderFact::Refused,
        Learnt::Closed => OrderFact::Closed,
    };
    let from = order.state();
    let turn = from.on(fact);
    if let Turn::To(to) = turn {
        turn_to(connection, &order, to, cause, now_ms).await?;
    }
    let state = match turn {
        Turn::To(to) => to,
        Turn::Stays | Turn::Contradicts => from,
    };
    match learnt {
        // Another invocation of an order that is known: the newest is good.
        Learnt::Taken(prepay) if state == OrderState::Unpaid => {
            set_prepay(connection, number, prepay, now_ms).await?;
        }
        Learnt::Refused(error) if matches!(turn, Turn::To(_)) => {
            sqlx::query(
                "UPDATE orders SET error = $4, due_at = NULL \
                 WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
            )
            .bind(number.app_id)
            .bind(number.mch_id)
            .bind(number.number)
            .bind(error)
            .execute(&mut *connection)
            .await?;
        }
        Learnt::Closed if matches!(turn, Turn::To(_)) => {
            end_looks(connection, number).await?;
            let event = events::NewEvent {
                number,
                id: &format!("closed/{}/{}", number.mch_id, number.number),
                kind: "closed",
                out_refund_no: None,
            };
            events::add(connection, event, now_ms).await?;
        }
        Learnt::Taken(_) | Learnt::Refused(_) | Learnt::Closed => {}
    }
    let order = find_in(connection, number).await?;
    transaction.commit().await?;
    Ok(order)
}

async fn set_prepay(
    db: &mut AnyConnection,
    number: Number<'_>,
    prepay: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE orders SET prepay = $4, prepaid_at = $5, error = NULL \
         WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .bind(prepay)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Turns an order that is locked, and writes that into its history.
pub(super) async fn turn_to(
    db: &mut AnyConnection,
    order: &OrderRow,
    to: OrderState,
    cause: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE orders SET state = $4 WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
    )
    .bind(&order.app_id)
    .bind(&order.mch_id)
    .bind(&order.out_trade_no)
    .bind(to.as_str())
    .execute(&mut *db)
    .await?;
    let subject = order_book(&order.out_trade_no);
    let turned = Turned {
        subject: &subject,
        from: &order.state,
        to: to.as_str(),
        cause,
    };
    history::add(db, (&order.app_id, &order.mch_id), turned, now_ms).await
}

/// Nobody has to ask about it any more.
pub(super) async fn end_looks(db: &mut AnyConnection, number: Number<'_>) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE orders SET due_at = NULL, is_closing = NULL, lease_owner = NULL \
         WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .execute(db)
    .await?;
    Ok(())
}

/// Asks for an order to be closed, if it can still be paid; tells whether it can.
pub(in crate::db) async fn ask_to_close(
    db: &mut AnyConnection,
    number: Number<'_>,
    now_ms: i64,
) -> Result<bool, DbError> {
    let asked = sqlx::query(
        "UPDATE orders SET is_closing = 1, due_at = $4, lease_owner = NULL \
         WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3 AND state IN ('new', 'unpaid')",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(asked.rows_affected() == 1)
}

/// The same in a transaction of its own.
///
/// # Errors
/// The database failed.
pub async fn close(db: &Database, number: Number<'_>) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let asked = ask_to_close(transaction.connection(), number, db.now_ms()).await?;
    transaction.commit().await?;
    Ok(asked)
}

/// Leases orders that WeChat is to be asked about, `most` at most.
///
/// # Errors
/// The database failed.
pub async fn lease(db: &Database, lease: Lease<'_>, most: u32) -> Result<Vec<OrderRow>, DbError> {
    let statement = format!(
        "UPDATE orders SET lease_owner = $1, due_at = $2, looks = looks + 1 \
         WHERE (app_id, mch_id, out_trade_no) IN (SELECT app_id, mch_id, out_trade_no FROM orders \
         WHERE due_at <= $3 ORDER BY due_at LIMIT $4 {}) RETURNING {COLUMNS}",
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

/// Gives an order back that was leased, to be asked about again at `due_at`.
///
/// # Errors
/// The database failed.
pub async fn release(
    db: &Database,
    number: Number<'_>,
    (owner, due_at): (&str, i64),
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE orders SET due_at = $5, lease_owner = NULL WHERE app_id = $1 AND mch_id = $2 \
         AND out_trade_no = $3 AND lease_owner = $4",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .bind(owner)
    .bind(due_at)
    .execute(&db.writers)
    .await?;
    Ok(())
}
