//! WeChat Pay (微信支付) APIv3: what merchants sign and verify, what they ask, and what they are told. Pure, as all of
//! this crate.
//!
//! Reading order:
//!
//! 1. [`fen`]: money; [`id`]: numbers of merchants, orders and refunds.
//! 2. [`key`]: the keys on both sides; [`signature`]: what travels is signed; [`aead`]: what WeChat Pay tells is sealed.
//! 3. [`call`]: a call, unsigned; [`refusal`]: how WeChat Pay says no, and what to do then.
//! 4. [`order`], [`transaction`], [`refund`]: what is paid and given back; [`invocation`]: how a payer pays.
//! 5. [`notice`]: what WeChat Pay tells; [`certificates`]: what it signs with.
//!
//! The rules come from WeChat Pay's documents 签名生成, 签名验证, 回调通知 and those of each call (微信支付 APIv3 文档).

pub mod fen;
pub mod id;

pub mod aead;
pub mod key;
pub mod signature;

pub mod call;
pub mod refusal;

pub mod invocation;
pub mod order;
pub mod refund;
pub mod transaction;

pub mod certificates;
pub mod notice;
mod time;

pub use aead::AeadError;
pub use call::PayRequest;
pub use fen::{Fen, FenError};
pub use id::{MchId, OutRefundNo, OutTradeNo, PrepayId, RefundId, Serial, TransactionId};
pub use invocation::{AppInvocation, JsapiInvocation, app, jsapi};
pub use key::{ApiV3Key, Certificate, KeyError, MerchantKey, PlatformKey};
pub use notice::{Envelope, Notice, NoticeError};
pub use order::{InvalidOrder, Order, Prepay, Scene, Seller, SubMerchant};
pub use refund::{PaidBy, Refund, RefundRequest, RefundStatus};
pub use refusal::{PayAdvice, PayRefusal};
pub use signature::{SignatureError, Signed, Stamp, authorization};
pub use transaction::{TradeState, Transaction};

/// An answer or a notice that is not what WeChat Pay's document promises. It may hold what is nobody's business, and
/// is not repeated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not what wechat pay documents: {0}")]
pub struct AnswerError(pub(crate) String);

/// A document of WeChat Pay's, as `T`. Fields that are not known are passed over.
pub(crate) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, AnswerError> {
    serde_json::from_slice(body).map_err(|error| {
        // Without what stands there.
        let (line, column) = (error.line(), error.column());
        AnswerError(format!(
            "{:?} error at line {line}, column {column}",
            error.classify()
        ))
    })
}
