//! Calls of WeChat Pay (微信支付 APIv3): signed with a merchant's key, and believed only if WeChat Pay's own signature
//! on the answer is good.
//!
//! An answer that can't be verified, a broken connection and a silence are one thing here: nobody knows whether
//! WeChat Pay has done what it was asked ([`PayCallError::Unsure`]). Money is never moved again on such a word; it is
//! asked about under the same number.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::Response;
use tokio::time::Instant;
use wxhost_wechat::api;
use wxhost_wechat::pay::{self, PayAdvice, PayRefusal, PayRequest, SignatureError, Signed, Stamp};

use crate::clock::Clock;
use crate::db::DbError;
use crate::merchants::{Merchant, Merchants};
use crate::random;
use crate::transport::{ApiRequest, CALL_CEILING, Payload, Transport, TransportError};

/// Bytes of an answer that is read: a list of platform certificates has some 10 KiB.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Bytes of randomness in a nonce: WeChat Pay's usual 32 digits.
const NONCE_BYTES: usize = 16;
/// WeChat Pay refuses calls without a name.
const USER_AGENT: &str = concat!("wxhost/", env!("CARGO_PKG_VERSION"));

/// Why a call came to nothing, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum PayCallError {
    /// The merchant has no API certificate to sign with.
    #[error("the merchant has no API certificate to sign with")]
    NoCertificate,
    /// WeChat Pay says no.
    #[error("wechat pay refuses: {} {} (http {})", .0.code, .0.message, .0.status)]
    Refused(PayRefusal),
    /// Nothing was sent.
    #[error("wechat pay cannot be reached")]
    Unreachable,
    /// Whether it was done is unknown.
    #[error("whether wechat pay has done it is unknown: {0}")]
    Unsure(String),
}

impl PayCallError {
    /// Whether nothing was done, for sure.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::NoCertificate | Self::Unreachable => true,
            Self::Refused(refusal) => refusal.advice() != PayAdvice::Unknown,
            Self::Unsure(_) => false,
        }
    }
}

/// Calls WeChat Pay for merchants.
pub struct MerchantClient {
    transport: Transport,
    merchants: Arc<Merchants>,
    clock: Clock,
}

impl std::fmt::Debug for MerchantClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MerchantClient").finish_non_exhaustive()
    }
}

impl MerchantClient {
    /// A client over connections to WeChat Pay.
    pub fn new(transport: Transport, merchants: Arc<Merchants>) -> Self {
        Self {
            transport,
            merchants,
            clock: Clock,
        }
    }

    /// Whose calls these are.
    pub fn merchants(&self) -> &Arc<Merchants> {
        &self.merchants
    }

    /// Makes a call; the answer's body.
    ///
    /// # Errors
    /// WeChat Pay refuses, or nobody knows.
    pub async fn call(
        &self,
        merchant: &Merchant,
        request: &PayRequest,
        deadline: Instant,
    ) -> Result<Bytes, PayCallError> {
        let answer = self.exchange(merchant, request, deadline).await?;
        if !request.is_signed_answer {
            return Ok(answer.body);
        }
        match answer.check(merchant, self.clock) {
            Ok(()) => return Ok(answer.body),
            Err(SignatureError::UnknownSerial(_)) if merchant.uses_certificates() => {}
            Err(error) => return Err(unbelieved(&error)),
        }
        // WeChat Pay signs with a certificate that is new: it is to be had.
        let renewed = self.renew_certificates(merchant, deadline).await?;
        answer
            .check(&renewed, self.clock)
            .map_err(|error| unbelieved(&error))?;
        Ok(answer.body)
    }

    /// Reads WeChat Pay's platform certificates, and keeps those that are new. The merchant as it is then.
    ///
    /// # Errors
    /// They can't be had, or are not WeChat Pay's.
    pub async fn renew_certificates(
        &self,
        merchant: &Merchant,
        deadline: Instant,
    ) -> Result<Arc<Merchant>, PayCallError> {
        let request = pay::certificates::request();
        let answer = self.exchange(merchant, &request, deadline).await?;
        let opened = merchant
            .v3_keys()
            .iter()
            .find_map(|key| pay::certificates::read(&answer.body, key).ok());
        let Some(keys) = opened else {
            let said = "its platform certificates open with none of the merchant's APIv3 keys";
            return Err(PayCallError::Unsure(said.to_owned()));
        };
        // The first ones can be verified by themselves only: the APIv3 key vouches for them.
        let found: Vec<_> = keys.into_iter().map(Arc::new).collect();
        let known = |serial: &str| {
            let among = found.iter().find(|key| key.serial().as_str() == serial);
            among.or_else(|| merchant.platform_key(serial)).cloned()
        };
        answer
            .signed()
            .check(&answer.body, &known, self.clock.now_seconds())
            .map_err(|error| unbelieved(&error))?;
        let kept = self
            .merchants
            .keep_certificates(&merchant.mch_id, &found)
            .await;
        let gone = |error: DbError| PayCallError::Unsure(error.to_string());
        kept.map_err(gone)?;
        let renewed = self.merchants.get(merchant.mch_id.as_str());
        renewed.ok_or_else(|| PayCallError::Unsure("the merchant is gone".to_owned()))
    }

    async fn exchange(
        &self,
        merchant: &Merchant,
        request: &PayRequest,
        deadline: Instant,
    ) -> Result<Answer, PayCallError> {
        let key = merchant.signing_key().ok_or(PayCallError::NoCertificate)?;
        let method = match request.method {
            api::Method::Get => Method::GET,
            api::Method::Post => Method::POST,
        };
        let body = Bytes::from(request.body.clone().unwrap_or_default());
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce);
        let nonce = hex::encode_upper(nonce);
        let stamp = Stamp {
            timestamp_s: self.clock.now_seconds(),
            nonce: &nonce,
        };
        let (mch_id, path) = (&merchant.mch_id, &*request.path);
        let authorization = pay::authorization(mch_id, key, method.as_str(), path, &body, stamp);
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(header::AUTHORIZATION, &authorization);
        set(header::ACCEPT, "application/json");
        set(header::USER_AGENT, USER_AGENT);
        if !body.is_empty() {
            set(header::CONTENT_TYPE, "application/json");
        }
        let serial = request
            .sealed_with
            .as_ref()
            .or(merchant.answers_by.as_ref());
        if let Some(serial) = serial {
            set(HeaderName::from_static("wechatpay-serial"), serial.as_str());
        }
        let outgoing = ApiRequest {
            method,
            path,
            query: Vec::new(),
            headers,
            body: Payload::Whole(body),
        };
        let deadline = deadline.min(Instant::now() + CALL_CEILING);
        let answer = async {
            let response = self.transport.send(outgoing).await.map_err(unanswered)?;
            read(response).await
        };
        let answer = tokio::time::timeout_at(deadline, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(unanswered(TransportError::Timeout)))?;
        match answer.status {
            200..300 => Ok(answer),
            status => Err(PayCallError::Refused(PayRefusal::read(
                status,
                &answer.body,
            ))),
        }
    }
}

/// What WeChat Pay has answered.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn signed(&self) -> Signed<'_> {
        signed(&self.headers)
    }

    fn check(&self, merchant: &Merchant, clock: Clock) -> Result<(), SignatureError> {
        let known = |serial: &str| merchant.platform_key(serial).cloned();
        self.signed().check(&self.body, &known, clock.now_seconds())
    }
}

/// The signature in the headers of an answer or a notification; what is absent is empty.
pub fn signed(headers: &HeaderMap) -> Signed<'_> {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    Signed {
        timestamp: text("wechatpay-timestamp"),
        nonce: text("wechatpay-nonce"),
        signature: text("wechatpay-signature"),
        serial: text("wechatpay-serial"),
    }
}

fn unbelieved(error: &SignatureError) -> PayCallError {
    PayCallError::Unsure(format!("its answer can't be verified: {error}"))
}

fn unanswered(error: TransportError) -> PayCallError {
    match error {
        TransportError::Unreachable => PayCallError::Unreachable,
        TransportError::Broken
        | TransportError::Timeout
        | TransportError::TooLarge
        | TransportError::Body(_)
        | TransportError::Status(_) => PayCallError::Unsure(error.to_string()),
    }
}

async fn read(mut response: Response) -> Result<Answer, PayCallError> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    let broken = |_| unanswered(TransportError::Broken);
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(unanswered(TransportError::TooLarge));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        status,
        headers,
        body: body.freeze(),
    })
}
