//! What WeChat Pay says, compared with whom it is said to. What does not agree is not believed.

use wxhost_wechat::pay::{Refund, RefundStatus, Transaction};

use crate::db::ledger::Number;
use crate::db::ledger::payments::Payment;
use crate::db::ledger::refunds::News;
use crate::ledger::RefundFact;
use crate::merchants::Binding;

/// Why something is not believed: a stable word, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {why}")]
pub struct Unbelievable {
    /// The word.
    pub code: &'static str,
    /// What is wrong.
    pub why: String,
}

fn unbelievable(code: &'static str, why: String) -> Unbelievable {
    Unbelievable { code, why }
}

/// A payment that is believed, as far as it can be without the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    app_id: String,
    mch_id: String,
    out_trade_no: String,
    transaction_id: String,
    total: i64,
    payer_total: Option<i64>,
    open_id: Option<String>,
    paid_at: i64,
}

impl Believed {
    /// As it is written.
    pub fn as_row(&self) -> Payment<'_> {
        Payment {
            number: Number {
                app_id: &self.app_id,
                mch_id: &self.mch_id,
                number: &self.out_trade_no,
            },
            transaction_id: &self.transaction_id,
            total: self.total,
            payer_total: self.payer_total,
            open_id: self.open_id.as_deref(),
            paid_at: self.paid_at,
        }
    }
}

/// The payment that a transaction tells of, at this account and merchant.
///
/// # Errors
/// It is another account's, another merchant's, of another currency, or not whole.
pub fn payment(
    binding: &Binding,
    app_id: &str,
    told: &Transaction,
) -> Result<Believed, Unbelievable> {
    let seller = &binding.seller;
    if told.mch_id != seller.mch_id.as_str() {
        let why = format!("it is of the merchant {:?}", told.mch_id);
        return Err(unbelievable("wrong-merchant", why));
    }
    let sub = seller.sub.as_ref().map(|sub| sub.mch_id.as_str());
    if told.sub_mch_id.as_deref() != sub {
        let why = format!("it is of the sub-merchant {:?}", told.sub_mch_id);
        return Err(unbelievable("wrong-merchant", why));
    }
    if told.app_id != seller.app_id.as_str() {
        let why = format!("it is of the app id {:?}", told.app_id);
        return Err(unbelievable("wrong-app", why));
    }
    if told
        .currency
        .as_deref()
        .is_some_and(|currency| currency != "CNY")
    {
        let why = format!("it is in {:?}", told.currency);
        return Err(unbelievable("wrong-currency", why));
    }
    let (Some(transaction_id), Some(total), Some(paid_at)) =
        (&told.transaction_id, told.total, told.success_time_s)
    else {
        let why = "it lacks its transaction_id, total or success_time".to_owned();
        return Err(unbelievable("incomplete", why));
    };
    Ok(Believed {
        app_id: app_id.to_owned(),
        mch_id: told.mch_id.clone(),
        out_trade_no: told.out_trade_no.clone(),
        transaction_id: transaction_id.clone(),
        total: total.get(),
        payer_total: told.payer_total.map(|total| total.get()),
        open_id: told.payer_open_id.clone(),
        paid_at: paid_at.saturating_mul(1000),
    })
}

/// What a refund's status means; None for one that nobody knows.
pub fn refund_fact(status: &RefundStatus) -> Option<RefundFact> {
    match status {
        RefundStatus::Success => Some(RefundFact::Succeeded),
        RefundStatus::Processing => Some(RefundFact::Taken),
        RefundStatus::Abnormal => Some(RefundFact::Abnormal),
        RefundStatus::Closed => Some(RefundFact::Closed),
        RefundStatus::Other(_) => None,
    }
}

/// What WeChat Pay says of a refund, as it is written.
///
/// # Errors
/// It is another merchant's, or of a status that nobody knows.
pub fn refund_news<'a>(
    binding: &'a Binding,
    app_id: &'a str,
    (told, cause): (&'a Refund, &'a str),
) -> Result<News<'a>, Unbelievable> {
    let seller = &binding.seller;
    let mch_id = seller.mch_id.as_str();
    if told.mch_id.as_deref().is_some_and(|told| told != mch_id) {
        let why = format!("it is of the merchant {:?}", told.mch_id);
        return Err(unbelievable("wrong-merchant", why));
    }
    let sub = seller.sub.as_ref().map(|sub| sub.mch_id.as_str());
    if told.sub_mch_id.is_some() && told.sub_mch_id.as_deref() != sub {
        let why = format!("it is of the sub-merchant {:?}", told.sub_mch_id);
        return Err(unbelievable("wrong-merchant", why));
    }
    let Some(fact) = refund_fact(&told.status) else {
        let why = format!("its status is {:?}", told.status);
        return Err(unbelievable("unknown-status", why));
    };
    let error = match fact {
        RefundFact::Abnormal => Some("the payer's card or account does not take the money"),
        RefundFact::Closed => Some("wechat pay closed it"),
        _ => None,
    };
    Ok(News {
        number: Number {
            app_id,
            mch_id: binding.merchant.mch_id.as_str(),
            number: &told.out_refund_no,
        },
        fact,
        refund_id: Some(&told.refund_id),
        amount: Some(told.refund.get()),
        error,
        cause,
    })
}
