//! Calls of WeChat's API for an account: the token is added here, and no caller ever sees one.
//!
//! - [`Client::call`]: a typed call of `wxhost_wechat::api`, its answer read.
//! - [`Client::send`]: a request, its answer as bytes, so that numbers stay as WeChat wrote them.
//! - [`Client::upload`]: a typed call that carries a file, piece by piece.
//! - [`Client::raw`]: anything, body and status untouched, for the forward API and for downloads.
//!
//! A call that WeChat refuses for its token is made once more (`refusals`). A call that may be repeated
//! is, while WeChat is busy and the caller has time. An account whose calls WeChat leaves without an
//! answer rests for a while: [`Client::rest_of`], [`CallError::Resting`]. Everything else is for the
//! caller, by [`CallError`].

mod answer;
mod granted;
mod oauth;
mod raw;
mod refusals;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::api::{AnswerError, Body, Call, InvalidCall, Request};
use wxhost_wechat::errcode::{self, ApiError};

pub use self::answer::AnswerBody;
pub use self::raw::{RawRequest, RawResponse};
use self::refusals::Refusals;
pub use self::upload::Upload;
use crate::accounts::{Account, Platform};
use crate::backoff::jittered;
use crate::credentials::{AddressRefusal, Attention};
use crate::telemetry::{ApiCallLabels, Metrics, Word};
use crate::tokens::{Credential, Miss, Token, TokenError, Tokens};
pub use crate::transport::{
    CALL_CEILING, MAX_ANSWER_BYTES, OpenError, Payload, Transport, TransportError, UnfinishedBody,
};

/// The wait before a busy WeChat is asked again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How often a call is made in all, while WeChat is busy.
const TRIES: u32 = 4;
/// Who waits less than that learns nothing of an account from a time-out.
const TELLING_WAIT: Duration = Duration::from_secs(1);

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
    /// WeChat gives this host no token; another one's address may do.
    #[error("wechat refuses this host's address: {}", refusal.message)]
    AddressRefused {
        /// What it says.
        refusal: AddressRefusal,
    },
    /// WeChat has left the account's last calls without an answer; this one was not made.
    #[error("wechat leaves this account's calls unanswered; the next one is made in {} s", wait.as_secs() + 1)]
    Resting {
        /// Until the next one is made.
        wait: Duration,
    },
    /// The answer repeats the access token, and is not passed on.
    #[error("the answer of wechat repeats the access token")]
    TokenInAnswer,
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
    /// The body that was to be passed on came to no end.
    #[error(transparent)]
    Body(UnfinishedBody),
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
            Self::AddressRefused { .. } => "address-refused",
            Self::Resting { .. } => "account-resting",
            Self::TokenInAnswer => "token-in-answer",
            Self::Refused(_) => "wechat-refused",
            Self::Unreachable | Self::Broken => "wechat-unreachable",
            Self::TokenTimeout | Self::Timeout => "timeout",
            Self::TooLarge => "answer-too-large",
            Self::Body(UnfinishedBody::TooSlow) => "body-too-slow",
            Self::Body(UnfinishedBody::Lost) => "invalid-body",
            Self::Invalid(_) => "invalid-call",
            Self::Answer(_) => "answer-malformed",
        }
    }

    /// Whether WeChat may have done what it was asked, though nothing says so.
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::Broken
            | Self::Timeout
            | Self::TooLarge
            | Self::TokenInAnswer
            | Self::Answer(_) => true,
            Self::NoSecret
            | Self::AccountBlocked { .. }
            | Self::AddressRefused { .. }
            | Self::Resting { .. }
            | Self::Refused(_)
            | Self::Unreachable
            | Self::TokenTimeout
            | Self::Body(_)
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
            TokenError::AddressRefused { refusal } => Self::AddressRefused { refusal },
            TokenError::Refused(refusal) => Self::Refused(refusal),
            TokenError::Unreachable | TokenError::NoTicket | TokenError::ForcedLately { .. } => {
                Self::Unreachable
            }
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
            TransportError::Body(why) => Self::Body(why),
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
        // Behind a pointer: all of HTTP is too deep for the compiler to see through from every caller.
        let made = self.exchange(account, &request, deadline).boxed().await;
        let answer = made.and_then(|body| C::answer(&body).map_err(CallError::from));
        self.count(answer.as_ref().err());
        answer
    }

    /// Makes a call of a third-party platform, with the platform's own token.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_for_platform<C: Call>(
        &self,
        platform: &Arc<Platform>,
        call: &C,
        deadline: Instant,
    ) -> Result<C::Answer, CallError> {
        let request = call.request().map_err(CallError::Invalid)?;
        let made = self.tokens.platform_exchange(platform, &request, deadline);
        let answer = made.boxed().await.map_err(|miss| match miss {
            Miss::Again(Some(refusal)) => CallError::Refused(refusal),
            Miss::Again(None) => CallError::Broken,
            Miss::Unsent => CallError::Unreachable,
            Miss::Final(error) => error.into(),
        });
        let answer = answer.and_then(|body| C::answer(&body).map_err(CallError::from));
        self.count(answer.as_ref().err());
        answer
    }

    /// Makes a call with a token that nobody keeps, or with none: it is proved by a platform's secret then.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_with<C: Call>(
        &self,
        token: Option<&Secret>,
        call: &C,
        deadline: Instant,
    ) -> Result<C::Answer, CallError> {
        let request = call.request().map_err(CallError::Invalid)?;
        let made = self.made_with(token, &request, deadline).await;
        let answer = made.and_then(|body| C::answer(&body).map_err(CallError::from));
        self.count(answer.as_ref().err());
        answer
    }

    /// Sends a request with a token that nobody keeps, and gives the answer as it came: a refusal of WeChat's is
    /// one.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn send_with(
        &self,
        token: &Secret,
        request: &Request,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let answer = self.made_with(Some(token), request, deadline).await;
        self.count(answer.as_ref().err());
        answer
    }

    async fn made_with(
        &self,
        token: Option<&Secret>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let token = token.map(Secret::expose);
        let made = self.transport.exchange(request, token, deadline).boxed();
        Ok(made.await?)
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
        let made = self.exchange(account, request, deadline).boxed().await;
        let answer = made.and_then(|body| match errcode::read(&body) {
            Ok(()) if self.holds_token(account, &body) => Err(CallError::TokenInAnswer),
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
        granted::expect(account, &request.path)?;
        self.permit(account)?;
        let (mut refusals, mut tries, mut wait) = (Refusals::default(), 1, FIRST_WAIT);
        loop {
            let token = match request.needs_token {
                true => Some(self.token(account, deadline).await?),
                false => None,
            };
            let value = token.as_ref().map(|token| token.expose());
            let asked_at = Instant::now();
            let answer = self.transport.exchange(request, value, deadline).await;
            self.learn(account, answer.as_ref().map(drop), asked_at);
            let is_busy = match &answer {
                Ok(body) => match errcode::read(body) {
                    Err(refusal) if refusal.errcode.on(&request.path).names_bad_token() => {
                        match &token {
                            Some(token)
                                if refusals.may_repeat(&self.tokens, account, token).await =>
                            {
                                continue;
                            }
                            _ => false,
                        }
                    }
                    Err(refusal) => {
                        self.note_address(account, &request.path, &refusal);
                        refusal.errcode.is_busy()
                    }
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

    /// For how long no call of an account is made, because WeChat has left the last ones without an
    /// answer. Who has a queue does well to leave the account aside for as long.
    pub fn rest_of(&self, account: &Account) -> Option<Duration> {
        account.slots.breaker.rest(Instant::now())
    }

    fn permit(&self, account: &Account) -> Result<(), CallError> {
        let permitted = account.slots.breaker.permit(Instant::now());
        permitted.map_err(|wait| CallError::Resting { wait })
    }

    /// Learns from what came of a call whether further ones are worth being made.
    fn learn(&self, account: &Account, outcome: Result<(), &TransportError>, asked_at: Instant) {
        let breaker = &account.slots.breaker;
        let is_failure = match outcome {
            Ok(()) | Err(TransportError::TooLarge) => false,
            Err(TransportError::Status(status)) => *status >= 500,
            // It says something of its sender only.
            Err(TransportError::Body(_)) => return,
            Err(TransportError::Timeout) if asked_at.elapsed() < TELLING_WAIT => return,
            Err(TransportError::Timeout | TransportError::Broken | TransportError::Unreachable) => {
                true
            }
        };
        if !is_failure {
            breaker.note_answer();
        } else if breaker.note_failure(Instant::now(), jittered) {
            self.metrics.breakers_opened.inc();
            tracing::warn!(
                account.app_id = account.app_id.as_str(),
                "WeChat leaves an account's calls without an answer; they rest for a while"
            );
        }
    }

    /// The same where there was no token in time to make a call with.
    fn learn_from_token(
        &self,
        account: &Account,
        token: &Result<Arc<Token>, TokenError>,
        asked_at: Instant,
    ) {
        if matches!(token, Err(TokenError::Deadline)) {
            self.learn(account, Err(&TransportError::Timeout), asked_at);
        }
    }

    fn note_address(&self, account: &Account, path: &str, refusal: &ApiError) {
        if refusal.errcode.on(path).is_for_address() {
            self.tokens.refuse_address(account, refusal);
        }
    }

    /// Whether an answer repeats the token that this host holds of an account.
    fn holds_token(&self, account: &Account, body: &[u8]) -> bool {
        let held = self.tokens.held(&account.app_id, Credential::AccessToken);
        held.is_some_and(|token| memchr::memmem::find(body, token.expose().as_bytes()).is_some())
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
