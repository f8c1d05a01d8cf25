//! WeChat's servers, as a host meets them: they post, wait, send again, and mute who keeps failing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::StatusCode;
use parking_lot::Mutex;
use reqwest::RequestBuilder;
use wxhost_wechat::id::{AppId, OpenId};
use wxhost_wechat::signature;

use crate::answer::{self, MAX_ANSWER_BYTES, Shown};
use crate::delivery::{Attempt, Delivery, Outcome};
use crate::standing::Standing;
use crate::{Callback, Envelope, Environment, Forgery, SimulatedAccount, Stamp, UserAction};

/// How callbacks are pushed. The defaults are WeChat's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSettings {
    /// How long a host may take to answer a delivery.
    pub deadline: Duration,
    /// How often a callback is delivered in all when no delivery is answered with 200.
    pub deliveries: u32,
    /// Whether re-sends come under the nonce of the first delivery, which WeChat does at times; sealed ones
    /// are sealed anew all the same.
    pub same_nonce: bool,
    /// How many callbacks must fail in a row until the host is muted for a minute. WeChat says
    /// “several”.
    pub mute_after: u32,
}

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            deliveries: 3,
            same_nonce: false,
            mute_after: 3,
        }
    }
}

/// A pretend WeChat.
#[derive(Debug)]
pub struct WechatPlatform {
    http: reqwest::Client,
    settings: PushSettings,
    environment: Arc<dyn Environment>,
    standings: Mutex<HashMap<AppId, Standing>>,
    media: Mutex<HashSet<(AppId, String)>>,
}

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build the http client")]
pub struct PlatformError(#[from] reqwest::Error);

/// An answer as it came, cut where nobody reads any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Not within the deadline.
    #[error("no answer in time")]
    TimedOut,
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Unreachable(String),
}

/// Why WeChat does not accept a URL (the settings page says 请求URL超时 or token验证失败).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// No answer.
    #[error(transparent)]
    NoAnswer(#[from] PostError),
    /// A status other than 200.
    #[error("status {0}")]
    Status(StatusCode),
    /// The body is not the echostr, byte for byte.
    #[error("answered “{answered}” where “{expected}” was asked for")]
    WrongEcho {
        /// The echostr.
        expected: String,
        /// The body.
        answered: String,
    },
}

impl WechatPlatform {
    /// A platform that pushes by `settings`.
    pub fn new(
        settings: PushSettings,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, PlatformError> {
        // Fails where the process has chosen a provider already, which is just as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent("Mozilla/4.0")
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            settings,
            environment,
            standings: Mutex::default(),
            media: Mutex::default(),
        })
    }

    /// The time and chance that it runs on.
    pub fn environment(&self) -> &dyn Environment {
        &*self.environment
    }

    /// The URL check (GET) that WeChat makes when the settings are saved. Answers how long it took.
    pub async fn verify_url(&self, account: &SimulatedAccount) -> Result<Duration, UrlRefused> {
        let Stamp { timestamp, nonce } = Stamp::fresh(self.environment());
        let expected = self.environment().echostr();
        let signature = signature::callback_signature(&account.token, &timestamp, &nonce);
        let request = self.http.get(&account.callback_url).query(&[
            ("signature", &signature),
            ("echostr", &expected),
            ("timestamp", &timestamp),
            ("nonce", &nonce),
        ]);
        let start = self.environment.now();
        let answer = self.exchange(request).await?;
        if answer.status != StatusCode::OK {
            return Err(UrlRefused::Status(answer.status));
        }
        if answer.body != expected.as_bytes() {
            let answered = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(UrlRefused::WrongEcho { expected, answered });
        }
        Ok(self.environment.now().saturating_sub(start))
    }

    /// The account's owner uploads media, so replies may show it. What users send is known as well.
    pub fn add_media(&self, account: &SimulatedAccount, media_id: &str) {
        let key = (account.app_id.clone(), media_id.to_owned());
        self.media.lock().insert(key);
    }

    /// What WeChat tells the host about a user's action. It can be pushed, forged or kept.
    pub fn compose(
        &self,
        account: &SimulatedAccount,
        user: &OpenId,
        action: &UserAction,
    ) -> Callback {
        let callback = Callback::compose(account, user, action, self.environment());
        for field in ["MediaId", "MediaId16K", "ThumbMediaId"] {
            if let Some(media_id) = callback.value(field) {
                self.add_media(account, media_id);
            }
        }
        callback
    }

    /// A user does something; WeChat tells the host.
    pub async fn user_does(
        &self,
        account: &SimulatedAccount,
        user: &OpenId,
        action: &UserAction,
    ) -> Delivery {
        let callback = self.compose(account, user, action);
        self.push(account, &callback).await
    }

    /// Delivers a callback until a delivery is answered with 200 or there were enough of them.
    ///
    /// While the host is muted nothing is sent, and the user sees the service fault.
    pub async fn push(&self, account: &SimulatedAccount, callback: &Callback) -> Delivery {
        let mut attempts = Vec::new();
        if !self.is_muted(account) {
            let mut stamp = Stamp::fresh(self.environment());
            for _ in 0..self.settings.deliveries {
                let attempt = self.attempt(account, callback, &stamp).await;
                if !self.settings.same_nonce {
                    stamp = Stamp::fresh(self.environment());
                }
                let is_final = attempt.outcome.is_final();
                attempts.push(attempt);
                if is_final {
                    break;
                }
            }
            self.judge(account, &attempts);
        }
        let shown = match attempts.last() {
            Some(last) => last.outcome.shown(callback),
            None => Shown::ServiceFault,
        };
        Delivery { attempts, shown }
    }

    /// Delivers a callback as often as WeChat would, but all at once: the worst overlap of re-sends.
    /// The attempts are in the order of their answers; the first 200 is what the user sees.
    pub async fn push_overlapping(
        &self,
        account: &SimulatedAccount,
        callback: &Callback,
    ) -> Delivery {
        let stamps: Vec<Stamp> = (0..self.settings.deliveries)
            .map(|_| Stamp::fresh(self.environment()))
            .collect();
        let posts = stamps
            .iter()
            .map(|stamp| self.attempt(account, callback, stamp));
        let posts: FuturesUnordered<_> = posts.collect();
        let attempts: Vec<Attempt> = posts.collect().await;
        let shown = attempts
            .iter()
            .find(|attempt| attempt.outcome.is_final())
            .map_or(Shown::ServiceFault, |first| first.outcome.shown(callback));
        Delivery { attempts, shown }
    }

    /// Posts a forged callback once. The answer is as it came; nobody's chat shows it.
    pub async fn forge(
        &self,
        account: &SimulatedAccount,
        callback: &Callback,
        forgery: Forgery,
    ) -> Result<HttpAnswer, PostError> {
        let envelope = forgery.craft(account, callback, self.environment());
        self.post(&account.callback_url, &envelope).await
    }

    /// Posts an envelope once, whatever is in it.
    pub async fn post(&self, url: &str, envelope: &Envelope) -> Result<HttpAnswer, PostError> {
        let request = self
            .http
            .post(url)
            .query(&envelope.query)
            .header(http::header::CONTENT_TYPE, "text/xml")
            .body(envelope.body.clone());
        self.exchange(request).await
    }

    async fn attempt(
        &self,
        account: &SimulatedAccount,
        callback: &Callback,
        stamp: &Stamp,
    ) -> Attempt {
        let envelope = Envelope::seal(account, callback, stamp, self.environment());
        let start = self.environment.now();
        let answer = self.post(&account.callback_url, &envelope).await;
        let elapsed = self.environment.now().saturating_sub(start);
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let outcome = match answer {
            Ok(answer) if answer.status == StatusCode::OK => {
                self.read(account, callback, &answer.body)
            }
            Ok(answer) => Outcome::Refused(answer.status),
            Err(PostError::TimedOut) => Outcome::TimedOut,
            Err(PostError::Unreachable(reason)) => Outcome::Unreachable(reason),
        };
        Attempt {
            status,
            elapsed,
            outcome,
        }
    }

    fn read(&self, account: &SimulatedAccount, callback: &Callback, body: &[u8]) -> Outcome {
        let knows_media = |media_id: &str| {
            let key = (account.app_id.clone(), media_id.to_owned());
            self.media.lock().contains(&key)
        };
        match answer::read(account, callback, body, knows_media) {
            Ok(Some(reply)) => Outcome::Replied(reply),
            Ok(None) => Outcome::Silent,
            Err(flaw) => Outcome::Flawed(flaw),
        }
    }

    /// Sends a request and reads the answer, both within the deadline; then the connection is
    /// dropped.
    async fn exchange(&self, request: RequestBuilder) -> Result<HttpAnswer, PostError> {
        let unreachable = |error: reqwest::Error| PostError::Unreachable(root_cause(&error));
        let exchange = async {
            let mut response = request.send().await.map_err(unreachable)?;
            let mut body = Vec::new();
            while body.len() <= MAX_ANSWER_BYTES
                && let Some(chunk) = response.chunk().await.map_err(unreachable)?
            {
                body.extend_from_slice(&chunk);
            }
            Ok(HttpAnswer {
                status: response.status(),
                body,
            })
        };
        tokio::time::timeout(self.settings.deadline, exchange)
            .await
            .unwrap_or(Err(PostError::TimedOut))
    }

    fn is_muted(&self, account: &SimulatedAccount) -> bool {
        let now = self.environment.now();
        let mut standings = self.standings.lock();
        standings
            .get_mut(&account.app_id)
            .is_some_and(|standing| standing.is_muted(now))
    }

    fn judge(&self, account: &SimulatedAccount, attempts: &[Attempt]) {
        let now = self.environment.now();
        let mut standings = self.standings.lock();
        let standing = standings.entry(account.app_id.clone()).or_default();
        if attempts.iter().any(|attempt| attempt.outcome.is_final()) {
            standing.succeeded();
        } else {
            standing.failed(now, self.settings.mute_after);
        }
    }
}

/// The innermost reason; the outer ones only repeat that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => root_cause(source),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
