//! What the control surface offers of WeChat Pay: merchants and their keys, people who pay, notices that go astray or
//! are made up, refunds that get stuck, and the books.

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use wxhost_wechat::id::{AppId, OpenId};

use super::calls::sign;
use super::keys::Signer;
use super::merchant::{Keys, Merchant, SignsBy};
use super::notices::{self, Envelope, Plan};
use super::refunds::Outcome;
use crate::api::allowance::Scene;
use crate::api::arrival::Arrival;
use crate::api::control::ControlError;
use crate::api::staging::parsed;
use crate::api::world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMerchant {
    mch_id: String,
    app_ids: Vec<String>,
    v3_key: Option<String>,
    #[serde(default)]
    certificates: SignsBy,
    #[serde(default)]
    balance: i64,
    #[serde(default)]
    sub_merchants: Vec<String>,
    #[serde(default = "yes")]
    refund_gap: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    mch_id: String,
    out_trade_no: String,
    open_id: Option<String>,
    #[serde(default)]
    coupon: i64,
}

/// What `WeixinJSBridge` is given, and by whom.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Invocation {
    app_id: String,
    time_stamp: String,
    nonce_str: String,
    package: String,
    sign_type: String,
    pay_sign: String,
    #[serde(rename = "open_id")]
    open_id: String,
    #[serde(default)]
    cancel: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forgery {
    mch_id: String,
    out_trade_no: String,
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundOutcome {
    mch_id: String,
    outcome: Outcome,
}

/// Answers a request to the control surface, if it is of WeChat Pay.
pub(crate) async fn obey(
    world: &Arc<Mutex<World>>,
    arrival: &Arrival,
    path: &str,
) -> Option<Result<Value, ControlError>> {
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    Some(match (arrival.method.as_str(), segments.as_slice()) {
        ("POST", ["merchants"]) => add_merchant(world, &arrival.body).await,
        ("GET", ["merchants", id, "books"]) => with(world, id, |merchant| Ok(merchant.books())),
        ("POST", ["merchants", id, "certificate"]) => add_key(world, id, KeyKind::Merchant).await,
        ("DELETE", ["merchants", id, "certificates", serial]) => with(world, id, |merchant| {
            merchant.certificates.retain(|key| key.name != *serial);
            Ok(json!({}))
        }),
        ("POST", ["merchants", id, "platform-certificate"]) => {
            add_key(world, id, KeyKind::Platform).await
        }
        ("POST", ["merchants", id, "public-key"]) => add_key(world, id, KeyKind::Public).await,
        ("PUT", ["merchants", id, "v3-key"]) => put_v3_key(world, id, &arrival.body),
        ("PUT", ["merchants", id, "signing"]) => put_signing(world, id, &arrival.body),
        ("POST", ["pay"]) => pay(world, &arrival.body),
        ("POST", ["pay", "invoke"]) => invoke(world, &arrival.body),
        ("PUT", ["notice-plan"]) => put_plan(world, &arrival.body),
        ("POST", ["notices"]) => forge(world, &arrival.body).await,
        ("PUT", ["refunds"]) => put_outcome(world, &arrival.body),
        ("POST", ["refunds", number, "finish"]) => finish(world, number, &arrival.body),
        _ => return None,
    })
}

fn fault(error: impl std::fmt::Display) -> ControlError {
    ControlError::bad(error.to_string())
}

fn with<T>(
    world: &Mutex<World>,
    mch_id: &str,
    act: impl FnOnce(&mut Merchant) -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    let mut world = world.lock();
    let merchant = world.pay.merchants.get_mut(mch_id);
    act(merchant.ok_or_else(|| ControlError::absent("merchant"))?)
}

async fn add_merchant(world: &Mutex<World>, body: &[u8]) -> Result<Value, ControlError> {
    let new: NewMerchant = parsed(body)?;
    let v3_key = match new.v3_key {
        Some(key) if key.len() == 32 => key,
        Some(_) => return Err(ControlError::bad("v3_key has not 32 characters")),
        None => world.lock().environment.letters(32),
    };
    let mch_id = new.mch_id.clone();
    let keys = tokio::task::spawn_blocking(move || Keys::fresh(&mch_id));
    let keys = keys.await.map_err(fault)?.map_err(fault)?;
    let merchant = Merchant {
        mch_id: new.mch_id.clone(),
        app_ids: new.app_ids,
        sub_merchants: new.sub_merchants,
        v3_key,
        certificates: vec![keys.certificate],
        platform: vec![keys.platform],
        public_key: (new.certificates == SignsBy::PublicKey).then_some(keys.public_key),
        notices_by: new.certificates,
        orders: Default::default(),
        refunds: Default::default(),
        notices: Vec::new(),
        balance: new.balance,
        outcome: Outcome::default(),
        has_refund_gap: new.refund_gap,
    };
    let console = merchant.console();
    world.lock().pay.merchants.insert(new.mch_id, merchant);
    Ok(console)
}

#[derive(Clone, Copy)]
enum KeyKind {
    Merchant,
    Platform,
    /// WeChat Pay's public key, which the merchant applies for.
    Public,
}

async fn add_key(world: &Mutex<World>, id: &str, kind: KeyKind) -> Result<Value, ControlError> {
    let name = id.to_owned();
    let key = tokio::task::spawn_blocking(move || match kind {
        KeyKind::Merchant => Signer::with_certificate(&name),
        KeyKind::Platform => Signer::of_platform(),
        KeyKind::Public => Signer::public_of(&name),
    });
    let key = key.await.map_err(fault)?.map_err(fault)?;
    with(world, id, |merchant| {
        match kind {
            KeyKind::Merchant => merchant.add_certificate(key),
            KeyKind::Platform => merchant.platform.push(key),
            KeyKind::Public => merchant.public_key = Some(key),
        }
        Ok(merchant.console())
    })
}

fn put_v3_key(world: &Mutex<World>, id: &str, body: &[u8]) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Key {
        v3_key: String,
    }
    let key: Key = parsed(body)?;
    if key.v3_key.len() != 32 {
        return Err(ControlError::bad("v3_key has not 32 characters"));
    }
    with(world, id, |merchant| {
        merchant.v3_key = key.v3_key;
        Ok(json!({}))
    })
}

fn put_signing(world: &Mutex<World>, id: &str, body: &[u8]) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Signing {
        notifications: SignsBy,
    }
    let signing: Signing = parsed(body)?;
    with(world, id, |merchant| {
        if merchant.signer(signing.notifications).is_none() {
            return Err(ControlError::bad("the merchant has no such key"));
        }
        merchant.notices_by = signing.notifications;
        Ok(json!({}))
    })
}

fn put_plan(world: &Mutex<World>, body: &[u8]) -> Result<Value, ControlError> {
    let plan: Plan = parsed(body)?;
    world.lock().pay.plan = plan;
    Ok(json!({}))
}

fn put_outcome(world: &Mutex<World>, body: &[u8]) -> Result<Value, ControlError> {
    let wanted: RefundOutcome = parsed(body)?;
    with(world, &wanted.mch_id, |merchant| {
        merchant.outcome = wanted.outcome;
        Ok(json!({}))
    })
}

fn finish(world: &Mutex<World>, number: &str, body: &[u8]) -> Result<Value, ControlError> {
    let wanted: RefundOutcome = parsed(body)?;
    let now_ms = world.lock().now_ms();
    with(world, &wanted.mch_id, |merchant| {
        let refund = merchant.refunds.get_mut(number);
        let refund = refund.ok_or_else(|| ControlError::absent("refund"))?;
        if !refund.is_open() {
            return Err(ControlError::bad("the refund has ended"));
        }
        refund.end(wanted.outcome, now_ms);
        Ok(())
    })?;
    notices::queue_refund(&mut world.lock().pay, &wanted.mch_id, number);
    Ok(json!({}))
}

/// A person pays.
fn pay(world: &Mutex<World>, body: &[u8]) -> Result<Value, ControlError> {
    let payment: Payment = parsed(body)?;
    let mut world = world.lock();
    let by = payment.open_id.as_deref();
    let id = settle(
        &mut world,
        (&payment.mch_id, &payment.out_trade_no),
        by,
        payment.coupon,
    )?;
    Ok(json!({ "transaction_id": id }))
}

/// Pays an order, if it can be paid by this person.
fn settle(
    world: &mut World,
    (mch_id, out_trade_no): (&str, &str),
    open_id: Option<&str>,
    coupon: i64,
) -> Result<String, ControlError> {
    let now_ms = world.now_ms();
    let id = world.pay.number("4200", 28);
    let merchant = world.pay.merchants.get_mut(mch_id);
    let merchant = merchant.ok_or_else(|| ControlError::absent("merchant"))?;
    let order = merchant.orders.get_mut(out_trade_no);
    let order = order.ok_or_else(|| ControlError::absent("order"))?;
    order.payable(now_ms).map_err(ControlError::bad)?;
    let payer = match (&order.open_id, open_id) {
        (Some(payer), Some(by)) if payer != by => {
            return Err(ControlError::bad("the order is another person's"));
        }
        (Some(payer), _) => payer.clone(),
        (None, by) => by.unwrap_or("oPayer000000000000000000001").to_owned(),
    };
    order.pay(id.clone(), (&payer, coupon), now_ms);
    let app_id = AppId::parse(&order.app_id).map_err(fault)?;
    notices::queue_order(&mut world.pay, mch_id, out_trade_no);
    // Whom the account knows may be written to after it.
    if let Some(app) = world.apps.get_mut(&app_id)
        && app.followers.find(&payer).is_ok()
    {
        let payer = OpenId::parse(&payer).map_err(fault)?;
        let messages = app.settings.messages_per_interaction;
        let met = app.followers.interact(&payer, Scene::Pay, now_ms, messages);
        met.map_err(ControlError::bad)?;
    }
    Ok(id)
}

/// What `WeixinJSBridge` answers to `getBrandWCPayRequest`.
fn invoke(world: &Mutex<World>, body: &[u8]) -> Result<Value, ControlError> {
    let given: Invocation = parsed(body)?;
    let mut world = world.lock();
    let said = |word: &str| json!({ "err_msg": format!("get_brand_wcpay_request:{word}") });
    let Some(prepay_id) = given.package.strip_prefix("prepay_id=") else {
        return Ok(said("fail package"));
    };
    let found = world.pay.merchants.values().find_map(|merchant| {
        let mut orders = merchant.orders.values();
        let order = orders.find(|order| order.prepay_id == prepay_id)?;
        Some((merchant, order))
    });
    let Some((merchant, order)) = found else {
        return Ok(said("fail prepay_id"));
    };
    let message = format!(
        "{}\n{}\n{}\n{}\n",
        given.app_id, given.time_stamp, given.nonce_str, given.package
    );
    let mut keys = merchant.certificates.iter();
    let is_signed = given.sign_type == "RSA"
        && keys.any(|key| key.verifies(message.as_bytes(), &given.pay_sign));
    let is_page = order.app_id == given.app_id && order.scene == "jsapi";
    if !is_signed || !is_page || given.time_stamp.parse::<u64>().is_err() {
        return Ok(said("fail paySign"));
    }
    if given.cancel {
        return Ok(said("cancel"));
    }
    let key = (merchant.mch_id.clone(), order.out_trade_no.clone());
    match settle(&mut world, (&key.0, &key.1), Some(&given.open_id), 0) {
        Ok(_) => Ok(said("ok")),
        Err(error) => Ok(said(&format!("fail {}", error.message))),
    }
}

/// Tells a merchant something that is not so, or not so any more, or not by WeChat Pay.
async fn forge(world: &Mutex<World>, body: &[u8]) -> Result<Value, ControlError> {
    let wanted: Forgery = parsed(body)?;
    let (url, headers, body) = forged(&world.lock(), &wanted)?;
    let (status, answer) = notices::post(&url, headers, body).await;
    Ok(json!({ "status": status, "body": answer }))
}

fn forged(world: &World, wanted: &Forgery) -> Result<(String, HeaderMap, String), ControlError> {
    let merchant = world.pay.merchants.get(&wanted.mch_id);
    let merchant = merchant.ok_or_else(|| ControlError::absent("merchant"))?;
    let order = merchant.orders.get(&wanted.out_trade_no);
    let order = order.ok_or_else(|| ControlError::absent("order"))?;
    let mut paid = order.clone();
    if !paid.is_paid() {
        let payer = order.open_id.clone().unwrap_or_default();
        paid.pay(
            "4200009999999999999999999999".to_owned(),
            (&payer, 0),
            world.now_ms(),
        );
    }
    let mut told = paid.told(&merchant.mch_id);
    told["trade_state"] = json!("SUCCESS");
    match &*wanted.kind {
        "wrong-app" => told["appid"] = json!("wx9999999999999999"),
        "wrong-merchant" => told["mchid"] = json!("1999999999"),
        "wrong-amount" => told["amount"]["total"] = json!(order.total + 1),
        "negative-amount" => told["amount"]["total"] = json!(-order.total),
        "fractional-amount" => told["amount"]["total"] = json!(0.5),
        "wrong-currency" => told["amount"]["currency"] = json!("USD"),
        "unknown-order" => told["out_trade_no"] = json!("unknown-000001"),
        "wrong-key" | "forged" | "signtest" | "stale" | "unsigned" | "truncated" | "replayed" => {}
        other => return Err(ControlError::bad(format!("no forgery is {other:?}"))),
    }
    let v3_key = match &*wanted.kind {
        "wrong-key" => "0123456789abcdef0123456789abcdef",
        _ => &merchant.v3_key,
    };
    let envelope = Envelope {
        id: "EV-20260302000000000001",
        event_type: "TRANSACTION.SUCCESS",
        kind: "transaction",
        clear: &told,
        v3_key,
    };
    let mut body = envelope.written(world);
    let mut headers = notices::signed(world, &merchant.mch_id, &body);
    let key = merchant.signer(merchant.notices_by);
    let key = key.ok_or_else(|| ControlError::absent("key"))?;
    let text = |value: &str| http::HeaderValue::from_str(value).ok();
    match &*wanted.kind {
        "forged" => {
            // Under the name of WeChat Pay's own key.
            let stranger = Signer::with_id(&key.name).map_err(fault)?;
            headers = HeaderMap::new();
            let stamp = (world.now_ms() / 1000, "forged");
            sign(&stranger, stamp, body.as_bytes(), &mut headers);
        }
        "signtest" => {
            if let Some(value) = text("WECHATPAY/SIGNTEST/0123456789") {
                headers.insert("wechatpay-signature", value);
            }
        }
        "stale" => {
            headers = HeaderMap::new();
            let then = world.now_ms() / 1000 - 301;
            sign(key, (then, "stale"), body.as_bytes(), &mut headers);
        }
        "unsigned" => headers = HeaderMap::new(),
        "truncated" => {
            body.truncate(body.len() / 2);
            headers = notices::signed(world, &merchant.mch_id, &body);
        }
        _ => {}
    }
    Ok((order.notify_url.clone(), headers, body))
}
