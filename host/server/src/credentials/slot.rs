//! What a host holds of one token or ticket, and what it remembers of getting it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::Forces;
use super::flight::Flight;
use super::token::Token;
use super::{AddressGate, Breaker, Credential, TokenError};
use crate::bucket::Bucket;

/// How coarsely the last use is noted: a busy account must not write to shared memory at each call.
const USE_STEP_MS: i64 = 1_000;

/// How long a token that was given out again counts as such: a refusal that comes later is a new one.
const REISSUED: Duration = Duration::from_secs(60);

/// What this host holds of one account, or of one platform. It stays when settings change.
#[derive(Default)]
pub struct Slots {
    /// An account's access token, or a platform's.
    token: Slot,
    jsapi_ticket: Slot,
    card_ticket: Slot,
    /// Whether WeChat refuses this host's address.
    pub(crate) address: AddressGate,
    /// Whether calls are worth being made now.
    pub(crate) breaker: Breaker,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("token", &self.token.current())
            .finish_non_exhaustive()
    }
}

impl Slots {
    pub(crate) fn of(&self, credential: Credential) -> &Slot {
        match credential {
            Credential::AccessToken | Credential::ComponentToken => &self.token,
            Credential::JsapiTicket => &self.jsapi_ticket,
            Credential::CardTicket => &self.card_ticket,
        }
    }
}

/// One of them.
#[derive(Default)]
pub(crate) struct Slot {
    current: ArcSwapOption<Token>,
    used_at_ms: AtomicI64,
    /// When the shared store was last asked; that it is away counts as an answer.
    confirmed_at_ms: AtomicI64,
    /// When it may be renewed ahead of its end again.
    ahead_at_ms: AtomicI64,
    /// The fetch under way.
    pub(crate) flight: Mutex<Option<Flight>>,
    /// After a failure: until when nobody is asked again.
    pause: Mutex<Option<Pause>>,
    /// Notified when another host has stored, refused or given up something.
    pub(crate) changed: Notify,
    pub(crate) budget: Mutex<Bucket>,
    /// A token that WeChat gave out again although it was refused: it is not thrown away again soon.
    spared: Mutex<Option<(String, Instant)>>,
    /// A refused token that WeChat gave out again: the refusal may have been wrong.
    reissued: Mutex<Option<(String, Instant)>>,
    /// Tokens that were forced by this host.
    pub(crate) forces: Mutex<Forces>,
}

/// Why nobody is asked now.
#[derive(Clone)]
pub(crate) struct Pause {
    pub(crate) until: Instant,
    pub(crate) error: TokenError,
    /// Failures in a row.
    pub(crate) failures: u32,
}

impl Slot {
    pub(crate) fn current(&self) -> Option<Arc<Token>> {
        self.current.load_full()
    }

    pub(crate) fn usable(&self, now_ms: i64) -> Option<Arc<Token>> {
        self.current().filter(|token| token.is_usable(now_ms))
    }

    /// Holds a token, unless a newer one or itself is held; tells which one is.
    pub(crate) fn hold(&self, token: Arc<Token>) -> Arc<Token> {
        // The very same is kept as it is held: it may have failed meanwhile.
        let stays = |held: &Token| held.fence > token.fence || held.is(&token);
        let before = self.current.rcu(|held| match held {
            Some(held) if stays(held) => Some(Arc::clone(held)),
            _ => Some(Arc::clone(&token)),
        });
        match before {
            Some(held) if stays(&held) => held,
            _ => {
                self.forget_pause();
                token
            }
        }
    }

    pub(crate) fn use_now(&self, now_ms: i64) {
        if now_ms - self.used_at_ms.load(Ordering::Relaxed) >= USE_STEP_MS {
            self.used_at_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the token that is held was fetched, or within one more life of it.
    pub(crate) fn is_in_use(&self, token: &Token, now_ms: i64) -> bool {
        now_ms - self.used_at_ms.load(Ordering::Relaxed) <= token.lifetime_ms
    }

    pub(crate) fn confirmed_at_ms(&self) -> i64 {
        self.confirmed_at_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn confirm(&self, now_ms: i64) {
        self.confirmed_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether a renewal ahead of the end may start now.
    pub(crate) fn may_begin_ahead(&self, now_ms: i64) -> bool {
        now_ms >= self.ahead_at_ms.load(Ordering::Relaxed)
    }

    /// Notes that one starts; the next one may after `step_ms`.
    pub(crate) fn begin_ahead(&self, now_ms: i64, step_ms: i64) {
        self.ahead_at_ms.store(now_ms + step_ms, Ordering::Relaxed);
    }

    pub(crate) fn pause(&self) -> Option<Pause> {
        let pause = self.pause.lock().clone();
        pause.filter(|pause| Instant::now() < pause.until)
    }

    /// Notes a failure; `rest` tells how long to rest after so many in a row.
    pub(crate) fn note_failure(&self, error: TokenError, rest: impl FnOnce(u32) -> Duration) {
        let mut pause = self.pause.lock();
        let failures = pause.as_ref().map_or(0, |pause| pause.failures) + 1;
        *pause = Some(Pause {
            until: Instant::now() + rest(failures),
            error,
            failures,
        });
    }

    pub(crate) fn forget_pause(&self) {
        *self.pause.lock() = None;
    }

    pub(crate) fn spare(&self, hash: &str, time: Duration) {
        *self.spared.lock() = Some((hash.to_owned(), Instant::now() + time));
    }

    pub(crate) fn is_spared(&self, hash: &str) -> bool {
        let spared = self.spared.lock();
        let spared = spared.as_ref();
        spared.is_some_and(|(this, until)| this == hash && Instant::now() < *until)
    }

    /// Notes that WeChat gave a refused token out again; true if it did so lately already, and the token
    /// was refused since.
    pub(crate) fn note_reissue(&self, hash: &str) -> bool {
        let mut reissued = self.reissued.lock();
        let now = Instant::now();
        let again = reissued
            .as_ref()
            .is_some_and(|(this, until)| this == hash && now < *until);
        *reissued = (!again).then(|| (hash.to_owned(), now + REISSUED));
        again
    }
}
