//! Access tokens and tickets: any number of hosts share an account's, and each is fetched once.
//!
//! A host reads its own memory first ([`Tokens::get`], [`Tokens::held`]); the rest of this room keeps
//! that memory right:
//!
//! - `shared`: one fetch for all hosts, by lease and fencing number in Redis; what other hosts have
//!   fetched. What happens without Redis.
//! - `fetch`: asking WeChat, how often, how long, and what a refusal means.
//! - `component`: a third-party platform's own token; `authorised`: those of the accounts that it serves.
//! - `forced`: when WeChat is made to end the present token.
//! - `address`: what happens while WeChat refuses this host's address.
//! - `ahead`: the loops that renew what is in use before it ends and look for lost news.
//!
//! What is held is a value of [`crate::credentials`]. A token that WeChat refuses is given up only if it
//! is the one that is held, on this host and in Redis ([`Tokens::expire`]), so a wave of refusals of an
//! old token never ends a fresh one.

mod address;
mod ahead;
mod authorised;
mod component;
mod fetch;
mod forced;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wxhost_wechat::id::AppId;

pub use self::address::{AddressReports, Probe};
pub use self::ahead::{confirm, renew_ahead};
pub use self::component::TicketError;
use self::fetch::Fetched;
pub(crate) use self::fetch::Miss;
use crate::accounts::{Account, Accounts, Holder, Platform};
use crate::clock::millis;
pub use crate::credentials::{Credential, Token, TokenError, TokenState};
use crate::credentials::{Flight, Landed, Purpose, Slot};
use crate::db::DatabaseClock;
use crate::seal::MasterKeys;
use crate::store::Store;
use crate::store::credentials::CredentialKey;
use crate::telemetry::Metrics;
use crate::transport::Transport;

/// Fetches of one host at the same time, over all accounts: when everything has ended at once (a first
/// start, a long outage), WeChat sees a queue and no storm.
pub const FETCHES_AT_ONCE: usize = 32;
/// Fetches of tickets beside them. A ticket's may wait for a token's, never the other way round.
const TICKETS_AT_ONCE: usize = 16;
/// Of the fetches of tokens, renewals that nobody waits for yet.
const AHEAD_AT_ONCE: usize = 16;
/// A host that has not looked at the clock for so long was asleep: what it holds may be old.
const ASLEEP: Duration = Duration::from_secs(3);
/// How long a fetch under way is waited for when the host stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What tokens are made with.
pub struct TokensParts {
    /// Whose they are.
    pub accounts: Arc<Accounts>,
    /// Where hosts share them.
    pub store: Store,
    /// Seals them there.
    pub keys: Arc<MasterKeys>,
    /// Where they come from.
    pub transport: Arc<Transport>,
    /// Counts fetches.
    pub metrics: Arc<Metrics>,
    /// By which tokens end.
    pub clock: DatabaseClock,
    /// Where fetches run.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// The tokens and tickets of all accounts.
pub struct Tokens {
    parts: TokensParts,
    /// For fetches: they outlive who asked for them.
    this: Weak<Self>,
    /// Fetches of access tokens that may run.
    token_turns: Semaphore,
    /// Fetches of tickets that may run.
    ticket_turns: Semaphore,
    /// Fetches of platforms' own tokens that may run.
    component_turns: Semaphore,
    /// Renewals ahead of the end that may run.
    ahead: Arc<Semaphore>,
    /// When this host last looked at the clock; 0 before it has.
    beat_ms: AtomicI64,
    /// What was confirmed before this time may be old.
    stale_before_ms: AtomicI64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// A token or ticket that is to be fetched.
#[derive(Clone)]
struct Wanted {
    holder: Holder,
    credential: Credential,
    purpose: Purpose,
    /// What WeChat has given already, where the purpose is to have it known.
    in_hand: Option<Arc<Fetched>>,
}

impl Wanted {
    fn new(holder: Holder, credential: Credential, purpose: Purpose) -> Self {
        Self {
            holder,
            credential,
            purpose,
            in_hand: None,
        }
    }

    fn of(account: &Arc<Account>, credential: Credential, purpose: Purpose) -> Self {
        Self::new(Holder::Account(Arc::clone(account)), credential, purpose)
    }

    fn slot(&self) -> &Slot {
        self.holder.slots().of(self.credential)
    }

    fn app_id(&self) -> &str {
        self.holder.app_id().as_str()
    }
}

impl Tokens {
    /// Tokens of these accounts; [`renew_ahead`] and [`confirm`] are to be spawned beside.
    pub fn new(parts: TokensParts) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            parts,
            this: Weak::clone(this),
            token_turns: Semaphore::new(FETCHES_AT_ONCE),
            ticket_turns: Semaphore::new(TICKETS_AT_ONCE),
            component_turns: Semaphore::new(TICKETS_AT_ONCE),
            ahead: Arc::new(Semaphore::new(AHEAD_AT_ONCE)),
            beat_ms: AtomicI64::new(0),
            stale_before_ms: AtomicI64::new(0),
        })
    }

    /// What this host's memory holds and WeChat takes, as far as is known.
    pub fn held(&self, app_id: &AppId, credential: Credential) -> Option<Arc<Token>> {
        let account = self.parts.accounts.get(app_id.as_str())?;
        let slot = account.slots.of(credential);
        slot.usable(self.parts.clock.now_ms())
    }

    /// What may be shown of what this host holds.
    pub fn state(&self, account: &Account, credential: Credential) -> Option<TokenState> {
        let token = account.slots.of(credential).current()?;
        Some(TokenState::from(&*token))
    }

    /// A token or ticket that WeChat takes: from memory, from another host, or fetched.
    ///
    /// # Errors
    /// There is none, or not before `deadline`.
    pub async fn get(
        &self,
        account: &Arc<Account>,
        credential: Credential,
        deadline: Instant,
    ) -> Result<Arc<Token>, TokenError> {
        let slot = account.slots.of(credential);
        let now_ms = self.parts.clock.now_ms();
        slot.use_now(now_ms);
        if let Some(token) = slot.usable(now_ms)
            && self.is_trusted(slot, now_ms)
        {
            return Ok(token);
        }
        let wanted = Wanted::of(account, credential, Purpose::Need);
        // In a box: the way that most calls do not take must not make every caller's future larger.
        let slowly = Box::pin(self.get_slowly(&wanted, deadline));
        in_time(slowly, deadline).await
    }

    /// A platform's own token, for the calls of the platform.
    ///
    /// # Errors
    /// There is none, or not before `deadline`.
    pub async fn component_token(
        &self,
        platform: &Arc<Platform>,
        deadline: Instant,
    ) -> Result<Arc<Token>, TokenError> {
        let holder = Holder::Platform(Arc::clone(platform));
        let wanted = Wanted::new(holder, Credential::ComponentToken, Purpose::Need);
        wanted.slot().use_now(self.parts.clock.now_ms());
        let got = Box::pin(self.get_slowly(&wanted, deadline));
        in_time(got, deadline).await
    }

    /// Gives an access token up that WeChat has refused, on this host and, if it is the stored one, on
    /// all. False if a fresh one is not to be hoped for: WeChat has just given this one out again.
    pub async fn expire(&self, account: &Account, failed: &Token) -> bool {
        let key = Wanted::key_of(account, Credential::AccessToken);
        let slot = account.slots.of(Credential::AccessToken);
        self.give_up(slot, key, failed).await
    }

    /// The same for a platform's own token.
    pub async fn expire_component_token(&self, platform: &Platform, failed: &Token) -> bool {
        let key = CredentialKey {
            app_id: platform.app_id.as_str(),
            credential: Credential::ComponentToken.as_str(),
        };
        let slot = platform.slots.of(Credential::ComponentToken);
        self.give_up(slot, key, failed).await
    }

    async fn give_up(&self, slot: &Slot, key: CredentialKey<'_>, failed: &Token) -> bool {
        if slot.is_spared(&failed.hash) {
            return false;
        }
        failed.mark_failed();
        if let Some(held) = slot.current().filter(|held| held.is(failed)) {
            held.mark_failed();
        }
        Box::pin(self.share_failure(key, failed)).await;
        true
    }

    /// Makes WeChat give out a new access token and end the present one; on the classic line, simply a
    /// new one.
    ///
    /// # Errors
    /// There is none, or not before `deadline`; or one was forced too lately.
    pub async fn force_refresh(
        &self,
        account: &Arc<Account>,
        deadline: Instant,
    ) -> Result<Arc<Token>, TokenError> {
        let wanted = Wanted::of(account, Credential::AccessToken, Purpose::Force);
        wanted.holder.may_ask()?;
        in_time(self.land(&wanted), deadline).await
    }

    /// Waits for a flight of this very purpose.
    async fn land(&self, wanted: &Wanted) -> Landed {
        loop {
            let flight = self.join(wanted, None);
            let is_this = flight.purpose == wanted.purpose;
            let landed = flight.landed().await;
            if is_this {
                return landed;
            }
        }
    }

    /// Gives up the access token that has this hash, if it is the one that is held: somebody outside was
    /// refused with it. `hash` is 16 hex digits of its SHA-256 or more.
    pub async fn expire_hash(&self, account: &Account, hash: &str) {
        let held = account.slots.of(Credential::AccessToken).current();
        if let Some(held) = held.filter(|held| held.has_hash(hash)) {
            self.expire(account, &held).await;
        }
    }

    /// Lets WeChat be asked again although it was to be left alone: somebody has mended something.
    pub fn clear_backoff(&self, account: &Account) {
        for credential in Credential::OF_ACCOUNTS {
            account.slots.of(credential).forget_pause();
        }
    }

    /// The same for a platform.
    pub fn clear_platform_backoff(&self, platform: &Platform) {
        let slot = platform.slots.of(Credential::ComponentToken);
        slot.forget_pause();
        platform.slots.address.lift();
    }

    /// The same for all hosts, after a quota was cleared.
    pub async fn clear_quota_pause(&self, account: &Account) {
        self.clear_backoff(account);
        if let Some(redis) = self.parts.store.shared() {
            for credential in Credential::OF_ACCOUNTS {
                // It ends by itself otherwise.
                let key = Wanted::key_of(account, credential);
                let _ = redis.lift_pause(key).await;
            }
        }
    }

    /// Takes it that whatever is held may be old, until the shared store has said otherwise.
    pub fn mark_stale(&self) {
        let now_ms = self.parts.clock.now_ms();
        self.stale_before_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether the memory can be relied on: this host has not slept since it was confirmed.
    fn is_trusted(&self, slot: &Slot, now_ms: i64) -> bool {
        let beat_ms = self.beat_ms.load(Ordering::Relaxed);
        // Nobody else fetches for a host without a shared store, and its loops are not running yet.
        beat_ms == 0
            || (now_ms - beat_ms < millis(ASLEEP)
                && slot.confirmed_at_ms() >= self.stale_before_ms.load(Ordering::Relaxed))
    }

    async fn get_slowly(&self, wanted: &Wanted, deadline: Instant) -> Landed {
        let slot = wanted.slot();
        if slot.current().is_some() && !self.is_trusted(slot, self.parts.clock.now_ms()) {
            self.look(&wanted.holder, wanted.credential).await;
        }
        loop {
            if let Some(token) = slot.usable(self.parts.clock.now_ms()) {
                return Ok(token);
            }
            wanted.holder.may_ask()?;
            if let Some(pause) = slot.pause() {
                // Others have just been asked for one in vain.
                let is_hopeless = matches!(pause.error, TokenError::AddressRefused { .. });
                if pause.until >= deadline || is_hopeless {
                    return Err(pause.error);
                }
                tokio::time::sleep_until(pause.until).await;
                continue;
            }
            let flight = self.join(wanted, None);
            let (purpose, was_overdue) = (flight.purpose, flight.is_overdue());
            let landed = flight.landed().await;
            // Who renews ahead of the end, or forces, may have ended with less than is needed here. And a
            // host that slept over its fetch fails with it, which is no news for who asks since it woke.
            if purpose == Purpose::Need && (landed.is_ok() || !was_overdue) {
                return landed;
            }
        }
    }

    /// Joins the fetch under way, or starts one.
    fn join(&self, wanted: &Wanted, turn: Option<OwnedSemaphorePermit>) -> Flight {
        let mut slot = wanted.slot().flight.lock();
        if let Some(flight) = &*slot {
            return flight.clone();
        }
        let (flight, landing) = Flight::new(wanted.purpose);
        *slot = Some(flight.clone());
        let wanted = wanted.clone();
        let Some(tokens) = self.this.upgrade() else {
            // Nobody holds the tokens any more, so nobody waits.
            return flight;
        };
        self.parts.tasks.spawn(async move {
            let _turn = turn;
            let clearing = Cleared(&wanted);
            let stopped = async {
                tokens.parts.stop.cancelled().await;
                tokio::time::sleep(STOP_GRACE).await;
            };
            let landed = tokio::select! {
                landed = tokens.fly(&wanted) => landed,
                () = stopped => Err(TokenError::Unreachable),
            };
            drop(clearing);
            // Nobody may be waiting.
            let _ = landing.send(Some(landed));
        });
        flight
    }
}

/// Takes the fetch out of the slot when it is over, however it ended.
struct Cleared<'a>(&'a Wanted);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        *self.0.slot().flight.lock() = None;
    }
}

/// What comes in time, or that nothing does.
async fn in_time(landed: impl Future<Output = Landed>, deadline: Instant) -> Landed {
    match tokio::time::timeout_at(deadline, landed).await {
        Ok(landed) => landed,
        Err(_) => Err(TokenError::Deadline),
    }
}
