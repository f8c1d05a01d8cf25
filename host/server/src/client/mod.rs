//! Calls of WeChat's API for an account: the token is added here, and no caller ever sees one.
//!
//! - [`Client::call`]: a typed call of `wxhost_wechat::api`, its answer read.
//! - [`Client::send`]: a request, its answer as bytes, so that numbers stay as WeChat wrote them.
//! - [`Client::upload`]: a typed call that carries a file, piece by piece.
//! - [`Client::raw`]: anything, body and status untouched, for the forward API and for downloads.
//!
//! A call that WeChat refuses for its token is made once more with another token. A call that may be
//! repeated is, while WeChat is busy and the caller has time. Everything else is for the caller, by
//! [`CallError`].

mod raw;
#[cfg(test)]
mod tests;
mod transport;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wxhost_wechat::api::{AnswerError, Body, Call, InvalidCall, Request};
use wxhost_wechat::errcode::{self, ApiError};

pub use self::raw::{RawRequest, RawResponse};
pub use self::transport::{
    CALL_CEILING, MAX_ANSWER_BYTES, OpenError, Payload, Transport, TransportError,
};
pub use self::upload::Upload;
use crate::accounts::{Account, Attention};
use crate::telemetry::{ApiCallLabels, Metrics, Word};
use crate::tokens::{Credential, TokenError, Tokens, jittered};

/// The wait before a busy WeChat is asked again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How often a call is made in all, while WeChat is busy.
const TRIES: u32 = 4;

/// Why a call gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The account has no AppSecret.
    #[error("the account has no AppSecret: set one")]
    NoSecret,
    /// WeChat gives the account no token before its owner has acted.
    #[error("the account waits for its owner: {}", attention.message)]
    AccountBlocked {
        /// What is to be mended.
        attention: Attention,
    },
    /// WeChat refused; what may be done says its errcode.
    #[error(transparent)]
    Refused(ApiError),
    /// Nothing was sent.
    #[error("wechat cannot be reached now")]
    Unreachable,
    /// It broke off; whether WeChat has done it is unknown.
    #[error("the connection to wechat broke off")]
    Broken,
    /// There was no token in time: nothing was sent.
    #[error("wechat gives no access token in time")]
    TokenTimeout,
    /// There was no answer in time; whether WeChat has done it is unknown.
    #[error("wechat does not answer in time")]
    Timeout,
    /// The answer is larger than the host reads.
    #[error("the answer of wechat is too large")]
    TooLarge,
    /// The call breaks a limit of WeChat's.
    #[error(transparent)]
    Invalid(InvalidCall),
    /// The answer is not what WeChat's document promises.
    #[error("{0}")]
    Answer(String),
}

impl CallError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSecret => "no-secret",
            Self::AccountBlocked { .. } => "account-blocked",
            Self::Refused(_) => "wechat-refused",
            Self::Unreachable | Self::Broken => "wechat-unreachable",
            Self::TokenTimeout | Self::Timeout => "timeout",
            Self::TooLarge => "answer-too-large",
            Self::Invalid(_) => "invalid-call",
            Self::Answer(_) => "answer-malformed",
        }
    }

    /// Whether WeChat may have done what it was asked, though nothing says so.
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::Broken | Self::Timeout | Self::TooLarge | Self::Answer(_) => true,
            Self::NoSecret
            | Self::AccountBlocked { .. }
            | Self::Refused(_)
            | Self::Unreachable
            | Self::TokenTimeout
            | Self::Invalid(_) => false,
        }
    }

    /// Whether WeChat did not answer at all.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Broken | Self::TokenTimeout | Self::Timeout
        )
    }
}

impl From<TokenError> for CallError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NoSecret => Self::NoSecret,
            TokenError::AccountBlocked { attention } => Self::AccountBlocked { attention },
            TokenError::Refused(refusal) => Self::Refused(refusal),
            TokenError::Unreachable | TokenError::ForcedLately { .. } => Self::Unreachable,
            TokenError::Deadline => Self::TokenTimeout,
        }
    }
}

impl From<TransportError> for CallError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable => Self::Unreachable,
            TransportError::Broken => Self::Broken,
            TransportError::Timeout => Self::Timeout,
            TransportError::TooLarge => Self::TooLarge,
            TransportError::Status(_) => Self::Answer(error.to_string()),
        }
    }
}

impl From<AnswerError> for CallError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Refused(refusal) => Self::Refused(refusal),
            AnswerError::Malformed { .. } => Self::Answer(error.to_string()),
        }
    }
}

/// Calls WeChat.
#[derive(Debug)]
pub struct Client {
    transport: Arc<Transport>,
    tokens: Arc<Tokens>,
    metrics: Arc<Metrics>,
}

impl Client {
    /// Calls through these connections with these tokens.
    pub fn new(transport: Arc<Transport>, tokens: Arc<Tokens>, metrics: Arc<Metrics>) -> Self {
        Self {
            transport,
            tokens,
            metrics,
        }
    }

    /// The tokens that calls are made with.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// Makes a typed call.
    ///
    /// # Errors
    /// The call breaks a limit; there is no token; WeChat refuses, or gives no answer in time.
    pub async fn call<C: Call>(
        &self,
        account: &Arc<Account>,
        call: &C,
        deadline: Instant,
    ) -> Result<C::Answer, CallError> {
        let request = call.request().map_err(CallError::Invalid)?;
        let made = self.exchange(account, &request, deadline).await;
        let answer = made.and_then(|body| C::answer(&body).map_err(CallError::from));
        self.count(answer.as_ref().err());
        answer
    }

    /// Sends a request and gives WeChat's answer, if it is none of an error, as it came.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn send(
        &self,
        account: &Arc<Account>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let made = self.exchange(account, request, deadline).await;
        let answer = made.and_then(|body| match errcode::read(&body) {
            Ok(()) => Ok(body),
            Err(refusal) => Err(CallError::Refused(refusal)),
        });
        self.count(answer.as_ref().err());
        answer
    }

    /// An answer, after what can be mended was: a bad token, a busy WeChat.
    async fn exchange(
        &self,
        account: &Arc<Account>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        if matches!(request.body, Body::Multipart(_)) {
            return Err(CallError::Answer("a file is sent by upload".into()));
        }
        let (mut renewed, mut tries, mut wait) = (false, 1, FIRST_WAIT);
        loop {
            let token = self.tokens.get(account, Credential::AccessToken, deadline);
            let token = match request.needs_token {
                true => Some(token.await?),
                false => None,
            };
            let value = token.as_ref().map(|token| token.expose());
            let answer = self.transport.exchange(request, value, deadline).await;
            let is_busy = match &answer {
                Ok(body) => match errcode::read(body) {
                    Err(refusal)
                        if refusal.errcode.on(&request.path).names_bad_token() && !renewed =>
                    {
                        renewed = true;
                        match &token {
                            Some(token) if self.tokens.expire(account, token).await => continue,
                            _ => false,
                        }
                    }
                    Err(refusal) => refusal.errcode.is_busy(),
                    Ok(()) => false,
                },
                Err(TransportError::Broken | TransportError::Status(500..)) => true,
                Err(_) => false,
            };
            let pause = jittered(wait);
            let may_repeat = request.idempotent && tries < TRIES;
            if !(is_busy && may_repeat && Instant::now() + pause < deadline) {
                return Ok(answer?);
            }
            tokio::time::sleep(pause).await;
            tries += 1;
            wait *= 2;
        }
    }

    fn count(&self, error: Option<&CallError>) {
        let class = match error {
            None => "ok",
            Some(error) => error.code(),
        };
        let labels = ApiCallLabels {
            class: Word(class.into()),
        };
        self.metrics.api_calls.get_or_create(&labels).inc();
    }
}
