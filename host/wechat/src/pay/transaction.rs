//! How an order stands (查询订单, 支付通知).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fen::Fen;
use super::{AnswerError, read, time};

/// Where an order stands with WeChat Pay.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TradeState {
    /// It is paid.
    #[serde(rename = "SUCCESS")]
    Success,
    /// It is paid, and a refund was asked for.
    #[serde(rename = "REFUND")]
    Refund,
    /// It is not paid.
    #[serde(rename = "NOTPAY")]
    NotPay,
    /// It can't be paid any more.
    #[serde(rename = "CLOSED")]
    Closed,
    /// It was taken back; of payment codes only.
    #[serde(rename = "REVOKED")]
    Revoked,
    /// The payer is at it.
    #[serde(rename = "USERPAYING")]
    UserPaying,
    /// The payment failed.
    #[serde(rename = "PAYERROR")]
    PayError,
    /// Something that is newer than this.
    #[serde(untagged)]
    Other(String),
}

/// An order as WeChat Pay tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transaction {
    /// The app id; in partner mode the partner's.
    pub app_id: String,
    /// The merchant; in partner mode the partner.
    pub mch_id: String,
    /// For whom a partner sold.
    pub sub_mch_id: Option<String>,
    /// The sub-merchant's app id.
    pub sub_app_id: Option<String>,
    /// The merchant's number.
    pub out_trade_no: String,
    /// WeChat Pay's number, once it is paid.
    pub transaction_id: Option<String>,
    /// `JSAPI`, `NATIVE` …
    pub trade_type: Option<String>,
    /// Where it stands.
    pub state: TradeState,
    /// The same in words.
    pub state_text: String,
    /// The bank that was paid by.
    pub bank_type: Option<String>,
    /// What the order brought along.
    pub attach: Option<String>,
    /// When it was paid, Unix seconds.
    pub success_time_s: Option<i64>,
    /// Who has paid, under the sub-merchant's app id if it is of one.
    pub payer_open_id: Option<String>,
    /// What the order came to.
    pub total: Option<Fen>,
    /// What the payer has paid, after discounts.
    pub payer_total: Option<Fen>,
    /// `CNY`.
    pub currency: Option<String>,
    /// Discounts, in WeChat Pay's own form.
    pub promotion_detail: Vec<Value>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "sp_appid")]
    appid: String,
    #[serde(alias = "sp_mchid")]
    mchid: String,
    sub_mchid: Option<String>,
    sub_appid: Option<String>,
    out_trade_no: String,
    transaction_id: Option<String>,
    trade_type: Option<String>,
    trade_state: TradeState,
    #[serde(default)]
    trade_state_desc: String,
    bank_type: Option<String>,
    attach: Option<String>,
    #[serde(default, deserialize_with = "time::optional")]
    success_time: Option<i64>,
    payer: Option<Payer>,
    amount: Option<Amount>,
    #[serde(default)]
    promotion_detail: Vec<Value>,
}

#[derive(Deserialize)]
struct Payer {
    openid: Option<String>,
    sp_openid: Option<String>,
    sub_openid: Option<String>,
}

#[derive(Default, Deserialize)]
struct Amount {
    total: Option<Fen>,
    payer_total: Option<Fen>,
    currency: Option<String>,
}

impl Transaction {
    /// Reads an answer or the text of a notice.
    ///
    /// # Errors
    /// It is not what WeChat Pay documents.
    pub fn read(body: &[u8]) -> Result<Self, AnswerError> {
        let body: Body = read(body)?;
        let amount = body.amount.unwrap_or_default();
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        let payer = body.payer;
        let open_id = payer.and_then(|payer| {
            let sub = non_empty(payer.sub_openid);
            sub.or(non_empty(payer.openid))
                .or(non_empty(payer.sp_openid))
        });
        Ok(Self {
            app_id: body.appid,
            mch_id: body.mchid,
            sub_mch_id: non_empty(body.sub_mchid),
            sub_app_id: non_empty(body.sub_appid),
            out_trade_no: body.out_trade_no,
            transaction_id: non_empty(body.transaction_id),
            trade_type: body.trade_type,
            state: body.trade_state,
            state_text: body.trade_state_desc,
            bank_type: body.bank_type,
            attach: non_empty(body.attach),
            success_time_s: body.success_time,
            payer_open_id: open_id,
            total: amount.total,
            payer_total: amount.payer_total,
            currency: non_empty(amount.currency),
            promotion_detail: body.promotion_detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_is_read_whole_and_an_unpaid_order_lacks_what_it_may() {
        let paid = br#"{"appid":"wx01","mchid":"1900000001","out_trade_no":"123456",
            "transaction_id":"4200","trade_type":"JSAPI","trade_state":"SUCCESS",
            "trade_state_desc":"ok","bank_type":"CMB_DEBIT","attach":"",
            "success_time":"2018-06-08T10:34:56+08:00","payer":{"openid":"oA"},
            "amount":{"total":100,"payer_total":90,"currency":"CNY","payer_currency":"CNY"}}"#;
        let paid = Transaction::read(paid).unwrap();
        assert_eq!(paid.state, TradeState::Success);
        assert_eq!(paid.total, Some(Fen::new(100)));
        assert_eq!(paid.payer_total, Some(Fen::new(90)));
        assert_eq!(paid.success_time_s, Some(1_528_425_296));
        assert_eq!(paid.payer_open_id.as_deref(), Some("oA"));
        let unpaid =
            br#"{"appid":"wx01","mchid":"1","out_trade_no":"123456","trade_state":"NOTPAY"}"#;
        let unpaid = Transaction::read(unpaid).unwrap();
        assert_eq!((unpaid.state, unpaid.total), (TradeState::NotPay, None));
        let newer = br#"{"appid":"a","mchid":"1","out_trade_no":"1","trade_state":"NEW"}"#;
        let newer = Transaction::read(newer).unwrap();
        assert_eq!(newer.state, TradeState::Other("NEW".into()));
    }

    #[test]
    fn a_sum_that_is_no_whole_number_is_not_believed() {
        for total in ["1.5", "\"100\"", "1e2", "99999999999999999999"] {
            let body = format!(
                r#"{{"appid":"a","mchid":"1","out_trade_no":"1","trade_state":"SUCCESS",
                "amount":{{"total":{total}}}}}"#
            );
            assert!(Transaction::read(body.as_bytes()).is_err(), "{total}");
        }
    }

    #[test]
    fn a_partners_payer_is_the_sub_merchants() {
        let body = br#"{"sp_appid":"wx0s","sp_mchid":"1","sub_appid":"wx01","sub_mchid":"2",
            "out_trade_no":"1","trade_state":"SUCCESS","payer":{"sp_openid":"oS","sub_openid":"oA"}}"#;
        let told = Transaction::read(body).unwrap();
        assert_eq!(told.app_id, "wx0s");
        assert_eq!(told.sub_mch_id.as_deref(), Some("2"));
        assert_eq!(told.payer_open_id.as_deref(), Some("oA"));
    }
}
