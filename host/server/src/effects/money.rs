//! Effects that move money, or end that it can be moved. Whether the account may, and at which merchant, is looked up
//! when they are committed.

use wxhost_runtime::effects::RefundRequest;
use wxhost_wechat::pay::{Fen, OutRefundNo, OutTradeNo};

use super::said;

/// Characters of what a payer is told.
const MAX_REASON: usize = 80;

/// Something that is to be done with money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoneyStep {
    /// Money of an order goes back.
    Refund {
        /// Names the refund.
        out_refund_no: String,
        /// The order.
        out_trade_no: String,
        /// Fen; all that is left if absent.
        amount: Option<i64>,
        /// What the payer is told.
        reason: Option<String>,
    },
    /// An order can't be paid any more.
    Close {
        /// The order.
        out_trade_no: String,
    },
}

impl MoneyStep {
    /// The order that it is about.
    pub fn out_trade_no(&self) -> &str {
        match self {
            Self::Refund { out_trade_no, .. } | Self::Close { out_trade_no } => out_trade_no,
        }
    }
}

pub(super) fn refund(request: RefundRequest) -> Result<MoneyStep, String> {
    OutTradeNo::parse(&request.out_trade_no).map_err(said)?;
    OutRefundNo::parse(&request.out_refund_no).map_err(said)?;
    let amount = request
        .amount
        .map(|fen| i64::try_from(fen).unwrap_or(i64::MAX));
    let amount = amount.map(Fen::parse_positive).transpose().map_err(said)?;
    let reason = request.reason.as_deref().unwrap_or_default();
    if reason.chars().count() > MAX_REASON {
        return Err(format!("a reason has at most {MAX_REASON} characters"));
    }
    Ok(MoneyStep::Refund {
        out_refund_no: request.out_refund_no,
        out_trade_no: request.out_trade_no,
        amount: amount.map(Fen::get),
        reason: request.reason,
    })
}

pub(super) fn close(out_trade_no: String) -> Result<MoneyStep, String> {
    OutTradeNo::parse(&out_trade_no).map_err(said)?;
    Ok(MoneyStep::Close { out_trade_no })
}
