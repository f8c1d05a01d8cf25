//! Somebody has paid.

use std::time::Duration;

use sqlx::AnyConnection;

use super::super::{Database, DbError};
use super::books::{self, Moved};
use super::{Applied, Number, events, orders, refunds};
use crate::clock::millis;
use crate::ledger::{Movement, OrderFact, Turn};

/// How long after it was made WeChat is asked about an order that nobody has heard of: the rhythm of WeChat Pay's
/// documents. After that, when its time is over.
const RHYTHM: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(180),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(1800),
];

/// When WeChat is to be asked about an order, after `looks` times. Unix milliseconds.
pub fn due_at(created_at: i64, expires_at: i64, looks: i64) -> i64 {
    let pause = usize::try_from(looks)
        .ok()
        .and_then(|looks| RHYTHM.get(looks));
    pause.map_or(expires_at, |pause| {
        (created_at + millis(*pause)).min(expires_at)
    })
}

/// A payment, as WeChat Pay tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Payment<'a> {
    /// The order.
    pub number: Number<'a>,
    /// WeChat's number.
    pub transaction_id: &'a str,
    /// What the order came to, fen.
    pub total: i64,
    /// What the payer has paid, after discounts.
    pub payer_total: Option<i64>,
    /// Who has paid.
    pub open_id: Option<&'a str>,
    /// When, Unix milliseconds.
    pub paid_at: i64,
}

/// Writes a payment, in a transaction of its own.
///
/// # Errors
/// The database failed: nothing is written.
pub async fn pay(db: &Database, payment: Payment<'_>, cause: &str) -> Result<Applied, DbError> {
    let now_ms = db.now_ms();
    let mut transaction = db.begin().await?;
    let applied = apply(transaction.connection(), payment, cause, now_ms).await?;
    if applied == Applied::Turned {
        transaction.commit().await?;
    }
    Ok(applied)
}

/// Writes a payment: the order turns, the money moves, the plugin's event is there.
pub(super) async fn apply(
    db: &mut AnyConnection,
    payment: Payment<'_>,
    cause: &str,
    now_ms: i64,
) -> Result<Applied, DbError> {
    let number = payment.number;
    let Some(order) = orders::lock(db, number).await? else {
        let said = format!("there is no order {}", number.number);
        return Ok(Applied::Flagged("unknown-order", said));
    };
    if order.total != payment.total {
        let (ours, theirs) = (order.total, payment.total);
        let said = format!("the order is of {ours} fen, the payment of {theirs}");
        return Ok(Applied::Flagged("wrong-amount", said));
    }
    let books = (number.app_id, number.mch_id);
    let movement = Movement::paid(number.number, payment.transaction_id, payment.total);
    if books::make(db, books, &movement, now_ms).await? == Moved::Before {
        return Ok(Applied::Before);
    }
    let Turn::To(to) = order.state().on(OrderFact::Paid) else {
        // It was paid by another transaction: the second payment goes back.
        refunds::give_back(db, &order, payment, now_ms).await?;
        return Ok(Applied::Turned);
    };
    orders::turn_to(db, &order, to, cause, now_ms).await?;
    sqlx::query(
        "UPDATE orders SET transaction_id = $4, payer_total = $5, paid_at = $6, \
         open_id = COALESCE($7, open_id), error = NULL \
         WHERE app_id = $1 AND mch_id = $2 AND out_trade_no = $3",
    )
    .bind(number.app_id)
    .bind(number.mch_id)
    .bind(number.number)
    .bind(payment.transaction_id)
    .bind(payment.payer_total)
    .bind(payment.paid_at)
    .bind(payment.open_id)
    .execute(&mut *db)
    .await?;
    orders::end_looks(db, number).await?;
    let event = events::NewEvent {
        number,
        id: &format!("paid/{}", payment.transaction_id),
        kind: "paid",
        out_refund_no: None,
    };
    events::add(db, event, now_ms).await?;
    Ok(Applied::Turned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wechat_is_asked_in_its_own_rhythm_and_when_the_time_is_over() {
        let asked = |looks| due_at(0, 7_200_000, looks) / 1000;
        let seconds: Vec<_> = (0..9).map(asked).collect();
        assert_eq!(seconds, [5, 30, 60, 180, 300, 600, 1800, 7200, 7200]);
        assert_eq!(due_at(0, 20_000, 1), 20_000);
    }
}
