//! Whether a call is signed as it must be (签名生成), and by whom.

use http::HeaderMap;

use super::Pay;
use super::merchant::Merchant;
use super::refusal::Refusal;
use crate::api::arrival::Arrival;

/// How far a call's time may be off, in seconds.
const MAX_SKEW_S: u64 = 300;
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048 ";
const MALFORMED: &str = "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》";

/// What a call's headers say, as far as WeChat Pay looks at them.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    pub(crate) user_agent: String,
    pub(crate) accept: String,
    pub(crate) authorization: String,
    /// `Wechatpay-Serial`: by which key the answer is to be signed.
    pub(crate) serial: String,
    /// Path and query as they stood in the request line.
    pub(crate) target: String,
}

impl Headers {
    pub(crate) fn of(headers: &HeaderMap, uri: &http::Uri) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let target = uri.path_and_query().map(ToString::to_string);
        Self {
            user_agent: text("user-agent"),
            accept: text("accept"),
            authorization: text("authorization"),
            serial: text("wechatpay-serial"),
            target: target.unwrap_or_default(),
        }
    }
}

/// Who calls, if the call is signed as it must be.
pub(crate) fn check<'p>(
    pay: &'p mut Pay,
    headers: &Headers,
    arrival: &Arrival,
    now_s: i64,
) -> Result<&'p mut Merchant, Refusal> {
    if headers.user_agent.is_empty() || headers.accept.is_empty() {
        let said = "Http头缺少Accept或User-Agent";
        return Err(Refusal::new(400, "INVALID_REQUEST", said));
    }
    if headers.authorization.is_empty() {
        return Err(Refusal::signature(MALFORMED));
    }
    let Some(fields) = headers.authorization.strip_prefix(SCHEME) else {
        return Err(Refusal::signature("HTTP头Authorization认证类型不正确"));
    };
    let fields = parsed(fields).ok_or_else(|| Refusal::signature(MALFORMED))?;
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(given, _)| *given == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) if !value.is_empty() => Ok(*value),
            _ => Err(Refusal::signature(MALFORMED)),
        }
    };
    let (mch_id, nonce) = (field("mchid")?, field("nonce_str")?);
    let (signature, serial) = (field("signature")?, field("serial_no")?);
    let timestamp = field("timestamp")?;
    let signed_at: i64 = timestamp
        .parse()
        .map_err(|_| Refusal::signature(MALFORMED))?;
    if now_s.abs_diff(signed_at) > MAX_SKEW_S {
        let said = "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟";
        return Err(Refusal::signature(said));
    }
    let Some(merchant) = pay.merchants.get_mut(mch_id) else {
        return Err(Refusal::signature("商户未申请过证书。"));
    };
    let key = merchant.certificates.iter().find(|key| key.name == serial);
    let Some(key) = key else {
        let said = "商户证书序列号有误。请使用签名私钥匹配的证书序列号";
        return Err(Refusal::signature(said));
    };
    let mut message = format!(
        "{}\n{}\n{timestamp}\n{nonce}\n",
        arrival.method, headers.target
    )
    .into_bytes();
    message.extend_from_slice(&arrival.body);
    message.push(b'\n');
    match key.verifies(&message, signature) {
        true => Ok(merchant),
        false => Err(Refusal::signature("签名错误")),
    }
}

/// `name="value"` pairs with commas between.
fn parsed(text: &str) -> Option<Vec<(&str, &str)>> {
    let pairs = text.split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((name, value))
    });
    pairs.collect()
}
