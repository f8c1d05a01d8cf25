//! Asking WeChat for a token or ticket: how often, how long, and what a refusal means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::time::Instant;
use wxhost_wechat::api::token::{self, ClassicToken, Fresh, StableToken, Ticket, needs_owner};
use wxhost_wechat::api::{AnswerError, Call};
use wxhost_wechat::errcode::ApiError;

use super::{Credential, TokenError, Tokens, Wanted};
use crate::accounts::{Account, Holder};
use crate::backoff::{self, MINUTE_REST, jittered};
use crate::clock::until_midnight;
use crate::credentials::{Attention, Purpose, TokenLine, fetch_rate, hash};
use crate::settings::ChangeError;
use crate::telemetry::{FetchLabels, Word};
use crate::transport::TransportError;

/// How often one fetch asks, while WeChat is busy or does not answer.
const TRIES: u32 = 4;
/// The wait before the second try; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(150);
/// A token that WeChat gave out again although it was refused is left alone for this time at least.
pub(super) const SPARED: Duration = Duration::from_secs(10);
/// Rest after the first failed fetch; doubled each time, up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_millis(250);
/// An outage is noticed to be over after this time.
const LONGEST_REST: Duration = Duration::from_secs(15);
/// 45009 ends at midnight in Beijing, or when the owner clears the quota: it is asked again each hour.
const DAY_REST: Duration = Duration::from_secs(3600);
/// Refusals of other kinds: asking again soon gives the same.
const REFUSED_REST: Duration = Duration::from_secs(300);
/// How long callers fail at once after no host whose address WeChat takes has fetched a token.
const BORROW_REST: Duration = Duration::from_secs(2);

/// What WeChat has given.
#[derive(Clone)]
pub(super) struct Fetched {
    pub(super) value: SecretString,
    /// Unix milliseconds, when it was asked.
    pub(super) asked_at_ms: i64,
    /// From when it was asked.
    pub(super) lifetime_ms: i64,
    /// Whether it has ended the token before at once.
    pub(super) supersedes: bool,
}

/// Why one try gave nothing.
pub(crate) enum Miss {
    /// WeChat is busy (-1), or there was no answer: another try may succeed.
    Again(Option<ApiError>),
    /// Nothing was sent.
    Unsent,
    Final(TokenError),
}

impl From<TransportError> for Miss {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable => Self::Unsent,
            TransportError::Broken
            | TransportError::Timeout
            | TransportError::TooLarge
            | TransportError::Body(_)
            | TransportError::Status(_) => Self::Again(None),
        }
    }
}

impl Tokens {
    /// Fetches; `failed` is the hash of a token that WeChat has refused, so that the same one may not
    /// do.
    pub(super) async fn fetch(
        &self,
        wanted: &Wanted,
        failed: Option<&str>,
        until: Instant,
    ) -> Result<Fetched, TokenError> {
        if let Some(in_hand) = &wanted.in_hand {
            return Ok(Fetched::clone(in_hand));
        }
        let force = wanted.purpose == Purpose::Force;
        let fetched = match self.ask(wanted, force, until).await {
            Err(error) if force => {
                self.note_refused_force(wanted, &error).await;
                return Err(error);
            }
            asked => asked?,
        };
        let again = hash(&fetched.value);
        if force || !wanted.is_stable() || failed != Some(&*again) {
            return Ok(fetched);
        }
        // WeChat stands by the token that an API refused. That one may have been wrong: it is asked once
        // more with the same token, before that costs one of the day's few forced ones.
        if !wanted.slot().note_reissue(&again) {
            return Ok(fetched);
        }
        match self.permit_force(wanted, Purpose::Need).await {
            Ok(()) => self.force_in_place_of(wanted, fetched, until).await,
            Err(wait) => {
                wanted.slot().spare(&again, wait.max(SPARED));
                Ok(fetched)
            }
        }
    }

    pub(super) async fn ask(
        &self,
        wanted: &Wanted,
        force: bool,
        until: Instant,
    ) -> Result<Fetched, TokenError> {
        let mut wait = FIRST_WAIT;
        for tries in 1.. {
            let now = Instant::now();
            if !self.may_spend(wanted, now).await {
                tracing::warn!(
                    account.app_id = wanted.app_id(),
                    credential = wanted.credential.as_str(),
                    "WeChat was asked too often for this; asking more slowly"
                );
                return Err(TokenError::Unreachable);
            }
            let asked_at_ms = self.parts.clock.now_ms();
            let answer = self.ask_once(wanted, force, until).await;
            self.count(wanted, &answer);
            let refusal = match answer {
                Ok(fresh) => return Ok(fetched(fresh, asked_at_ms, force && wanted.is_stable())),
                Err(Miss::Final(error)) => return Err(error),
                Err(Miss::Again(refusal)) => refusal,
                Err(Miss::Unsent) => {
                    let rate = fetch_rate(wanted.holder.line());
                    wanted.slot().budget.lock().give_back(rate);
                    None
                }
            };
            let pause = jittered(wait);
            // Whether a forced one was made is not known: the next question will tell.
            if force || tries == TRIES || Instant::now() + pause >= until {
                return Err(refusal.map_or(TokenError::Unreachable, TokenError::Refused));
            }
            tokio::time::sleep(pause).await;
            wait *= 2;
        }
        unreachable!("the loop ends by itself")
    }

    async fn ask_once(&self, wanted: &Wanted, force: bool, until: Instant) -> Result<Fresh, Miss> {
        let account = match &wanted.holder {
            Holder::Platform(platform) => return self.ask_component(platform, until).await,
            Holder::Account(account) => account,
        };
        match wanted.credential {
            Credential::AccessToken => match &account.authorisation {
                None => self.ask_token(account, force, until).await,
                Some(authorisation) => self.ask_authorised(account, authorisation, until).await,
            },
            Credential::JsapiTicket => self.ask_ticket(account, Ticket::Jsapi, until).await,
            Credential::CardTicket => self.ask_ticket(account, Ticket::Card, until).await,
            // A platform's only.
            Credential::ComponentToken => Err(Miss::Final(TokenError::NoSecret)),
        }
    }

    /// By the account's own secret.
    async fn ask_token(
        &self,
        account: &Arc<Account>,
        force_refresh: bool,
        until: Instant,
    ) -> Result<Fresh, Miss> {
        let (app_id, Some(secret)) = (&account.app_id, &account.credentials.secret) else {
            return Err(Miss::Final(TokenError::NoSecret));
        };
        let answer = match account.credentials.token_line {
            TokenLine::Stable | TokenLine::Authorizer | TokenLine::Component => {
                let call = StableToken {
                    app_id,
                    secret,
                    force_refresh,
                };
                let answer = self.call(&call, None, until).await?;
                StableToken::answer(&answer)
            }
            TokenLine::Classic => {
                let answer = self
                    .call(&ClassicToken { app_id, secret }, None, until)
                    .await?;
                ClassicToken::answer(&answer)
            }
        };
        match answer {
            Ok(fresh) => {
                self.accept_address(account);
                Ok(fresh)
            }
            Err(AnswerError::Refused(refusal)) if token::refused(&refusal).is_for_address() => {
                let refusal = self.refuse_address(account, &refusal);
                Err(Miss::Final(TokenError::AddressRefused { refusal }))
            }
            Err(AnswerError::Refused(refusal)) if needs_owner(&refusal) => {
                let attention = self.attention(account.app_id.as_str(), &refusal);
                let noting = self
                    .parts
                    .accounts
                    .need_owner(app_id.as_str(), secret, &attention);
                self.note_attention(app_id.as_str(), noting).await;
                Err(Miss::Final(TokenError::AccountBlocked { attention }))
            }
            Err(error) => Err(missed(error)),
        }
    }

    /// Whether WeChat may be asked once more: within this host's budget and, on the classic line, whose
    /// 2,000 calls a day are few, within that of all hosts.
    async fn may_spend(&self, wanted: &Wanted, now: Instant) -> bool {
        let line = wanted.holder.line();
        let rate = fetch_rate(line);
        let is_permitted = wanted.slot().budget.lock().take(rate, now);
        let is_shared = wanted.credential.is_token() && line.renews_each_time();
        match self.parts.store.shared() {
            Some(redis) if is_permitted && is_shared => {
                // Without Redis each host has its own budget only.
                let permitted = redis.permit_fetch(wanted.app_id(), rate.period, rate.burst);
                permitted.await.unwrap_or(true)
            }
            _ => is_permitted,
        }
    }

    async fn ask_ticket(
        &self,
        account: &Arc<Account>,
        ticket: Ticket,
        until: Instant,
    ) -> Result<Fresh, Miss> {
        let mut tries = 0;
        loop {
            tries += 1;
            let token = self.get(account, Credential::AccessToken, until).await;
            let token = token.map_err(Miss::Final)?;
            let answer = self.call(&ticket, Some(token.expose()), until).await?;
            match Ticket::answer(&answer) {
                Ok(fresh) => return Ok(fresh),
                Err(AnswerError::Refused(refusal))
                    if refusal.errcode.on(token::TICKET_PATH).names_bad_token()
                        && tries == 1
                        && self.expire(account, &token).await => {}
                Err(error) => return Err(missed(error)),
            }
        }
    }

    pub(super) async fn call(
        &self,
        call: &impl Call,
        token: Option<&str>,
        until: Instant,
    ) -> Result<Bytes, Miss> {
        let request = call.request();
        // No limit of these calls can be broken by what an account is made of.
        let request = request.map_err(|_| Miss::Final(TokenError::Unreachable))?;
        Ok(self
            .parts
            .transport
            .exchange(&request, token, until)
            .await?)
    }

    /// What somebody must mend before WeChat gives tokens again.
    pub(super) fn attention(&self, app_id: &str, refusal: &ApiError) -> Attention {
        let attention = Attention {
            errcode: refusal.errcode.0,
            message: format!(
                "{}. {}",
                refusal.errmsg.trim(),
                token::refused(refusal).remedy()
            ),
            since_ms: self.parts.clock.now_ms(),
        };
        tracing::error!(
            account.app_id = app_id,
            wechat.errcode = attention.errcode,
            wechat.rid = refusal.rid,
            reason = attention.message,
            "WeChat gives no token; somebody must act"
        );
        attention
    }

    /// Has it noted for all hosts.
    pub(super) async fn note_attention(
        &self,
        app_id: &str,
        noting: impl Future<Output = Result<bool, ChangeError>>,
    ) {
        match noting.await {
            Ok(true) => self.announce().await,
            Ok(false) => {}
            Err(error) => tracing::warn!(
                account.app_id = app_id,
                error = &error as &dyn std::error::Error,
                "that somebody must act can't be stored now"
            ),
        }
    }

    async fn announce(&self) {
        if let Err(error) = self.parts.accounts.refresh().await {
            tracing::debug!(error = %error, "a change will be seen later");
        }
        if let Some(redis) = self.parts.store.shared() {
            // Redis logs its own absence; the others look by themselves.
            let _ = redis.publish_change().await;
        }
    }

    fn count(&self, wanted: &Wanted, answer: &Result<Fresh, Miss>) {
        let outcome = match answer {
            Ok(_) => "fetched",
            Err(Miss::Again(Some(_))) => "busy",
            Err(Miss::Again(None) | Miss::Unsent) => "unreachable",
            Err(Miss::Final(error)) => error.code(),
        };
        let labels = FetchLabels {
            credential: Word(wanted.credential.as_str().into()),
            outcome: Word(outcome.into()),
        };
        self.parts
            .metrics
            .token_fetches
            .get_or_create(&labels)
            .inc();
    }
}

impl Wanted {
    fn is_stable(&self) -> bool {
        self.credential == Credential::AccessToken && self.holder.line() == TokenLine::Stable
    }
}

pub(super) fn fetched(fresh: Fresh, asked_at_ms: i64, supersedes: bool) -> Fetched {
    let seconds = i64::try_from(fresh.expires_in_seconds).unwrap_or(i64::MAX);
    Fetched {
        // A day is longer than anything that WeChat gives out, and cannot overflow.
        lifetime_ms: seconds.min(86_400) * 1000,
        value: fresh.into_value(),
        asked_at_ms,
        supersedes,
    }
}

pub(super) fn missed(error: AnswerError) -> Miss {
    match error {
        AnswerError::Refused(refusal) if refusal.errcode.is_busy() => Miss::Again(Some(refusal)),
        AnswerError::Refused(refusal) => Miss::Final(TokenError::Refused(refusal)),
        AnswerError::Malformed { .. } => Miss::Again(None),
    }
}

/// How long nobody is asked after so many failures in a row.
pub(super) fn rest(error: &TokenError, failures: u32, now_ms: i64) -> Duration {
    let doubled = |first: Duration, longest: Duration| {
        jittered(backoff::doubled(first, failures.max(1), longest))
    };
    match error {
        TokenError::Refused(refusal) => match refusal.errcode {
            code if code.is_minute_limit() => MINUTE_REST + jittered(MINUTE_REST) / 4,
            code if code.is_daily_limit() => until_midnight(now_ms).min(DAY_REST),
            code if code.is_busy() => doubled(FIRST_REST, LONGEST_REST),
            _ => doubled(FIRST_REST, REFUSED_REST),
        },
        TokenError::Unreachable | TokenError::Deadline => doubled(FIRST_REST, LONGEST_REST),
        // The registry knows it, or will soon.
        TokenError::AccountBlocked { .. } => LONGEST_REST,
        // Until then others may fetch one.
        TokenError::AddressRefused { .. } => BORROW_REST,
        // It comes by itself.
        TokenError::NoTicket => BORROW_REST,
        TokenError::NoSecret | TokenError::ForcedLately { .. } => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i64) -> TokenError {
        let body = format!(r#"{{"errcode":{code},"errmsg":"no"}}"#);
        TokenError::Refused(wxhost_wechat::errcode::read(body.as_bytes()).unwrap_err())
    }

    #[test]
    fn rests_grow_and_follow_wechats_clock() {
        // 2026-01-01 23:30 in Beijing.
        let late_evening = 1_767_281_400_000;
        let check = |error: &TokenError, failures: u32, seconds: std::ops::RangeInclusive<f64>| {
            let rest = rest(error, failures, late_evening).as_secs_f64();
            assert!(seconds.contains(&rest), "{error} {failures}: {rest} s");
        };
        check(&TokenError::Unreachable, 1, 0.25..=0.5);
        check(&TokenError::Unreachable, 30, 7.5..=15.0);
        check(&refused(-1), 2, 0.5..=1.0);
        check(&refused(40002), 30, 150.0..=300.0);
        check(&refused(45011), 1, 60.0..=75.0);
        check(&refused(45009), 1, 1800.0..=1800.0);
    }
}
