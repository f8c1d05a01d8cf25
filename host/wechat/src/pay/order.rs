//! Orders (下单): in a page inside WeChat, by a QR code, in an app, in a browser; direct or by a partner (服务商).

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{PayRequest, escaped};
use super::fen::Fen;
use super::id::{MchId, OutRefundNo, OutTradeNo, PrepayId, TransactionId};
use super::{AnswerError, read, time};
use crate::id::{AppId, OpenId};

/// Characters of what a payer sees.
const MAX_DESCRIPTION: usize = 127;
/// Characters of what comes back with an order.
const MAX_ATTACH: usize = 128;
/// Characters of a goods tag.
const MAX_GOODS_TAG: usize = 32;
/// Bytes of an address that is notified.
const MAX_NOTIFY_URL: usize = 255;

/// An order or a refund that WeChat Pay would refuse.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidOrder {
    /// WeChat Pay's name of the field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidOrder {
    pub(super) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field,
            reason: reason.into(),
        }
    }
}

/// Who sells: a merchant, or a partner (服务商) for one of its sub-merchants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seller {
    /// The app id; of a partner its own.
    pub app_id: AppId,
    /// The merchant; of a partner its own number.
    pub mch_id: MchId,
    /// For whom a partner sells.
    pub sub: Option<SubMerchant>,
}

/// For whom a partner sells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubMerchant {
    /// Its number.
    pub mch_id: MchId,
    /// Its own app id, under which payers' open ids are then.
    pub app_id: Option<AppId>,
}

impl Seller {
    fn base(&self) -> &'static str {
        match self.sub {
            None => "/v3/pay/transactions",
            Some(_) => "/v3/pay/partner/transactions",
        }
    }

    fn query_of_seller(&self) -> String {
        match &self.sub {
            None => format!("mchid={}", self.mch_id),
            Some(sub) => format!("sp_mchid={}&sub_mchid={}", self.mch_id, sub.mch_id),
        }
    }

    /// Asks how an order stands, by the merchant's number.
    pub fn query(&self, number: &OutTradeNo) -> PayRequest {
        let number = escaped(number.as_str());
        let (base, query) = (self.base(), self.query_of_seller());
        PayRequest::get(format!("{base}/out-trade-no/{number}?{query}"))
    }

    /// Asks how an order stands, by WeChat Pay's number.
    pub fn query_transaction(&self, id: &TransactionId) -> PayRequest {
        let id = escaped(id.as_str());
        let (base, query) = (self.base(), self.query_of_seller());
        PayRequest::get(format!("{base}/id/{id}?{query}"))
    }

    /// Closes an order that is not paid.
    pub fn close(&self, number: &OutTradeNo) -> PayRequest {
        let body = match &self.sub {
            None => json!({ "mchid": self.mch_id }),
            Some(sub) => json!({ "sp_mchid": self.mch_id, "sub_mchid": sub.mch_id }),
        };
        let number = escaped(number.as_str());
        PayRequest::post(
            format!("{}/out-trade-no/{number}/close", self.base()),
            &body,
        )
    }

    /// Asks how a refund stands.
    pub fn query_refund(&self, number: &OutRefundNo) -> PayRequest {
        let number = escaped(number.as_str());
        let sub = self.sub.as_ref();
        let query = sub.map_or_else(String::new, |sub| format!("?sub_mchid={}", sub.mch_id));
        PayRequest::get(format!("/v3/refund/domestic/refunds/{number}{query}"))
    }
}

/// Where an order is paid.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scene {
    /// In a page inside WeChat, or a mini program, by this person.
    Jsapi {
        /// Who pays.
        open_id: OpenId,
    },
    /// By scanning a QR code.
    Native,
    /// In an app.
    App,
    /// In a browser outside of WeChat.
    H5 {
        /// The payer's address.
        payer_client_ip: String,
        /// `iOS`, `Android` or `Wap`.
        kind: String,
    },
}

impl Scene {
    fn word(&self) -> &'static str {
        match self {
            Self::Jsapi { .. } => "jsapi",
            Self::Native => "native",
            Self::App => "app",
            Self::H5 { .. } => "h5",
        }
    }
}

/// An order. Sent again with the same number it has to be the same in every field.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who sells.
    pub seller: Seller,
    /// Where it is paid.
    pub scene: Scene,
    /// The merchant's number.
    pub out_trade_no: OutTradeNo,
    /// What the payer sees: 1 to 127 characters.
    pub description: String,
    /// What is to be paid.
    pub total: Fen,
    /// Where WeChat Pay tells that it is paid: no query, 255 bytes at most.
    pub notify_url: String,
    /// Comes back with it: 128 characters at most.
    pub attach: Option<String>,
    /// When it can't be paid any more, Unix seconds.
    pub expires_at_s: Option<i64>,
    /// Whether its money waits to be shared (分账).
    pub shares_profit: bool,
    /// The payer's address, where it is known; of a browser it stands in the scene.
    pub payer_client_ip: Option<String>,
    /// For coupons: 32 characters at most.
    pub goods_tag: Option<String>,
    /// What is bought, in WeChat Pay's own form.
    pub detail: Option<Value>,
}

/// What WeChat Pay gives for an order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Prepay {
    /// In a page inside WeChat, or in an app: good for two hours.
    Id(PrepayId),
    /// The address that a browser is sent to: good for five minutes.
    H5Url(String),
    /// The content of a QR code: good for two hours.
    CodeUrl(String),
}

impl Order {
    /// The call that makes the order.
    ///
    /// # Errors
    /// A limit of WeChat Pay's that it breaks.
    pub fn request(&self) -> Result<PayRequest, InvalidOrder> {
        self.check()?;
        let mut body = json!({
            "description": self.description,
            "out_trade_no": self.out_trade_no,
            "notify_url": self.notify_url,
            "amount": { "total": self.total, "currency": "CNY" },
        });
        let mut set = |name: &str, value: Value| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        let seller = &self.seller;
        match &seller.sub {
            None => {
                set("appid", json!(seller.app_id));
                set("mchid", json!(seller.mch_id));
            }
            Some(sub) => {
                set("sp_appid", json!(seller.app_id));
                set("sp_mchid", json!(seller.mch_id));
                set("sub_mchid", json!(sub.mch_id));
                if let Some(app_id) = &sub.app_id {
                    set("sub_appid", json!(app_id));
                }
            }
        }
        if let Some(attach) = &self.attach {
            set("attach", json!(attach));
        }
        if let Some(seconds) = self.expires_at_s {
            let time = time::written(seconds);
            let time = time.ok_or_else(|| InvalidOrder::new("time_expire", "is no time"))?;
            set("time_expire", json!(time));
        }
        if let Some(tag) = &self.goods_tag {
            set("goods_tag", json!(tag));
        }
        if let Some(detail) = &self.detail {
            set("detail", detail.clone());
        }
        if self.shares_profit {
            set("settle_info", json!({ "profit_sharing": true }));
        }
        match &self.scene {
            Scene::Jsapi { open_id } => {
                let sub = seller.sub.as_ref();
                let name = match sub.map(|sub| sub.app_id.is_some()) {
                    None => "openid",
                    Some(false) => "sp_openid",
                    Some(true) => "sub_openid",
                };
                set("payer", json!({ name: open_id }));
            }
            Scene::H5 {
                payer_client_ip,
                kind,
            } => set(
                "scene_info",
                json!({ "payer_client_ip": payer_client_ip, "h5_info": { "type": kind } }),
            ),
            Scene::Native | Scene::App => {}
        }
        if let (Some(ip), false) = (
            &self.payer_client_ip,
            matches!(self.scene, Scene::H5 { .. }),
        ) {
            set("scene_info", json!({ "payer_client_ip": ip }));
        }
        let path = format!("{}/{}", seller.base(), self.scene.word());
        Ok(PayRequest::post(path, &body))
    }

    fn check(&self) -> Result<(), InvalidOrder> {
        let characters = self.description.chars().count();
        if !(1..=MAX_DESCRIPTION).contains(&characters) {
            let reason = format!("must have 1 to {MAX_DESCRIPTION} characters");
            return Err(InvalidOrder::new("description", reason));
        }
        let too_long = |text: &Option<String>, most: usize| {
            text.as_ref()
                .is_some_and(|text| text.chars().count() > most)
        };
        if too_long(&self.attach, MAX_ATTACH) {
            let reason = format!("must have {MAX_ATTACH} characters at most");
            return Err(InvalidOrder::new("attach", reason));
        }
        if too_long(&self.goods_tag, MAX_GOODS_TAG) {
            let reason = format!("must have {MAX_GOODS_TAG} characters at most");
            return Err(InvalidOrder::new("goods_tag", reason));
        }
        if Fen::parse_positive(self.total.get()).is_err() {
            return Err(InvalidOrder::new("amount.total", "must be a fen at least"));
        }
        check_notify_url(&self.notify_url)?;
        if let Scene::H5 {
            payer_client_ip,
            kind,
        } = &self.scene
        {
            if payer_client_ip.parse::<std::net::IpAddr>().is_err() {
                return Err(InvalidOrder::new("payer_client_ip", "is no IP address"));
            }
            if !matches!(&**kind, "iOS" | "Android" | "Wap") {
                return Err(InvalidOrder::new(
                    "h5_info.type",
                    "must be iOS, Android or Wap",
                ));
            }
        }
        Ok(())
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// It is not what WeChat Pay documents.
    pub fn answer(&self, body: &[u8]) -> Result<Prepay, AnswerError> {
        #[derive(Deserialize)]
        struct Body {
            prepay_id: Option<String>,
            h5_url: Option<String>,
            code_url: Option<String>,
        }
        let body: Body = read(body)?;
        let lacks = |name: &str| AnswerError(format!("it lacks {name}"));
        match self.scene {
            Scene::Jsapi { .. } | Scene::App => {
                let id = body.prepay_id.ok_or_else(|| lacks("prepay_id"))?;
                let id = PrepayId::parse(&id);
                id.map(Prepay::Id)
                    .map_err(|error| AnswerError(error.to_string()))
            }
            Scene::H5 { .. } => body
                .h5_url
                .map(Prepay::H5Url)
                .ok_or_else(|| lacks("h5_url")),
            Scene::Native => body
                .code_url
                .map(Prepay::CodeUrl)
                .ok_or_else(|| lacks("code_url")),
        }
    }
}

pub(super) fn check_notify_url(url: &str) -> Result<(), InvalidOrder> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if !is_web || url.contains(['?', '#']) || url.len() > MAX_NOTIFY_URL {
        let reason =
            format!("must be an address without a query, of {MAX_NOTIFY_URL} bytes at most");
        return Err(InvalidOrder::new("notify_url", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(scene: Scene) -> Order {
        Order {
            seller: Seller {
                app_id: AppId::parse("wx01").unwrap(),
                mch_id: MchId::parse("1900000001").unwrap(),
                sub: None,
            },
            scene,
            out_trade_no: OutTradeNo::parse("o|000*1").unwrap(),
            description: "茶".into(),
            total: Fen::new(100),
            notify_url: "https://pay.example/notify/wx01/1900000001".into(),
            attach: Some("a".into()),
            expires_at_s: Some(1_528_425_296),
            shares_profit: false,
            payer_client_ip: None,
            goods_tag: None,
            detail: None,
        }
    }

    fn jsapi() -> Scene {
        Scene::Jsapi {
            open_id: OpenId::parse("oA").unwrap(),
        }
    }

    #[test]
    fn an_order_is_what_the_document_says() {
        let request = order(jsapi()).request().unwrap();
        assert_eq!(request.path, "/v3/pay/transactions/jsapi");
        let body: Value = serde_json::from_str(request.body.as_deref().unwrap()).unwrap();
        assert_eq!(
            body,
            json!({
                "appid": "wx01", "mchid": "1900000001", "description": "茶", "out_trade_no": "o|000*1",
                "notify_url": "https://pay.example/notify/wx01/1900000001", "attach": "a",
                "time_expire": "2018-06-08T10:34:56+08:00",
                "amount": { "total": 100, "currency": "CNY" }, "payer": { "openid": "oA" },
            })
        );
        let seller = order(Scene::Native).seller;
        let number = OutTradeNo::parse("o|000*1").unwrap();
        assert_eq!(
            seller.query(&number).path,
            "/v3/pay/transactions/out-trade-no/o%7C000%2A1?mchid=1900000001"
        );
        assert_eq!(
            seller.close(&number).body.as_deref(),
            Some(r#"{"mchid":"1900000001"}"#)
        );
    }

    #[test]
    fn a_partner_orders_for_a_sub_merchant() {
        let mut order = order(jsapi());
        order.seller.sub = Some(SubMerchant {
            mch_id: MchId::parse("1900000109").unwrap(),
            app_id: None,
        });
        let request = order.request().unwrap();
        assert_eq!(request.path, "/v3/pay/partner/transactions/jsapi");
        let body: Value = serde_json::from_str(request.body.as_deref().unwrap()).unwrap();
        assert_eq!(body["sp_mchid"], "1900000001");
        assert_eq!(body["sub_mchid"], "1900000109");
        assert_eq!(body["payer"], json!({ "sp_openid": "oA" }));
        assert!(body.get("mchid").is_none());
        let number = OutTradeNo::parse("123456").unwrap();
        assert!(
            order
                .seller
                .query(&number)
                .path
                .ends_with("?sp_mchid=1900000001&sub_mchid=1900000109")
        );
    }

    #[test]
    fn what_wechat_pay_would_refuse_is_not_sent() {
        let h5 = |ip: &str, kind: &str| Scene::H5 {
            payer_client_ip: ip.into(),
            kind: kind.into(),
        };
        let spoilt: [(&str, Order); 8] = [
            (
                "description",
                Order {
                    description: String::new(),
                    ..order(jsapi())
                },
            ),
            (
                "description",
                Order {
                    description: "茶".repeat(128),
                    ..order(jsapi())
                },
            ),
            (
                "attach",
                Order {
                    attach: Some("茶".repeat(129)),
                    ..order(jsapi())
                },
            ),
            (
                "amount.total",
                Order {
                    total: Fen::ZERO,
                    ..order(jsapi())
                },
            ),
            (
                "amount.total",
                Order {
                    total: Fen::new(-1),
                    ..order(jsapi())
                },
            ),
            (
                "notify_url",
                Order {
                    notify_url: "https://a.example/?x".into(),
                    ..order(jsapi())
                },
            ),
            ("payer_client_ip", order(h5("nowhere", "Wap"))),
            ("h5_info.type", order(h5("10.0.0.1", "Other"))),
        ];
        for (field, order) in spoilt {
            assert_eq!(order.request().unwrap_err().field, field);
        }
    }

    #[test]
    fn an_answer_gives_what_the_scene_is_paid_by() {
        let id = order(jsapi()).answer(br#"{"prepay_id":"wx1"}"#).unwrap();
        assert_eq!(id, Prepay::Id(PrepayId::parse("wx1").unwrap()));
        let code = order(Scene::Native)
            .answer(br#"{"code_url":"weixin://x"}"#)
            .unwrap();
        assert_eq!(code, Prepay::CodeUrl("weixin://x".into()));
        assert!(
            order(jsapi())
                .answer(br#"{"code_url":"weixin://x"}"#)
                .is_err()
        );
        assert!(order(jsapi()).answer(br#"{"prepay_id":""}"#).is_err());
        assert!(order(jsapi()).answer(b"{").is_err());
    }
}
