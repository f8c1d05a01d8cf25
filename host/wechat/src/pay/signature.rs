//! What travels is signed: a merchant's calls (签名生成), and WeChat Pay's answers and notices (签名验证).

use std::sync::Arc;

use super::id::MchId;
use super::key::{MerchantKey, PlatformKey};

/// How far the time of a signature may be off, in seconds.
pub const MAX_SKEW_S: i64 = 300;

/// The scheme of the header `Authorization`.
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// What makes a signature good once.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Unix seconds.
    pub timestamp_s: i64,
    /// Nothing that can be foretold.
    pub nonce: &'a str,
}

/// The value of the header `Authorization` of a call. `path_and_query` is as it stands on the wire.
pub fn authorization(
    mch_id: &MchId,
    key: &MerchantKey,
    method: &str,
    path_and_query: &str,
    body: &[u8],
    stamp: Stamp<'_>,
) -> String {
    let Stamp { timestamp_s, nonce } = stamp;
    let mut message = format!("{method}\n{path_and_query}\n{timestamp_s}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    format!(
        "{SCHEME} mchid=\"{mch_id}\",nonce_str=\"{nonce}\",signature=\"{}\",\
         timestamp=\"{timestamp_s}\",serial_no=\"{}\"",
        key.sign(&message),
        key.serial()
    )
}

/// Why something is not taken for WeChat Pay's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// It was signed too long ago, or ahead of our time.
    #[error("it was signed {skew_s} s off our time; {MAX_SKEW_S} are allowed")]
    Stale {
        /// Seconds.
        skew_s: i64,
    },
    /// No key of this name is known.
    #[error("no key {0:?} is known")]
    UnknownSerial(String),
    /// It is not signed by this key. WeChat Pay sends such signatures on purpose now and then (签名探测).
    #[error("the signature is wrong")]
    Wrong,
}

/// The signature in the headers of an answer or a notice; what is missing is empty.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `Wechatpay-Timestamp`.
    pub timestamp: &'a str,
    /// `Wechatpay-Nonce`.
    pub nonce: &'a str,
    /// `Wechatpay-Signature`.
    pub signature: &'a str,
    /// `Wechatpay-Serial`.
    pub serial: &'a str,
}

impl Signed<'_> {
    /// Checks that WeChat Pay has signed these bytes, lately.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check(
        &self,
        body: &[u8],
        keys: &dyn Fn(&str) -> Option<Arc<PlatformKey>>,
        now_s: i64,
    ) -> Result<(), SignatureError> {
        for (name, value) in [
            ("Wechatpay-Timestamp", self.timestamp),
            ("Wechatpay-Nonce", self.nonce),
            ("Wechatpay-Signature", self.signature),
            ("Wechatpay-Serial", self.serial),
        ] {
            if value.is_empty() {
                return Err(SignatureError::Missing(name));
            }
        }
        let signed_at: i64 = self.timestamp.parse().map_err(|_| SignatureError::Wrong)?;
        let skew_s = now_s.saturating_sub(signed_at);
        if skew_s.unsigned_abs() > MAX_SKEW_S.unsigned_abs() {
            return Err(SignatureError::Stale { skew_s });
        }
        let unknown = || SignatureError::UnknownSerial(self.serial.chars().take(64).collect());
        let key = keys(self.serial).ok_or_else(unknown)?;
        let mut message = format!("{}\n{}\n", self.timestamp, self.nonce).into_bytes();
        message.extend_from_slice(body);
        message.push(b'\n');
        match key.verify(&message, self.signature) {
            true => Ok(()),
            false => Err(SignatureError::Wrong),
        }
    }
}
