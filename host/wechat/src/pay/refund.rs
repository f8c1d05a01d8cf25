//! Refunds (申请退款, 查询退款, 退款通知).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::PayRequest;
use super::fen::Fen;
use super::id::{OutRefundNo, OutTradeNo, TransactionId};
use super::order::{InvalidOrder, Seller, check_notify_url};
use super::{AnswerError, read, time};

/// Characters of a reason.
const MAX_REASON: usize = 80;

/// Which payment is given back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PaidBy {
    /// By WeChat Pay's number.
    Transaction(TransactionId),
    /// By the merchant's number of the order.
    OutTradeNo(OutTradeNo),
}

/// A refund to be made. Repeated with the same number and data it is the same refund.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Who gives it back.
    pub seller: Seller,
    /// Which payment.
    pub by: PaidBy,
    /// The merchant's number.
    pub out_refund_no: OutRefundNo,
    /// What the payer is told: 80 characters at most.
    pub reason: Option<String>,
    /// Where WeChat Pay tells what became of it.
    pub notify_url: Option<String>,
    /// How much.
    pub refund: Fen,
    /// What the order came to.
    pub total: Fen,
    /// From the available balance, for merchants of the old flow of funds.
    pub from_available: bool,
}

impl RefundRequest {
    /// The call that makes the refund.
    ///
    /// # Errors
    /// A limit of WeChat Pay's that it breaks.
    pub fn request(&self) -> Result<PayRequest, InvalidOrder> {
        if Fen::parse_positive(self.refund.get()).is_err() || self.refund > self.total {
            let reason = "must be a fen at least, and not more than the order";
            return Err(InvalidOrder::new("amount.refund", reason));
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        if reason.chars().count() > MAX_REASON {
            let said = format!("must have {MAX_REASON} characters at most");
            return Err(InvalidOrder::new("reason", said));
        }
        let mut body = json!({
            "out_refund_no": self.out_refund_no,
            "amount": { "refund": self.refund, "total": self.total, "currency": "CNY" },
        });
        let mut set = |name: &str, value: Value| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        match &self.by {
            PaidBy::Transaction(id) => set("transaction_id", json!(id)),
            PaidBy::OutTradeNo(number) => set("out_trade_no", json!(number)),
        }
        if let Some(sub) = &self.seller.sub {
            set("sub_mchid", json!(sub.mch_id));
        }
        if let Some(reason) = &self.reason {
            set("reason", json!(reason));
        }
        if let Some(url) = &self.notify_url {
            check_notify_url(url)?;
            set("notify_url", json!(url));
        }
        if self.from_available {
            set("funds_account", json!("AVAILABLE"));
        }
        Ok(PayRequest::post("/v3/refund/domestic/refunds", &body))
    }
}

/// Where a refund stands with WeChat Pay.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RefundStatus {
    /// The payer has the money.
    #[serde(rename = "SUCCESS")]
    Success,
    /// It came to nothing.
    #[serde(rename = "CLOSED")]
    Closed,
    /// It is on its way.
    #[serde(rename = "PROCESSING")]
    Processing,
    /// The payer's card or account does not take it.
    #[serde(rename = "ABNORMAL")]
    Abnormal,
    /// Something that is newer than this.
    #[serde(untagged)]
    Other(String),
}

/// A refund as WeChat Pay tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refund {
    /// WeChat Pay's number.
    pub refund_id: String,
    /// The merchant's number.
    pub out_refund_no: String,
    /// WeChat Pay's number of the payment.
    pub transaction_id: Option<String>,
    /// The merchant's number of the order.
    pub out_trade_no: String,
    /// Where it stands.
    pub status: RefundStatus,
    /// Where the money went.
    pub user_received_account: Option<String>,
    /// When the payer had it, Unix seconds.
    pub success_time_s: Option<i64>,
    /// How much.
    pub refund: Fen,
    /// What the order came to.
    pub total: Fen,
    /// What the payer gets of it, after discounts.
    pub payer_refund: Option<Fen>,
    /// The merchant; in notices only.
    pub mch_id: Option<String>,
    /// For whom a partner sold.
    pub sub_mch_id: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    refund_id: String,
    out_refund_no: String,
    transaction_id: Option<String>,
    out_trade_no: String,
    #[serde(alias = "refund_status")]
    status: RefundStatus,
    user_received_account: Option<String>,
    #[serde(default, deserialize_with = "time::optional")]
    success_time: Option<i64>,
    amount: Amount,
    #[serde(alias = "sp_mchid")]
    mchid: Option<String>,
    sub_mchid: Option<String>,
}

#[derive(Deserialize)]
struct Amount {
    refund: Fen,
    total: Fen,
    payer_refund: Option<Fen>,
}

impl Refund {
    /// Reads an answer or the text of a notice.
    ///
    /// # Errors
    /// It is not what WeChat Pay documents.
    pub fn read(body: &[u8]) -> Result<Self, AnswerError> {
        let body: Body = read(body)?;
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            refund_id: body.refund_id,
            out_refund_no: body.out_refund_no,
            transaction_id: non_empty(body.transaction_id),
            out_trade_no: body.out_trade_no,
            status: body.status,
            user_received_account: non_empty(body.user_received_account),
            success_time_s: body.success_time,
            refund: body.amount.refund,
            total: body.amount.total,
            payer_refund: body.amount.payer_refund,
            mch_id: non_empty(body.mchid),
            sub_mch_id: non_empty(body.sub_mchid),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AppId;
    use crate::pay::MchId;

    fn request() -> RefundRequest {
        RefundRequest {
            seller: Seller {
                app_id: AppId::parse("wx01").unwrap(),
                mch_id: MchId::parse("1900000001").unwrap(),
                sub: None,
            },
            by: PaidBy::Transaction(TransactionId::parse("4200").unwrap()),
            out_refund_no: OutRefundNo::parse("r1").unwrap(),
            reason: Some("缺货".into()),
            notify_url: Some("https://pay.example/notify".into()),
            refund: Fen::new(40),
            total: Fen::new(100),
            from_available: false,
        }
    }

    #[test]
    fn a_refund_is_what_the_document_says() {
        let call = request().request().unwrap();
        assert_eq!(call.path, "/v3/refund/domestic/refunds");
        let body: Value = serde_json::from_str(call.body.as_deref().unwrap()).unwrap();
        assert_eq!(
            body,
            json!({
                "transaction_id": "4200", "out_refund_no": "r1", "reason": "缺货",
                "notify_url": "https://pay.example/notify",
                "amount": { "refund": 40, "total": 100, "currency": "CNY" },
            })
        );
        for refund in [0, -1, 101] {
            let refused = RefundRequest {
                refund: Fen::new(refund),
                ..request()
            };
            assert_eq!(refused.request().unwrap_err().field, "amount.refund");
        }
        let long = RefundRequest {
            reason: Some("长".repeat(81)),
            ..request()
        };
        assert_eq!(long.request().unwrap_err().field, "reason");
    }

    #[test]
    fn answers_and_notices_spell_the_status_differently() {
        let answer = br#"{"refund_id":"50","out_refund_no":"r1","transaction_id":"4200",
            "out_trade_no":"123456","channel":"ORIGINAL","status":"PROCESSING",
            "amount":{"refund":40,"total":100,"payer_refund":40}}"#;
        assert_eq!(
            Refund::read(answer).unwrap().status,
            RefundStatus::Processing
        );
        let notice = br#"{"mchid":"1900000001","refund_id":"50","out_refund_no":"r1",
            "out_trade_no":"123456","refund_status":"SUCCESS","success_time":"2018-06-08T10:34:56+08:00",
            "amount":{"refund":40,"total":100}}"#;
        let notice = Refund::read(notice).unwrap();
        assert_eq!(notice.status, RefundStatus::Success);
        assert_eq!(notice.mch_id.as_deref(), Some("1900000001"));
    }
}
