//! Access tokens and tickets: any number of hosts share an account's, and each is fetched once.
//!
//! A host reads its own memory first ([`Tokens::get`], [`Tokens::held`]); the rest of this room keeps
//! that memory right:
//!
//! - `token`: what a token is, how early it counts as ended and when it is renewed.
//! - `slot`: what a host holds of each, beside the account.
//! - `flight`: one fetch for all who wait on this host.
//! - `shared`: one fetch for all hosts, by lease and fencing number in Redis; what other hosts have
//!   fetched. What happens without Redis.
//! - `fetch`: asking WeChat, how often, how long, and what a refusal means. `budget` bounds it.
//! - `ahead`: the loops that renew what is in use before it ends and look for lost news.
//!
//! A token that WeChat refuses is given up only if it is the one that is held, on this host and in
//! Redis ([`Tokens::expire`]), so a wave of refusals of an old token never ends a fresh one.

mod ahead;
mod budget;
mod fetch;
mod flight;
mod shared;
mod slot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wxhost_wechat::errcode::ApiError;
use wxhost_wechat::id::AppId;

pub use self::ahead::{confirm, renew_ahead};
pub(crate) use self::fetch::jittered;
use self::flight::{Flight, Landed, Purpose};
use self::slot::Slot;
pub use self::slot::Slots;
pub use self::token::{Credential, Token, TokenState};
use crate::accounts::{Account, Accounts, Attention};
use crate::client::Transport;
use crate::clock::Clock;
use crate::seal::MasterKeys;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Fetches of one host at the same time, over all accounts: when everything has ended at once (a first
/// start, a long outage), WeChat sees a queue and no storm.
pub const FETCHES_AT_ONCE: usize = 32;
/// Of these, renewals that nobody waits for yet.
const AHEAD_AT_ONCE: usize = 16;
/// A host that has not looked at the clock for so long was asleep: what it holds may be old.
const ASLEEP: Duration = Duration::from_secs(3);
/// How long a fetch under way is waited for when the host stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The account has no AppSecret.
    #[error("the account has no AppSecret: set one")]
    NoSecret,
    /// WeChat gives it none before its owner has acted.
    #[error("the account waits for its owner: {}", attention.message)]
    AccountBlocked {
        /// What is to be mended.
        attention: Attention,
    },
    /// WeChat refuses one now.
    #[error(transparent)]
    Refused(ApiError),
    /// WeChat does not answer, or has been asked too often.
    #[error("wechat gives no token now")]
    Unreachable,
    /// There was none in time.
    #[error("there was no token in time")]
    Deadline,
    /// A token was forced too lately, or too often today.
    #[error("a token was forced lately: wait {wait_seconds} seconds")]
    ForcedLately {
        /// Until it may be forced again.
        wait_seconds: u64,
    },
}

impl TokenError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSecret => "no-secret",
            Self::AccountBlocked { .. } => "account-blocked",
            Self::Refused(_) => "wechat-refused",
            Self::Unreachable => "wechat-unreachable",
            Self::Deadline => "timeout",
            Self::ForcedLately { .. } => "forced-lately",
        }
    }
}

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
    /// Tells the time.
    pub clock: Clock,
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
    /// Fetches that may run.
    turns: Semaphore,
    /// Renewals ahead of the end that may run.
    ahead: Arc<Semaphore>,
    /// When this host last looked at the clock; 0 before it has.
    beat_ms: AtomicI64,
    /// What was confirmed before this time may be old.
    doubted_before_ms: AtomicI64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// A token or ticket that is to be fetched.
#[derive(Clone)]
struct Wanted {
    account: Arc<Account>,
    credential: Credential,
    purpose: Purpose,
}

impl Wanted {
    fn slot(&self) -> &Slot {
        self.account.slots.of(self.credential)
    }

    fn app_id(&self) -> &str {
        self.account.app_id.as_str()
    }
}

impl Tokens {
    /// Tokens of these accounts; [`renew_ahead`] and [`confirm`] are to be spawned beside.
    pub fn new(parts: TokensParts) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            parts,
            this: Weak::clone(this),
            turns: Semaphore::new(FETCHES_AT_ONCE),
            ahead: Arc::new(Semaphore::new(AHEAD_AT_ONCE)),
            beat_ms: AtomicI64::new(0),
            doubted_before_ms: AtomicI64::new(0),
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
        let wanted = Wanted {
            account: Arc::clone(account),
            credential,
            purpose: Purpose::Need,
        };
        // In a box: the way that most calls do not take must not make every caller's future larger.
        let slowly = Box::pin(self.get_slowly(&wanted, deadline));
        match tokio::time::timeout_at(deadline, slowly).await {
            Ok(got) => got,
            Err(_) => Err(TokenError::Deadline),
        }
    }

    /// Gives an access token up that WeChat has refused, on this host and, if it is the stored one, on
    /// all. False if a fresh one is not to be hoped for: WeChat has just given this one out again.
    pub async fn expire(&self, account: &Account, failed: &Token) -> bool {
        let slot = account.slots.of(Credential::AccessToken);
        if slot.is_spared(&failed.hash) {
            return false;
        }
        failed.mark_failed();
        if let Some(held) = slot.current().filter(|held| held.is(failed)) {
            held.mark_failed();
        }
        Box::pin(self.share_failure(account, failed)).await;
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
        let wanted = Wanted {
            account: Arc::clone(account),
            credential: Credential::AccessToken,
            purpose: Purpose::Force,
        };
        may_ask(account)?;
        let landed = async {
            loop {
                let flight = self.join(&wanted, None);
                let is_forced = flight.purpose == Purpose::Force;
                let landed = flight.landed().await;
                if is_forced {
                    return landed;
                }
            }
        };
        match tokio::time::timeout_at(deadline, landed).await {
            Ok(landed) => landed,
            Err(_) => Err(TokenError::Deadline),
        }
    }

    /// Asks WeChat again although it was to be left alone: somebody has mended something.
    pub fn forgive(&self, account: &Account) {
        for credential in Credential::ALL {
            account.slots.of(credential).forget_pause();
        }
    }

    /// Takes it that whatever is held may be old, until the shared store has said otherwise.
    pub fn doubt(&self) {
        let now_ms = self.parts.clock.now_ms();
        self.doubted_before_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether the memory can be relied on: this host has not slept since it was confirmed.
    fn is_trusted(&self, slot: &Slot, now_ms: i64) -> bool {
        let beat_ms = self.beat_ms.load(Ordering::Relaxed);
        // Nobody else fetches for a host without a shared store, and its loops are not running yet.
        beat_ms == 0
            || (now_ms - beat_ms < millis(ASLEEP)
                && slot.confirmed_at_ms() >= self.doubted_before_ms.load(Ordering::Relaxed))
    }

    async fn get_slowly(&self, wanted: &Wanted, deadline: Instant) -> Landed {
        let slot = wanted.slot();
        if slot.current().is_some() && !self.is_trusted(slot, self.parts.clock.now_ms()) {
            self.look(&wanted.account, wanted.credential).await;
        }
        loop {
            if let Some(token) = slot.usable(self.parts.clock.now_ms()) {
                return Ok(token);
            }
            may_ask(&wanted.account)?;
            if let Some(pause) = slot.pause() {
                if pause.until >= deadline {
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

/// Refuses where WeChat need not be asked.
fn may_ask(account: &Account) -> Result<(), TokenError> {
    if account.secret.is_none() {
        return Err(TokenError::NoSecret);
    }
    match &account.attention {
        None => Ok(()),
        Some(attention) => Err(TokenError::AccountBlocked {
            attention: Attention::clone(attention),
        }),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
