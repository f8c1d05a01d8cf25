//! How a payer's page or app has WeChat's cashier come up (调起支付): parameters that the merchant signs.

use serde::Serialize;

use super::id::{MchId, PrepayId};
use super::key::MerchantKey;
use super::signature::Stamp;
use crate::id::AppId;

/// What a page inside WeChat gives to `WeixinJSBridge` (`getBrandWCPayRequest`), and a mini program to
/// `wx.requestPayment`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JsapiInvocation {
    /// The page's app id.
    pub app_id: String,
    /// Unix seconds, a text.
    pub time_stamp: String,
    /// Random.
    pub nonce_str: String,
    /// `prepay_id=…`.
    pub package: String,
    /// `RSA`.
    pub sign_type: &'static str,
    /// The signature.
    pub pay_sign: String,
}

/// What an app gives to WeChat's SDK.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AppInvocation {
    /// The app's app id.
    pub appid: String,
    /// The merchant.
    pub partnerid: String,
    /// What the order is paid by.
    pub prepayid: String,
    /// `Sign=WXPay`.
    pub package: &'static str,
    /// Random.
    pub noncestr: String,
    /// Unix seconds, a text.
    pub timestamp: String,
    /// The signature.
    pub sign: String,
}

/// Parameters for a page inside WeChat.
pub fn jsapi(
    app_id: &AppId,
    prepay: &PrepayId,
    key: &MerchantKey,
    stamp: Stamp<'_>,
) -> JsapiInvocation {
    let Stamp { timestamp_s, nonce } = stamp;
    let package = format!("prepay_id={prepay}");
    let message = format!("{app_id}\n{timestamp_s}\n{nonce}\n{package}\n");
    JsapiInvocation {
        pay_sign: key.sign(message.as_bytes()),
        app_id: app_id.to_string(),
        time_stamp: timestamp_s.to_string(),
        nonce_str: nonce.to_owned(),
        package,
        sign_type: "RSA",
    }
}

/// Parameters for an app.
pub fn app(
    app_id: &AppId,
    partner_id: &MchId,
    prepay: &PrepayId,
    key: &MerchantKey,
    stamp: Stamp<'_>,
) -> AppInvocation {
    let Stamp { timestamp_s, nonce } = stamp;
    let message = format!("{app_id}\n{timestamp_s}\n{nonce}\n{prepay}\n");
    AppInvocation {
        sign: key.sign(message.as_bytes()),
        appid: app_id.to_string(),
        partnerid: partner_id.to_string(),
        prepayid: prepay.to_string(),
        package: "Sign=WXPay",
        noncestr: nonce.to_owned(),
        timestamp: timestamp_s.to_string(),
    }
}
