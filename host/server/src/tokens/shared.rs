//! One fetch for all hosts that share a Redis, and what happens without it.
//!
//! Whoever gets the lease fetches; the others wait for a notification (a message on `wxhost:token`) or
//! look again by themselves. Only who can fetch at once asks for the lease: a host with a queue of
//! fetches must not keep idle ones from them. While Redis is away, a host goes on with what it holds. What it must have then,
//! it fetches itself: `stable_token` answers every host the same. `cgi-bin/token` would end the others'
//! token, so on that line nothing is fetched before the held one has ended.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::{Instant, MissedTickBehavior};
use wxhost_wechat::errcode::{ApiError, Errcode};

use super::fetch::{Fetched, rest};
use super::{Credential, TokenError, Tokens, Wanted};
use crate::accounts::{Account, Holder};
use crate::credentials::{FLIGHT, Facts, Landed, Purpose, Slot, Token, slack, spread};
use crate::random;
use crate::seal::Place;
use crate::store::credentials::{CredentialKey, StoredToken, Taken, Written};
use crate::store::{Redis, StoreAway, keys};

/// How often a host that waits for another one's fetch looks by itself, should the notification not have
/// reached it.
pub(super) const POLL: Duration = Duration::from_millis(200);
/// The same for a fetch that waits for its turn on this host: there may be thousands.
const QUEUE_POLL: Duration = Duration::from_secs(2);
/// How often a lease is renewed while WeChat is asked: it outlives two lost renewals.
const RENEWAL: Duration = Duration::from_millis(750);
/// A token that is looked for among hosts.
#[derive(Clone, Copy)]
struct Search<'a> {
    redis: &'a Redis,
    wanted: &'a Wanted,
    until: Instant,
}

/// A lease on fetching, held by this flight.
struct Lease<'a> {
    redis: &'a Redis,
    owner: String,
    fence: u64,
}

impl Tokens {
    /// Fetches, or finds that another host has.
    pub(super) async fn fly(&self, wanted: &Wanted) -> Landed {
        let until = Instant::now() + FLIGHT;
        let landed = match wanted.holder.may_ask() {
            Err(error) if wanted.in_hand.is_none() => Err(error),
            _ => Box::pin(self.fly_permitted(wanted, until)).await,
        };
        // That an operator's wish was refused says nothing of what others need.
        if let Err(error) = &landed
            && !wanted.purpose.wants_another()
        {
            self.note_failure(wanted, error);
        }
        landed
    }

    async fn fly_permitted(&self, wanted: &Wanted, until: Instant) -> Landed {
        let shared = self.parts.store.shared();
        let blocked = wanted.holder.address().blocks();
        let landed = match (blocked, shared) {
            (Some(refusal), _) if wanted.in_hand.is_none() => {
                Err(TokenError::AddressRefused { refusal })
            }
            (_, None) => self.fly_alone(wanted, until).await,
            (_, Some(redis)) => self.fly_shared(redis, wanted, until).await,
        };
        match (landed, shared) {
            (Err(TokenError::AddressRefused { refusal }), Some(redis))
                if !wanted.purpose.wants_another() =>
            {
                self.borrow(redis, wanted, refusal, until).await
            }
            (landed, _) => landed,
        }
    }

    async fn fly_shared(&self, redis: &Redis, wanted: &Wanted, until: Instant) -> Landed {
        if wanted.purpose == Purpose::Force {
            self.permit_operator(wanted).await?;
        }
        let search = Search {
            redis,
            wanted,
            until,
        };
        let turns = self.turns(wanted.credential);
        let mut queue = pin!(turns.acquire());
        loop {
            let mut changed = pin!(wanted.slot().changed.notified());
            changed.as_mut().enable();
            // One look for both questions: a token that another host's news brings in between would be
            // taken for the one that does not do.
            let current = wanted.slot().current();
            if let Some(token) = current
                .as_ref()
                .filter(|token| self.suffices(wanted, token))
            {
                return Ok(Arc::clone(token));
            }
            let have = current.map_or(0, |token| token.fence);
            let turn = match turns.try_acquire() {
                Ok(turn) => turn,
                Err(_) => {
                    match self.adopt_newer(&search, have).await {
                        Err(_) => return self.fly_alone(wanted, until).await,
                        Ok(true) => continue,
                        Ok(false) => {}
                    }
                    let news = turn_or_news(queue.as_mut(), changed.as_mut(), until);
                    match news.await? {
                        Some(turn) => turn,
                        None => continue,
                    }
                }
            };
            queue.set(turns.acquire());
            if let Some(landed) = self.use_turn(&search, turn, have, changed).await {
                return landed;
            }
        }
    }

    /// Fetches, if no other host does or has; None if it is to be looked again.
    async fn use_turn(
        &self,
        search: &Search<'_>,
        turn: SemaphorePermit<'_>,
        have: u64,
        changed: Pin<&mut Notified<'_>>,
    ) -> Option<Landed> {
        let Search {
            redis,
            wanted,
            until,
        } = *search;
        // Before the lease is taken, which would be held while the token is waited for.
        if let Err(error) = self.have_needed(wanted, until).await {
            return Some(Err(error));
        }
        let owner = random::unique_name();
        let taken = redis.take_token(wanted.key(), &owner, have).await;
        match taken {
            Err(_) => {
                drop(turn);
                Some(self.fly_alone(wanted, until).await)
            }
            Ok(Taken::Newer(stored)) => match self.adopt(wanted, &stored) {
                None => {
                    drop(turn);
                    Some(self.fly_alone(wanted, until).await)
                }
                Some(token) => (!wanted.purpose.wants_another()).then_some(Ok(token)),
            },
            Ok(Taken::Paused { errcode, left_ms }) => Some(self.paused(wanted, errcode, left_ms)),
            Ok(Taken::Busy { .. }) if wanted.purpose == Purpose::Ahead => {
                Some(wanted.slot().current().ok_or(TokenError::Unreachable))
            }
            Ok(Taken::Busy { .. }) if Instant::now() >= until => Some(Err(TokenError::Unreachable)),
            Ok(Taken::Busy { left_ms }) => {
                drop(turn);
                let left = Duration::from_millis(left_ms.max(1).unsigned_abs());
                let _ = tokio::time::timeout(left.min(POLL), changed).await;
                None
            }
            Ok(Taken::Leased { fence, failed_hash }) => {
                let lease = Lease {
                    redis,
                    owner,
                    fence,
                };
                let landed = self.fetch_leased(wanted, lease, failed_hash, until).await;
                drop(turn);
                Some(landed)
            }
        }
    }

    /// Takes over a token that is stored and newer than `have`; whether there was one.
    async fn adopt_newer(&self, search: &Search<'_>, have: u64) -> Result<bool, StoreAway> {
        let wanted = search.wanted;
        let stored = search.redis.read_token(wanted.key()).await?;
        match stored.filter(|stored| !stored.failed && stored.fence > have) {
            None => Ok(false),
            // One that can't be opened is none.
            Some(stored) => self.adopt(wanted, &stored).map(|_| true).ok_or(StoreAway),
        }
    }

    fn turns(&self, credential: Credential) -> &Semaphore {
        match credential {
            Credential::AccessToken => &self.token_turns,
            // Others' fetches wait for it: never the other way round.
            Credential::ComponentToken => &self.component_turns,
            Credential::JsapiTicket | Credential::CardTicket => &self.ticket_turns,
        }
    }

    pub(super) async fn turn(
        &self,
        credential: Credential,
        until: Instant,
    ) -> Result<SemaphorePermit<'_>, TokenError> {
        match tokio::time::timeout_at(until, self.turns(credential).acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(TokenError::Unreachable),
        }
    }

    /// Whether a token does for what one is wanted for.
    pub(super) fn suffices(&self, wanted: &Wanted, token: &Token) -> bool {
        let now_ms = self.parts.clock.now_ms();
        token.is_usable(now_ms)
            && match wanted.purpose {
                Purpose::Need => true,
                Purpose::Ahead => now_ms < token.renew_at_ms,
                Purpose::Force => false,
                // What was asked for later than the one in hand has ended it.
                Purpose::Grant => wanted
                    .in_hand
                    .as_ref()
                    .is_some_and(|in_hand| in_hand.asked_at_ms < token.fetched_at_ms),
            }
    }

    async fn fetch_leased(
        &self,
        wanted: &Wanted,
        lease: Lease<'_>,
        failed_hash: Option<String>,
        until: Instant,
    ) -> Landed {
        let failed = failed_hash.or_else(|| failed_hash_of(wanted.slot()));
        let fetched = tokio::select! {
            fetched = self.fetch(wanted, failed.as_deref(), until) => fetched,
            never = keep(&lease, wanted.key()) => match never {},
        };
        match fetched {
            Ok(fetched) => self.write(wanted, &lease, fetched).await,
            Err(error) => {
                let pause = match wanted.purpose {
                    // Forced tokens have a count of their own.
                    Purpose::Force | Purpose::Grant => None,
                    Purpose::Need | Purpose::Ahead => {
                        shared_pause(&error, self.parts.clock.now_ms())
                    }
                };
                let release = lease
                    .redis
                    .release_token_lease(wanted.key(), &lease.owner, pause);
                // It runs out by itself.
                let _ = release.await;
                Err(error)
            }
        }
    }

    async fn write(&self, wanted: &Wanted, lease: &Lease<'_>, fetched: Fetched) -> Landed {
        let supersedes = fetched.supersedes;
        let token = self.token(wanted, fetched, lease.fence);
        let stored = self.sealed(wanted, &token)?;
        let written = lease
            .redis
            .write_token(wanted.key(), &lease.owner, &stored, supersedes)
            .await;
        match written {
            // Unknown: the token is good in any case, and is put back when Redis is.
            Ok(Written::Stored) | Err(_) => {
                let now_ms = self.parts.clock.now_ms();
                wanted.slot().confirm(now_ms);
                Ok(wanted.slot().hold(token))
            }
            Ok(refused @ (Written::Fenced | Written::Older)) => {
                tracing::info!(
                    account.app_id = wanted.app_id(),
                    credential = wanted.credential.as_str(),
                    reason = ?refused,
                    "another host has fetched a newer token meanwhile; using that one"
                );
                self.look(&wanted.holder, wanted.credential).await;
                let now_ms = self.parts.clock.now_ms();
                let usable = wanted.slot().usable(now_ms);
                Ok(usable.unwrap_or_else(|| wanted.slot().hold(token)))
            }
        }
    }

    /// Without other hosts, or without knowing of them.
    async fn fly_alone(&self, wanted: &Wanted, until: Instant) -> Landed {
        let slot = wanted.slot();
        let shares = self.parts.store.shared().is_some();
        if wanted.purpose == Purpose::Force && !shares {
            self.permit_operator(wanted).await?;
        }
        let now_ms = self.parts.clock.now_ms();
        // A second one would end it for the hosts that cannot be asked.
        let keeps =
            shares && wanted.holder.line().renews_each_time() && !wanted.purpose.wants_another();
        let held = slot.usable(now_ms);
        if let Some(token) = held.filter(|token| keeps || self.suffices(wanted, token)) {
            return Ok(token);
        }
        let failed = failed_hash_of(slot);
        let turn = self.turn(wanted.credential, until).await?;
        self.have_needed(wanted, until).await?;
        let fetched = self.fetch(wanted, failed.as_deref(), until).await?;
        drop(turn);
        let last = slot.current().map_or(0, |token| token.fence);
        let now_us = self
            .parts
            .clock
            .now_ms()
            .saturating_mul(1000)
            .unsigned_abs();
        let token = self.token(wanted, fetched, now_us.max(last + 1));
        slot.confirm(self.parts.clock.now_ms());
        Ok(slot.hold(token))
    }

    /// Compares what is held with the shared store: takes over what is newer, gives up what was refused,
    /// puts back what the store has lost.
    pub(super) async fn look(&self, holder: &Holder, credential: Credential) {
        let Some(redis) = self.parts.store.shared() else {
            return;
        };
        let wanted = Wanted::new(holder.clone(), credential, Purpose::Need);
        let slot = wanted.slot();
        let read = redis.read_token(wanted.key()).await;
        let now_ms = self.parts.clock.now_ms();
        slot.confirm(now_ms);
        let held = slot.current();
        match (read, held) {
            (Err(_), _) | (Ok(None), None) => {}
            (Ok(None), Some(held)) => self.put_back(redis, &wanted, &held).await,
            (Ok(Some(stored)), Some(held)) if stored.fence < held.fence => {
                self.put_back(redis, &wanted, &held).await;
            }
            (Ok(Some(stored)), held) if stored.failed => {
                if let Some(held) = held.filter(|held| held.fence == stored.fence) {
                    held.mark_failed();
                }
            }
            (Ok(Some(stored)), held) => {
                let known = held.is_some_and(|held| held.fence == stored.fence);
                if !known {
                    self.adopt(&wanted, &stored);
                }
            }
        }
    }

    async fn put_back(&self, redis: &Redis, wanted: &Wanted, held: &Token) {
        if !held.is_usable(self.parts.clock.now_ms()) {
            return;
        }
        if let Ok(stored) = self.sealed(wanted, held) {
            // Refused where another host was quicker; nothing to be done where Redis is away again.
            let _ = redis.write_token(wanted.key(), "", &stored, false).await;
        }
    }

    /// Takes over what another host has stored; None if it cannot be opened.
    pub(super) fn adopt(&self, wanted: &Wanted, stored: &StoredToken) -> Option<Arc<Token>> {
        let place = Place::credential(wanted.app_id(), wanted.credential.as_str());
        let value = match self.parts.keys.open_text(place, &stored.value) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(
                    account.app_id = wanted.app_id(),
                    error = &error as &dyn std::error::Error,
                    "a shared token cannot be opened: do all hosts have the same master key?"
                );
                return None;
            }
        };
        let now_ms = self.parts.clock.now_ms();
        let token = Token::new(Facts {
            value,
            fence: stored.fence,
            fetched_at_ms: stored.fetched_at_ms,
            lifetime_ms: stored.lifetime_ms,
            left_ms: stored.left_ms,
            now_ms,
            spread: spread(wanted.app_id()),
        });
        wanted.slot().confirm(now_ms);
        Some(wanted.slot().hold(Arc::new(token)))
    }

    fn token(&self, wanted: &Wanted, fetched: Fetched, fence: u64) -> Arc<Token> {
        let now_ms = self.parts.clock.now_ms();
        let passed_ms = (now_ms - fetched.asked_at_ms).max(0);
        Arc::new(Token::new(Facts {
            value: fetched.value,
            fence,
            fetched_at_ms: fetched.asked_at_ms,
            lifetime_ms: fetched.lifetime_ms,
            left_ms: fetched.lifetime_ms - slack(fetched.lifetime_ms) - passed_ms,
            now_ms,
            spread: spread(wanted.app_id()),
        }))
    }

    fn sealed(&self, wanted: &Wanted, token: &Token) -> Result<StoredToken, TokenError> {
        let place = Place::credential(wanted.app_id(), wanted.credential.as_str());
        let value = self.parts.keys.seal(place, token.expose().as_bytes());
        Ok(StoredToken {
            fence: token.fence,
            failed: false,
            // The one reason to fail is a text of 64 GiB.
            value: value.map_err(|_| TokenError::Unreachable)?,
            hash: token.hash.clone(),
            fetched_at_ms: token.fetched_at_ms,
            lifetime_ms: token.lifetime_ms,
            left_ms: token.expires_at_ms - self.parts.clock.now_ms(),
        })
    }

    /// Tells the other hosts that WeChat has refused a token.
    pub(super) async fn share_failure(&self, key: CredentialKey<'_>, failed: &Token) {
        if let Some(redis) = self.parts.store.shared() {
            // They find out by themselves otherwise.
            let _ = redis.mark_failed(key, failed.fence, &failed.hash).await;
        }
    }

    /// Another host has news of a token: `<app id> <credential>`; or wants one that it can't fetch itself:
    /// the same and `wanted`.
    pub fn on_notification(&self, news: &str) {
        let mut words = news.split(' ');
        let app_id = words.next().unwrap_or_default();
        let Some(credential) = words.next().and_then(Credential::of) else {
            return;
        };
        let Some(holder) = self.parts.accounts.holder(app_id, credential) else {
            return;
        };
        match words.next() {
            None => self.on_change(holder, credential),
            Some(keys::WANTED) => self.fetch_for_others(holder, credential),
            // A newer host may say more.
            Some(_) => {}
        }
    }

    fn on_change(&self, holder: Holder, credential: Credential) {
        let slot = holder.slots().of(credential);
        slot.changed.notify_waiters();
        if slot.current().is_some()
            && let Some(tokens) = self.this.upgrade()
        {
            let task = async move { tokens.look(&holder, credential).await };
            self.parts.tasks.spawn(task);
        }
    }

    /// Another host was told to leave WeChat alone.
    fn paused(&self, wanted: &Wanted, errcode: i64, left_ms: i64) -> Landed {
        let errcode = Errcode(errcode);
        let error = TokenError::Refused(ApiError {
            errcode,
            errmsg: errcode.meaning().unwrap_or_default().to_owned(),
            rid: None,
        });
        let left = Duration::from_millis(left_ms.max(0).unsigned_abs());
        wanted.slot().note_failure(error.clone(), |_| left);
        Err(error)
    }

    fn note_failure(&self, wanted: &Wanted, error: &TokenError) {
        let slot = wanted.slot();
        let is_noted = slot.pause().is_some();
        let mends_itself = matches!(
            error,
            TokenError::NoSecret | TokenError::ForcedLately { .. }
        );
        if is_noted || mends_itself {
            return;
        }
        let known = self
            .parts
            .accounts
            .holder(wanted.app_id(), wanted.credential);
        if matches!(error, TokenError::AccountBlocked { .. })
            && known.is_some_and(|holder| holder.attention().is_some())
        {
            // The registry stands in the way until the owner has acted.
            return;
        }
        let now_ms = self.parts.clock.now_ms();
        slot.note_failure(error.clone(), |failures| rest(error, failures, now_ms));
        tracing::warn!(
            account.app_id = wanted.app_id(),
            credential = wanted.credential.as_str(),
            error = %error,
            "there is no token for an account now"
        );
    }

    /// Has the token at hand that a fetch is made with: the account's for a ticket, the platform's for the
    /// token of an account that it serves.
    async fn have_needed(&self, wanted: &Wanted, until: Instant) -> Result<(), TokenError> {
        let Holder::Account(account) = &wanted.holder else {
            return Ok(());
        };
        if !wanted.credential.is_token() {
            self.get(account, Credential::AccessToken, until).await?;
        } else if let Some(authorisation) = &account.authorisation
            && wanted.in_hand.is_none()
        {
            self.component_token(&authorisation.platform, until).await?;
        }
        Ok(())
    }
}

impl Wanted {
    pub(super) fn key(&self) -> CredentialKey<'_> {
        CredentialKey {
            app_id: self.app_id(),
            credential: self.credential.as_str(),
        }
    }

    pub(super) fn key_of(account: &Account, credential: Credential) -> CredentialKey<'_> {
        CredentialKey {
            app_id: account.app_id.as_str(),
            credential: credential.as_str(),
        }
    }
}

/// Waits for a turn to fetch; None if it is time to look for what others have fetched.
async fn turn_or_news<'a>(
    turn: Pin<&mut impl Future<Output = Result<SemaphorePermit<'a>, AcquireError>>>,
    changed: Pin<&mut Notified<'_>>,
    until: Instant,
) -> Result<Option<SemaphorePermit<'a>>, TokenError> {
    tokio::select! {
        turn = turn => turn.map(Some).map_err(|_| TokenError::Unreachable),
        () = changed => Ok(None),
        () = tokio::time::sleep(QUEUE_POLL) => Ok(None),
        () = tokio::time::sleep_until(until) => Err(TokenError::Unreachable),
    }
}

/// Renews a lease for as long as it is held. That it was lost is noticed when the token is written.
async fn keep(lease: &Lease<'_>, key: CredentialKey<'_>) -> Infallible {
    let mut beat = tokio::time::interval(RENEWAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    loop {
        beat.tick().await;
        let _ = lease.redis.renew_token_lease(key, &lease.owner).await;
    }
}

fn failed_hash_of(slot: &Slot) -> Option<String> {
    let failed = slot.current().filter(|token| token.has_failed())?;
    Some(failed.hash.clone())
}

/// What concerns all hosts alike: WeChat counts by account, not by host.
fn shared_pause(error: &TokenError, now_ms: i64) -> Option<(i64, Duration)> {
    match error {
        TokenError::Refused(refusal)
            if refusal.errcode.is_daily_limit() || refusal.errcode.is_minute_limit() =>
        {
            Some((refusal.errcode.0, rest(error, 1, now_ms)))
        }
        _ => None,
    }
}
