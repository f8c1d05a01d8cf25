//! Refunds (申请退款, 查询退款).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::merchant::Merchant;
use super::orders::{check_notify_url, fen, time};
use super::refusal::Refusal;

/// Refunds of an order at most.
const MOST: usize = 50;
/// Between two refunds of an order.
const GAP_MS: u64 = 60_000;
/// How long after its payment an order can be refunded.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// What becomes of a refund.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The payer has it at once.
    #[default]
    Success,
    /// The payer's card does not take it.
    Abnormal,
    /// It comes to nothing.
    Closed,
    /// It stays on its way.
    Hold,
}

/// A refund.
#[derive(Debug, Clone)]
pub(crate) struct Refund {
    refund_id: String,
    pub(crate) out_refund_no: String,
    pub(crate) out_trade_no: String,
    transaction_id: String,
    pub(crate) amount: i64,
    total: i64,
    pub(crate) status: &'static str,
    pub(crate) notify_url: Option<String>,
    body: Value,
    created_at_ms: u64,
    pub(crate) ended_at_ms: Option<u64>,
}

impl Refund {
    /// Whether its money is not the merchant's.
    pub(crate) fn takes_money(&self) -> bool {
        self.status != "CLOSED"
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "out_refund_no": self.out_refund_no,
            "out_trade_no": self.out_trade_no,
            "amount": self.amount,
            "state": self.status,
        })
    }

    fn common(&self) -> Value {
        let mut told = json!({
            "refund_id": self.refund_id,
            "out_refund_no": self.out_refund_no,
            "transaction_id": self.transaction_id,
            "out_trade_no": self.out_trade_no,
            "user_received_account": "支付用户零钱",
            "amount": {
                "total": self.total, "refund": self.amount,
                "payer_total": self.total, "payer_refund": self.amount,
            },
        });
        if let (Some(ms), "SUCCESS") = (self.ended_at_ms, self.status) {
            told["success_time"] = json!(time(ms));
        }
        told
    }

    /// As an answer tells of it.
    pub(crate) fn answered(&self) -> Value {
        let mut told = self.common();
        told["status"] = json!(self.status);
        told["channel"] = json!("ORIGINAL");
        told["funds_account"] = json!("UNSETTLED");
        told["create_time"] = json!(time(self.created_at_ms));
        let amount = &mut told["amount"];
        amount["currency"] = json!("CNY");
        amount["discount_refund"] = json!(0);
        amount["settlement_refund"] = json!(self.amount);
        amount["settlement_total"] = json!(self.total);
        told
    }

    /// As a notice tells of it.
    pub(crate) fn told(&self, mch_id: &str) -> Value {
        let mut told = self.common();
        told["mchid"] = json!(mch_id);
        told["refund_status"] = json!(self.status);
        told
    }

    /// Whether something may still become of it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.status, "PROCESSING" | "ABNORMAL")
    }

    /// How it ends.
    pub(crate) fn end(&mut self, outcome: Outcome, now_ms: u64) {
        self.status = match outcome {
            Outcome::Success => "SUCCESS",
            Outcome::Abnormal => "ABNORMAL",
            Outcome::Closed => "CLOSED",
            Outcome::Hold => "PROCESSING",
        };
        self.ended_at_ms = (outcome != Outcome::Hold).then_some(now_ms);
    }
}

/// Makes a refund, or finds it. Whether it is new.
pub(crate) fn create(
    merchant: &mut Merchant,
    body: &Map<String, Value>,
    (refund_id, now_ms): (String, u64),
) -> Result<(Value, Option<String>), Refusal> {
    let text = |name: &str| {
        body.get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let number = text("out_refund_no").unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*|@".contains(&byte);
    if !(1..=64).contains(&number.len()) || !number.bytes().all(allowed) {
        return Err(Refusal::param("out_refund_no", "格式不正确"));
    }
    if text("reason").is_some_and(|reason| reason.chars().count() > 80) {
        return Err(Refusal::param("reason", "过长"));
    }
    if let Some(url) = text("notify_url") {
        check_notify_url(url, 256)?;
    }
    let amount = body.get("amount").and_then(Value::as_object);
    let amount = amount.ok_or_else(|| Refusal::param("amount", "不能为空"))?;
    let refunded = fen(amount.get("refund"), "amount.refund")?;
    let total = fen(amount.get("total"), "amount.total")?;
    if amount
        .get("currency")
        .is_none_or(|currency| currency != "CNY")
    {
        return Err(Refusal::param("amount.currency", "只支持CNY"));
    }
    let by_transaction = text("transaction_id");
    let found = merchant.orders.values().find(|order| match by_transaction {
        Some(id) => order.transaction_id.as_deref() == Some(id),
        None => Some(&*order.out_trade_no) == text("out_trade_no"),
    });
    let none = || Refusal::new(404, "RESOURCE_NOT_EXISTS", "订单不存在");
    let order = found
        .filter(|order| order.is_paid())
        .ok_or_else(none)?
        .clone();
    let said = Value::Object(body.clone());
    if let Some(before) = merchant.refunds.get(number) {
        return match before.body == said {
            true => Ok((before.answered(), None)),
            false => Err(Refusal::rule("退款单号重复，参数与首次请求时不一致")),
        };
    }
    if total != order.total {
        return Err(Refusal::rule("订单金额与首次请求时不一致"));
    }
    if merchant.refunded(&order.out_trade_no) + refunded > total {
        return Err(Refusal::rule("申请退款金额超过订单可退金额"));
    }
    let of_order = || {
        let all = merchant.refunds.values();
        all.filter(|it| it.out_trade_no == order.out_trade_no)
    };
    if of_order().count() >= MOST {
        return Err(Refusal::rule("退款次数超过上限"));
    }
    let last = of_order().map(|it| it.created_at_ms).max();
    if merchant.has_refund_gap && last.is_some_and(|last| now_ms < last + GAP_MS) {
        return Err(Refusal::new(
            429,
            "FREQUENCY_LIMITED",
            "同一订单的退款请求过于频繁",
        ));
    }
    if now_ms > order.paid_at_ms + YEAR_MS {
        return Err(Refusal::rule("订单超过可退款期限"));
    }
    if merchant.funds() < refunded {
        return Err(Refusal::new(
            403,
            "NOT_ENOUGH",
            "基本账户余额不足，请充值后重新发起",
        ));
    }
    let mut refund = Refund {
        refund_id,
        out_refund_no: number.to_owned(),
        out_trade_no: order.out_trade_no.clone(),
        transaction_id: order.transaction_id.clone().unwrap_or_default(),
        amount: refunded,
        total,
        status: "PROCESSING",
        notify_url: text("notify_url").map(str::to_owned),
        body: said,
        created_at_ms: now_ms,
        ended_at_ms: None,
    };
    // Accepted is not done: the answer says so, whatever comes of it.
    let answer = refund.answered();
    refund.end(merchant.outcome, now_ms);
    if let Some(order) = merchant.orders.get_mut(&order.out_trade_no)
        && refund.takes_money()
    {
        order.state = "REFUND";
    }
    merchant.refunds.insert(number.to_owned(), refund);
    Ok((answer, Some(number.to_owned())))
}
