//! What happens while WeChat refuses this host's address for an account (IP 白名单): the host uses what
//! others fetch, asks them to, tries again by time, and reports the refusal for operators to see and to
//! lift. No other host is affected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::component::GetAuthorizerInfo;
use wxhost_wechat::api::token::{self, StableToken};
use wxhost_wechat::api::{AnswerError, Call};
use wxhost_wechat::errcode::{ApiError, Errcode};

use super::fetch::Miss;
use super::shared::POLL;
use super::{Credential, Tokens, Wanted};
use crate::accounts::{Account, Holder, Platform};
use crate::clock::millis;
use crate::credentials::{AddressGate, AddressRefusal, Landed, Purpose, TokenError};
use crate::db::addresses::{self, AddressRow};
use crate::db::{Database, DbError};
use crate::store::Redis;
use crate::{backoff, random};

/// How long another host's fetch is waited for.
const BORROW: Duration = Duration::from_secs(3);
/// WeChat is asked again after this time; doubled each time that it refuses again.
const FIRST_PROBE: Duration = Duration::from_secs(60);
/// A list that was completed is noticed after this time.
const LONGEST_PROBE: Duration = Duration::from_secs(600);
/// How often it is looked for what is to be reported, and for what an operator has lifted.
const REPORT: Duration = Duration::from_secs(2);
/// How often a host says that its reports still hold.
const SEEN: Duration = Duration::from_secs(60);
/// A report that was not said to hold for so long is of a host that is gone.
const GONE: Duration = Duration::from_secs(600);
/// Probes at the same time.
const PROBES_AT_ONCE: usize = 8;
/// How long an answer to a probe is waited for.
const PROBE_TIME: Duration = Duration::from_secs(5);
/// Characters of a message that are stored.
const MAX_MESSAGE: usize = 1024;

/// Whether WeChat takes this host's address for an account.
#[derive(Clone, Debug)]
pub enum Probe {
    /// It does.
    Allowed,
    /// It does not.
    Refused(AddressRefusal),
    /// Something else stands in the way of knowing.
    Unknown {
        /// A stable word, in kebab-case.
        code: &'static str,
        /// WeChat's code, where it said one.
        errcode: Option<i64>,
        /// What it is.
        message: String,
    },
}

fn unknown(error: &TokenError) -> Probe {
    Probe::Unknown {
        code: error.code(),
        errcode: None,
        message: error.to_string(),
    }
}

impl Tokens {
    /// WeChat has refused a call of this host for its address.
    pub(crate) fn refuse_address(&self, account: &Account, refusal: &ApiError) -> AddressRefusal {
        self.shut(account.address(), account.app_id.as_str(), refusal)
    }

    /// The same, of whoever's list it is.
    pub(super) fn shut(
        &self,
        gate: &AddressGate,
        app_id: &str,
        refusal: &ApiError,
    ) -> AddressRefusal {
        let is_known = gate.refusal().is_some();
        let code = refusal.errcode;
        let kept = gate.refuse(
            AddressRefusal {
                errcode: code.0,
                message: format!(
                    "{}. {}",
                    refusal.errmsg.trim(),
                    token::refused(refusal).remedy()
                ),
                address: address_in(&refusal.errmsg),
                since_ms: self.parts.clock.now_ms(),
            },
            |times| probe_after(code, times),
        );
        if !is_known {
            tracing::error!(
                account.app_id = app_id,
                wechat.errcode = code.0,
                wechat.rid = refusal.rid,
                reason = kept.message,
                "WeChat refuses this host's address for an account; other hosts are not affected"
            );
        }
        kept
    }

    /// WeChat takes this host's address.
    pub(super) fn accept_address(&self, account: &Account) {
        if account.address().lift() {
            tracing::info!(
                account.app_id = account.app_id.as_str(),
                "WeChat takes this host's address for an account again"
            );
        }
    }

    /// Asks WeChat whether it takes this host's address for an account. `stable_token` in normal mode
    /// tells: it ends no token, on neither line. For one that a platform serves it goes by the platform's
    /// list, and any call of the platform's tells.
    pub async fn probe(&self, account: &Arc<Account>, until: Instant) -> Probe {
        if let Some(by) = &account.authorisation {
            return self.probe_platform(&by.platform, account, until).await;
        }
        let Some(secret) = &account.credentials.secret else {
            return unknown(&TokenError::NoSecret);
        };
        let call = StableToken {
            app_id: &account.app_id,
            secret,
            force_refresh: false,
        };
        let (Ok(_turn), Ok(request)) = (
            self.turn(Credential::AccessToken, until).await,
            call.request(),
        ) else {
            return unknown(&TokenError::Unreachable);
        };
        let answer = match self.parts.transport.exchange(&request, None, until).await {
            Ok(body) => StableToken::answer(&body),
            Err(_) => return unknown(&TokenError::Unreachable),
        };
        match answer {
            Ok(_) => {
                self.accept_address(account);
                Probe::Allowed
            }
            Err(AnswerError::Refused(refusal)) if token::refused(&refusal).is_for_address() => {
                Probe::Refused(self.refuse_address(account, &refusal))
            }
            Err(AnswerError::Refused(refusal)) => Probe::Unknown {
                code: "wechat-refused",
                errcode: Some(refusal.errcode.0),
                message: refusal.errmsg,
            },
            Err(error @ AnswerError::Malformed { .. }) => Probe::Unknown {
                code: "answer-malformed",
                errcode: None,
                message: error.to_string(),
            },
        }
    }

    async fn probe_platform(
        &self,
        platform: &Arc<Platform>,
        account: &Account,
        until: Instant,
    ) -> Probe {
        let call = GetAuthorizerInfo {
            component_app_id: &platform.app_id,
            app_id: &account.app_id,
        };
        match self.platform_call(platform, &call, until).await {
            Ok(_) => {
                self.accept_platforms_address(platform);
                Probe::Allowed
            }
            Err(Miss::Final(TokenError::AddressRefused { refusal })) => Probe::Refused(refusal),
            Err(Miss::Final(TokenError::Refused(refusal))) => Probe::Unknown {
                code: "wechat-refused",
                errcode: Some(refusal.errcode.0),
                message: refusal.errmsg,
            },
            Err(Miss::Final(error)) => unknown(&error),
            Err(Miss::Again(_) | Miss::Unsent) => unknown(&TokenError::Unreachable),
        }
    }

    /// Gets a token from another host, which is asked to fetch one if none has.
    pub(super) async fn borrow(
        &self,
        redis: &Redis,
        wanted: &Wanted,
        refusal: AddressRefusal,
        until: Instant,
    ) -> Landed {
        let slot = wanted.slot();
        let end = until.min(Instant::now() + BORROW);
        let mut has_asked = false;
        loop {
            let mut changed = pin!(slot.changed.notified());
            changed.as_mut().enable();
            if let Ok(Some(stored)) = redis.read_token(wanted.key()).await
                && !stored.failed
                && slot.current().is_none_or(|held| held.fence < stored.fence)
            {
                self.adopt(wanted, &stored);
            }
            if let Some(token) = slot.current().filter(|token| self.suffices(wanted, token)) {
                return Ok(token);
            }
            if !has_asked {
                has_asked = true;
                // Redis logs its own absence; then there is nobody to borrow from.
                let _ = redis.want_token(wanted.key()).await;
            }
            if Instant::now() >= end {
                return Err(TokenError::AddressRefused { refusal });
            }
            let _ = tokio::time::timeout_at(end.min(Instant::now() + POLL), changed).await;
        }
    }

    /// Another host wants a token that it can't fetch itself.
    pub(super) fn fetch_for_others(&self, holder: Holder, credential: Credential) {
        let is_able =
            holder.is_active() && holder.may_ask().is_ok() && holder.address().refusal().is_none();
        let Some(tokens) = self.this.upgrade().filter(|_| is_able) else {
            return;
        };
        let slot = holder.slots().of(credential);
        // From now on it is renewed here, too.
        slot.use_now(self.parts.clock.now_ms());
        if slot.usable(self.parts.clock.now_ms()).is_some() {
            // Redis may have lost it.
            let task = async move { tokens.look(&holder, credential).await };
            self.parts.tasks.spawn(task);
        } else if slot.pause().is_none() {
            self.join(&Wanted::new(holder, credential, Purpose::Need), None);
        }
    }
}

/// How long WeChat is left alone after so many refusals in a row.
fn probe_after(code: Errcode, times: u32) -> Duration {
    let doubled = backoff::doubled(FIRST_PROBE, times.saturating_sub(1), LONGEST_PROBE);
    let least = Duration::from_secs(code.address_block_seconds());
    backoff::jittered(doubled).max(least)
}

/// The address in `invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist`.
fn address_in(errmsg: &str) -> Option<IpAddr> {
    let mut words = errmsg.split([' ', ',']);
    words.find_map(|word| word.parse().ok())
}

/// Reports this host's refusals to the operators of all hosts, and tries again by time.
pub struct AddressReports {
    tokens: Arc<Tokens>,
    db: Database,
    host: String,
}

impl AddressReports {
    /// Reports of this process.
    pub fn new(tokens: Arc<Tokens>, db: Database) -> Self {
        let host = format!("{:016x}", random::process_mark());
        Self { tokens, db, host }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report_again_and_again() => {}
            () = self.probe_again_and_again() => {}
        }
        // What this host was refused for says nothing any more.
        let forgetting = addresses::forget_host(&self.db, &self.host);
        let _ = tokio::time::timeout(REPORT, forgetting).await;
    }

    async fn report_again_and_again(&self) {
        let mut beat = beat();
        let mut stored = BTreeMap::new();
        let mut seen_at = Instant::now();
        loop {
            beat.tick().await;
            let mut reported = self.report(&mut stored).await;
            if reported.is_ok() && seen_at.elapsed() >= SEEN {
                seen_at = Instant::now();
                reported = self.say_that_reports_hold(&stored).await;
            }
            if let Err(error) = reported {
                tracing::debug!(error = %error, "refusals of this host's address can't be stored now");
            }
        }
    }

    async fn probe_again_and_again(&self) {
        let mut beat = beat();
        loop {
            beat.tick().await;
            let due = self
                .tokens
                .parts
                .accounts
                .pick(|account| account.is_active() && account.slots.address.is_probe_due());
            self.probe_all(due).await;
        }
    }

    async fn probe_all(&self, accounts: Vec<Arc<Account>>) {
        futures::stream::iter(accounts)
            .for_each_concurrent(PROBES_AT_ONCE, |account| async move {
                self.tokens
                    .probe(&account, Instant::now() + PROBE_TIME)
                    .await;
            })
            .await;
    }

    /// Makes the stored reports those of this host's memory, and lifts in memory what an operator has
    /// taken away there. `stored` is what this host has stored.
    pub(super) async fn report(
        &self,
        stored: &mut BTreeMap<String, AddressRefusal>,
    ) -> Result<(), DbError> {
        let accounts = &self.tokens.parts.accounts;
        if !stored.is_empty() {
            let present: BTreeSet<_> = addresses::of_host(&self.db, &self.host)
                .await?
                .into_iter()
                .collect();
            let lifted: Vec<_> = stored
                .keys()
                .filter(|app_id| !present.contains(*app_id))
                .cloned()
                .collect();
            for app_id in &lifted {
                stored.remove(app_id);
                if let Some(account) = accounts.get(app_id) {
                    account.slots.address.lift();
                    self.tokens.clear_backoff(&account);
                }
            }
        }
        let refused = accounts.pick(|account| account.slots.address.refusal().is_some());
        let count = i64::try_from(refused.len()).unwrap_or(i64::MAX);
        self.tokens.parts.metrics.addresses_refused.set(count);
        let refused: BTreeMap<String, AddressRefusal> = refused
            .iter()
            .filter_map(|account| {
                let refusal = account.slots.address.refusal()?;
                Some((account.app_id.as_str().to_owned(), refusal))
            })
            .collect();
        let news: Vec<_> = refused
            .iter()
            .filter(|(app_id, refusal)| stored.get(*app_id) != Some(*refusal))
            .map(|(app_id, refusal)| self.row(app_id, refusal))
            .collect();
        addresses::upsert(&self.db, &news).await?;
        let over: Vec<_> = stored
            .keys()
            .filter(|app_id| !refused.contains_key(*app_id))
            .cloned()
            .collect();
        addresses::forget(&self.db, &self.host, &over).await?;
        *stored = refused;
        Ok(())
    }

    async fn say_that_reports_hold(
        &self,
        stored: &BTreeMap<String, AddressRefusal>,
    ) -> Result<(), DbError> {
        let now_ms = self.tokens.parts.clock.now_ms();
        if !stored.is_empty() {
            addresses::note_seen(&self.db, &self.host, now_ms).await?;
        }
        addresses::forget_older(&self.db, now_ms - millis(GONE)).await
    }

    fn row(&self, app_id: &str, refusal: &AddressRefusal) -> AddressRow {
        let message = refusal.message.replace('\0', "");
        AddressRow {
            app_id: app_id.to_owned(),
            host: self.host.clone(),
            address: refusal
                .address
                .map(|address| address.to_string())
                .unwrap_or_default(),
            errcode: refusal.errcode,
            message: message.chars().take(MAX_MESSAGE).collect(),
            since_at: refusal.since_ms,
            seen_at: self.tokens.parts.clock.now_ms(),
        }
    }
}

fn beat() -> tokio::time::Interval {
    let mut beat = tokio::time::interval(REPORT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_wechat_names() {
        for (errmsg, expected) in [
            (
                "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: 1-2-3",
                Some("1.2.3.4"),
            ),
            (
                "invalid ip 2001:db8::1, not in whitelist",
                Some("2001:db8::1"),
            ),
            ("access clientip is not registered", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address_in(errmsg), expected, "{errmsg}");
        }
    }

    #[test]
    fn probes_wait_ever_longer_and_as_long_as_wechat_says() {
        for (code, times, seconds) in [
            (40164, 1, 30..=60),
            (40164, 2, 60..=120),
            (40164, 40, 300..=600),
            (89507, 1, 3600..=3600),
            (89506, 9, 86_400..=86_400),
        ] {
            let wait = probe_after(Errcode(code), times).as_secs();
            assert!(seconds.contains(&wait), "{code} {times}: {wait}");
        }
    }
}
