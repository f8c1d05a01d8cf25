//! Books, and what moves between them.

/// The world outside: everybody who pays. It has no balance of its own.
pub const PAYERS: &str = "payers";

/// What is there of an order: what was paid and neither given back nor on its way back.
pub fn order_book(out_trade_no: &str) -> String {
    format!("order/{out_trade_no}")
}

/// What is on its way back.
pub fn refund_book(out_refund_no: &str) -> String {
    format!("refund/{out_refund_no}")
}

/// A transfer between two books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Names it: a movement is made once.
    pub reference: String,
    /// Where it comes from.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Fen, 1 at least.
    pub amount: i64,
}

impl Movement {
    /// Somebody has paid.
    pub fn paid(out_trade_no: &str, transaction_id: &str, amount: i64) -> Self {
        Self {
            reference: format!("paid/{transaction_id}"),
            from: PAYERS.to_owned(),
            to: order_book(out_trade_no),
            amount,
        }
    }

    /// A refund is to be made: what it takes is nobody else's from now on.
    pub fn refund_asked(out_trade_no: &str, out_refund_no: &str, amount: i64) -> Self {
        Self {
            reference: format!("refund-asked/{out_refund_no}"),
            from: order_book(out_trade_no),
            to: refund_book(out_refund_no),
            amount,
        }
    }

    /// The payer has it back.
    pub fn refunded(out_refund_no: &str, amount: i64) -> Self {
        Self {
            reference: format!("refunded/{out_refund_no}"),
            from: refund_book(out_refund_no),
            to: PAYERS.to_owned(),
            amount,
        }
    }

    /// A refund came to nothing.
    pub fn refund_failed(out_trade_no: &str, out_refund_no: &str, amount: i64) -> Self {
        Self {
            reference: format!("refund-failed/{out_refund_no}"),
            from: refund_book(out_refund_no),
            to: order_book(out_trade_no),
            amount,
        }
    }
}
