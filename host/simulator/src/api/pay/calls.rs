//! Which calls there are, and how they are answered: signed, as WeChat Pay does.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use super::authorization::{self, Headers};
use super::keys::Signer;
use super::merchant::{Merchant, SignsBy};
use super::notices;
use super::orders::{self, Mode};
use super::refunds;
use super::refusal::Refusal;
use super::{Pay, certificates};
use crate::api::arrival::Arrival;
use crate::api::world::World;

/// Whether a path is WeChat Pay's.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/v3/")
}

/// An answer that is still to be signed.
#[derive(Debug)]
pub(crate) struct Signable {
    pub(crate) status: u16,
    /// Empty where there is none.
    pub(crate) body: String,
    /// By which merchant's key, and which of them; nobody's where who calls is not known.
    signed_by: Option<(String, SignsBy)>,
}

/// What WeChat Pay says when it is told to be busy, or to refuse.
pub(crate) fn busy(status: u16, code: &str) -> Signable {
    let refusal = Refusal::new(status, code, "系统异常，请用相同参数重新调用");
    Signable {
        status,
        body: refusal.body().to_string(),
        signed_by: None,
    }
}

impl Signable {
    /// The answer over HTTP.
    pub(crate) fn response(self, world: &World) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut headers = HeaderMap::new();
        if !self.body.is_empty() {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            headers.insert("content-type", json);
        }
        if let Some((mch_id, by)) = &self.signed_by
            && let Some(merchant) = world.pay.merchants.get(mch_id)
        {
            let now_s = world.now_ms() / 1000;
            let stamp = (now_s, &*nonce(world));
            if let Some(key) = merchant.signer(*by) {
                sign(key, stamp, self.body.as_bytes(), &mut headers);
            }
        }
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Adds the headers of a signature.
pub(crate) fn sign(
    key: &Signer,
    (now_s, nonce): (u64, &str),
    body: &[u8],
    headers: &mut HeaderMap,
) {
    let mut message = format!("{now_s}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("wechatpay-timestamp", &now_s.to_string());
    set("wechatpay-nonce", nonce);
    set("wechatpay-signature", &key.sign(&message));
    set("wechatpay-serial", &key.name);
    set("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048");
}

/// Something that can't be foretold.
pub(crate) fn nonce(world: &World) -> String {
    world.environment.letters(32)
}

/// Answers a call.
pub(crate) fn answer(world: &mut World, headers: &Headers, arrival: &Arrival) -> Signable {
    let now_ms = world.now_ms();
    let now_s = i64::try_from(now_ms / 1000).unwrap_or_default();
    let short_nonce = world.environment.letters(12);
    let checked = authorization::check(&mut world.pay, headers, arrival, now_s);
    let mch_id = match checked {
        Ok(merchant) => merchant.mch_id.clone(),
        Err(refusal) => {
            // Who calls is not known, or not believed: such answers bear no signature.
            return Signable {
                status: refusal.status,
                body: refusal.body().to_string(),
                signed_by: None,
            };
        }
    };
    let performed = perform(&mut world.pay, &mch_id, arrival, (&short_nonce, now_ms));
    let merchant = &world.pay.merchants[&mch_id];
    let by_key = merchant
        .public_key
        .as_ref()
        .is_some_and(|key| key.name == headers.serial);
    let by = match by_key {
        true => SignsBy::PublicKey,
        false => SignsBy::Certificate,
    };
    let (status, body) = match performed {
        Ok(Some(body)) => (200, body.to_string()),
        Ok(None) => (204, String::new()),
        Err(refusal) => (refusal.status, refusal.body().to_string()),
    };
    Signable {
        status,
        body,
        signed_by: Some((mch_id, by)),
    }
}

fn perform(
    pay: &mut Pay,
    mch_id: &str,
    arrival: &Arrival,
    (nonce, now_ms): (&str, u64),
) -> Result<Option<Value>, Refusal> {
    let path = arrival.path.trim_start_matches("/v3/");
    let segments: Vec<String> = path.split('/').map(unescaped).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let prepay_id = pay.number("wx20260302100000", 36);
    let refund_id = pay.number("5030", 28);
    let merchant = pay
        .merchants
        .get_mut(mch_id)
        .ok_or_else(Refusal::no_order)?;
    let is_post = arrival.method == http::Method::POST;
    let (mode, rest) = match segments.as_slice() {
        ["pay", "partner", "transactions", rest @ ..] => (Mode::Partner, rest),
        ["pay", "transactions", rest @ ..] => (Mode::Direct, rest),
        ["certificates"] if !is_post => return certificates::list(merchant, nonce).map(Some),
        ["refund", "domestic", "refunds"] if is_post => {
            let made = refunds::create(merchant, &object(arrival)?, (refund_id, now_ms))?;
            if let (_, Some(number)) = &made {
                notices::queue_refund(pay, mch_id, number);
            }
            return Ok(Some(made.0));
        }
        ["refund", "domestic", "refunds", number] if !is_post => {
            let refund = merchant.refunds.get(*number);
            let none = || Refusal::new(404, "RESOURCE_NOT_EXISTS", "退款单不存在");
            return Ok(Some(refund.ok_or_else(none)?.answered()));
        }
        _ => return Err(Refusal::new(404, "", "")),
    };
    match rest {
        [scene @ ("jsapi" | "native" | "app" | "h5")] if is_post => {
            let order = (*scene, mode);
            let body = object(arrival)?;
            orders::create(merchant, order, &body, (prepay_id, now_ms)).map(Some)
        }
        ["out-trade-no", number] if !is_post => {
            expect_seller(merchant, mode, arrival)?;
            let order = merchant.orders.get(*number).ok_or_else(Refusal::no_order)?;
            Ok(Some(order.told(mch_id)))
        }
        ["id", id] if !is_post => {
            expect_seller(merchant, mode, arrival)?;
            let mut orders = merchant.orders.values();
            let order = orders.find(|order| order.transaction_id.as_deref() == Some(*id));
            Ok(Some(order.ok_or_else(Refusal::no_order)?.told(mch_id)))
        }
        ["out-trade-no", number, "close"] if is_post => {
            orders::close(merchant, (number, mode), &object(arrival)?).map(|()| None)
        }
        _ => Err(Refusal::new(404, "", "")),
    }
}

/// The seller in a query must be who has signed it.
fn expect_seller(merchant: &Merchant, mode: Mode, arrival: &Arrival) -> Result<(), Refusal> {
    let name = match mode {
        Mode::Direct => "mchid",
        Mode::Partner => "sp_mchid",
    };
    match arrival.parameter(name) == Some(&merchant.mch_id) {
        true => Ok(()),
        false => Err(Refusal::param("mchid", "与签名的商户号不匹配")),
    }
}

fn object(arrival: &Arrival) -> Result<Map<String, Value>, Refusal> {
    if !arrival
        .content_type
        .as_deref()
        .unwrap_or_default()
        .starts_with("application/json")
    {
        return Err(Refusal::new(
            400,
            "PARAM_ERROR",
            "Content-Type不是application/json",
        ));
    }
    let body = serde_json::from_slice(&arrival.body);
    body.map_err(|_| Refusal::new(400, "PARAM_ERROR", "请求体不是JSON对象"))
}

fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, escaped) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
