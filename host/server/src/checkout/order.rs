//! What is to be paid for, as its maker says it, as it is stored, and as WeChat Pay has it.

use serde::{Deserialize, Serialize};
use wxhost_wechat::id::OpenId;
use wxhost_wechat::pay::{self, Fen, MchId, Order, OutTradeNo, PayRefusal};

use crate::db::DbError;
use crate::db::ledger::orders::OrderRow;
use crate::merchants::{Binding, NoMerchant};

/// Where an order is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scene {
    /// In a page inside WeChat, by this person.
    Jsapi(OpenId),
    /// By scanning a QR code.
    Native,
    /// In the merchant's app.
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
    /// Who is to pay, where that is said.
    pub fn open_id(&self) -> Option<&str> {
        match self {
            Self::Jsapi(open_id) => Some(open_id.as_str()),
            Self::Native | Self::App | Self::H5 { .. } => None,
        }
    }
}

/// What is to be paid for.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Names it.
    pub out_trade_no: OutTradeNo,
    /// Which of the account's merchants is paid.
    pub merchant: Option<String>,
    /// Where it is paid.
    pub scene: Scene,
    /// What the payer sees.
    pub description: String,
    /// What is to be paid.
    pub total: Fen,
    /// Comes back with it.
    pub attach: Option<String>,
    /// When it can't be paid any more, Unix milliseconds.
    pub expires_at: Option<i64>,
}

/// Why there is no order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The account's orders go to no merchant.
    #[error(transparent)]
    NoMerchant(#[from] NoMerchant),
    /// Something of it is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is one of this number with other data: in what it differs.
    #[error("an order of this number has another {0}")]
    Differs(&'static str),
    /// It is paid.
    #[error("the order is paid")]
    AlreadyPaid,
    /// It can't be paid any more.
    #[error("the order is closed: take another number")]
    Closed,
    /// It is over this limit of the operator's, of this value.
    #[error("the order is over the limit {0} of {1} fen")]
    Over(&'static str, i64),
    /// There is none of this number.
    #[error("there is no such order")]
    Unknown,
    /// WeChat Pay refused.
    #[error("wechat pay refuses: {} {}", .0.code, .0.message)]
    Refused(PayRefusal),
    /// The merchant's owner has to mend something.
    #[error("{0}")]
    Owner(String),
    /// What WeChat Pay says contradicts the order.
    #[error("what wechat pay says contradicts the order: {0}")]
    Contradiction(String),
    /// Whether WeChat Pay has done it is unknown, or it can't be asked now: ask again with the same number and data.
    #[error("wechat pay can't be asked now, or its answer got lost: {0}")]
    Unsure(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl OrderError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoMerchant(_) => "no-merchant",
            Self::Invalid(_) => "invalid-order",
            Self::Differs(_) => "order-differs",
            Self::AlreadyPaid => "order-paid",
            Self::Closed => "order-closed",
            Self::Over(_, _) => "over-limit",
            Self::Unknown => "unknown-order",
            Self::Refused(_) => "refused-by-wechat-pay",
            Self::Owner(_) => "merchant-needs-owner",
            Self::Contradiction(_) => "contradicts-ledger",
            Self::Unsure(_) => "wechat-pay-unavailable",
            Self::Database(_) => "unavailable",
        }
    }
}

/// Where an order is paid, as it is stored. Who pays has a column of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum StoredScene {
    /// In a page inside WeChat.
    Jsapi,
    /// By scanning a QR code.
    Native,
    /// In the merchant's app.
    App,
    /// In a browser outside of WeChat.
    H5 {
        /// The payer's address.
        ip: String,
        /// `iOS`, `Android` or `Wap`.
        browser: String,
    },
}

impl From<&Scene> for StoredScene {
    fn from(scene: &Scene) -> Self {
        match scene {
            Scene::Jsapi(_) => Self::Jsapi,
            Scene::Native => Self::Native,
            Scene::App => Self::App,
            Scene::H5 {
                payer_client_ip,
                kind,
            } => Self::H5 {
                ip: payer_client_ip.clone(),
                browser: kind.clone(),
            },
        }
    }
}

impl StoredScene {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The scene of a stored order.
    pub(super) fn of(order: &OrderRow) -> Result<Self, OrderError> {
        serde_json::from_str(&order.scene).map_err(|error| OrderError::Invalid(error.to_string()))
    }
}

/// All that makes an order another one.
pub(super) fn described(new: &NewOrder, mch_id: &MchId) -> String {
    let scene = StoredScene::from(&new.scene).to_json();
    let parts = (
        mch_id.as_str(),
        scene,
        new.scene.open_id(),
        &new.description,
        new.total.get(),
        &new.attach,
        new.expires_at,
    );
    serde_json::to_string(&parts).unwrap_or_default()
}

/// In what two orders of a number differ.
pub(super) fn difference(before: &OrderRow, now: &OrderRow) -> &'static str {
    if before.total != now.total {
        "total"
    } else if before.open_id != now.open_id {
        "payer"
    } else if before.scene != now.scene {
        "scene"
    } else if before.description != now.description {
        "description"
    } else if before.attach != now.attach {
        "attach"
    } else {
        "expires-at"
    }
}

/// A stored order as WeChat Pay takes it: the same whenever it is sent.
pub(super) fn as_wechat_has_it(binding: &Binding, order: &OrderRow) -> Result<Order, OrderError> {
    let invalid = |error: &dyn std::fmt::Display| OrderError::Invalid(error.to_string());
    let app_id = wxhost_wechat::id::AppId::parse(&order.app_id).map_err(|e| invalid(&e))?;
    let scene = match StoredScene::of(order)? {
        StoredScene::Jsapi => pay::Scene::Jsapi {
            open_id: OpenId::parse(order.open_id.as_deref().unwrap_or_default())
                .map_err(|e| invalid(&e))?,
        },
        StoredScene::Native => pay::Scene::Native,
        StoredScene::App => pay::Scene::App,
        StoredScene::H5 { ip, browser } => pay::Scene::H5 {
            payer_client_ip: ip,
            kind: browser,
        },
    };
    Ok(Order {
        seller: binding.seller.clone(),
        scene,
        out_trade_no: OutTradeNo::parse(&order.out_trade_no).map_err(|e| invalid(&e))?,
        description: order.description.clone(),
        total: Fen::parse_positive(order.total).map_err(|e| invalid(&e))?,
        notify_url: binding.merchant.notify_url(&app_id),
        attach: order.attach.clone(),
        expires_at_s: Some(order.expires_at / 1000),
        shares_profit: false,
        payer_client_ip: None,
        goods_tag: None,
        detail: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewOrder {
        NewOrder {
            out_trade_no: OutTradeNo::parse("order-000001").unwrap(),
            merchant: None,
            scene: Scene::Jsapi(OpenId::parse("oA").unwrap()),
            description: "茶".into(),
            total: Fen::new(100),
            attach: None,
            expires_at: None,
        }
    }

    #[test]
    fn whatever_differs_makes_another_order() {
        let merchant = MchId::parse("1900000001").unwrap();
        let base = described(&new(), &merchant);
        assert_eq!(base, described(&new(), &merchant));
        let changes: [fn(&mut NewOrder); 6] = [
            |order| order.scene = Scene::Jsapi(OpenId::parse("oB").unwrap()),
            |order| order.scene = Scene::Native,
            |order| order.description.push('叶'),
            |order| order.total = Fen::new(101),
            |order| order.attach = Some(String::new()),
            |order| order.expires_at = Some(1),
        ];
        for change in changes {
            let mut order = new();
            change(&mut order);
            assert_ne!(base, described(&order, &merchant));
        }
        let other = MchId::parse("1900000002").unwrap();
        assert_ne!(base, described(&new(), &other));
    }
}
