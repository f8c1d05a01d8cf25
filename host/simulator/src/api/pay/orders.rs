//! Orders (下单, 查询订单, 关闭订单).

use serde_json::{Map, Value, json};

use super::merchant::Merchant;
use super::refusal::Refusal;

/// How long a prepay id is good for.
const PREPAY_MS: u64 = 7_200_000;
/// How long an order can be paid that does not say: seven days.
const USUAL_MS: u64 = 7 * 24 * 3_600_000;

/// An order.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) out_trade_no: String,
    pub(crate) app_id: String,
    sub_mch_id: Option<String>,
    sub_app_id: Option<String>,
    /// `jsapi`, `native`, `app` or `h5`.
    pub(crate) scene: String,
    pub(crate) total: i64,
    pub(crate) open_id: Option<String>,
    attach: Option<String>,
    pub(crate) notify_url: String,
    expires_at_ms: u64,
    /// All that was said: a repetition must say the same.
    body: Value,
    pub(crate) prepay_id: String,
    prepaid_at_ms: u64,
    pub(crate) state: &'static str,
    pub(crate) transaction_id: Option<String>,
    pub(crate) paid_at_ms: u64,
    payer_total: i64,
}

/// Where a call's path leads: direct orders, or those of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Direct,
    Partner,
}

impl Order {
    pub(crate) fn is_paid(&self) -> bool {
        matches!(self.state, "SUCCESS" | "REFUND")
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "out_trade_no": self.out_trade_no,
            "app_id": self.app_id,
            "state": self.state,
            "total": self.total,
            "payer_open_id": self.open_id,
            "transaction_id": self.transaction_id,
            "prepay_id": self.prepay_id,
        })
    }

    /// As a query or a notice tells of it.
    pub(crate) fn told(&self, mch_id: &str) -> Value {
        let mut told = match &self.sub_mch_id {
            None => json!({ "appid": self.app_id, "mchid": mch_id }),
            Some(sub) => {
                let mut told =
                    json!({ "sp_appid": self.app_id, "sp_mchid": mch_id, "sub_mchid": sub });
                if let Some(app_id) = &self.sub_app_id {
                    told["sub_appid"] = json!(app_id);
                }
                told
            }
        };
        told["out_trade_no"] = json!(self.out_trade_no);
        told["trade_state"] = json!(self.state);
        told["trade_state_desc"] = json!(match self.state {
            "SUCCESS" => "支付成功",
            "REFUND" => "转入退款",
            "CLOSED" => "已关闭",
            _ => "订单未支付",
        });
        told["attach"] = json!(self.attach.as_deref().unwrap_or_default());
        told["amount"] = json!({ "total": self.total, "currency": "CNY" });
        if !self.is_paid() {
            return told;
        }
        told["transaction_id"] = json!(self.transaction_id);
        told["trade_type"] = json!(match &*self.scene {
            "jsapi" => "JSAPI",
            "native" => "NATIVE",
            "app" => "APP",
            _ => "MWEB",
        });
        told["bank_type"] = json!("OTHERS");
        told["success_time"] = json!(time(self.paid_at_ms));
        told["amount"]["payer_total"] = json!(self.payer_total);
        told["amount"]["payer_currency"] = json!("CNY");
        told["payer"] = match (&self.sub_mch_id, &self.sub_app_id) {
            (None, _) => json!({ "openid": self.open_id }),
            (Some(_), None) => json!({ "sp_openid": self.open_id }),
            (Some(_), Some(_)) => json!({ "sub_openid": self.open_id }),
        };
        told
    }

    /// Whether it can be paid now; if not, why.
    pub(crate) fn payable(&self, now_ms: u64) -> Result<(), String> {
        if self.state != "NOTPAY" {
            return Err(format!("the order is {}", self.state));
        }
        if now_ms > self.expires_at_ms {
            return Err("the order's time is over".to_owned());
        }
        if now_ms > self.prepaid_at_ms + PREPAY_MS {
            return Err("the prepay id is older than two hours".to_owned());
        }
        Ok(())
    }

    /// Somebody pays it.
    pub(crate) fn pay(
        &mut self,
        transaction_id: String,
        (open_id, coupon): (&str, i64),
        now_ms: u64,
    ) {
        self.state = "SUCCESS";
        self.transaction_id = Some(transaction_id);
        self.open_id = Some(open_id.to_owned());
        self.payer_total = self.total - coupon;
        self.paid_at_ms = now_ms;
    }
}

/// A time as WeChat Pay writes it.
pub(crate) fn time(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or_default();
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let beijing = jiff::tz::TimeZone::fixed(jiff::tz::Offset::constant(8));
    let time = time.to_zoned(beijing);
    time.strftime("%Y-%m-%dT%H:%M:%S+08:00").to_string()
}

fn text<'a>(body: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, Refusal> {
    let text = body.get(field).and_then(Value::as_str).unwrap_or_default();
    match text.is_empty() {
        false => Ok(text),
        true => Err(Refusal::param(field, "不能为空")),
    }
}

fn optional<'a>(
    body: &'a Map<String, Value>,
    field: &'static str,
    most: usize,
) -> Result<Option<&'a str>, Refusal> {
    match body.get(field) {
        None => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= most => Ok(Some(text)),
        Some(_) => Err(Refusal::param(field, "长度或类型不正确")),
    }
}

pub(crate) fn is_out_trade_no(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*|".contains(&byte);
    (6..=32).contains(&text.len()) && text.bytes().all(allowed)
}

pub(crate) fn check_notify_url(url: &str, most: usize) -> Result<(), Refusal> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    match is_web && !url.contains(['?', '#']) && url.len() <= most {
        true => Ok(()),
        false => Err(Refusal::param("notify_url", "须为不带参数的外网地址")),
    }
}

/// Fen, which are whole and more than none.
pub(crate) fn fen(amount: Option<&Value>, field: &'static str) -> Result<i64, Refusal> {
    let fen = amount.and_then(Value::as_i64).filter(|fen| *fen > 0);
    fen.ok_or_else(|| Refusal::param(field, "须为大于0的整数"))
}

/// Makes an order, or says the same of one again.
pub(crate) fn create(
    merchant: &mut Merchant,
    (scene, mode): (&str, Mode),
    body: &Map<String, Value>,
    (prepay_id, now_ms): (String, u64),
) -> Result<Value, Refusal> {
    let seller = seller(merchant, mode, body)?;
    let out_trade_no = text(body, "out_trade_no")?;
    if !is_out_trade_no(out_trade_no) {
        return Err(Refusal::param("out_trade_no", "格式不正确"));
    }
    let description = text(body, "description")?;
    if description.chars().count() > 127 {
        return Err(Refusal::param("description", "过长"));
    }
    check_notify_url(text(body, "notify_url")?, 255)?;
    let amount = body.get("amount").and_then(Value::as_object);
    let amount = amount.ok_or_else(|| Refusal::param("amount", "不能为空"))?;
    let total = fen(amount.get("total"), "amount.total")?;
    if amount
        .get("currency")
        .is_some_and(|currency| currency != "CNY")
    {
        return Err(Refusal::param("amount.currency", "只支持CNY"));
    }
    let attach = optional(body, "attach", 128)?.map(str::to_owned);
    optional(body, "goods_tag", 32)?;
    let open_id = payer(scene, &seller, body)?;
    let expires_at_ms = match optional(body, "time_expire", 64)? {
        None => now_ms + USUAL_MS,
        Some(text) => {
            let time: Result<jiff::Timestamp, _> = text.parse();
            let time = time.map_err(|_| Refusal::param("time_expire", "格式不正确"))?;
            let ms = u64::try_from(time.as_millisecond()).unwrap_or_default();
            ms.max(now_ms + 60_000)
        }
    };
    let said = Value::Object(body.clone());
    let order = match merchant.orders.get_mut(out_trade_no) {
        Some(order) if order.is_paid() => {
            return Err(Refusal::new(400, "ORDERPAID", "该订单已支付"));
        }
        Some(order) if order.state == "CLOSED" => {
            return Err(Refusal::new(400, "ORDER_CLOSED", "该订单已关闭"));
        }
        Some(order) if order.body != said || order.scene != scene => {
            return Err(Refusal::rule("请求重入时，参数与首次请求时不一致"));
        }
        Some(order) => {
            order.prepay_id = prepay_id;
            order.prepaid_at_ms = now_ms;
            order
        }
        None => {
            let order = Order {
                out_trade_no: out_trade_no.to_owned(),
                app_id: seller.app_id,
                sub_mch_id: seller.sub_mch_id,
                sub_app_id: seller.sub_app_id,
                scene: scene.to_owned(),
                total,
                open_id,
                attach,
                notify_url: text(body, "notify_url")?.to_owned(),
                expires_at_ms,
                body: said,
                prepay_id,
                prepaid_at_ms: now_ms,
                state: "NOTPAY",
                transaction_id: None,
                paid_at_ms: 0,
                payer_total: total,
            };
            merchant
                .orders
                .entry(out_trade_no.to_owned())
                .or_insert(order)
        }
    };
    let id = &order.prepay_id;
    Ok(match scene {
        "native" => json!({ "code_url": format!("weixin://wxpay/bizpayurl?pr={id}") }),
        "h5" => {
            json!({ "h5_url": format!("https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id={id}") })
        }
        _ => json!({ "prepay_id": id }),
    })
}

struct Seller {
    app_id: String,
    sub_mch_id: Option<String>,
    sub_app_id: Option<String>,
}

fn seller(merchant: &Merchant, mode: Mode, body: &Map<String, Value>) -> Result<Seller, Refusal> {
    let (app_field, mch_field) = match mode {
        Mode::Direct => ("appid", "mchid"),
        Mode::Partner => ("sp_appid", "sp_mchid"),
    };
    let app_id = text(body, app_field)?;
    if text(body, mch_field)? != merchant.mch_id {
        let said = "http header中的mchid与post payload中的mchid不匹配";
        return Err(Refusal::new(400, "PARAM_ERROR", said));
    }
    if !merchant.app_ids.iter().any(|bound| bound == app_id) {
        let said = "appid和mch_id不匹配，请检查后再试";
        return Err(Refusal::new(400, "APPID_MCHID_NOT_MATCH", said));
    }
    let sub_mch_id = match mode {
        Mode::Direct => None,
        Mode::Partner => {
            let sub = text(body, "sub_mchid")?;
            if !merchant.sub_merchants.iter().any(|known| known == sub) {
                return Err(Refusal::new(403, "NO_AUTH", "无权限: 子商户未授权"));
            }
            Some(sub.to_owned())
        }
    };
    Ok(Seller {
        app_id: app_id.to_owned(),
        sub_mch_id,
        sub_app_id: optional(body, "sub_appid", 32)?.map(str::to_owned),
    })
}

/// Who is to pay.
fn payer(
    scene: &str,
    seller: &Seller,
    body: &Map<String, Value>,
) -> Result<Option<String>, Refusal> {
    match scene {
        "jsapi" => {
            let name = match (&seller.sub_mch_id, &seller.sub_app_id) {
                (None, _) => "openid",
                (Some(_), None) => "sp_openid",
                (Some(_), Some(_)) => "sub_openid",
            };
            let payer = body.get("payer").and_then(|payer| payer.get(name));
            let open_id = payer.and_then(Value::as_str).unwrap_or_default();
            match (1..=128).contains(&open_id.len()) {
                true => Ok(Some(open_id.to_owned())),
                false => Err(Refusal::param("payer.openid", "不能为空")),
            }
        }
        "h5" => {
            let info = body.get("scene_info").and_then(Value::as_object);
            let info = info.ok_or_else(|| Refusal::param("scene_info", "不能为空"))?;
            let ip = info.get("payer_client_ip").and_then(Value::as_str);
            if ip.is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
                return Err(Refusal::param("scene_info.payer_client_ip", "格式不正确"));
            }
            let kind = info.get("h5_info").and_then(|h5| h5.get("type"));
            match kind.and_then(Value::as_str) {
                Some("iOS" | "Android" | "Wap") => Ok(None),
                _ => Err(Refusal::param("scene_info.h5_info.type", "格式不正确")),
            }
        }
        _ => Ok(None),
    }
}

/// Closes an order.
pub(crate) fn close(
    merchant: &mut Merchant,
    (out_trade_no, mode): (&str, Mode),
    body: &Map<String, Value>,
) -> Result<(), Refusal> {
    let field = match mode {
        Mode::Direct => "mchid",
        Mode::Partner => "sp_mchid",
    };
    if text(body, field)? != merchant.mch_id {
        let said = "http header中的mchid与post payload中的mchid不匹配";
        return Err(Refusal::new(400, "PARAM_ERROR", said));
    }
    let order = merchant.orders.get_mut(out_trade_no);
    let order = order.ok_or_else(Refusal::no_order)?;
    match order.is_paid() {
        true => Err(Refusal::new(400, "ORDERPAID", "该订单已支付")),
        false => {
            order.state = "CLOSED";
            Ok(())
        }
    }
}
