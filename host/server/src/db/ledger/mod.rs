//! The ledger: orders and refunds, the books that money moves between, every turn of theirs, what WeChat Pay has
//! told, and the events that follow for plugins. The rules are `crate::ledger`'s; here they are applied, each turn
//! with all that belongs to it in one transaction.
//!
//! Whoever turns an order, or a refund of it, locks the order's row first (`orders::lock`): turns of one order
//! come one after the other, whichever hosts they come from.

use sqlx::AnyConnection;

mod books;
pub mod events;
#[cfg(test)]
mod histories;
mod history;
pub mod notices;
pub mod orders;
pub mod payments;
pub mod refunds;
#[cfg(test)]
mod tests;

pub use self::books::{Balances, balances};
pub use self::history::{Line, history};
use super::DbError;

/// What names an order or a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The merchant.
    pub mch_id: &'a str,
    /// The out_trade_no or out_refund_no.
    pub number: &'a str,
}

/// What an event does with money, committed with its other effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoneyWrite {
    /// Money of an order goes back.
    Refund {
        /// The merchant.
        mch_id: String,
        /// Names the refund.
        out_refund_no: String,
        /// The order.
        out_trade_no: String,
        /// Fen; all that is left if absent.
        amount: Option<i64>,
        /// What the payer is told.
        reason: Option<String>,
        /// Who asks.
        asked_by: String,
        /// Above so many fen somebody has to approve it.
        approve_above: Option<i64>,
    },
    /// An order can't be paid any more.
    Close {
        /// The merchant.
        mch_id: String,
        /// The order.
        out_trade_no: String,
    },
}

impl MoneyWrite {
    /// Writes it, or says why it can't be.
    pub(super) async fn apply(
        &self,
        db: &mut AnyConnection,
        app_id: &str,
        now_ms: i64,
    ) -> Result<Result<(), String>, DbError> {
        match self {
            Self::Refund {
                mch_id,
                out_refund_no,
                out_trade_no,
                amount,
                reason,
                asked_by,
                approve_above,
            } => {
                let ask = refunds::Ask {
                    order: Number {
                        app_id,
                        mch_id,
                        number: out_trade_no,
                    },
                    out_refund_no,
                    amount: *amount,
                    reason: reason.as_deref(),
                    asked_by,
                    approve_above: *approve_above,
                };
                let asked = refunds::ask_in(db, &ask, now_ms).await?;
                Ok(asked.refusal().map_or(Ok(()), |(code, why)| {
                    Err(format!("refund {out_refund_no}: {code}: {why}"))
                }))
            }
            Self::Close {
                mch_id,
                out_trade_no,
            } => {
                let number = Number {
                    app_id,
                    mch_id,
                    number: out_trade_no,
                };
                // One that is paid or closed stays so.
                orders::ask_to_close(db, number, now_ms).await?;
                Ok(Ok(()))
            }
        }
    }
}

/// What became of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Something turned.
    Turned,
    /// It was known, or overtaken.
    Before,
    /// It contradicts the ledger: a stable word, and what is wrong. Nothing was written.
    Flagged(&'static str, String),
}
