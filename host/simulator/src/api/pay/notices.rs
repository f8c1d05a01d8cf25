//! What merchants are told (回调通知): signed, sealed, and told again until they answer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Pay;
use super::calls::{self, sign};
use super::keys::seal;
use super::merchant::Merchant;
use super::orders::time;
use crate::api::world::World;

/// How long WeChat Pay waits for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long after a failure it tells it again.
const PAUSES_S: [u64; 15] = [
    15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600,
];

/// What is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Order(String),
    Refund(String),
}

/// A notice, and what came of it.
#[derive(Debug)]
pub(crate) struct Notice {
    id: String,
    about: About,
    tries: u32,
    accepted: bool,
    last_status: Option<u16>,
    /// It waits for its first time.
    is_new: bool,
}

impl Notice {
    fn new(id: String, about: About) -> Self {
        Self {
            id,
            about,
            tries: 0,
            accepted: false,
            last_status: None,
            is_new: true,
        }
    }

    pub(crate) fn shown(&self) -> Value {
        let (kind, number) = match &self.about {
            About::Order(number) => ("transaction", number),
            About::Refund(number) => ("refund", number),
        };
        json!({
            "id": self.id, "kind": kind, "number": number, "tries": self.tries,
            "accepted": self.accepted, "last_status": self.last_status,
        })
    }
}

/// How notices travel.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    /// So many of the next ones are never told.
    pub(super) lose: u32,
    /// So many more copies of each are told at the same time.
    repeat: u32,
    /// The pauses are divided by this.
    scale: u64,
    /// How late the first telling is, in milliseconds.
    delay_ms: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            lose: 0,
            repeat: 0,
            scale: 1,
            delay_ms: 0,
        }
    }
}

/// Has a merchant told that an order is paid.
pub(crate) fn queue_order(pay: &mut Pay, mch_id: &str, number: &str) {
    queue(pay, mch_id, About::Order(number.to_owned()));
}

/// Has a merchant told what became of a refund, if something did.
pub(crate) fn queue_refund(pay: &mut Pay, mch_id: &str, number: &str) {
    let merchant = pay.merchants.get(mch_id);
    let refund = merchant.and_then(|merchant| merchant.refunds.get(number));
    if refund.is_some_and(|refund| refund.notify_url.is_some() && refund.status != "PROCESSING") {
        queue(pay, mch_id, About::Refund(number.to_owned()));
    }
}

fn queue(pay: &mut Pay, mch_id: &str, about: About) {
    if pay.plan.lose > 0 {
        pay.plan.lose -= 1;
        return;
    }
    let id = pay.number("EV-", 21);
    if let Some(merchant) = pay.merchants.get_mut(mch_id) {
        merchant.notices.push(Notice::new(id, about));
    }
}

/// Begins to tell what is new.
pub(crate) fn start(world: &Arc<Mutex<World>>) {
    let (begun, plan) = {
        let mut world = world.lock();
        let mut begun = Vec::new();
        for merchant in world.pay.merchants.values_mut() {
            for notice in &mut merchant.notices {
                if std::mem::take(&mut notice.is_new) {
                    begun.push((merchant.mch_id.clone(), notice.id.clone()));
                }
            }
        }
        (begun, world.pay.plan.clone())
    };
    for (mch_id, id) in begun {
        for _ in 0..=plan.repeat {
            let world = Arc::downgrade(world);
            let key = (mch_id.clone(), id.clone());
            tokio::spawn(tell(world, key, plan.clone()));
        }
    }
}

/// Tells it until it is accepted, or the world ends.
async fn tell(world: Weak<Mutex<World>>, (mch_id, id): (String, String), plan: Plan) {
    tokio::time::sleep(Duration::from_millis(plan.delay_ms)).await;
    let pauses = PAUSES_S
        .iter()
        .map(|seconds| seconds * 1000 / plan.scale.max(1));
    // The last try has no pause after it.
    for pause_ms in pauses.chain([0]) {
        let Some(strong) = world.upgrade() else {
            return;
        };
        let written = written(&mut strong.lock(), &mch_id, &id);
        drop(strong);
        let Some((url, headers, body)) = written else {
            return;
        };
        let status = post(&url, headers, body).await.0;
        let Some(strong) = world.upgrade() else {
            return;
        };
        let accepted = note(&mut strong.lock(), (&mch_id, &id), status);
        drop(strong);
        if accepted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

fn note(world: &mut World, (mch_id, id): (&str, &str), status: Option<u16>) -> bool {
    let merchant = world.pay.merchants.get_mut(mch_id);
    let mut notices = merchant
        .into_iter()
        .flat_map(|merchant| &mut merchant.notices);
    let Some(notice) = notices.find(|notice| notice.id == id) else {
        return true;
    };
    notice.tries += 1;
    notice.last_status = status;
    notice.accepted |= matches!(status, Some(200 | 204));
    notice.accepted
}

/// A notice as it travels now: signed anew each time.
fn written(world: &mut World, mch_id: &str, id: &str) -> Option<(String, HeaderMap, String)> {
    let merchant = world.pay.merchants.get(mch_id)?;
    let notice = merchant.notices.iter().find(|notice| notice.id == id)?;
    if notice.accepted {
        return None;
    }
    let (url, kind, event_type, clear) = told(merchant, &notice.about)?;
    let envelope = Envelope {
        id,
        event_type,
        kind,
        clear: &clear,
        v3_key: &merchant.v3_key,
    };
    let body = envelope.written(world);
    let headers = signed(world, mch_id, &body);
    Some((url, headers, body))
}

/// Where something is told, what kind it is, as which event, and its text.
pub(super) fn told(
    merchant: &Merchant,
    about: &About,
) -> Option<(String, &'static str, &'static str, Value)> {
    match about {
        About::Order(number) => {
            let order = merchant.orders.get(number)?;
            // It was paid when this came about, whatever was given back since.
            let mut told = order.told(&merchant.mch_id);
            told["trade_state"] = json!("SUCCESS");
            let url = order.notify_url.clone();
            Some((url, "transaction", "TRANSACTION.SUCCESS", told))
        }
        About::Refund(number) => {
            let refund = merchant.refunds.get(number)?;
            let event = match refund.status {
                "SUCCESS" => "REFUND.SUCCESS",
                "ABNORMAL" => "REFUND.ABNORMAL",
                _ => "REFUND.CLOSED",
            };
            let url = refund.notify_url.clone()?;
            Some((url, "refund", event, refund.told(&merchant.mch_id)))
        }
    }
}

/// The envelope of a notice.
pub(super) struct Envelope<'a> {
    pub(super) id: &'a str,
    pub(super) event_type: &'a str,
    pub(super) kind: &'a str,
    pub(super) clear: &'a Value,
    pub(super) v3_key: &'a str,
}

impl Envelope<'_> {
    pub(super) fn written(&self, world: &World) -> String {
        let nonce = world.environment.letters(12);
        let clear = self.clear.to_string();
        json!({
            "id": self.id,
            "create_time": time(world.now_ms()),
            "resource_type": "encrypt-resource",
            "event_type": self.event_type,
            "summary": "支付成功",
            "resource": {
                "original_type": self.kind,
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": seal(self.v3_key, &nonce, self.kind, clear.as_bytes()),
                "associated_data": self.kind,
                "nonce": nonce,
            },
        })
        .to_string()
    }
}

/// The headers of a notice's signature.
pub(super) fn signed(world: &World, mch_id: &str, body: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let merchant = world.pay.merchants.get(mch_id);
    if let Some(key) = merchant.and_then(|merchant| merchant.signer(merchant.notices_by)) {
        let stamp = (world.now_ms() / 1000, &*calls::nonce(world));
        sign(key, stamp, body.as_bytes(), &mut headers);
    }
    headers
}

/// Posts a notice once: the status, and what was answered.
pub(super) async fn post(url: &str, headers: HeaderMap, body: String) -> (Option<u16>, String) {
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .build();
    let Ok(http) = http else {
        return (None, String::new());
    };
    let request = http
        .post(url)
        .headers(headers)
        .header("content-type", "application/json")
        .body(body);
    match request.send().await {
        Err(_) => (None, String::new()),
        Ok(answer) => {
            let status: StatusCode = answer.status();
            (
                Some(status.as_u16()),
                answer.text().await.unwrap_or_default(),
            )
        }
    }
}
