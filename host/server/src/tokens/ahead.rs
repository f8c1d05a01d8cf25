//! The loops beside the tokens: renew what is in use before it ends, look for lost news.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{ASLEEP, Credential, Tokens, Wanted};
use crate::accounts::{Account, Holder, Platform};
use crate::clock::millis;
use crate::credentials::{Purpose, Slot};

/// How often the tokens are gone through.
const TICK: Duration = Duration::from_millis(250);
/// A renewal that brought nothing new is tried again after this part of what is left.
const AHEAD_STEPS: i64 = 4;
/// The least time between two renewals of one token.
const LEAST_STEP_MS: i64 = 500;
/// How often the shared store is asked for news of a token in use that no message told of.
const LOOK_MS: std::ops::RangeInclusive<i64> = 2_000..=30_000;
/// Questions to the shared store at the same time.
const LOOKS_AT_ONCE: usize = 16;

/// Renews the tokens in use ahead of their end, and notices when this host has slept.
pub async fn renew_ahead(tokens: Arc<Tokens>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(TICK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokens.notice_sleep();
        let renewing = async {
            tokens.renew_due().await;
            std::future::pending::<()>().await;
        };
        // What is still due at the next tick is gone through anew: the clock must be looked at.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
            () = renewing => {}
        }
    }
}

/// Compares the tokens in use with the shared store from time to time.
pub async fn confirm(tokens: Arc<Tokens>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(TICK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looks = async {
            beat.tick().await;
            tokens.confirm_due().await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = looks => {}
        }
    }
}

impl Tokens {
    /// Looks at the clock. After a long gap, nothing that is held is trusted before it is confirmed.
    fn notice_sleep(&self) {
        let now_ms = self.parts.clock.now_ms();
        let before_ms = self.beat_ms.swap(now_ms, Ordering::Relaxed);
        if before_ms != 0 && now_ms - before_ms >= millis(ASLEEP) {
            tracing::warn!(
                duration_ms = now_ms - before_ms,
                "this host has slept; what it holds is compared with the other hosts' first"
            );
            self.mark_stale();
        }
    }

    /// Starts what is due, as fast as what was started before ends.
    pub(super) async fn renew_due(&self) {
        for credential in Credential::ALL {
            let now_ms = self.parts.clock.now_ms();
            for holder in self.due(credential, now_ms) {
                let Ok(turn) = Arc::clone(&self.ahead).acquire_owned().await else {
                    return;
                };
                let slot = holder.slots().of(credential);
                let now_ms = self.parts.clock.now_ms();
                // Another host may have been quicker meanwhile.
                if !is_due(slot, now_ms) {
                    continue;
                }
                let left_ms = slot
                    .current()
                    .map_or(0, |token| token.expires_at_ms - now_ms);
                slot.begin_ahead(now_ms, (left_ms / AHEAD_STEPS).max(LEAST_STEP_MS));
                let wanted = Wanted::new(holder, credential, Purpose::Ahead);
                self.join(&wanted, Some(turn));
            }
        }
    }

    /// Whose tokens and tickets of this kind are in use and end soon.
    fn due(&self, credential: Credential, now_ms: i64) -> Vec<Holder> {
        let of_account = |account: &Account| {
            let may_ask = account.credentials.secret.is_some() || account.authorisation.is_some();
            account.is_active()
                && may_ask
                && account.credentials.attention.is_none()
                && is_due(account.slots.of(credential), now_ms)
        };
        let of_platform = |platform: &Platform| {
            platform.is_active()
                && platform.attention.is_none()
                && is_due(platform.slots.of(credential), now_ms)
        };
        self.parts
            .accounts
            .holders(credential, of_account, of_platform)
    }

    async fn confirm_due(&self) {
        if self.parts.store.shared().is_none() {
            return;
        }
        let now_ms = self.parts.clock.now_ms();
        let doubted_ms = self.stale_before_ms.load(Ordering::Relaxed);
        let mut due = Vec::new();
        for credential in Credential::ALL {
            let is_due = |slot: &Slot| {
                let confirmed_ms = slot.confirmed_at_ms();
                slot.current().is_some_and(|token| {
                    let period_ms = (token.lifetime_ms / 4).clamp(*LOOK_MS.start(), *LOOK_MS.end());
                    slot.is_in_use(&token, now_ms)
                        && (confirmed_ms < doubted_ms || now_ms - confirmed_ms >= period_ms)
                })
            };
            let of_account = |account: &Account| is_due(account.slots.of(credential));
            let of_platform = |platform: &Platform| is_due(platform.slots.of(credential));
            let accounts = &self.parts.accounts;
            let holders = accounts.holders(credential, of_account, of_platform);
            due.extend(holders.into_iter().map(|holder| (holder, credential)));
        }
        futures::stream::iter(&due)
            .for_each_concurrent(LOOKS_AT_ONCE, |(holder, credential)| {
                self.look(holder, *credential)
            })
            .await;
    }
}

/// Whether a token is in use and ends soon.
fn is_due(slot: &Slot, now_ms: i64) -> bool {
    slot.current().is_some_and(|token| {
        now_ms >= token.renew_at_ms
            && token.is_usable(now_ms)
            && slot.may_begin_ahead(now_ms)
            && slot.is_in_use(&token, now_ms)
            && slot.pause().is_none()
    })
}
