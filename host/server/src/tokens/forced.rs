//! Forced tokens: WeChat gives few of them a day, and not one right after the other.

use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{Fetched, SPARED};
use super::{TokenError, Tokens, Wanted};
use crate::clock::until_midnight;
use crate::credentials::{Purpose, hash};

/// WeChat refuses to force a token within 30 s of the last one.
const FORCE_PAUSE: Duration = Duration::from_secs(31);
/// Forced tokens of an account a day, as WeChat allows.
const FORCES_PER_DAY: u32 = 20;
/// Of these, what hosts may take by themselves; the rest is for the operator.
const OWN_FORCES_PER_DAY: u32 = 10;

impl Tokens {
    /// Forces a token in the place of one that WeChat gives out and its API refuses. If that is refused,
    /// too, the one in hand is all there is, and is not thrown away.
    pub(super) async fn force_in_place_of(
        &self,
        wanted: &Wanted,
        in_hand: Fetched,
        until: Instant,
    ) -> Result<Fetched, TokenError> {
        tracing::info!(
            account.app_id = wanted.app_id(),
            "a refused access token is given out again, so another one is forced"
        );
        let error = match self.ask(wanted, true, until).await {
            Ok(forced) => return Ok(forced),
            Err(error) => error,
        };
        self.note_refused_force(wanted, &error).await;
        // Whether one was made is not known where the answer is lost; WeChat tells which one is present.
        if matches!(error, TokenError::Unreachable | TokenError::Deadline)
            && let Ok(present) = self.ask(wanted, false, until).await
        {
            return Ok(present);
        }
        tracing::warn!(
            account.app_id = wanted.app_id(),
            error = %error,
            "no access token can be forced now; going on with the one that WeChat gives out"
        );
        wanted.slot().spare(&hash(&in_hand.value), SPARED);
        Ok(in_hand)
    }

    /// WeChat forces no more today: nobody tries again before midnight in Beijing.
    pub(super) async fn note_refused_force(&self, wanted: &Wanted, error: &TokenError) {
        if !matches!(error, TokenError::Refused(refusal) if refusal.errcode.is_daily_limit()) {
            return;
        }
        let rest = until_midnight(self.parts.clock.now_ms());
        wanted.slot().forces.lock().pause(Instant::now(), rest);
        if let Some(redis) = self.parts.store.shared() {
            // The others find out by themselves.
            let _ = redis.pause_forces(wanted.app_id(), rest).await;
        }
    }

    /// Whether a token may be forced without anybody's wish; else how long to wait.
    pub(super) async fn permit_force(
        &self,
        wanted: &Wanted,
        purpose: Purpose,
    ) -> Result<(), Duration> {
        let most = match purpose {
            Purpose::Force => FORCES_PER_DAY,
            Purpose::Need | Purpose::Ahead | Purpose::Grant => OWN_FORCES_PER_DAY,
        };
        let (forces, now) = (&wanted.slot().forces, Instant::now());
        if let Some(redis) = self.parts.store.shared()
            && let Ok(permitted) = redis.permit_force(wanted.app_id(), most).await
        {
            if permitted.is_ok() {
                // Should Redis go away or forget, this host goes on counting.
                forces.lock().count(now, FORCE_PAUSE);
            }
            return permitted;
        }
        forces.lock().permit(now, FORCE_PAUSE, most)
    }

    pub(super) async fn permit_operator(&self, wanted: &Wanted) -> Result<(), TokenError> {
        if wanted.holder.line().renews_each_time() {
            return Ok(());
        }
        let permitted = self.permit_force(wanted, Purpose::Force).await;
        permitted.map_err(|wait| TokenError::ForcedLately {
            wait_seconds: wait.as_secs() + 1,
        })
    }
}
