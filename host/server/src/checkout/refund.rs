//! Money that goes back: asked for by plugins and by tenants' systems, sent and followed by the pay lane.

use tokio::time::Instant;
use wxhost_runtime::MoneyRight;
use wxhost_wechat::id::AppId;
use wxhost_wechat::pay::{Fen, OutRefundNo, PaidBy, PayAdvice, RefundRequest, TransactionId};

use super::{CALL_TIME, Checkout, read_refund, refund_news};
use crate::db::DbError;
use crate::db::ledger::refunds::{self, Ask, Asked, News, RefundRow};
use crate::db::ledger::{Applied, MoneyWrite, Number};
use crate::effects::MoneyStep;
use crate::ledger::{RefundFact, RefundState};
use crate::merchant_client::PayCallError;
use crate::merchants::Binding;

/// Characters of a reason (WeChat Pay's limit).
const MAX_REASON: usize = 80;

/// A refund that somebody asks for.
#[derive(Clone, Debug)]
pub struct NewRefund {
    /// Names it.
    pub out_refund_no: OutRefundNo,
    /// How much; all that is left if absent.
    pub amount: Option<Fen>,
    /// What the payer is told.
    pub reason: Option<String>,
}

/// Why there is no refund.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// The operator lets the account give nothing back at this merchant.
    #[error("the operator grants the account no refunds at this merchant (grants.refunds)")]
    NotGranted,
    /// The ledger does not take it: a stable word, and why.
    #[error("{1}")]
    Refused(&'static str, String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl NewRefund {
    /// Refuses a reason that WeChat Pay would not take.
    pub(crate) fn check(&self) -> Result<(), String> {
        let reason = self.reason.as_deref().unwrap_or_default();
        match reason.chars().count() <= MAX_REASON {
            true => Ok(()),
            false => Err(format!("a reason has at most {MAX_REASON} characters")),
        }
    }

    /// As it is asked of the ledger, if the account may.
    pub(crate) fn as_ask<'a>(
        &'a self,
        binding: &Binding,
        (order, asked_by): (Number<'a>, &'a str),
    ) -> Result<Ask<'a>, RefundError> {
        if !binding.grants.refunds {
            return Err(RefundError::NotGranted);
        }
        self.check()
            .map_err(|why| RefundError::Refused("invalid-refund", why))?;
        Ok(Ask {
            order,
            out_refund_no: self.out_refund_no.as_str(),
            amount: self.amount.map(Fen::get),
            reason: self.reason.as_deref(),
            asked_by,
            approve_above: binding.grants.approve_refunds_above_fen,
        })
    }
}

impl Checkout {
    /// What a plugin's effect does with money, at which merchant, if it may; or why it may not.
    ///
    /// # Errors
    /// The database failed.
    pub async fn resolve(
        &self,
        (app_id, wanted): (&str, &[MoneyRight]),
        step: MoneyStep,
        asked_by: &str,
    ) -> Result<Result<MoneyWrite, String>, DbError> {
        let (right, word) = match step {
            MoneyStep::Refund { .. } => (MoneyRight::Refunds, "refunds"),
            MoneyStep::Close { .. } => (MoneyRight::Orders, "orders"),
        };
        if !wanted.contains(&right) {
            let why = format!("the manifest does not ask for it: [grants] pay = [\"{word}\"]");
            return Ok(Err(why));
        }
        let number = step.out_trade_no();
        let Some(order) = self.order(app_id, (number, None)).await? else {
            return Ok(Err(format!("there is no order {number}")));
        };
        let binding = match self.binding_of(order.number()) {
            Ok(binding) => binding,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mch_id = order.mch_id;
        Ok(match step {
            MoneyStep::Refund { .. } if !binding.grants.refunds => {
                Err(RefundError::NotGranted.to_string())
            }
            MoneyStep::Refund {
                out_refund_no,
                out_trade_no,
                amount,
                reason,
            } => Ok(MoneyWrite::Refund {
                mch_id,
                out_refund_no,
                out_trade_no,
                amount,
                reason,
                asked_by: asked_by.to_owned(),
                approve_above: binding.grants.approve_refunds_above_fen,
            }),
            MoneyStep::Close { out_trade_no } => Ok(MoneyWrite::Close {
                mch_id,
                out_trade_no,
            }),
        })
    }

    /// Has money given back: it is written, and on its way unless somebody has to approve it.
    ///
    /// # Errors
    /// It is not granted, or the ledger does not take it.
    pub async fn refund(
        &self,
        binding: &Binding,
        new: &NewRefund,
        (order, asked_by): (Number<'_>, &str),
    ) -> Result<RefundRow, RefundError> {
        let ask = new.as_ask(binding, (order, asked_by))?;
        let turn = self.turn_at(order).await;
        let asked = refunds::ask(&self.db, &ask).await?;
        drop(turn);
        if let Some((code, why)) = asked.refusal() {
            return Err(RefundError::Refused(code, why));
        }
        self.wake();
        match asked {
            Asked::New(row) | Asked::Before(row) => Ok(*row),
            other => Err(RefundError::Refused("internal-error", format!("{other:?}"))),
        }
    }

    /// Sends a refund, or asks about it, and writes what comes of it; why it waits, if it does.
    ///
    /// # Errors
    /// The database failed.
    pub async fn follow_refund(
        &self,
        binding: &Binding,
        refund: &RefundRow,
    ) -> Result<Option<String>, DbError> {
        let deadline = Instant::now() + CALL_TIME;
        let request = match refund.state() {
            // Sending it again under its number and with its data is how WeChat Pay is asked about it, too.
            RefundState::Asked => request(binding, refund).and_then(|request| {
                let request = request.request();
                request.map_err(|error| error.to_string())
            }),
            _ => OutRefundNo::parse(&refund.out_refund_no)
                .map(|number| binding.seller.query_refund(&number))
                .map_err(|error| error.to_string()),
        };
        let request = match request {
            Ok(request) => request,
            Err(why) => return Ok(Some(why)),
        };
        let body = match self
            .client
            .call(&binding.merchant, &request, deadline)
            .await
        {
            Ok(body) => body,
            Err(PayCallError::Refused(refusal))
                if refusal.advice() == PayAdvice::Never && refund.state() == RefundState::Asked =>
            {
                let why = format!("{}: {}", refusal.code, refusal.message);
                match self.was_never_taken(binding, refund).await {
                    Ok(true) => return self.give_up(refund, &why).await.map(|()| None),
                    Ok(false) => return Ok(Some(why)),
                    Err(unknown) => return Ok(Some(format!("{why}; {unknown}"))),
                }
            }
            Err(error) => return Ok(Some(error.to_string())),
        };
        let told = match read_refund(&body) {
            Ok(told) => told,
            Err(why) => return Ok(Some(why)),
        };
        if told.out_refund_no != refund.out_refund_no {
            return Ok(Some(format!("the answer is of {}", told.out_refund_no)));
        }
        let news = match refund_news(binding, &refund.app_id, (&told, "query")) {
            Ok(news) => news,
            Err(why) => return Ok(Some(why.to_string())),
        };
        match refunds::learn(&self.db, news).await? {
            Applied::Turned => {
                self.wake();
                Ok(None)
            }
            Applied::Before => Ok(refund.error.clone()),
            Applied::Flagged(code, why) => Ok(Some(format!("{code}: {why}"))),
        }
    }
}

impl Checkout {
    /// Whether WeChat Pay has no refund of this number: an earlier attempt, whose answer got lost, may have made it.
    async fn was_never_taken(&self, binding: &Binding, refund: &RefundRow) -> Result<bool, String> {
        let number = OutRefundNo::parse(&refund.out_refund_no).map_err(|e| e.to_string())?;
        let query = binding.seller.query_refund(&number);
        let deadline = Instant::now() + CALL_TIME;
        match self.client.call(&binding.merchant, &query, deadline).await {
            Ok(_) => Ok(false),
            Err(PayCallError::Refused(refusal)) if refusal.code == "RESOURCE_NOT_EXISTS" => {
                Ok(true)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes that WeChat Pay does not take a refund: its money is free again.
    async fn give_up(&self, refund: &RefundRow, why: &str) -> Result<(), DbError> {
        let news = News {
            number: refund.number(),
            fact: RefundFact::Refused,
            refund_id: None,
            amount: None,
            error: Some(why),
            cause: "refused",
        };
        refunds::learn(&self.db, news).await?;
        self.wake();
        Ok(())
    }
}

fn request(binding: &Binding, refund: &RefundRow) -> Result<RefundRequest, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let app_id = AppId::parse(&refund.app_id).map_err(|e| said(&e))?;
    Ok(RefundRequest {
        seller: binding.seller.clone(),
        by: PaidBy::Transaction(
            TransactionId::parse(&refund.transaction_id).map_err(|e| said(&e))?,
        ),
        out_refund_no: OutRefundNo::parse(&refund.out_refund_no).map_err(|e| said(&e))?,
        reason: refund.reason.clone(),
        notify_url: Some(binding.merchant.notify_url(&app_id)),
        refund: Fen::parse_positive(refund.amount).map_err(|e| said(&e))?,
        total: Fen::parse_positive(refund.total).map_err(|e| said(&e))?,
        from_available: false,
    })
}
